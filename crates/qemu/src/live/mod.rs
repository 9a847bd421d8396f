//! The disks and the guest of a domain that runs, by its QMP monitor.
//!
//! Every question and every effect on an open image goes through the monitor. qemu-img is run for one thing only: to
//! make the file of an overlay, which no process has open yet, and to read its header before it is removed.

mod adapter;
mod bitmap;
mod delete;
mod discard;
mod guest;
mod look;
mod take;

pub use adapter::Live;
