//! The domain's lock: the lock on the file `lock` in its directory ([`Dir::lock`]), with the owner's text in it.
//!
//! Should another program remove the domain's directory, then two processes could hold the locks of two files. So the one that gets
//! the lock looks whether it is still in the directory of that name, and takes the new one if not.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::layout;
use super::write::FsLock;
use crate::durable::{Attempt, Dir, LockFile, Opened, Stopped, waiting};
use crate::{Error, Kind, Owner};

/// The most bytes of the owner's text.
const MAX_OWNER: usize = 4096;

/// The lock's file while it is locked. Dropping it removes the owner's text and unlocks it.
#[derive(Debug)]
pub(super) struct Held {
    file: Arc<LockFile>,
    owner: Owner,
}

/// An attempt: the locked directory, or what the holder says of itself, if that can be read.
type Tried = Attempt<(Dir, Held), Option<Text<Owner>>>;

/// The text in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Text<O> {
    #[serde(flatten)]
    owner: O,
    /// What the owner does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doing: Option<String>,
}

impl Held {
    pub(super) fn file(&self) -> Weak<LockFile> {
        Arc::downgrade(&self.file)
    }

    /// Says in the file which process holds it, and what it does. For people only, so a failure (a full disk) does not matter.
    pub(super) fn tell(&self, doing: Option<&str>) {
        let text = super::meta::to_text(&Text { owner: &self.owner, doing: doing.map(str::to_owned) });
        if text.len() <= MAX_OWNER {
            let _ = rustix::fs::ftruncate(self.file.fd(), 0);
            let _ = rustix::io::pwrite(self.file.fd(), &text, 0);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A text that stays behind is harmless: it is shown only to processes that find the file locked.
        let _ = rustix::fs::ftruncate(self.file.fd(), 0);
    }
}

/// Takes the lock of `domain`, making its directory where there is none; waits for it up to `wait`.
pub(super) async fn take(root: &Path, domain: Uuid, owner: &Owner, wait: Duration) -> Result<FsLock, Error> {
    let root = Dir::create(root)?;
    let taken = waiting(wait, || attempt(&root, domain, owner)).await?;
    let (dir, held) = taken.map_err(|stopped| match stopped {
        Stopped::Busy(held_by) => busy(domain, held_by.as_ref(), wait),
        Stopped::Replaced => Error::new(
            Kind::Io,
            format!("the lock of domain {domain} is replaced each time that it is taken"),
        ),
    })?;
    Ok(FsLock::new(root, dir, held))
}

/// Tries once; gives the process that holds it, if the text can be read.
fn attempt(root: &Dir, domain: Uuid, owner: &Owner) -> Result<Tried, Error> {
    let name = layout::directory(domain);
    let dir = root.create_dir(&name)?;
    let lock = match dir.try_lock(layout::LOCK) {
        // The domain was forgotten, and its directory removed, since it was opened.
        Err(error) if error.kind() == Kind::NotFound => return Ok(Attempt::Replaced),
        Err(error) => return Err(error),
        Ok(Attempt::Locked(lock)) => lock,
        Ok(Attempt::Replaced) => return Ok(Attempt::Replaced),
        Ok(Attempt::Busy(file)) => {
            return Ok(Attempt::Busy(read_owner(&file, &|| dir.path().join(layout::LOCK))));
        }
    };
    let held = Held { file: Arc::new(lock), owner: owner.clone() };
    if !root.has_dir(&name, &dir)? {
        return Ok(Attempt::Replaced);
    }
    held.tell(None);
    Ok(Attempt::Locked((dir, held)))
}

fn read_owner(file: &Opened, path: &impl Fn() -> std::path::PathBuf) -> Option<Text<Owner>> {
    let mut text = Vec::new();
    file.read(&mut text, MAX_OWNER, path).ok()?;
    serde_json::from_slice(&text).ok()
}

fn busy(domain: Uuid, text: Option<&Text<Owner>>, waited: Duration) -> Error {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let holder = text.map_or_else(
        || "another process".to_owned(),
        |Text { owner, doing }| {
            let held = now.saturating_sub(owner.since);
            let operation = owner.operation.escape_debug();
            let doing = doing.as_ref().map(|doing| format!(": {}", doing.escape_debug())).unwrap_or_default();
            format!("process {} ({operation}, for {held} s{doing})", owner.pid)
        },
    );
    let waited =
        if waited.is_zero() { String::new() } else { format!(", waited {} s", waited.as_secs_f32()) };
    Error::new(
        Kind::Busy,
        format!("domain {domain} is locked by {holder}{waited}: try again when it is done"),
    )
}
