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

// What the traits are made of, so that a store of one's own needs no other crates of the right version.
pub use async_trait::async_trait;
pub use uuid::Uuid;
pub use xlsnap_types as types;
