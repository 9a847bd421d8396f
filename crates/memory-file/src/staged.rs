//! A memory file that is not there yet: written aside, summed, and then given its name.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::checksum::{Checksum, Sum};
use crate::file::sync;
use crate::header::Header;
use crate::reading::{header, sum};
use crate::{Effect, Error, Kind, MemoryFile, Packing, mark, worker};

/// A file that is being written, beside its place and under another name, for its owner alone.
///
/// Dropped, it stays there, for [`MemoryFile::discard`] to remove, in this process or in another.
#[derive(Debug)]
#[must_use = "the file stays aside until it is published or discarded"]
pub struct Staged {
    file: MemoryFile,
    part: String,
    handle: File,
}

impl MemoryFile {
    /// Makes the file aside, as `.NAME.TOKEN.part` in the same directory: new, empty, with mode 0600, and marked by `token`, which no
    /// other operation has.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the directory; [`Kind::AlreadyExists`] when the operation has made one before; [`Kind::NoSpace`];
    /// [`Kind::Refused`] for a token that is not 1 to 64 ASCII letters and digits. None has an effect.
    pub fn stage(&self, token: &str) -> Result<Staged, Error> {
        let part = self.part(token)?;
        let handle = create(self, &part, token).map_err(|e| Error::io(self.path(), "cannot be made", e))?;
        Ok(Staged { file: self.clone(), part, handle })
    }
}

fn create(file: &MemoryFile, part: &str, token: &str) -> io::Result<File> {
    let directory = file.open_directory()?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = File::from(rustix::fs::openat(&directory, part, flags, Mode::RUSR | Mode::WUSR)?);
    if let Err(e) = mark::set(&handle, token) {
        let _ = rustix::fs::unlinkat(&directory, part, AtFlags::empty());
        return Err(e);
    }
    Ok(handle)
}

impl Staged {
    /// The file that it will be.
    pub fn file(&self) -> &MemoryFile {
        &self.file
    }

    /// Where it is now, for another program to write to. That program must open this file, not put another one there.
    pub fn path(&self) -> PathBuf {
        self.file.directory().join(&self.part)
    }

    /// How many bytes it has now.
    ///
    /// # Errors
    /// [`Kind::Failed`] when the file system does not say.
    pub fn bytes(&self) -> Result<u64, Error> {
        let found = self.handle.metadata().map_err(|e| Error::io(&self.path(), "cannot be looked at", e))?;
        Ok(found.len())
    }

    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Sums up and flushes what another program has written to [`Staged::path`]; `progress` is told how many bytes were read.
    ///
    /// # Errors
    /// [`Kind::NoSpace`] or [`Kind::Failed`] when it cannot be read or flushed. It stays aside.
    ///
    /// # Cancel safety
    /// Dropped, the file stays aside.
    pub async fn seal(self, progress: impl FnMut(u64)) -> Result<Sealed, Error> {
        let path = self.path();
        let mut worker = worker::Worker::start(&path, move |shared| {
            let failed = |what: &'static str| {
                let path = self.path();
                move |e| Error::io(&path, what, e)
            };
            let read = sum(&self.handle, shared).map_err(failed("cannot be read"))?;
            self.handle.sync_all().map_err(failed("cannot be written"))?;
            Ok(Sealed::new(self, read))
        })?;
        worker.done(progress).await
    }
}

/// A file that is whole and with the disk, and has no name yet. Dropped, it stays aside as [`Staged`] does.
#[derive(Debug)]
#[must_use = "the file stays aside until it is published or discarded"]
pub struct Sealed {
    staged: Staged,
    sum: Sum,
}

impl Sealed {
    pub(crate) fn new(staged: Staged, sum: Sum) -> Self {
        Self { staged, sum }
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.sum.bytes
    }

    /// Its checksum.
    pub fn checksum(&self) -> Checksum {
        self.sum.checksum
    }

    /// What its beginning says, if it is packed so.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it does not begin as memory.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn header(&self, packing: Packing) -> Result<Header, Error> {
        let path = self.staged.path();
        let handle = self.staged.handle.try_clone().map_err(|e| Error::io(&path, "cannot be read", e))?;
        worker::run(&path.clone(), move |_| header(&handle, packing, &path)).await
    }

    /// Gives the file its name, durably. Nothing is ever replaced.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`] when something has the name: it stays, and the file stays aside. [`Kind::Foreign`] when another file was
    /// put where this one was. With [`Effect::Unknown`] it has its name, and a power cut may take that away.
    ///
    /// # Cancel safety
    /// Dropped, it has its name, if this was polled, and a power cut may take that away. [`MemoryFile::discard`] removes it either way.
    pub async fn publish(self) -> Result<(), Error> {
        let Staged { file, part, handle } = self.staged;
        // At once and here, so that nothing happens after this future was dropped.
        let directory = name(&file, &part, &handle)?;
        let path = file.path().to_owned();
        worker::run(file.path(), move |_| {
            let failed =
                |e: io::Error| Error::io(&path, "has its name, and its directory cannot be flushed", e);
            sync(&directory).map_err(|e| failed(e).with_effect(Effect::Unknown))
        })
        .await
        .map_err(|e| e.with_effect(Effect::Unknown))
    }
}

fn name(file: &MemoryFile, part: &str, handle: &File) -> Result<OwnedFd, Error> {
    let failed = |e: Errno| {
        if e == Errno::EXIST {
            return Error::about(Kind::AlreadyExists, file.path(), "came to be meanwhile, and stays");
        }
        Error::io(file.path(), "cannot be given its name", e.into())
    };
    let directory =
        file.open_directory().map_err(|e| Error::io(file.path(), "cannot be given its name", e))?;
    let is = |at: &rustix::fs::Stat, of: &rustix::fs::Stat| (at.st_dev, at.st_ino) == (of.st_dev, of.st_ino);
    let there = rustix::fs::statat(&directory, part, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if !is(&there, &rustix::fs::fstat(handle).map_err(failed)?) {
        let what = format!("is not given its name: another file was put at {part} beside it");
        return Err(Error::about(Kind::Foreign, file.path(), &what));
    }
    match rustix::fs::renameat_with(&directory, part, &directory, file.name(), RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // A file system that knows no such renaming: a second name is never put over another either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(&directory, part, &directory, file.name(), AtFlags::empty())
                .map_err(failed)?;
            rustix::fs::unlinkat(&directory, part, AtFlags::empty()).map_err(failed)?;
        }
        Err(errno) => return Err(failed(errno)),
    }
    Ok(directory)
}
