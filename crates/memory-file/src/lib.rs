#![doc = include_str!("../README.md")]

mod all;
mod checksum;
mod direct;
mod error;
mod examine;
mod file;
mod following;
mod header;
mod mark;
mod pack;
mod place;
mod reading;
mod receiving;
mod remove;
mod staged;
mod worker;

pub use checksum::Checksum;
pub use error::{Effect, Error, Kind};
pub use examine::Examined;
pub use file::MemoryFile;
pub use header::{Header, XL_MAGIC};
pub use pack::Packing;
pub use place::{MissingDirectory, Place};
pub use reading::{Opened, Recorded};
pub use receiving::Receiving;
pub use staged::{Sealed, Staged};
