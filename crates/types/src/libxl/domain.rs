//! The two structs.

use super::DiskFormat;

/// `libxl_disk_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DiskSnapshot {
    /// The disk's name: `hda`, `xvdb`.
    pub device: Option<String>,
    /// The snapshot's name in the disk, usually that of the domain's snapshot.
    pub name: Option<String>,
    /// The file of an external snapshot; empty in an internal one.
    pub file: Option<String>,
    /// The format of an external snapshot's file; [`DiskFormat::Unknown`] in an internal one.
    pub format: DiskFormat,
    /// The disk's image. Forced empty when stored, to hide it from users.
    pub path: Option<String>,
}

impl DiskSnapshot {
    /// Whether it is external: it has a file. NULL and empty both mean none.
    pub fn is_external(&self) -> bool {
        self.file.as_deref().is_some_and(|file| !file.is_empty())
    }
}

/// `libxl_domain_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DomainSnapshot {
    /// The snapshot's name.
    pub name: Option<String>,
    /// What its maker wrote about it.
    pub description: Option<String>,
    /// Seconds since 1970-01-01 UTC.
    pub creation_time: u64,
    /// The file with the domain's memory; empty for a disk-only snapshot.
    pub memory: Option<String>,
    /// The domain's state before the snapshot, as `libxl_dominfo` has it: some virtual CPU ran.
    pub running: bool,
    /// All virtual CPUs were blocked.
    pub blocked: bool,
    /// The pause count was above zero.
    pub paused: bool,
    /// The domain had shut down.
    pub shutdown: bool,
    /// The domain was dying.
    pub dying: bool,
    /// Its disks (`disks`, `num_disks`).
    pub disks: Vec<DiskSnapshot>,
}

impl DomainSnapshot {
    /// Whether it holds the domain's memory: it has a file for it. NULL and empty both mean none.
    pub fn has_memory(&self) -> bool {
        self.memory.as_deref().is_some_and(|file| !file.is_empty())
    }
}
