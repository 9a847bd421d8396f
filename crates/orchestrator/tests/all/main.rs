//! The orchestrator on the backend in memory.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what was not so")]

mod common;
mod declared;
mod external;
mod findings;
mod foreign;
mod layers_model;
mod mocks;
mod model;
mod names;
mod obstacles;
mod orphans;
mod overlays;
mod plan;
mod rate;
mod relocate;
mod reversibility;
mod sweep;
mod sweep_machine;
