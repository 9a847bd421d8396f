//! The mark in a memory file: an extended attribute with the token of the operation that made it. It stays with the file when that is
//! renamed, and does not go with a copy.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::header::{QEMU_MAGIC, XL_MAGIC};
use crate::pack::ZSTD_MAGIC;

const ATTRIBUTE: &str = "user.xlsnap.save";

/// What a file's mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The operation of this token made it.
    Of(Vec<u8>),
    /// The file has no mark.
    Missing,
    /// This file system cannot mark files.
    Unsupported,
}

/// Marks a file as made by the operation `token`. Where the file system cannot, nothing is done.
pub(crate) fn set(file: &File, token: &str) -> io::Result<()> {
    match rustix::fs::fsetxattr(file, ATTRIBUTE, token.as_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(errno) if is_unsupported(errno) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn read(file: &File) -> io::Result<Mark> {
    let mut value = [0; 256];
    match rustix::fs::fgetxattr(file, ATTRIBUTE, &mut value) {
        Ok(length) => Ok(Mark::Of(value[..length].to_vec())),
        // It is longer than any token.
        Err(Errno::NODATA | Errno::RANGE) => Ok(Mark::Missing),
        Err(errno) if is_unsupported(errno) => Ok(Mark::Unsupported),
        Err(errno) => Err(errno.into()),
    }
}

fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM)
}

/// Whether the operation `token` made the file. Where files cannot be marked, one that begins as memory counts as its own: the
/// operation began when nothing had the name.
pub(crate) fn is_of(file: &File, token: &str) -> io::Result<bool> {
    Ok(match read(file)? {
        Mark::Of(value) => value == token.as_bytes(),
        Mark::Missing => false,
        Mark::Unsupported => begins_as_memory(file),
    })
}

/// Whether any operation made the file. Where files cannot be marked, one that begins as memory counts.
pub(crate) fn is_of_any(file: &File) -> io::Result<bool> {
    Ok(match read(file)? {
        Mark::Of(_) => true,
        Mark::Missing => false,
        Mark::Unsupported => begins_as_memory(file),
    })
}

fn begins_as_memory(file: &File) -> bool {
    let mut start = [0; 4];
    let read = file.read_exact_at(&mut start, 0);
    read.is_ok() && (start == QEMU_MAGIC || start == ZSTD_MAGIC || start == XL_MAGIC[..4])
}
