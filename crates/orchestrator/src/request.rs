//! What a caller asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use uuid::Uuid;
use xlsnap_types::model::{Compression, DiskName, ImageFormat, MemoryWay, SnapshotName};

use crate::Run;

/// Which domain an operation is on, and which process asks.
#[derive(Debug, Clone)]
pub struct DomainRef {
    /// The key of its records.
    pub uuid: Uuid,
    /// What people call it; for messages and the domain's record.
    pub name: String,
    /// The process that asks, for the lock's owner.
    pub pid: u32,
    /// How long to wait for the domain's lock.
    pub lock_wait: Duration,
}

/// Which disks to take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; empty for every writable disk.
    pub only: BTreeSet<DiskName>,
    /// Not these.
    pub except: BTreeSet<DiskName>,
}

/// How one disk is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskChoice {
    /// Inside its image.
    Internal,
    /// Into an overlay.
    External {
        /// The overlay's file; `None` for one beside the image, named after the snapshot: `IMAGE.SNAPSHOT-1.qcow2`.
        file: Option<String>,
        /// Its format.
        format: ImageFormat,
    },
}

/// Whether the new file of an external snapshot takes the name of the disk's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepName {
    /// It does where the domain is started by others than xlsnap, which know that name, and where it can; but a file that the request
    /// names ([`DiskChoice::External`]) takes the writes itself.
    #[default]
    WhereOthersStart,
    /// It does, or the snapshot is refused.
    Yes,
    /// It does not.
    No,
}

/// Where a guest's memory is saved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MemoryPlace {
    /// In the file that the backend has for it ([`crate::MemoryFiles::place`]).
    #[default]
    Default,
    /// In this file, absolute.
    File(String),
    /// Inside the disks' images.
    Inside,
}

/// How a guest's memory is to be saved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryRequest {
    /// Where.
    pub place: MemoryPlace,
    /// In which way; `None` for the one with the least pause that the backend has.
    pub way: Option<MemoryWay>,
    /// How the file is packed.
    pub compression: Compression,
}

/// A snapshot to be made.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// Its name; `None` for the time's.
    pub name: Option<SnapshotName>,
    /// What its maker says about it.
    pub description: String,
    /// Which disks.
    pub selection: Selection,
    /// How a disk is taken that `disks` does not name.
    pub default_choice: DiskChoice,
    /// How single disks are taken.
    pub disks: BTreeMap<DiskName, DiskChoice>,
    /// Whether the guest's memory is saved too, and how; `None` for a disk-only snapshot.
    pub memory: Option<MemoryRequest>,
    /// Whether the guest's file systems are frozen meanwhile, through its agent, and for how long it may take to answer.
    pub quiesce: Option<Duration>,
    /// `KEY=VALUE` words.
    pub labels: BTreeMap<String, String>,
    /// When it may be pruned, in seconds since 1970-01-01 UTC.
    pub expires: Option<u64>,
    /// Whether the disks' images keep their names for the new files.
    pub keep_name: KeepName,
}

impl Default for CreateRequest {
    fn default() -> Self {
        Self {
            name: None,
            description: String::new(),
            selection: Selection::default(),
            default_choice: DiskChoice::Internal,
            disks: BTreeMap::new(),
            memory: None,
            quiesce: None,
            labels: BTreeMap::new(),
            expires: None,
            keep_name: KeepName::default(),
        }
    }
}

impl CreateRequest {
    /// How a disk is taken, if it is.
    pub(crate) fn choice(&self, disk: &DiskName) -> &DiskChoice {
        self.disks.get(disk).unwrap_or(&self.default_choice)
    }

    /// The file that it names for a disk's overlay.
    pub(crate) fn overlay_of(&self, disk: &DiskName) -> Option<&str> {
        match self.choice(disk) {
            DiskChoice::External { file, .. } => file.as_deref(),
            DiskChoice::Internal => None,
        }
    }

    /// Whether it may take a disk into an overlay.
    pub(crate) fn takes_externally(&self) -> bool {
        let mut choices = std::iter::once(&self.default_choice).chain(self.disks.values());
        choices.any(|choice| matches!(choice, DiskChoice::External { .. }))
    }
}

