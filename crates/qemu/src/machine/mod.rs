//! One domain whose process may end and start again within one operation.
//!
//! What answers for the disks changes with the process: the monitor while it has them, qemu-img while no process has. [`Machine`]
//! knows which it is now.

mod commands;
mod disks;
mod parts;
mod power;
mod release;
mod saving;
mod state;

pub use parts::{Machine, MachineParts};
