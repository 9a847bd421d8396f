//! Each effect on the disk, one function each, so that unit tests can fail every one of them (`fault`). These flush nothing:
//! no power is cut there.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

#[cfg(test)]
use super::fault;

type Result<T> = std::result::Result<T, Errno>;

/// Makes a file that must not be there, for writing.
pub(super) fn create(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    #[cfg(test)]
    fault::step(format!("create {name}"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
}

/// Writes all of `bytes`; a failure leaves some of them written.
pub(super) fn write(file: impl AsFd, mut bytes: &[u8]) -> Result<()> {
    #[cfg(test)]
    if let Err(errno) = fault::step("write".into()) {
        let _ = rustix::io::write(&file, &bytes[..bytes.len() / 2]);
        return Err(errno);
    }
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Flushes a file's bytes to the disk.
pub(super) fn sync(file: impl AsFd) -> Result<()> {
    #[cfg(test)]
    return fault::step("sync".into()).map(|()| drop(file));
    #[cfg(not(test))]
    rustix::fs::fdatasync(file)
}

/// Flushes a directory's entries to the disk.
pub(super) fn sync_dir(dir: BorrowedFd<'_>) -> Result<()> {
    #[cfg(test)]
    return fault::step("sync directory".into()).map(|()| _ = dir);
    #[cfg(not(test))]
    match rustix::fs::fsync(dir) {
        // Some network file systems cannot flush a directory and need not: their server has done it.
        Err(Errno::INVAL) => Ok(()),
        result => result,
    }
}

/// Renames within a directory; `Errno::EXIST` when `to` is there and `replace` is not given.
pub(super) fn rename(dir: BorrowedFd<'_>, from: &str, to: &str, replace: bool) -> Result<()> {
    #[cfg(test)]
    fault::step(format!("rename {from} to {to}"))?;
    if replace {
        return rustix::fs::renameat(dir, from, dir, to);
    }
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // The file system does not know the flag. A second link is as atomic; the first name is only a temporary one.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())?;
            rustix::fs::unlinkat(dir, from, AtFlags::empty())
        }
        result => result,
    }
}

/// Removes a file.
pub(super) fn unlink(dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    #[cfg(test)]
    fault::step(format!("unlink {name}"))?;
    rustix::fs::unlinkat(dir, name, AtFlags::empty())
}

/// Makes a directory.
pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &std::path::Path) -> Result<()> {
    #[cfg(test)]
    fault::step(format!("make directory {}", name.display()))?;
    rustix::fs::mkdirat(dir, name, Mode::RWXU)
}

/// Removes a directory that is empty.
pub(super) fn remove_dir(dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    #[cfg(test)]
    fault::step(format!("remove directory {name}"))?;
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}
