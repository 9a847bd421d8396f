//! One domain whose process may end and start again within one operation.
//!
//! Who answers for the disks changes with the process: the monitor while it has them, qemu-img while nobody has. [`Machine`]
//! knows which it is now.

mod disks;
mod parts;
mod power;
mod release;
mod saving;
mod state;

pub use parts::{Machine, MachineParts};
