//! From the hypervisor into a file: one stream over a socket, summed and packed on the way.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::checksum::{Sum, Summed, Summing};
use crate::direct::DirectWriter;
use crate::pack::{Packing, packer};
use crate::staged::{Sealed, Staged};
use crate::worker::{Shared, Worker};
use crate::{Error, Kind};

/// How much is packed at once: more than a Unix socket holds.
const CHUNK: usize = 512 << 10;

/// A stream that is being written to a file, on a thread of its own.
///
/// Dropped, it ends the stream, and its thread ends soon after; the file stays aside.
#[derive(Debug)]
pub struct Receiving {
    worker: Worker<Result<Sealed, Error>>,
    stream: UnixStream,
}

impl Staged {
    /// Writes everything that comes over `stream` into the file, until its end, and then flushes it. When the file cannot be written,
    /// the stream is closed at once, so that the hypervisor fails instead of waiting. `stream` must be a blocking one.
    ///
    /// # Errors
    /// [`Kind::Failed`] when no thread can be started.
    pub fn receive(self, stream: UnixStream, packing: Packing) -> Result<Receiving, Error> {
        let path = self.file().path().to_owned();
        let ours = stream.try_clone().map_err(|e| Error::io(&path, "gets no stream", e))?;
        let worker = Worker::start(&path, move |shared| {
            let result = receive(&self, &stream, packing, shared);
            if result.is_err() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            Ok(Sealed::new(self, result?))
        })?;
        Ok(Receiving { worker, stream: ours })
    }
}

impl Receiving {
    /// Waits until the stream has ended and the file is with the disk, for `wait` at most; `None` when it goes on. Not to be called
    /// again after it has told how it ended.
    ///
    /// # Errors
    /// [`Kind::NoSpace`] or [`Kind::Failed`] when the file cannot be written; [`Kind::Stream`] when the stream broke, or was ended here.
    ///
    /// # Cancel safety
    /// It may be dropped and called again.
    pub async fn within(&mut self, wait: Duration) -> Option<Result<Sealed, Error>> {
        self.worker.within(wait).await
    }

    /// Ends it, and waits until the file is closed. Data that is with the disk cannot be called back, so this may take as long as a
    /// write does.
    ///
    /// # Cancel safety
    /// Dropped, the stream has ended, and the thread ends by itself.
    pub async fn end(mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.worker.done(|_| {}).await;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn receive(staged: &Staged, stream: &UnixStream, packing: Packing, shared: &Shared) -> Result<Sum, Error> {
    let path = staged.file().path();
    let unwritten = |e| Error::io(path, "cannot be written", e);
    let broken = |e| Error::about(Kind::Stream, path, "is not whole: the stream to it broke").with_source(e);
    let theirs = stream.try_clone().map_err(unwritten)?;
    // The reading here waits for the hypervisor, which may wait for something else.
    let failed = move || drop(theirs.shutdown(Shutdown::Both));
    let start = || DirectWriter::start(staged.handle().try_clone()?, failed);
    let mut writer = start().map_err(unwritten)?;
    let incoming = Incoming { stream, shared };
    let received = match packing {
        Packing::None => plain(incoming, &mut writer).map_err(broken),
        Packing::Zstd => packed(incoming, &mut writer, unwritten, broken),
    };
    // When the file could not be written, all else broke because of that.
    let sum = match received {
        Ok(sum) => writer.finish().map(|()| sum).map_err(unwritten)?,
        Err(error) => return Err(writer.give_up().map_or_else(unwritten, |()| error)),
    };
    staged.handle().sync_all().map_err(unwritten)?;
    Ok(sum)
}

/// The hypervisor's stream, whose end is no end when it was ended here.
#[derive(Clone, Copy)]
struct Incoming<'a> {
    stream: &'a UnixStream,
    shared: &'a Shared,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) if self.shared.is_cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Without a copy on the way: what is read is written from where it was read to.
fn plain(mut from: Incoming<'_>, to: &mut DirectWriter) -> io::Result<Sum> {
    let mut summing = Summing::new();
    loop {
        let read = to.fill(|room| {
            let read = from.read(room)?;
            summing.add(&room[..read]);
            Ok(read)
        })?;
        if read == 0 {
            return Ok(summing.sum());
        }
    }
}

fn packed(
    mut from: Incoming<'_>,
    to: &mut DirectWriter,
    unwritten: impl Fn(io::Error) -> Error,
    broken: impl Fn(io::Error) -> Error,
) -> Result<Sum, Error> {
    let mut packer = packer(Summed::new(to)).map_err(&unwritten)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).map_err(&broken)?;
        if read == 0 {
            return Ok(packer.finish().map_err(&unwritten)?.sum.sum());
        }
        packer.write_all(&buffer[..read]).map_err(&unwritten)?;
    }
}
