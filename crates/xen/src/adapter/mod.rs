//! The adapter: how a domain of `xl` answers the orchestrator's ports.
//!
//! A domain is its uuid here. Its domid is looked up for each thing that is done, because a domain that is rebooted or restored has
//! another one. While it runs its disks are QEMU's, asked by the monitors that libxl made; while it is off they are files, and
//! qemu-img's, once it is certain that no domain and no process uses them.

mod commands;
mod disks;
mod domain;
mod files;
mod guest;
mod health;
mod keep;
mod layers;
mod look;
mod memory;
mod names;
mod pause;
mod power;
mod save;

pub use domain::{Context, Patience, Places, XlDomain};
pub use keep::this_boot;
