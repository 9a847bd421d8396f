//! Tests through the public API: the session alone, the client on scripted monitors, both on real QEMU.
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic as the test does")]

mod client;
mod commands;
mod connect;
mod hazards;
mod model;
mod session;
mod transcripts;
