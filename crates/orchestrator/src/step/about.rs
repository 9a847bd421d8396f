//! What steps are about.

use serde::{Deserialize, Serialize};
use xlsnap_types::model::{DiskName, ImageFormat, MemoryMeta, Owner};

use crate::{Disk, FileIdentity, LayerFile, NameSwap, Overlay, Run, SnapshotAction, SnapshotId};

/// A change of the image that a domain's description names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The disk.
    pub disk: DiskName,
    /// The file that it names from then on.
    pub file: String,
    /// The file's format.
    pub format: ImageFormat,
    /// The file that it named before, to which the way back leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<ImageFile>,
}

impl Adoption {
    /// The disk, and the image that it is given.
    pub(crate) fn image(&self) -> (DiskName, ImageFile) {
        (self.disk.clone(), ImageFile { file: self.file.clone(), format: self.format.clone() })
    }
}

/// A file as the image of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// The file.
    pub file: String,
    /// Its format.
    pub format: ImageFormat,
}

impl ImageFile {
    /// A file of this format.
    pub fn new(file: impl Into<String>, format: ImageFormat) -> Self {
        Self { file: file.into(), format }
    }
}

/// What the ledger is to say of a file; its identity and its stamp are looked up when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerNote {
    /// The file.
    pub file: LayerFile,
    /// Whose it is, unless the ledger knows it already.
    pub owner: Owner,
    /// The file below it; without one, what its header says, unless it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whether a look has found what is below it: without a `base` it stands on no file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looked: bool,
    /// Whether it is read-only from then on.
    pub frozen: bool,
    /// The name that it had as the disk's image, where another file has that now; without one, what the ledger says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
}

impl LayerNote {
    /// A file that was made to take a disk's writes.
    pub(crate) fn made(disk: &DiskName, file: &str, format: &ImageFormat, base: &str) -> Self {
        Self {
            file: LayerFile {
                disk: disk.clone(),
                file: file.to_owned(),
                format: format.clone(),
                identity: None,
            },
            owner: Owner::Made,
            base: Some(base.to_owned()),
            looked: false,
            frozen: false,
            named: None,
        }
    }
}

impl LayerNote {
    /// An overlay that takes a disk's writes, and the image below it, which took them before.
    pub(crate) fn of_overlay(overlay: &Overlay) -> Vec<Self> {
        let Overlay { disk, file, format, base, base_format, .. } = overlay;
        let (base_file, base_format) = (base.clone(), base_format.clone());
        let below = Self {
            file: LayerFile { disk: disk.clone(), file: base_file, format: base_format, identity: None },
            owner: Owner::Domain,
            base: None,
            looked: false,
            frozen: true,
            named: None,
        };
        vec![Self::made(disk, file, format, base), below]
    }
}

/// A mark of what is on a disk: an internal snapshot under a reserved name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoPoint {
    /// The disk.
    pub disk: DiskName,
    /// Its image.
    pub image: String,
    /// The snapshot's name in the image; begins with [`UndoPoint::PREFIX`].
    pub tag: String,
    /// The size of the disk, in bytes.
    pub virtual_size: u64,
}

impl UndoPoint {
    /// How the names of undo points begin. No snapshot of a user's has such a name.
    pub const PREFIX: &'static str = "xlsnap-undo-";

    /// Whether a snapshot's name is that of an undo point.
    pub fn is_one(tag: &str) -> bool {
        tag.starts_with(Self::PREFIX)
    }
}

/// How a process was ended, so that it can be started again as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What its guest did; `None` when there was no process.
    pub was: Option<Run>,
    /// A memory file of that moment, from which the guest goes on; without one it boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMeta>,
}

/// A snapshot inside a disk's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTarget {
    /// The disk.
    pub disk: DiskName,
    /// Its image.
    pub image: String,
    /// The image's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<FileIdentity>,
    /// The snapshot in it.
    pub snapshot: SnapshotId,
    /// The size that the disk must have, in bytes; `None` where it does not matter or nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
}

impl ImageTarget {
    /// This snapshot in the image that the disk has now.
    pub(crate) fn on(disk: &Disk, snapshot: SnapshotId, virtual_size: Option<u64>) -> Self {
        Self {
            disk: disk.name.clone(),
            image: disk.image.clone(),
            identity: disk.identity,
            snapshot,
            virtual_size,
        }
    }
}

/// What a look expects to find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Every disk has its part of the snapshot.
    Taken {
        /// The parts.
        actions: Vec<SnapshotAction>,
        /// Whether an image must hold the guest's memory.
        inside: bool,
    },
    /// The disks have these sizes.
    Sizes(Vec<ImageTarget>),
    /// The disks write to these new files, under the names that were kept.
    Named(Vec<NameSwap>),
}
