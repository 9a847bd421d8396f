//! The orchestrator on the world in memory.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what was not so")]

mod common;
mod mocks;
mod model;
mod plan;
mod strangers;
mod sweep;
mod sweep_machine;
