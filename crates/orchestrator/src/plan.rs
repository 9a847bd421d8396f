//! Plans: what an operation will do, as data. Making one has no effect.

mod action;
mod names;

pub use action::Action;
pub use names::overlay_beside;

use xlsnap_types::model::{DiskName, PassedOver, SnapshotName};

use crate::{SnapshotAction, SnapshotId};

/// What is planned for one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlan {
    /// The disk.
    pub disk: DiskName,
    /// Its image now.
    pub image: String,
    /// What is done to it.
    pub action: SnapshotAction,
}

/// How a snapshot will be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatePlan {
    /// Its name.
    pub name: SnapshotName,
    /// The disks it takes, in the domain's order.
    pub disks: Vec<DiskPlan>,
    /// The disks it leaves out, and why.
    pub passed_over: Vec<PassedOver>,
}

/// How snapshots will be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePlan {
    /// The snapshots, in the order of deletion: children before their parents.
    pub snapshots: Vec<SnapshotDeletion>,
    /// The snapshots that get another parent.
    pub reparented: Vec<SnapshotName>,
    /// The current snapshot after it, when that changes.
    pub current: Option<Option<SnapshotName>>,
}

/// How one snapshot will be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDeletion {
    /// Its name.
    pub name: SnapshotName,
    /// Its parent, which becomes that of its children.
    pub parent: Option<SnapshotName>,
    /// What is deleted inside images; a snapshot that is gone from an image already is not listed.
    pub disks: Vec<ImageTarget>,
}

/// A snapshot inside a disk's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTarget {
    /// The disk.
    pub disk: DiskName,
    /// Its image.
    pub image: String,
    /// The snapshot in it.
    pub snapshot: SnapshotId,
}

/// How the disks will go back to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevertPlan {
    /// Its name.
    pub name: SnapshotName,
    /// The snapshot that is made first.
    pub safety: Option<CreatePlan>,
    /// The disks that go back.
    pub disks: Vec<ImageTarget>,
    /// The domain's other disks, and why they are left alone.
    pub untouched: Vec<PassedOver>,
}
