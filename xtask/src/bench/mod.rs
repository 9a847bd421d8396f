//! `cargo xtask bench`: what the project promises about speed, measured.
//!
//! Two sides of a scenario run in turn (A, B, A, B, ...) and are compared round by round, so that a machine that is busy or
//! slow makes both sides slow and leaves their ratio alone. Medians are judged; the least and the most are shown.

mod all;
mod create;
mod external;
mod json;
mod libvirt;
mod list;
mod machine;
mod memory;
mod monitor;
mod paired;
mod process;
mod promise;
mod revert;
mod sample;
mod startup;
mod used_memory;
mod virsh;

pub use all::{Options, bench};
