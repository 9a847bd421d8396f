//! The hazards of real qemu-img, one test for each; a stand-in script only for what the real one won't do on demand.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod bitmaps_and_keys;
mod chain;
mod create;
mod damage;
mod fakes;
mod file_names;
mod in_use;
mod layers;
mod looked;
mod model;
mod scratch;
mod snapshots;
