//! A QMP client: a session without I/O, and a tokio client on top.

mod client;
mod error;

pub use client::{Command, Event, EventStream, Qmp, QmpExt};
pub use error::{Effect, Error, Kind};
