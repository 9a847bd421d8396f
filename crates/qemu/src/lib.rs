//! Backends of the orchestrator for QEMU.

mod error;
mod images;
mod inventory;
mod live;
mod overlay;
mod spec;

pub use images::Images;
pub use live::Live;
pub use spec::{Description, DiskSpec};
