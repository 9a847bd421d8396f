//! Plans: what an operation will do, as data. Making one has no effect.

mod action;
mod create;
mod delete;
mod memory;
mod names;
mod revert;

pub use action::{Action, Deed};
pub(crate) use create::{CreateFacts, create};
pub(crate) use delete::{DeleteFacts, delete, doomed, no_such};
pub(crate) use memory::{MemoryFacts, memory};
pub use names::overlay_beside;
pub(crate) use revert::{RevertFacts, header, revert};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use xlsnap_types::model::{DiskName, MemoryMeta, PassedOver, SnapshotName};

use crate::{Effect, Error, InsideMemory, Kind, MemorySave, SnapshotAction, SnapshotId};

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
    /// How the guest's memory is saved with them.
    pub memory: Option<MemorySave>,
    /// The guest's file systems are frozen meanwhile; how long its agent has for each answer.
    pub quiesce: Option<Duration>,
    /// Sentences for people: what it brings with it.
    pub warnings: Vec<String>,
}

/// How snapshots will be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePlan {
    /// The snapshots, in the order of deletion: children before their parents.
    pub snapshots: Vec<SnapshotDeletion>,
    /// The snapshots that stay and get another parent, with that parent.
    pub reparented: Vec<(SnapshotName, Option<SnapshotName>)>,
    /// The current snapshot after it, when that changes.
    pub current: Option<Option<SnapshotName>>,
    /// Sentences for people: what is odd about it.
    pub warnings: Vec<String>,
}

/// How one snapshot will be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDeletion {
    /// Its name.
    pub name: SnapshotName,
    /// Its parent, which becomes that of its children.
    pub parent: Option<SnapshotName>,
    /// What is deleted inside images; a snapshot that is gone from an image already is not listed.
    pub disks: Vec<ImageTarget>,
    /// The memory file that is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// A snapshot inside a disk's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTarget {
    /// The disk.
    pub disk: DiskName,
    /// Its image.
    pub image: String,
    /// The snapshot in it.
    pub snapshot: SnapshotId,
    /// The size that the disk must have, in bytes; `None` where it does not matter or nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
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
    /// What happens to the domain's process.
    pub way: RevertWay,
    /// Sentences for people: what it brings with it.
    pub warnings: Vec<String>,
}

/// What happens to a domain's process in a revert.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum RevertWay {
    /// The domain is off and stays so.
    #[default]
    Off,
    /// The process lets go of the disks and takes them back; the guest is reset.
    Release {
        /// Whether it runs then.
        run: bool,
    },
    /// A process that there is ends, and the domain is started from its disks.
    Restart {
        /// Whether it runs then.
        run: bool,
    },
    /// A process that there is ends, and the domain is started with the memory of a file.
    Restore {
        /// The memory.
        memory: MemoryMeta,
        /// Whether it runs then.
        run: bool,
    },
    /// Memory and disks come back from inside the images.
    Load {
        /// The memory.
        inside: InsideMemory,
        /// Whether it runs then.
        run: bool,
    },
}

impl RevertWay {
    /// The word for it, as answers and the journal have it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Release { .. } => "release",
            Self::Restart { .. } => "restart",
            Self::Restore { .. } => "restore",
            Self::Load { .. } => "load",
        }
    }
}

/// A refusal before any effect.
fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Refused, Effect::None, message)
}
