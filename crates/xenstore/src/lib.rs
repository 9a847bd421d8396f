#![doc = include_str!("../README.md")]

pub mod client;
mod error;
mod path;
pub mod session;
mod store;

pub use client::{Client, Options};
pub use error::{Effect, Error, Kind};
pub use path::{Path, Watchpoint};
pub use store::{Change, Nodes, NodesExt, Transaction, Watch, Xenstore, transaction};