/// A snapshot to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Its name.
    pub name: SnapshotName,
    /// Delete its descendants too, from the leaves on.
    pub children: bool,
    /// Forget the records, and leave images and files alone.
    pub metadata_only: bool,
    /// Merge no layers, although no snapshot needs them any more: that is the longest part of a deletion, and a later one, or
    /// flattening the disk, does it.
    pub no_merge: bool,
    /// The most bytes a second that are moved between layers; `None` for as many as can be.
    pub rate: Option<NonZeroU64>,
    /// Files below the domain's images that are not the domain's, and that it may write to all the same: what stands on them goes down into
    /// them and is removed, the domain's own image too, and internal snapshots are deleted from them. No other file that is not the domain's is
    /// written to.
    pub into_base: BTreeSet<String>,
}

impl DeleteRequest {
    /// This snapshot alone, with its data.
    pub fn new(name: SnapshotName) -> Self {
        Self {
            name,
            children: false,
            metadata_only: false,
            no_merge: false,
            rate: None,
            into_base: BTreeSet::new(),
        }
    }
}

/// Disks that are to stop depending on the files below their images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlattenRequest {
    /// Only these; empty for every writable disk.
    pub disks: BTreeSet<DiskName>,
    /// Delete first, of the snapshots that the domain descends from, all but so many of the nearest; `None` to delete none.
    pub keep: Option<usize>,
    /// The most bytes a second that are moved between layers; `None` for as many as can be.
    pub rate: Option<NonZeroU64>,
    /// As [`DeleteRequest::into_base`]: what stands on such a file goes down into it, where else all that it holds would be copied up.
    pub into_base: BTreeSet<String>,
}

/// A snapshot in images that is to get a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptRequest {
    /// Its name in the images.
    pub name: SnapshotName,
    /// Only of these disks; empty for every disk that holds it.
    pub disks: BTreeSet<DiskName>,
}

/// What no record names, to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanRequest {
    /// The snapshot's name in the images, which another program may have chosen; or a memory file in the domain's own directory, or an overlay beside
    /// the domain's layers.
    pub orphan: String,
    /// Only from these disks; empty for every disk that holds it.
    pub disks: BTreeSet<DiskName>,
}

/// Files of a domain's chains that were moved or renamed, so that what names them is to follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelocateRequest {
    /// The files, or directories with all files of the domain's below them.
    pub moves: Vec<FileMove>,
    /// Of these disks, take the files for what they are now, although they were written to or nothing tells that they are the ones
    /// which were moved: from then on the snapshots in them hold that.
    pub keep_base: BTreeSet<DiskName>,
}

/// A file, or a directory, that has another name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMove {
    /// The name that it had, absolute.
    pub old: String,
    /// The name that it has now, absolute.
    pub new: String,
}

/// A snapshot to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevertRequest {
    /// Its name.
    pub name: SnapshotName,
    /// Take a snapshot of now under this name first.
    pub safety: Option<SnapshotName>,
    /// What the guest does afterwards. `None`: a guest whose memory comes back does what it did in the snapshot, one whose
    /// disks alone come back does what it did before the revert.
    pub run: Option<Run>,
    /// End the process of a domain that runs and start it again, although its disks could be reverted under it.
    pub offline: bool,
    /// Bring the disks back alone, although the snapshot holds the guest's memory: for a memory that is damaged, lost, or not
    /// wanted.
    pub without_memory: bool,
    /// Remove the dirty bitmaps of the disks that go back, which would refuse the revert or be made a lie by it.
    pub drop_bitmaps: bool,
}

impl RevertRequest {
    /// Back to the snapshot of this name, in the usual way.
    pub fn new(name: SnapshotName) -> Self {
        Self { name, safety: None, run: None, offline: false, without_memory: false, drop_bitmaps: false }
    }
}

/// A comparison of records, images and journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckRequest {
    /// Do the repairs that can lose nothing.
    pub repair: bool,
    /// Read whole memory files, and have each image checked by its own tool.
    pub deep: bool,
    /// Of these disks, take the layers that were written to, or replaced, for what they are now: from then on the snapshots in them
    /// hold that.
    pub keep_base: BTreeSet<DiskName>,
}
