//! Backends of the orchestrator for QEMU.

mod error;
mod inventory;
mod live;
mod overlay;
mod spec;

pub use live::Live;
pub use spec::{Description, DiskSpec};
