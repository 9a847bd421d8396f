//! Memory files on real file systems.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod fixtures;
mod full_disk;
mod naming;
mod reading;
mod removing;
mod unmarkable;
