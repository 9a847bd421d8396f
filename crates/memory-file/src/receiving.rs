//! From the hypervisor into a file: one stream over a socket, summed and packed on the way.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::checksum::{Sum, Summed};
use crate::pack::{Packing, packer};
use crate::staged::{Sealed, Staged};
use crate::worker::{Shared, Worker};
use crate::write_back::WriteBack;
use crate::{Error, Kind};

/// How much is read at once: more than a Unix socket holds.
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
    let to = || Ok(Summed::new(WriteBack::new(staged.handle().try_clone()?)?));
    let file = to().map_err(unwritten)?;
    let summed = match packing {
        Packing::None => pass(stream, file, shared, unwritten, broken)?,
        Packing::Zstd => {
            let packed = packer(file).map_err(unwritten)?;
            pass(stream, packed, shared, unwritten, broken)?.finish().map_err(unwritten)?
        }
    };
    let sum = summed.sum.sum();
    drop(summed);
    staged.handle().sync_all().map_err(unwritten)?;
    Ok(sum)
}

fn pass<W: Write>(
    mut stream: &UnixStream,
    mut to: W,
    shared: &Shared,
    unwritten: impl Fn(io::Error) -> Error,
    broken: impl Fn(io::Error) -> Error,
) -> Result<W, Error> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) if shared.is_cancelled() => return Err(broken(io::ErrorKind::ConnectionAborted.into())),
            Ok(0) => return Ok(to),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(broken(e)),
        };
        to.write_all(&buffer[..read]).map_err(&unwritten)?;
    }
}
