//! The disks of a domain.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use xlsnap_types::model::{DiskName, Hypervisor, ImageFormat};

use super::Overlay;
use crate::step::UndoPoint;
use crate::{Can, PortError};

/// A snapshot inside an image, as it is found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSnapshot {
    /// The image's id for it; reused after a delete.
    pub id: String,
    /// Its name; may be empty, or stand twice in a foreign image.
    pub name: String,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub date: u64,
    /// The bytes of machine state in it; 0 for a disk-only one.
    pub vm_state_size: u64,
}

impl ImageSnapshot {
    /// By what it is known in its image.
    pub(crate) fn as_id(&self) -> SnapshotId {
        SnapshotId { name: self.name.clone(), id: self.id.clone() }
    }
}

/// Which snapshot inside an image is meant: both must match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    /// Its name.
    pub name: String,
    /// Its id in the image.
    pub id: String,
}

/// What makes a file that file, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The device that it is on (`st_dev`); of a block device, its own number (`st_rdev`).
    pub device: u64,
    /// Its inode there; 0 of a block device.
    pub inode: u64,
}

impl FileIdentity {
    /// Whether it is a block device, of which no time of the last write is known.
    #[must_use]
    pub fn is_device(self) -> bool {
        self.inode == 0
    }

    /// Whether `found`, which has the file's name or one that it was to get, is the file that this was noted of, maybe before a reboot.
    ///
    /// Then the number of a device may be another one: the kernel numbers a volume as it finds it, and Btrfs at each mount. The inode stays.
    #[must_use]
    pub fn is_still(self, found: Self) -> bool {
        self.inode == found.inode && (!self.is_device() || self.device == found.device)
    }
}

/// A dirty bitmap of a disk: what an incremental backup goes by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bitmap {
    /// Its name.
    pub name: String,
    /// Whether it is stored in the image, or will be when the process ends. Another one ends with the process.
    pub persistent: bool,
}

/// A disk of the domain, with what planning must know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What people call it.
    pub name: DiskName,
    /// The image that takes its writes now, as people know it.
    pub image: String,
    /// The image's file, if it is one that can be looked at.
    pub identity: Option<FileIdentity>,
    /// Its format.
    pub format: ImageFormat,
    /// The size that the guest sees, in bytes.
    pub virtual_size: u64,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Whether it is a CD-ROM, a floppy or an empty drive.
    pub removable: bool,
    /// Whether the backend can take an internal snapshot of it now.
    pub internal: Can,
    /// Whether the backend can take an external snapshot of it now.
    pub external: Can,
    /// Whether its image could be brought back to a snapshot inside it, as things are now; [`Disk::bitmaps`] aside.
    pub revert: Can,
    /// Whether the process that has it open can be made to write to another image while it lives ([`crate::Layers::swap`]).
    pub swap: Can,
    /// Whether the process that has it open can move data between its layers while it lives ([`crate::Layers::merge`],
    /// [`crate::Layers::stream`]).
    pub jobs: Can,
    /// Whether what starts the domain can be made to name another image for it ([`crate::Overlays::adopt`]). Where it cannot, a new
    /// image takes the name of the one before.
    pub adopt: Can,
    /// Whether the data in its image is encrypted.
    pub encrypted: bool,
    /// The dirty bitmaps on it, by which a backup program knows what changed since its last backup. A revert makes each a lie.
    pub bitmaps: Vec<Bitmap>,
    /// The directory in which its overlays are made when a request names no file; `None` for the image's own.
    pub overlays: Option<String>,
    /// The snapshots inside its image.
    pub snapshots: Vec<ImageSnapshot>,
}

impl Disk {
    /// A writable disk on an image of which nothing stands in the way, with no snapshots inside.
    pub fn new(name: DiskName, image: impl Into<String>, format: ImageFormat, virtual_size: u64) -> Self {
        Self {
            name,
            image: image.into(),
            identity: None,
            format,
            virtual_size,
            read_only: false,
            removable: false,
            internal: Can::Yes,
            external: Can::Yes,
            revert: Can::Yes,
            swap: Can::no("no process has it open"),
            jobs: Can::Yes,
            adopt: Can::Yes,
            encrypted: false,
            bitmaps: Vec::new(),
            overlays: None,
            snapshots: Vec::new(),
        }
    }

