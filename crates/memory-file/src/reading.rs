//! From a file: to verify it, or to hand it to a hypervisor, unpacked.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::checksum::{Checksum, Sum, Summed, Summing};
use crate::header::{self, Header};
use crate::mark::{self, Mark};
use crate::pack::{Packing, unpacker};
use crate::worker::{self, Shared, Worker};
use crate::{Error, Kind, MemoryFile};

pub(crate) const CHUNK: usize = 512 << 10;

/// What was written down of a file when it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its checksum; without one only the size is compared.
    pub checksum: Option<Checksum>,
    /// How it is packed.
    pub packing: Packing,
}

/// A memory file that is open to be read: a regular file of the recorded size. Whatever gets its name later, this one is read.
#[derive(Debug)]
pub struct Opened {
    file: MemoryFile,
    recorded: Recorded,
    handle: File,
}

impl MemoryFile {
    /// Opens the file, and compares its size with what was recorded. No link is followed.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Foreign`] of what is no regular file; [`Kind::Damaged`] when it has another size.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn open(&self, recorded: &Recorded) -> Result<Opened, Error> {
        let (file, recorded) = (self.clone(), recorded.clone());
        worker::run(self.path(), move |_| {
            let (handle, found) = open(file.path())?;
            compare_size(file.path(), &recorded, found.len())?;
            Ok(Opened { file, recorded, handle })
        })
        .await
    }
}

/// Opens a regular file, and follows no link.
pub(crate) fn open(path: &Path) -> Result<(File, Metadata), Error> {
    let failed = |e| Error::io(path, "cannot be opened", e);
    let found = path.symlink_metadata().map_err(failed)?;
    // A device may do something when it is opened.
    if !found.is_file() {
        return Err(Error::not_regular(path, found.file_type().is_symlink()));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let handle = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        Err(Errno::LOOP) => return Err(Error::not_regular(path, true)),
        Err(errno) => return Err(failed(errno.into())),
    };
    let found = handle.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(Error::not_regular(path, false));
    }
    Ok((handle, found))
}

impl Opened {
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn packing(&self) -> Packing {
        self.recorded.packing
    }

    /// Whether what was read is what was recorded.
    pub(crate) fn compare(&self, read: Sum) -> Result<(), Error> {
        compare(self.path(), &self.recorded, read)
    }

    pub(crate) fn handle(&self) -> Result<File, Error> {
        self.handle.try_clone().map_err(|e| Error::io(self.path(), "cannot be read", e))
    }

    /// What its beginning says.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it does not begin as memory, or cannot be unpacked.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn header(&self) -> Result<Header, Error> {
        let (path, handle, packing) = (self.path().to_owned(), self.handle()?, self.recorded.packing);
        worker::run(self.path(), move |_| header(&handle, packing, &path)).await
    }

    /// Whether the file has the mark of an operation whose token begins with `start`. A copy has no mark, and where the file system
    /// cannot mark files, none has.
    ///
    /// # Errors
    /// The mark cannot be read.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn is_marked(&self, start: &str) -> Result<bool, Error> {
        let (path, handle, start) = (self.path().to_owned(), self.handle()?, start.to_owned());
        worker::run(self.path(), move |_| match mark::read(&handle) {
            Ok(Mark::Of(token)) => Ok(token.starts_with(start.as_bytes())),
            Ok(Mark::Missing | Mark::Unsupported) => Ok(false),
            Err(e) => Err(Error::io(&path, "cannot be looked at", e)),
        })
        .await
    }

    /// Reads the whole file, and compares size and checksum with what was recorded. `progress` is told how many bytes were read.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when they differ, [`Kind::Failed`] when it cannot be read.
    ///
    /// # Cancel safety
    /// It only looks. Dropped, its thread ends soon after.
    pub async fn verify(&self, mut progress: impl FnMut(u64)) -> Result<(), Error> {
        let (path, handle) = (self.path().to_owned(), self.handle()?);
        let mut worker = Worker::start(self.path(), move |shared| {
            sum(&handle, shared).map_err(|e| Error::io(&path, "cannot be read", e))
        })?;
        let read = worker.done(&mut progress).await?;
        progress(read.bytes);
        self.compare(read)
    }

    /// Hands the whole file to `stream`, unpacked, and compares what it read on the way with what was recorded. The stream is ended, in any
    /// case. It must be a blocking one. `progress` is told how many bytes of the file were read.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the file is not what was recorded, which may show only after all of it was handed over: nothing must be
    /// made of it then. [`Kind::Stream`] when the other side took no more.
    ///
    /// # Cancel safety
    /// Dropped, the other side gets no more, and sees the stream end within the memory.
    pub async fn feed(self, stream: UnixStream, progress: impl FnMut(u64)) -> Result<(), Error> {
        let Self { file, recorded, handle } = self;
        let (path, packing) = (file.path().to_owned(), recorded.packing);
        // A thread that waits for the other side to take more sees the end of this future so.
        let _end = EndOnDrop(stream.try_clone().map_err(|e| Error::io(&path, "gets no stream", e))?);
        let mut worker = Worker::start(file.path(), move |shared| {
            let result = feed(handle, packing, &stream, shared, &path);
            // The end of the stream is a part of it.
            let _ = stream.shutdown(Shutdown::Both);
            result
        })?;
        let read = worker.done(progress).await?;
        compare(file.path(), &recorded, read)
    }
}

