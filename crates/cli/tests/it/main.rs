//! The real binary on real images and real QEMU.

mod bad_input;
mod design_era;
mod domain;
mod flow;
mod host;
mod interface;
mod json;
mod listing;
