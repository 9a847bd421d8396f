//! From what the kernel says to an [`Error`] that names the file.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::{Error, Kind};

/// `what` failed on `path`.
pub(super) fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    let kind = match errno {
        Errno::NOENT => Kind::NotFound,
        Errno::EXIST => Kind::AlreadyExists,
        Errno::NOSPC | Errno::DQUOT => Kind::NoSpace,
        // LOOP: a symbolic link where none is followed. NXIO: a socket, or a FIFO without its other end.
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::LOOP | Errno::NXIO => Kind::Denied,
        _ => Kind::Io,
    };
    let path = path.display();
    let message = match errno {
        Errno::LOOP => format!("{path} is a symbolic link, which is not followed: remove it"),
        Errno::NXIO => format!("{path} is not a regular file: remove it"),
        _ => format!("cannot {what} {path}"),
    };
    Error::new(kind, message).with_source(std::io::Error::from(errno))
}

/// Refuses anything but a regular file: reading a FIFO or a device could hang, or do things.
pub(super) fn only_regular(stat: &Stat, path: impl Fn() -> PathBuf) -> Result<(), Error> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    Err(Error::new(Kind::Denied, format!("{} is {what}, not a regular file: remove it", path().display())))
}

/// Refuses a directory in which another user could replace what we wrote.
///
/// Its owner must be the effective user or root. A directory that all users may write is taken only when it is sticky, as
/// `/tmp` is: there no other user can replace our entries, and those that others make are refused by this very check. A group
/// that may write was let in on purpose.
pub(super) fn only_ours(stat: &Stat, path: &Path) -> Result<(), Error> {
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != us && stat.st_uid != 0 {
        let message = format!(
            "{} belongs to user {}, who could change what is stored in it: give it to user {us}, or use another \
             directory",
            path.display(),
            stat.st_uid,
        );
        return Err(Error::new(Kind::Denied, message));
    }
    if stat.st_mode & 0o1002 == 0o0002 {
        let message = format!(
            "{} can be written by all users, who could change what is stored in it: run chmod o-w on it",
            path.display(),
        );
        return Err(Error::new(Kind::Denied, message));
    }
    Ok(())
}
