//! Doubles and fixtures for tests: a backend in memory, real QEMU, and the suite that both pass.

pub mod behaviour;
pub mod conf_store;
pub mod fake;
pub mod real;
pub mod wire;
