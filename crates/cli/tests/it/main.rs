//! The real binary on real images and real QEMU.
#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod bad_input;
mod commands;
mod crash;
mod design_era;
mod documents;
mod domain;
mod emptied;
mod external;
mod external_bases;
mod faults;
mod flow;
mod guest;
mod host;
mod interface;
mod into_base;
mod json;
mod kills;
mod layers_crash;
mod life;
mod listing;
mod memory;
mod memory_crash;
mod names;
mod nothing_there;
mod operations;
mod orphans;
mod pending;
mod power_cut;
mod process;
mod quiesce;
mod relocate;
mod relocate_exchange;
mod relocate_memory;
mod schema;
mod start_needs;
