#![doc = include_str!("../README.md")]

mod argument;
mod error;
mod invocation;
pub mod json;
mod program;
mod recognise;
mod runner;

pub use error::{Effect, Error, Kind};
pub use program::{Lender, Program};
pub use runner::{
    BackingFile, Check, CreateOptions, Image, ImageInfo, InternalSnapshot, QemuImg, Repair, SnapshotRef,
};
