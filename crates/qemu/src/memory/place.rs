//! Where a memory file is, and where it is while it is written.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};

/// What marks a file as made by the operation that its value names: it stays with the file when that gets its name.
const MARK: &str = "user.xlsnap.save";

/// The longest name that a file may have.
const MAX_NAME: usize = 255;

/// The places of one memory file: its own, and that of `.<name>.<token>.part` in the same directory, where it is written.
#[derive(Debug, Clone)]
pub(super) struct Place {
    file: PathBuf,
    directory: PathBuf,
    part: String,
    token: String,
}

impl Place {
    pub(super) fn new(file: &str, token: &str) -> Result<Self, PortError> {
        let path = Path::new(file);
        let refused = |why: &str| {
            let message = format!("the memory cannot be saved in {file:?}: {why}");
            PortError::new(PortErrorKind::Refused, Effect::None, message)
        };
        if !path.is_absolute() {
            return Err(refused("it is no absolute path"));
        }
        let (Some(name), Some(directory)) = (path.file_name().and_then(OsStr::to_str), path.parent()) else {
            return Err(refused("it names no file"));
        };
        if name.len() > MAX_NAME || file.ends_with('/') {
            return Err(refused("it is no name for a file"));
        }
        let around = ".".len() + ".".len() + token.len() + ".part".len();
        let mut end = name.len().min(MAX_NAME.saturating_sub(around));
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Ok(Self {
            file: path.to_owned(),
            directory: directory.to_owned(),
            part: format!(".{}.{token}.part", &name[..end]),
            token: token.to_owned(),
        })
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn open_directory(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, &self.directory, flags, Mode::empty())?)
    }

    /// Makes the file aside, for its owner alone, and marks it.
    pub(super) fn create(&self) -> io::Result<File> {
        let directory = self.open_directory()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &self.part, flags, Mode::RUSR | Mode::WUSR)?;
        match rustix::fs::fsetxattr(&file, MARK, self.token.as_bytes(), XattrFlags::empty()) {
            // Not every file system has them.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOSPC) => {}
            Err(errno) => {
                let _ = rustix::fs::unlinkat(&directory, &self.part, AtFlags::empty());
                return Err(errno.into());
            }
        }
        Ok(file.into())
    }

    /// Gives the file, which is whole and synchronised, its name; nothing is ever replaced. Durable on return.
    pub(super) fn publish(&self) -> io::Result<()> {
        let directory = self.open_directory()?;
        let name = self.name();
        match rustix::fs::renameat_with(&directory, &self.part, &directory, name, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // A file system that knows no such renaming: a second name is never put over another either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&directory, &self.part, &directory, name, AtFlags::empty())?;
                rustix::fs::unlinkat(&directory, &self.part, AtFlags::empty())?;
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(rustix::fs::fsync(&directory)?)
    }

    /// Whether the file aside is there.
    pub(super) fn has_part(&self) -> bool {
        self.directory.join(&self.part).symlink_metadata().is_ok()
    }

    /// Removes what this operation made: the file aside, or the finished one. Another's file of that name stays.
    pub(super) fn discard(&self) -> io::Result<()> {
        let directory = match self.open_directory() {
            Ok(directory) => directory,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        // With the file aside still there, the finished one is somebody else's.
        if unlink(&directory, &self.part)? || !self.is_ours() {
            return Ok(());
        }
        if unlink(&directory, self.name())? {
            rustix::fs::fsync(&directory)?;
        }
        Ok(())
    }

    /// Whether the finished file is what this operation made. Where files cannot be marked, a file that begins as one of
    /// memory is: when this operation began, nothing was there.
    fn is_ours(&self) -> bool {
        let mut mark = [0; 64];
        match rustix::fs::lgetxattr(&self.file, MARK, &mut mark) {
            Ok(length) => mark.get(..length) == Some(self.token.as_bytes()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => begins_as_memory(&self.file),
            Err(_) => false,
        }
    }

    fn name(&self) -> &OsStr {
        self.file.file_name().expect("it was looked for when the place was made")
    }
}

fn begins_as_memory(file: &Path) -> bool {
    /// The beginning of a zstd frame (RFC 8878, 3.1.1).
    const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let mut start = [0; 4];
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let read = rustix::fs::openat(CWD, file, flags, Mode::empty())
        .is_ok_and(|opened| rustix::io::read(&opened, &mut start).is_ok_and(|read| read == start.len()));
    read && (start == *b"QEVM" || start == ZSTD)
}

/// Removes a regular file; whether it was there. A symbolic link is removed itself, never what it leads to.
fn unlink(directory: &OwnedFd, name: impl AsRef<OsStr>) -> io::Result<bool> {
    match rustix::fs::unlinkat(directory, name.as_ref().as_bytes(), AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes a memory file that was recorded, durably; one that is gone is removed.
///
/// # Errors
/// Of what is no regular file: it is not what was made.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    let (Some(name), Some(parent)) = (file.file_name(), file.parent()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(CWD, parent, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
        Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile => {
            return Err(io::Error::other("it is no regular file, so it is not what was saved"));
        }
        Ok(_) => {}
    }
    if unlink(&directory, name)? {
        rustix::fs::fsync(&directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn place(directory: &Path, name: &str) -> Place {
        Place::new(directory.join(name).to_str().unwrap(), "0123456789abcdef01234567").unwrap()
    }

    #[test]
    fn it_is_written_aside_and_never_put_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), "s.save");
        let mut file = place.create().unwrap();
        file.write_all(b"QEVM").unwrap();
        assert!(place.has_part() && !place.file().exists());
        assert_eq!(place.create().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::fs::write(place.file(), b"another's").unwrap();
        assert_eq!(place.publish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        place.discard().unwrap();
        assert!(!place.has_part());
        assert_eq!(std::fs::read(place.file()).unwrap(), b"another's");
        // Again, and with nothing of ours there.
        place.discard().unwrap();
        assert_eq!(std::fs::read(place.file()).unwrap(), b"another's");
    }

    #[test]
    fn a_finished_one_is_known_by_its_mark() {
        let directory = tempfile::tempdir().unwrap();
        let ours = place(directory.path(), "s.save");
        drop(ours.create().unwrap());
        ours.publish().unwrap();
        assert!(ours.file().exists() && !ours.has_part());
        let other = Place::new(ours.file().to_str().unwrap(), "ffff").unwrap();
        other.discard().unwrap();
        assert!(ours.file().exists(), "another operation's");
        ours.discard().unwrap();
        assert!(!ours.file().exists());
    }

    #[test]
    fn links_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        std::fs::write(&precious, b"QEVM").unwrap();
        let place = place(directory.path(), "s.save");
        std::os::unix::fs::symlink(&precious, place.file()).unwrap();
        std::os::unix::fs::symlink(&precious, directory.path().join(&place.part)).unwrap();
        assert_eq!(place.create().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(remove(place.file()).is_err());
        place.discard().unwrap();
        assert_eq!(std::fs::read(&precious).unwrap(), b"QEVM");
        remove(&precious).unwrap();
        remove(&precious).unwrap();
        assert!(!precious.exists());
        remove(&directory.path().join("none/such")).unwrap();
    }

    #[test]
    fn names_have_limits() {
        let directory = tempfile::tempdir().unwrap();
        for length in [1, 200, 240, 253] {
            let place = place(directory.path(), &format!("{}é", "x".repeat(length)));
            drop(place.create().unwrap());
            place.publish().unwrap();
        }
        for wrong in ["relative", "/", "/a/..", "/a/b/", &format!("/{}", "x".repeat(256))] {
            assert_eq!(Place::new(wrong, "t").unwrap_err().kind, PortErrorKind::Refused, "{wrong}");
        }
    }
}
