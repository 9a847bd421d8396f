//! What libxl's struct cannot hold: `snapshotmeta-<name>.json` and the domain's own record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DiskName, ImageFormat, MemoryMeta, SnapshotName};

/// What a guest finds after a revert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Consistency {
    /// The guest was off: the disks were at rest.
    Offline,
    /// The guest ran: as after a power cut.
    Crash,
    /// Its file systems were frozen.
    FileSystem,
    /// Its memory is part of the snapshot.
    Memory,
}

/// What is known of one disk of a snapshot beyond libxl's struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskMeta {
    /// Which disk.
    pub disk: DiskName,
    /// The image that holds the snapshot's state: the one with the internal snapshot, or the base of the overlay.
    pub image: String,
    /// The image's format.
    pub format: ImageFormat,
    /// The internal snapshot's id in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The disk's size that the guest saw, in bytes.
    pub virtual_size: u64,
    /// The file that we created for it, and so may unlink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
}

/// A disk that is not part of the snapshot, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Which disk.
    pub disk: DiskName,
    /// Why, as a short clause.
    pub why: String,
}

/// What ran the domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hypervisor {
    /// QEMU's version, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<String>,
    /// The machine type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The guest's memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The devices that have an id in it, in the backend's words; empty when they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

/// `snapshotmeta-<name>.json`. A snapshot without it still lists, reverts and deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`Meta::FORMAT_VERSION`]; a file with a higher one is read as far as it is understood, and never overwritten.
    pub format_version: u32,
    /// The operation that made it, by which a record is known as that operation's; `None` in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Uuid>,
    /// The snapshot that the domain's disks descended from when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotName>,
    /// What a guest finds after a revert.
    pub consistency: Consistency,
    /// Its disks.
    #[serde(default)]
    pub disks: Vec<DiskMeta>,
    /// The disks that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// What ran the domain.
    #[serde(default)]
    pub hypervisor: Hypervisor,
    /// How long the guest stood still, in microseconds; `None` when it was off. Records of before have it as `downtime_us`.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "downtime_us")]
    pub pause_us: Option<u64>,
    /// The guest's memory; `None` of a disk-only snapshot, and of one whose memory another program saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMeta>,
    /// `KEY=VALUE` words of its maker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it may be pruned, in seconds since 1970-01-01 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl Meta {
    /// The format that this version writes. What an earlier version wrote keeps its own.
    pub const FORMAT_VERSION: u32 = 2;

    /// The meta of a snapshot of which only this is known.
    pub fn new(consistency: Consistency) -> Self {
        Self {
            format_version: Self::FORMAT_VERSION,
            operation: None,
            parent: None,
            consistency,
            disks: Vec::new(),
            passed_over: Vec::new(),
            hypervisor: Hypervisor::default(),
            pause_us: None,
            memory: None,
            labels: BTreeMap::new(),
            expires: None,
        }
    }
}

/// What is kept of a domain beside its snapshots: `domain.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainRecord {
    /// At most [`DomainRecord::FORMAT_VERSION`]; a file with a higher one is never overwritten.
    pub format_version: u32,
    /// The name it had when last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// "You are here": the snapshot that was made or reverted to last, and so the parent of the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<SnapshotName>,
    /// What a domain of Xen's was when it was last seen running, by which it is known while it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xen: Option<XenRecord>,
    /// The files of its disks' chains: who may write to each, and who may remove it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerRecord>,
}

/// A file of a disk's chain, in the ledger of its domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Which disk.
    pub disk: DiskName,
    /// The file, absolute.
    pub file: String,
    /// Its format.
    pub format: ImageFormat,
    /// The device that it is on; of a block device, its own number.
    pub device: u64,
    /// Its inode there; 0 of a block device.
    pub inode: u64,
    /// Whose it is.
    pub owner: Owner,
    /// The file below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What it was like when it became read-only; `None` while a disk writes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// The name that it had as the disk's image, where a file above it has that name now; `None` where it has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
}

/// Whose a file of a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Owner {
    /// It was made for a snapshot: it may be written to, and removed.
    Made,
    /// It was the domain's disk when its first external snapshot was taken: it may be written to, and is never removed, unless what it holds
    /// goes down into a file that the user named for that.
    Domain,
    /// It is below that, or another domain's: it is only read, unless the user names it to be written to.
    Foreign,
}

/// By which a change of a file that is read-only is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Its length, in bytes.
    pub length: u64,
    /// When it was last written to, in nanoseconds since 1970-01-01 UTC; 0 of a block device, of which that cannot be told.
    pub modified: u64,
}

/// What is kept of a domain of Xen's: nothing else knows it while it is off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct XenRecord {
    /// Its disks.
    pub disks: Vec<XenDisk>,
    /// Its configuration, in libxl's JSON; `None` when it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// The domid that it had last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domid: Option<u32>,
    /// The boot of the host in which it had it (random(4), `boot_id`): after another one the number may be another domain's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// A disk of a [`XenRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct XenDisk {
    /// Its name: the vdev.
    pub disk: DiskName,
    /// Its image; empty for an empty drive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The image's format.
    pub format: ImageFormat,
    /// Whether the guest cannot write to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Whether it is a CD-ROM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removable: bool,
    /// What serves it, when that is not QEMU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

impl DomainRecord {
    /// The highest format that this version reads and writes.
    pub const FORMAT_VERSION: u32 = 2;

    /// The format that it needs: one without layers is written as before there were any.
    pub fn least_format(&self) -> u32 {
        if self.layers.is_empty() { 1 } else { 2 }
    }
}

impl Default for DomainRecord {
    /// Nothing is known.
    fn default() -> Self {
        Self { format_version: 1, name: None, current: None, xen: None, layers: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_read_by_the_name_that_it_had() {
        let written =
            serde_json::to_value(Meta { pause_us: Some(7), ..Meta::new(Consistency::Crash) }).unwrap();
        assert_eq!(written["pause_us"], 7);
        let before = written.to_string().replace("pause_us", "downtime_us");
        assert_eq!(serde_json::from_str::<Meta>(&before).unwrap().pause_us, Some(7));
    }
}
