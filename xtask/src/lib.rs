//! The project's chores, as functions: `cargo xtask` runs them, and the tests of this crate run those that only look.

pub mod bench;
pub mod check;
pub mod chroots;
pub mod ci;
pub mod e2e;
pub mod fuzz;
pub mod package;
pub mod record;
pub mod sanitize;
pub mod test;
pub mod tidy;
pub mod xen_lab;

mod command;
mod sample;
mod tools;

pub use command::{Done, Echo, Failure};
pub use sample::Seed;
