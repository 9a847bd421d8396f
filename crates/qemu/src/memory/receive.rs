//! From QEMU into a file: one stream over a socket, summed and packed on the way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use rustix::fs::Advice;
use xlsnap_types::model::Compression;

use super::checksum::Summed;
use super::worker::{Shared, Worker};

/// How much is read at once: more than a Unix socket holds.
const CHUNK: usize = 512 << 10;

/// How much is written before the kernel is told to begin with it.
const WRITE_BACK: u64 = 8 << 20;

/// A file that is whole and synchronised, and has no name yet.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) checksum: String,
}

/// Why there is no such file.
#[derive(Debug)]
pub(super) enum Broken {
    /// The stream broke, or was ended by us.
    Stream(io::Error),
    /// The file could not be written.
    File(io::Error),
}

/// A stream that is being written to a file.
#[derive(Debug)]
pub(super) struct Receiving {
    worker: Worker<Result<Written, Broken>>,
    stream: UnixStream,
}

impl Receiving {
    /// Writes everything that comes over `stream` into `file`, until its end. When the file cannot be written, the stream is
    /// closed at once, so that QEMU fails instead of waiting.
    pub(super) fn start(stream: UnixStream, file: File, compression: Compression) -> io::Result<Self> {
        let ours = stream.try_clone()?;
        let worker = Worker::start(move |shared| {
            let result = receive(&stream, file, compression, shared);
            if result.is_err() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            result
        })?;
        Ok(Self { worker, stream: ours })
    }

    /// As [`Worker::within`].
    pub(super) async fn within(&mut self, wait: std::time::Duration) -> Option<Result<Written, Broken>> {
        self.worker.within(wait).await
    }

    /// Ends it, and waits until the file is closed. Data that is with the disk cannot be called back, so this may take as
    /// long as a write does.
    pub(super) async fn end(mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.worker.done(|_| {}).await;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn receive(
    stream: &UnixStream,
    file: File,
    compression: Compression,
    shared: &Shared,
) -> Result<Written, Broken> {
    let sync = file.try_clone().map_err(Broken::File)?;
    let file = Summed::new(WriteBack::new(file).map_err(Broken::File)?);
    let summed = match compression {
        Compression::None => pass(stream, file, shared)?,
        Compression::Zstd => {
            let packed = packer(file).map_err(Broken::File)?;
            pass(stream, packed, shared)?.finish().map_err(Broken::File)?
        }
        // The enumeration may grow.
        other => return Err(Broken::File(io::Error::other(format!("no way to pack is known by {other:?}")))),
    };
    let written = Written { bytes: summed.sum.bytes(), checksum: summed.sum.text() };
    drop(summed);
    sync.sync_all().map_err(Broken::File)?;
    Ok(written)
}

/// The fastest level: memory is packed while a guest waits for it, or may. QEMU's own thread is busy meanwhile, so the packing
/// gets another one.
fn packer<W: Write>(file: W) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut packer = zstd::stream::write::Encoder::new(file, 1)?;
    packer.multithread(1)?;
    Ok(packer)
}

fn pass<W: Write>(mut stream: &UnixStream, mut to: W, shared: &Shared) -> Result<W, Broken> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) if shared.is_cancelled() => {
                return Err(Broken::Stream(io::ErrorKind::ConnectionAborted.into()));
            }
            Ok(0) => return Ok(to),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Broken::Stream(e)),
        };
        to.write_all(&buffer[..read]).map_err(Broken::File)?;
        total += read as u64;
        shared.set_moved(total);
    }
}

/// A file whose data goes to the disk while more comes, so that there is little to wait for at the end.
struct WriteBack {
    file: File,
    written: u64,
    begun: u64,
    /// To a thread, because telling the kernel waits when the disk has much to do.
    begin: mpsc::Sender<(u64, u64)>,
}

impl WriteBack {
    fn new(file: File) -> io::Result<Self> {
        let theirs = file.try_clone()?;
        let (begin, ranges) = mpsc::channel::<(u64, u64)>();
        std::thread::Builder::new().name("xlsnap-writeback".to_owned()).spawn(move || {
            for (from, length) in ranges {
                // The kernel begins to write what is dirty in the range (fadvise(2), POSIX_FADV_DONTNEED), and would drop
                // what is clean: nothing is yet. It is advice: an error is no matter.
                let _ =
                    rustix::fs::fadvise(&theirs, from, std::num::NonZeroU64::new(length), Advice::DontNeed);
            }
        })?;
        Ok(Self { file, written: 0, begun: 0, begin })
    }
}

impl Write for WriteBack {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.written - self.begun >= WRITE_BACK {
            // Without the thread the end takes longer.
            let _ = self.begin.send((self.begun, self.written - self.begun));
            self.begun = self.written;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
