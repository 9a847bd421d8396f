//! Locks on files of a directory: flock.
//!
//! The kernel releases such a lock when the process ends, however it ends. It belongs to the open file, so two locks in one
//! process exclude each other too. The file is never removed by us; should another program remove it, then two processes
//! could hold the locks of two files. So the one that gets the lock looks whether it is still the file of that name.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Dir, Opened};
use crate::{Error, Kind};

/// The longest pause between two attempts, and so how late a waiter may notice that the lock is free.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How often the file may turn out to be another one before this is taken for a broken file system.
const MOST_REPLACED: u32 = 100;

/// A file while it is locked. Dropping it unlocks it, unless it was lent.
#[derive(Debug)]
#[must_use = "dropping it unlocks the file"]
pub struct LockFile {
    file: Opened,
    /// Whether a child may still have it.
    lent: AtomicBool,
}

impl LockFile {
    /// The locked file for a child process: it stays locked until the child has ended too, however the caller ends.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub fn lend(&self) -> io::Result<OwnedFd> {
        self.lent.store(true, Ordering::Release);
        self.file.fd().try_clone()
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        self.file.fd()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A child process that is just being started has a copy of every descriptor for a moment; unlocking ends the lock
        // in spite of it. One that was lent the file is to keep the lock.
        if !self.lent.load(Ordering::Acquire) {
            let _ = rustix::fs::flock(self.file.fd(), FlockOperation::Unlock);
        }
    }
}

/// What came of trying to lock a file.
pub(crate) enum Attempt<T, B> {
    Locked(T),
    /// What was locked is not the file of that name any more.
    Replaced,
    /// Another process holds it, or this one by another open file.
    Busy(B),
}

impl Dir {
    /// Locks the file `name`, which is made where there is none, and waits for it up to `wait`. It excludes all others that
    /// lock it, in this process and in others, and none that only open it.
    ///
    /// # Errors
    /// [`Kind::Busy`] when it is held elsewhere for longer than that; [`Kind::Denied`] when what has that name is no
    /// regular file.
    ///
    /// # Cancel safety
    /// Dropping the future takes no lock. It sleeps on tokio's timer; outside of a tokio runtime it blocks its thread.
    pub async fn lock(&self, name: &str, wait: Duration) -> Result<LockFile, Error> {
        let locked = waiting(wait, || self.try_lock(name)).await?;
        locked.map_err(|stopped| {
            let path = self.path().join(name);
            match stopped {
                Stopped::Busy(_) => {
                    Error::new(Kind::Busy, format!("{} is locked by another process", path.display()))
                }
                Stopped::Replaced => Error::new(
                    Kind::Io,
                    format!("{} is replaced each time that it is locked", path.display()),
                ),
            }
        })
    }

    /// Tries to lock the file `name`, which is made where there is none; gives the file if it is held.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Attempt<LockFile, Opened>, Error> {
        let file = self.open_or_create_file(name)?;
        #[cfg(test)]
        super::fault::about_to_lock();
        match rustix::fs::flock(file.fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Attempt::Busy(file)),
            Err(Errno::INTR) => return Ok(Attempt::Replaced),
            Err(errno) => {
                let message = format!("cannot lock {}", self.path().join(name).display());
                return Err(Error::new(Kind::Io, message).with_source(io::Error::from(errno)));
            }
        }
        let lock = LockFile { file, lent: AtomicBool::new(false) };
        Ok(if self.has(name, &lock.file)? { Attempt::Locked(lock) } else { Attempt::Replaced })
    }
}

impl Dir {
    /// Whether the file `name` is locked now. It looks by locking it, shared and without waiting, so that for the moment it takes
    /// another process that wants the lock finds it held.
    pub(crate) fn is_locked(&self, name: &str) -> Result<bool, Error> {
        let file = match self.open_file(name) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            opened => opened?,
        };
        match rustix::fs::flock(file.fd(), FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => {
                let message = format!("cannot tell whether {} is locked", self.path().join(name).display());
                Err(Error::new(Kind::Io, message).with_source(io::Error::from(errno)))
            }
        }
    }
}

/// Why there was no lock in the end.
pub(crate) enum Stopped<B> {
    /// It was held all the time.
    Busy(B),
    /// The file was another one each time.
    Replaced,
}

/// Tries `attempt` again and again, up to `wait` while the lock is held.
pub(crate) async fn waiting<T, B>(
    wait: Duration,
    mut attempt: impl FnMut() -> Result<Attempt<T, B>, Error>,
) -> Result<Result<T, Stopped<B>>, Error> {
    let deadline = Instant::now().checked_add(wait);
    let mut pause = Duration::from_millis(1);
    let mut replaced = 0;
    loop {
        match attempt()? {
            Attempt::Locked(lock) => return Ok(Ok(lock)),
            Attempt::Replaced if replaced < MOST_REPLACED => replaced += 1,
            Attempt::Replaced => return Ok(Err(Stopped::Replaced)),
            Attempt::Busy(holder) => {
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return Ok(Err(Stopped::Busy(holder)));
                }
                sleep(pause.min(left.unwrap_or(pause))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Sleeps on the runtime's timer; without a runtime nothing else could run meanwhile anyway, so the thread sleeps.
async fn sleep(time: Duration) {
    if tokio::runtime::Handle::try_current().is_ok() {
        tokio::time::sleep(time).await;
    } else {
        std::thread::sleep(time);
    }
}
