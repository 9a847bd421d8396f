//! The memory of a guest: into a file beside its disks, or inside them; and what can be said of such a file.

pub(crate) mod abandon;
mod faults;
mod files;
pub(crate) mod input;
pub(crate) mod inside;
pub(crate) mod leftover;
pub(crate) mod migration;
mod patient;
pub(crate) mod pause;
pub(crate) mod restore;
pub(crate) mod save;
pub(crate) mod settings;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod survey;

pub use files::{Saves, found_memory, memory_sign, recorded_memory};
