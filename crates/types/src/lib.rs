//! Snapshots of virtual machines as data.
//!
//! [`libxl`] mirrors the two C structs of libxl's snapshot design and their JSON; [`model`] is the same information
//! validated, with what the structs cannot hold; [`config`] is the user's `KEY=VALUE` file. Pure: no I/O.

pub mod config;
pub mod libxl;
pub mod model;
