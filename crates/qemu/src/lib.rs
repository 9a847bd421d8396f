#![doc = include_str!("../README.md")]

mod agent;
mod error;
mod images;
mod inventory;
mod layers;
mod live;
mod machine;
mod memory;
mod names;
mod on_thread;
mod overlay;
pub mod process;
mod revertible;
mod spec;

pub use agent::GuestAgent;
pub use error::of_memory_file;
pub use images::Images;
pub use inventory::swapped::is_given;
pub use live::{GuestElsewhere, Live};
pub use machine::{Machine, MachineParts};
pub use memory::{Saves, found_memory, memory_sign, recorded_memory};
pub use spec::{Description, DiskSpec};
