//! Runs qemu-img safely: no shell, no probing, names resolved, errors with kinds.

mod error;
mod runner;

pub use error::{Error, Kind};
pub use runner::{
    BackingFile, Check, CreateOptions, Image, ImageInfo, InternalSnapshot, QemuImg, Repair, SnapshotRef,
};
