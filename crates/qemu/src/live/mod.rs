//! The disks and the guest of a domain that runs, by its QMP monitor.
//!
//! Every question and every effect on an open image goes through the monitor. qemu-img writes
//! only what no process has open: it makes the file of an overlay, and merges and renames layers beside the disks. Else it reads
//! headers.

mod adapter;
mod bitmap;
mod commands;
mod delete;
mod discard;
mod guest;
mod job;
mod layers;
mod look;
mod merge;
mod names;
mod open;
mod stream;
mod swap;
mod take;

pub use adapter::Live;
pub use guest::GuestElsewhere;
