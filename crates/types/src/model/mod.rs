//! The validated model: what [`crate::libxl`]'s structs mean, with every string checked.

mod convert;
mod disk;
mod file;
mod memory;
mod meta;
mod name;
mod snapshot;
mod vdev;

pub use convert::ConvertError;
pub use disk::{DiskSnapshot, ImageFormat, Kind};
pub use file::{AbsoluteFile, FileNameError};
pub use memory::{Compression, MemoryMeta, MemoryWay, SavedIn};
pub use meta::{
    Consistency, DiskMeta, DomainRecord, Hypervisor, LayerRecord, Meta, Owner, PassedOver, Stamp, XenDisk,
    XenRecord,
};
pub use name::{DiskName, DomainName, NameError, SnapshotName};
pub use snapshot::{Snapshot, StateFlags};
pub use vdev::{Bus, Vdev, VdevError};
