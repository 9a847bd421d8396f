//! The domain's lock: flock on the file `lock` in its directory.
//!
//! The kernel releases it when the process ends, however it ends. It belongs to the open file, so two locks in one
//! process exclude each other too. The file is never removed by us; should somebody else remove it, or the domain's
//! directory, then two processes could hold the locks of two files. So whoever gets the lock looks whether it is still the file of
//! that name, and takes the new one if not.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fd::OwnedFd;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use uuid::Uuid;

use super::layout;
use super::write::FsLock;
use crate::durable::{Dir, Opened};
use crate::{Error, Kind, Owner};

/// The longest pause between two attempts, and so how late a waiter may notice that the lock is free.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How often the file may turn out to be another one before this is taken for a broken file system.
const MOST_REPLACED: u32 = 100;
/// The most bytes of the owner's text.
const MAX_OWNER: usize = 4096;

/// The lock's file while it is locked. Dropping it removes the owner's text and unlocks it.
#[derive(Debug)]
pub(super) struct Held(Arc<LockFile>);

impl Held {
    pub(super) fn file(&self) -> Weak<LockFile> {
        Arc::downgrade(&self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A text that stays behind is harmless: it is shown only to those who find the file locked.
        let _ = rustix::fs::ftruncate(self.0.file.fd(), 0);
        // A child process that is just being started has a copy of every descriptor for a moment; unlocking ends the lock
        // in spite of it. One that was lent the file is to keep the lock.
        if !self.0.lent.load(Ordering::Acquire) {
            let _ = rustix::fs::flock(self.0.file.fd(), FlockOperation::Unlock);
        }
    }
}

/// The file of a lock that is held, for lending it to child processes that act on the domain.
#[derive(Debug)]
pub struct LockFile {
    file: Opened,
    /// Whether a child may still have it.
    lent: AtomicBool,
}

impl LockFile {
    /// The locked file for a child process: the domain stays locked until the child has ended too, however the caller
    /// ends.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub fn lend(&self) -> io::Result<OwnedFd> {
        self.lent.store(true, Ordering::Release);
        self.file.fd().try_clone()
    }
}

/// Takes the lock of `domain`, making its directory where there is none; waits for it up to `wait`.
pub(super) async fn take(root: &Path, domain: Uuid, owner: &Owner, wait: Duration) -> Result<FsLock, Error> {
    let deadline = Instant::now().checked_add(wait);
    let root = Dir::create(root)?;
    let mut pause = Duration::from_millis(1);
    let mut replaced = 0;
    loop {
        match attempt(&root, domain, owner)? {
            Attempt::Locked(dir, held) => return Ok(FsLock::new(dir, held)),
            Attempt::Replaced if replaced < MOST_REPLACED => replaced += 1,
            Attempt::Replaced => {
                let message = format!("the lock of domain {domain} is replaced each time that it is taken");
                return Err(Error::new(Kind::Io, message));
            }
            Attempt::Busy(held_by) => {
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return Err(busy(domain, held_by.as_ref(), wait));
                }
                sleep(pause.min(left.unwrap_or(pause))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

enum Attempt {
    Locked(Dir, Held),
    /// What was locked is not the file of that name any more.
    Replaced,
    /// Somebody holds it; who, if the text can be read.
    Busy(Option<Owner>),
}

fn attempt(root: &Dir, domain: Uuid, owner: &Owner) -> Result<Attempt, Error> {
    let name = layout::directory(domain);
    let dir = root.create_dir(&name)?;
    let file = dir.open_or_create_file(layout::LOCK)?;
    let path = || dir.path().join(layout::LOCK);
    #[cfg(test)]
    crate::durable::fault::about_to_lock();
    match rustix::fs::flock(file.fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Attempt::Busy(read_owner(&file, &path))),
        Err(Errno::INTR) => return Ok(Attempt::Replaced),
        Err(errno) => {
            let message = format!("cannot lock {}", path().display());
            return Err(Error::new(Kind::Io, message).with_source(io::Error::from(errno)));
        }
    }
    let held = Held(Arc::new(LockFile { file, lent: AtomicBool::new(false) }));
    if !root.has_dir(&name, &dir)? || !dir.has(layout::LOCK, &held.0.file)? {
        return Ok(Attempt::Replaced);
    }
    write_owner(held.0.file.fd(), owner);
    Ok(Attempt::Locked(dir, held))
}

/// Says in the file who holds it. For people only, so a failure (a full disk) does not matter.
fn write_owner(file: &OwnedFd, owner: &Owner) {
    let text = super::meta::to_text(owner);
    let _ = rustix::fs::ftruncate(file, 0);
    let _ = rustix::io::pwrite(file, &text, 0);
}

fn read_owner(file: &Opened, path: &impl Fn() -> std::path::PathBuf) -> Option<Owner> {
    let mut text = Vec::new();
    file.read(&mut text, MAX_OWNER, path).ok()?;
    serde_json::from_slice(&text).ok()
}

fn busy(domain: Uuid, owner: Option<&Owner>, waited: Duration) -> Error {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let who = owner.map_or_else(
        || "another process".to_owned(),
        |owner| {
            let held = now.saturating_sub(owner.since);
            let operation = owner.operation.escape_debug();
            format!("process {} ({operation}, for {held} s)", owner.pid)
        },
    );
    let waited =
        if waited.is_zero() { String::new() } else { format!(", waited {} s", waited.as_secs_f32()) };
    Error::new(Kind::Busy, format!("domain {domain} is locked by {who}{waited}: try again when it is done"))
}

/// Sleeps on the runtime's timer; without a runtime nothing else could run meanwhile anyway, so the thread sleeps.
async fn sleep(time: Duration) {
    if tokio::runtime::Handle::try_current().is_ok() {
        tokio::time::sleep(time).await;
    } else {
        std::thread::sleep(time);
    }
}