    /// The snapshots of that name in its image.
    pub(crate) fn named(&self, tag: &str) -> impl Iterator<Item = SnapshotId> {
        self.snapshots.iter().filter(move |snapshot| snapshot.name == tag).map(ImageSnapshot::as_id)
    }

    /// Whether its image holds this snapshot.
    pub(crate) fn holds(&self, snapshot: &SnapshotId) -> bool {
        self.snapshots.iter().any(|held| held.name == snapshot.name && held.id == snapshot.id)
    }
}

/// A disk that the guest writes to and that the domain's description does not name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undescribed {
    /// What the backend calls it; no described disk has this name.
    pub name: DiskName,
    /// Its image.
    pub image: String,
    /// What it is.
    pub kind: UndescribedKind,
}

/// What an undescribed disk is to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndescribedKind {
    /// A disk: it was plugged in later, say.
    Disk,
    /// The flash memory in which firmware keeps its variables (pflash).
    Nvram,
}

/// All disks of a domain at one moment, in the domain's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// The disks.
    pub disks: Vec<Disk>,
    /// Writable disks that the guest has beside them.
    pub undescribed: Vec<Undescribed>,
    /// What runs the domain.
    pub hypervisor: Hypervisor,
}

impl Inventory {
    pub(crate) fn disk(&self, name: &DiskName) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.name == *name)
    }

    /// The disk of an undo point, with the mark, if it is there.
    pub(crate) fn mark(&self, point: &UndoPoint) -> Option<(&Disk, SnapshotId)> {
        let disk = self.disk(&point.disk)?;
        Some((disk, disk.named(&point.tag).next()?))
    }
}

/// What is done to one disk, at one instant with all the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotAction {
    /// A snapshot of this name inside the disk's image.
    Internal {
        /// The disk.
        disk: DiskName,
        /// The snapshot's name.
        tag: String,
        /// The disk's image; empty in a journal that an earlier version wrote.
        #[serde(default)]
        image: String,
    },
    /// The overlay, made before, takes the disk's writes from now on.
    External(Overlay),
}

impl SnapshotAction {
    /// The disk it is done to.
    pub fn disk(&self) -> &DiskName {
        match self {
            Self::Internal { disk, .. } => disk,
            Self::External(overlay) => &overlay.disk,
        }
    }

    /// The image that an internal snapshot is written to.
    pub(crate) fn image(&self) -> Option<&str> {
        match self {
            Self::Internal { image, .. } => Some(image),
            Self::External(_) => None,
        }
    }
}

/// The domain's disks.
///
/// Each method looks or acts once and says truly what it knows of the effect; none retries, undoes or decides.
///
/// # Cancel safety
/// A future that looks may be dropped at any time. One that acts is dropped only with the operation that it is part of: the
/// act may then be done, not done, or still go on, and the next operation takes it for what a crash left, and looks.
#[async_trait]
pub trait Disks: Send + Sync {
    /// All disks as they are now.
    async fn inventory(&self) -> Result<Inventory, PortError>;

    /// Takes the snapshots: at one instant where a process writes, and then all or none.
    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError>;

    /// Deletes a snapshot inside the disk's image. [`crate::PortErrorKind::NotFound`] when it is not there.
    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError>;

    /// Makes the disk's content that of the snapshot, while no process has the image. Again gives the same.
    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError>;

    /// Removes a dirty bitmap of the disk. One that is gone is removed.
    async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_still_the_same_one_when_its_device_has_another_number_and_a_device_is_not() {
        let identity = |device, inode| FileIdentity { device, inode };
        assert!(identity(1, 7).is_still(identity(1, 7)));
        assert!(identity(1, 7).is_still(identity(2, 7)));
        assert!(!identity(1, 7).is_still(identity(1, 8)));
        assert!(identity(1, 0).is_still(identity(1, 0)));
        assert!(!identity(1, 0).is_still(identity(2, 0)));
    }
}
