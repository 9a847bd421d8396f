//! What a look at an image told, for as long as the image stays as it was looked at.
//!
//! Each act on an image looks at it first. In an operation on many disks that doubles the processes, though nothing but the
//! operation itself wrote since the last look.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::{Image, ImageInfo};

/// The images that are remembered; of more the first are forgotten all at once.
const MOST: usize = 1_024;

/// A change of a file within this time of another leaves the time of the change as it was: a tick of the kernel's clock at 100 Hz.
const TICK: Duration = Duration::from_millis(10);

/// The same where it is told in whole seconds, as on ext3.
const SECONDS: Duration = Duration::from_secs(2);

/// When and how a file was changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// That of a regular file. A block device is written to without one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        // On a network file system what is known of a file may be of some seconds ago, but for one that is opened.
        let found = File::open(path).and_then(|file| file.metadata()).ok().filter(Metadata::is_file)?;
        Some(Self {
            file: (found.dev(), found.ino()),
            length: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Whether another change now would leave another stamp.
    fn is_settled(self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanoseconds) = self.changed;
        let changed = Duration::new(seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
        // A file system that knows whole seconds only takes a second for one time.
        let tick = if nanoseconds == 0 { SECONDS } else { TICK };
        changed + tick <= now
    }
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    format: String,
    info: ImageInfo,
    /// Snapshots made since, whose ids are not known.
    made: Vec<String>,
    /// Whether we wrote to it since: its sizes are others now.
    is_written: bool,
}

/// The images that were looked at.
#[derive(Debug, Default)]
pub(super) struct Looked(Mutex<HashMap<PathBuf, Known>>);

impl Looked {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a look told that began at a file with the stamp `before`.
    pub(super) fn note(&self, image: &Image, before: Option<Stamp>, info: &ImageInfo) {
        let mut all = self.all();
        all.remove(&image.path);
        let Some(stamp) = before.filter(|stamp| {
            !info.in_use && stamp.is_settled() && Stamp::of(&image.path).as_ref() == Some(stamp)
        }) else {
            return;
        };
        if all.len() >= MOST {
            all.clear();
        }
        let known = Known {
            stamp,
            format: image.format.clone(),
            info: info.clone(),
            made: Vec::new(),
            is_written: false,
        };
        all.insert(image.path.clone(), known);
    }

    /// What the last look told, if the image is as it was then, but for snapshots of other names than this.
    pub(super) fn of(&self, image: &Image, snapshot: &str) -> Option<ImageInfo> {
        self.known(image, |known| !known.made.iter().any(|made| made == snapshot))
    }

    /// What the last look told, if the file is as it was then.
    pub(super) fn unchanged(&self, image: &Image) -> Option<ImageInfo> {
        self.known(image, |known| !known.is_written)
    }

    fn known(&self, image: &Image, serves: impl Fn(&Known) -> bool) -> Option<ImageInfo> {
        let all = self.all();
        let known = all.get(&image.path)?;
        let holds =
            known.format == image.format && serves(known) && Stamp::of(&image.path) == Some(known.stamp);
        holds.then(|| known.info.clone())
    }

    /// These images are about to be written to by us.
    pub(super) fn forget<const N: usize>(&self, images: [&Image; N]) {
        let mut all = self.all();
        for image in images {
            all.remove(&image.path);
        }
    }

    /// The image was written to by us. `change` says what that changed of what is known.
    pub(super) fn wrote(&self, image: &Image, change: Change<'_>) {
        let mut all = self.all();
        let Some(known) = all.get_mut(&image.path) else { return };
        known.is_written = true;
        match change {
            Change::Content => {}
            Change::Made(name) => known.made.push(name.to_owned()),
            Change::Deleted(id) => known.info.snapshots.retain(|snapshot| snapshot.id != id),
        }
        match Stamp::of(&image.path).filter(|stamp| stamp.file == known.stamp.file) {
            Some(stamp) => known.stamp = stamp,
            None => drop(all.remove(&image.path)),
        }
    }
}

/// What a write of ours changed of an image's header.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// Nothing.
    Content,
    /// It has a snapshot of this name.
    Made(&'a str),
    /// The snapshot of this id is gone.
    Deleted(&'a str),
}
