//! Tests through the public API: the session alone, the client on scripted monitors, both on real QEMU.

mod commands;
mod model;
mod session;
mod transcripts;
