//! The orchestrator on the world in memory.

mod common;
mod model;
mod sweep;
