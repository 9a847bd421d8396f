//! testkit.

pub mod real;
