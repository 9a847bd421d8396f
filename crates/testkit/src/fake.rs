//! A backend in memory: disks, guest and store with QEMU's real rules, and faults wherever a test wants them.
//!
//! [`FakeBackend`] implements every port of the orchestrator. The rules are those measured on QEMU 10: a transaction is all
//! or none while its process lives and may be torn when it dies, a duplicate snapshot name is refused, ids are reused,
//! only qcow2 takes internal snapshots, an overlay that takes writes cannot be removed. The behaviour suite
//! ([`crate::behaviour`]) runs on it and on real QEMU, so that it cannot drift.
//!
//! [`Faults`] counts every call of a port and of the store and makes chosen ones fail, before or after their effect; a
//! crash makes every later call fail until [`FakeBackend::restart`].

mod backend;
mod commands;
mod disks;
mod faults;
mod image;
mod layers;
mod machine;
mod names;
mod store;

pub use backend::{FakeBackend, FakeDisk};
pub use faults::{Call, Fault, Faults, Moment};
pub use image::{Image, Kept};
pub use machine::MemoryFile;
pub use store::MemStore;
