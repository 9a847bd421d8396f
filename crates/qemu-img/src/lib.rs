#![doc = include_str!("../README.md")]

mod argument;
mod backing_name;
mod chain;
mod error;
mod file_id;
mod header;
mod invocation;
pub mod json;
mod lock;
mod program;
mod recognise;
mod runner;

pub use backing_name::{backing_file, backing_name};
pub use chain::{Chain, ChainEnd, Layer, MAX_DEPTH, chain};
pub use error::{Effect, Error, Kind};
pub use file_id::FileId;
pub use header::{HeaderFiles, header_files};
pub use lock::is_kept_from_writers;
pub use program::{Lender, Program};
pub use runner::{
    BackingFile, Check, CreateOptions, Image, ImageInfo, InternalSnapshot, QemuImg, Repair, SnapshotRef,
};
