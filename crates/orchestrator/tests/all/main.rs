//! The orchestrator on the world in memory.

mod common;
mod sweep;