struct EndOnDrop(UnixStream);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn compare_size(path: &Path, recorded: &Recorded, bytes: u64) -> Result<(), Error> {
    if bytes == recorded.bytes {
        return Ok(());
    }
    let what = format!("has {bytes} bytes, and {} were saved", recorded.bytes);
    Err(Error::about(Kind::Damaged, path, &what))
}

/// Whether what was read is what was recorded.
fn compare(path: &Path, recorded: &Recorded, read: Sum) -> Result<(), Error> {
    compare_size(path, recorded, read.bytes)?;
    match recorded.checksum {
        Some(checksum) if checksum != read.checksum => {
            let what = format!("was changed: its checksum is {}, and {checksum} was recorded", read.checksum);
            Err(Error::about(Kind::Damaged, path, &what))
        }
        _ => Ok(()),
    }
}

/// A file from its beginning on, whatever else reads it.
pub(crate) struct FromStart<'a> {
    pub(crate) file: &'a File,
    pub(crate) at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Reads the beginning of a file that is packed so.
pub(crate) fn header(file: &File, packing: Packing, path: &Path) -> Result<Header, Error> {
    let from = BufReader::new(FromStart { file, at: 0 });
    let read = match packing {
        Packing::None => header::read(from),
        Packing::Zstd => unpacker(from).map_err(header::Wrong::Unread).and_then(header::read),
    };
    read.map_err(|wrong| wrong.into_error(path))
}

/// Sums a whole file up.
pub(crate) fn sum(file: &File, shared: &Shared) -> io::Result<Sum> {
    let mut from = FromStart { file, at: 0 };
    let mut summing = Summing::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(summing.sum()),
            Ok(read) => summing.add(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        shared.set_moved(summing.bytes());
        shared.go_on()?;
    }
}

fn feed(
    handle: File,
    packing: Packing,
    stream: &UnixStream,
    shared: &Shared,
    path: &Path,
) -> Result<Sum, Error> {
    let unread = |e| Error::about(Kind::Damaged, path, "cannot be read").with_source(e);
    let untaken = |e| Error::about(Kind::Stream, path, "was not taken as a whole").with_source(e);
    let mut file = BufReader::with_capacity(CHUNK, Summed::new(handle));
    match packing {
        Packing::None => pass(&mut file, stream, shared, |file| file.get_ref().sum.bytes(), unread, untaken)?,
        Packing::Zstd => {
            let mut unpacked = unpacker(&mut file).map_err(unread)?;
            let read = |from: &zstd::stream::read::Decoder<'_, &mut BufReader<Summed<File>>>| {
                from.get_ref().get_ref().sum.bytes()
            };
            pass(&mut unpacked, stream, shared, read, unread, untaken)?;
        }
    }
    Ok(file.get_ref().sum.sum())
}

/// `done` is how much of the file has been read.
fn pass<R: Read>(
    from: &mut R,
    mut stream: &UnixStream,
    shared: &Shared,
    done: impl Fn(&R) -> u64,
    unread: impl Fn(io::Error) -> Error,
    untaken: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(unread(e)),
        };
        shared.go_on().map_err(&untaken)?;
        stream.write_all(&buffer[..read]).map_err(&untaken)?;
        shared.set_moved(done(from));
    }
}
