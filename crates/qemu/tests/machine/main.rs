//! A domain whose QEMU is started, saved, ended and restored: [`xlsnap_qemu::Machine`] on real programs.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod abandon;
mod behaviour;
mod declared;
mod guest;
mod input;
mod inside;
mod keys;
mod layers;
mod release;
mod restore;
mod rig;
mod save;
mod trouble;
mod undo;
