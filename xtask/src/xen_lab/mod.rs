//! `cargo xtask xen-lab`: a real Xen host in an emulated machine, and what xlsnap has to do there.
//!
//! The recipe of the host and of its guests, and the scenarios, are in `ci/xen-lab`; here is what builds, boots and drives it.

mod all;
mod dom0;
mod install;
mod machine;
mod recipe;
mod release;
mod resets;
mod scenario;

pub use all::{build, run, run_drawn, shell, start, stop};
pub use release::Release;
pub use resets::resets;
