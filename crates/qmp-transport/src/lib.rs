#![doc = include_str!("../README.md")]

pub mod client;
pub mod commands;
mod error;
mod qmp;
pub mod schema;
pub mod session;

pub use client::{Client, Options};
pub use error::{Effect, Error, Kind};
pub use qmp::{Command, Event, EventStream, Qmp, QmpExt, looks};
pub use schema::Features;

// What raw commands and stand-ins for the client are made of.
pub use async_trait::async_trait;
pub use serde_json;
