#![doc = include_str!("../README.md")]

mod agent;
mod error;
mod images;
mod inventory;
mod live;
mod machine;
mod memory;
mod overlay;
pub mod process;
mod spec;

pub use agent::GuestAgent;
pub use images::Images;
pub use live::Live;
pub use machine::{Machine, MachineParts};
pub use memory::Saves;
pub use spec::{Description, DiskSpec};
