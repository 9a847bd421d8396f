//! An open file, read with a limit.

use std::path::PathBuf;

use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::refusal;
use crate::{Error, Kind};

/// An open regular file. While it is open its inode cannot become another file's.
#[derive(Debug)]
pub(crate) struct Opened {
    fd: OwnedFd,
    stat: Stat,
}

impl Opened {
    /// Takes `fd` if it is a regular file; `path` is for the message.
    pub(super) fn check(fd: OwnedFd, path: impl Fn() -> PathBuf) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| refusal::failed("examine", &path(), errno))?;
        refusal::only_regular(&stat, path)?;
        Ok(Self { fd, stat })
    }

    /// Whether `stat` is of this file.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        (self.stat.st_dev, self.stat.st_ino) == (stat.st_dev, stat.st_ino)
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Reads its whole content into `content`, which is cleared first.
    pub(crate) fn read(
        &self,
        content: &mut Vec<u8>,
        limit: usize,
        path: impl Fn() -> PathBuf,
    ) -> Result<(), Error> {
        content.clear();
        let size = usize::try_from(self.stat.st_size).unwrap_or(usize::MAX);
        // One byte more than the size: then a read that does not fill it has seen the end, and needs no second one.
        content.reserve(size.min(limit) + 1);
        loop {
            let spare = content.capacity() - content.len();
            let end = match rustix::io::read(&self.fd, spare_capacity(content)) {
                Ok(read) => read < spare,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(refusal::failed("read", &path(), errno)),
            };
            if content.len() > limit {
                let message =
                    format!("{} has more than {limit} bytes, so it is none of ours", path().display());
                return Err(Error::new(Kind::Malformed, message));
            }
            if end {
                return Ok(());
            }
            content.reserve(4096);
        }
    }
}
