//! Storage of snapshot records: the trait [`ConfStore`], and `FsStore`, its embedded default.
//!
//! The trait says nothing of files: a store on a distributed key-value engine takes the lock as a lease and keeps the
//! journal beside the records.

mod error;
mod store;

pub use error::{Error, Kind};
pub use store::{ConfStore, DomainLock, Entry, Owner, Record};
