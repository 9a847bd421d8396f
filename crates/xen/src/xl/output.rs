//! What a program says, in a file without a name.

use std::io;
use std::process::Stdio;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::MemfdFlags;

/// A file in memory that a program writes to and we read along. It has no other end that could go away.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<OwnedFd>);

impl Output {
    pub(super) fn new() -> io::Result<Self> {
        let file = rustix::fs::memfd_create("xlsnap-xl", MemfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(file)))
    }

    /// The same for a program to write to. Both have one position, so that it writes after what it wrote.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        Ok(self.0.try_clone()?.into())
    }

    /// How many bytes were written.
    pub(super) fn length(&self) -> u64 {
        rustix::fs::fstat(&*self.0).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
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
