#![doc = include_str!("../README.md")]

mod client;
mod connect;
mod error;
pub mod session;

pub use client::{Client, Status};
pub use error::{Effect, Error, Kind};

// What raw commands are made of.
pub use serde_json;
