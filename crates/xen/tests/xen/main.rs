//! Tests of the crate from outside: on a xenstore in memory that is fed with recordings, scripts in the place of `xl`, and real
//! QEMUs in the place of Xen's.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
mod disks;
mod domains;
mod external;
mod life;
mod matching;
mod memory;
mod pause;
mod revert;
mod rig;
mod store;
mod trace;
mod vbds;
mod xl;
