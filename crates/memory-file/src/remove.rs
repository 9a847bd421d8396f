//! Removing what was made here, and nothing else.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::file::sync;
use crate::worker::{self, Shared};
use crate::{Effect, Error, Kind, MemoryFile, mark};

impl MemoryFile {
    /// The file's size in bytes; `None` when nothing has its name.
    ///
    /// # Errors
    /// [`Kind::Foreign`] of a link, a directory and everything else that is no regular file.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn size(&self) -> Result<Option<u64>, Error> {
        let path = self.path().to_owned();
        worker::run(self.path(), move |_| match path.symlink_metadata() {
            Ok(found) if found.is_file() => Ok(Some(found.len())),
            Ok(found) => Err(Error::not_regular(&path, found.file_type().is_symlink())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(&path, "cannot be looked at", e)),
        })
        .await
    }

    /// Removes the file, durably. A file that is gone is removed.
    ///
    /// # Errors
    /// [`Kind::Foreign`] of what is no regular file, and of a file without the mark that every file made here has, where the file
    /// system can mark files: it stays. With [`Effect::Unknown`] it is gone, and a power cut may bring it back.
    ///
    /// # Cancel safety
    /// Dropped, it is done or not.
    pub async fn remove(&self) -> Result<(), Error> {
        let file = self.clone();
        worker::run(self.path(), move |shared| {
            let Some(directory) = directory(&file)? else { return Ok(()) };
            let Some(found) = open(&file, &directory, file.name())? else { return Ok(()) };
            let ours = mark::is_of_any(&found).map_err(|e| Error::io(file.path(), "cannot be looked at", e))?;
            if !ours {
                let shown = file.path().display();
                let what = format!(
                    "stays: it does not have the mark of a file that was saved here, so it may be another one; if it is not needed, remove \
                     it: rm '{shown}'"
                );
                return Err(Error::about(Kind::Foreign, file.path(), &what));
            }
            unlink(&file, &directory, file.name(), &found, shared)
        })
        .await
    }

    /// Removes what the operation `token` made: the file aside, or the finished one. Another's file of that name stays. Again is no
    /// error.
    ///
    /// # Errors
    /// The file system's. [`Kind::Refused`] for a token that is none; see [`MemoryFile::stage`].
    ///
    /// # Cancel safety
    /// Dropped, it is done or not; again is no error.
    pub async fn discard(&self, token: &str) -> Result<(), Error> {
        let (file, part, token) = (self.clone(), self.part(token)?, token.to_owned());
        worker::run(self.path(), move |shared| {
            let Some(directory) = directory(&file)? else { return Ok(()) };
            // The name has the token in it: no other operation made it. A link is removed itself.
            match rustix::fs::unlinkat(&directory, &*part, AtFlags::empty()) {
                // With the file aside still there, the finished one is another's.
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(Error::io(file.path(), "cannot be removed", errno.into())),
            }
            // What is no file of ours is not in the way of giving up.
            let Ok(Some(found)) = open(&file, &directory, file.name()) else { return Ok(()) };
            let ours =
                mark::is_of(&found, &token).map_err(|e| Error::io(file.path(), "cannot be looked at", e))?;
            if ours { unlink(&file, &directory, file.name(), &found, shared) } else { Ok(()) }
        })
        .await
    }
}

/// The file's directory; `None` when it is gone, and the file with it.
fn directory(file: &MemoryFile) -> Result<Option<OwnedFd>, Error> {
    match file.open_directory() {
        Ok(directory) => Ok(Some(directory)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(file.path(), "cannot be reached", e)),
    }
}

/// Opens a regular file; `None` when it is gone. No link is followed, and nothing is waited for.
fn open(file: &MemoryFile, directory: &OwnedFd, name: &str) -> Result<Option<File>, Error> {
    let failed = |errno: Errno| Error::io(file.path(), "cannot be looked at", errno.into());
    // A device may do something when it is opened.
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
        Ok(found) => match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {}
            kind => return Err(Error::not_regular(file.path(), kind == FileType::Symlink)),
        },
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(found) => Ok(Some(found.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Removes the name of the file that was `found` there, durably.
fn unlink(
    file: &MemoryFile,
    directory: &OwnedFd,
    name: &str,
    found: &File,
    shared: &Shared,
) -> Result<(), Error> {
    let failed = |errno: Errno| Error::io(file.path(), "cannot be removed", errno.into());
    let now = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        now => now.map_err(failed)?,
    };
    let was = rustix::fs::fstat(found).map_err(failed)?;
    if (now.st_dev, now.st_ino) != (was.st_dev, was.st_ino) {
        return Err(Error::about(
            Kind::Foreign,
            file.path(),
            "became another file while it was looked at, and stays",
        ));
    }
    if shared.is_cancelled() {
        return Err(worker::cancelled(file.path()));
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    }
    sync(directory).map_err(|e| {
        Error::io(file.path(), "is removed, and its directory cannot be flushed", e)
            .with_effect(Effect::Unknown)
    })
}
