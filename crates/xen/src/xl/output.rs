//! What a program says, in a file without a name.

use std::io;
use std::process::Stdio;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags};

/// A file in memory that a program writes to and we read along. It has no other end that could go away.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<OwnedFd>);

impl Output {
    /// One that takes `limit` bytes: a program that writes more gets an error, and takes no more memory.
    pub(super) fn new(limit: u64) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("xlsnap-xl", flags)?;
        rustix::fs::ftruncate(&file, limit)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self(Arc::new(file)))
    }

    /// The same for a program to write to. Both have one position, so that it writes after what it wrote.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        Ok(self.0.try_clone()?.into())
    }

    /// How many bytes were written: where the position is.
    pub(super) fn length(&self) -> u64 {
        rustix::fs::tell(&*self.0).unwrap_or(0)
    }

    /// The last `limit` bytes of it as text.
    pub(super) fn text(&self, limit: usize) -> String {
        let length = self.length();
        let mut at = length.saturating_sub(limit as u64);
        let mut text = vec![0; usize::try_from(length - at).unwrap_or(0)];
        let mut filled = 0;
        while filled < text.len() {
            // Reading at a place does not move the position that the program writes at.
            match rustix::io::pread(&*self.0, &mut text[filled..], at) {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    filled += read;
                    at += read as u64;
                }
            }
        }
        text.truncate(filled);
        String::from_utf8_lossy(&text).into_owned()
    }
}
