//! Backends of the orchestrator for QEMU.

mod spec;

pub use spec::{Description, DiskSpec};
