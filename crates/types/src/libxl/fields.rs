//! The structs borrowed as C has them.

use super::{DiskSnapshot, DomainSnapshot};

/// `libxl_disk_snapshot` as C has it: strings are any bytes without NUL, the format is any number.
///
/// It is what the writer takes, so that a struct filled by a C program is written just as libxl writes it, be it UTF-8
/// or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskFields<'a> {
    /// See [`DiskSnapshot::device`].
    pub device: Option<&'a [u8]>,
    /// See [`DiskSnapshot::name`].
    pub name: Option<&'a [u8]>,
    /// See [`DiskSnapshot::file`].
    pub file: Option<&'a [u8]>,
    /// The number of a [`DiskFormat`](super::DiskFormat), or one that libxl writes as `null`.
    pub format: i32,
    /// See [`DiskSnapshot::path`].
    pub path: Option<&'a [u8]>,
}

/// `libxl_domain_snapshot` as C has it; see [`DiskFields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DomainFields<'a, Disks> {
    /// See [`DomainSnapshot::name`].
    pub name: Option<&'a [u8]>,
    /// See [`DomainSnapshot::description`].
    pub description: Option<&'a [u8]>,
    /// See [`DomainSnapshot::creation_time`].
    pub creation_time: u64,
    /// See [`DomainSnapshot::memory`].
    pub memory: Option<&'a [u8]>,
    /// See [`DomainSnapshot::running`].
    pub running: bool,
    /// See [`DomainSnapshot::blocked`].
    pub blocked: bool,
    /// See [`DomainSnapshot::paused`].
    pub paused: bool,
    /// See [`DomainSnapshot::shutdown`].
    pub shutdown: bool,
    /// See [`DomainSnapshot::dying`].
    pub dying: bool,
    /// The disks: anything that yields [`DiskFields`].
    pub disks: Disks,
}

fn bytes(string: &Option<String>) -> Option<&[u8]> {
    string.as_deref().map(str::as_bytes)
}

impl DiskSnapshot {
    /// The same struct, borrowed.
    pub fn fields(&self) -> DiskFields<'_> {
        DiskFields {
            device: bytes(&self.device),
            name: bytes(&self.name),
            file: bytes(&self.file),
            format: self.format.number(),
            path: bytes(&self.path),
        }
    }
}

impl DomainSnapshot {
    /// The same struct, borrowed.
    pub fn fields(&self) -> DomainFields<'_, impl Iterator<Item = DiskFields<'_>>> {
        DomainFields {
            name: bytes(&self.name),
            description: bytes(&self.description),
            creation_time: self.creation_time,
            memory: bytes(&self.memory),
            running: self.running,
            blocked: self.blocked,
            paused: self.paused,
            shutdown: self.shutdown,
            dying: self.dying,
            disks: self.disks.iter().map(DiskSnapshot::fields),
        }
    }
}
