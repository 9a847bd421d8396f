#![doc = include_str!("../README.md")]

pub mod dom_snapshot_conf;
mod error;
mod store;

#[cfg(feature = "fs")]
pub mod durable;
#[cfg(feature = "fs")]
mod fs;

pub use error::{Effect, Error, Kind};
#[cfg(feature = "fs")]
pub use fs::{FsStore, RootInputs};
pub use store::{ConfStore, DomainLock, Entry, Owner, Record};
