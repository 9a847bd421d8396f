//! A client on tokio: one task that drives a [`Session`](crate::session::Session) over a stream.

mod connect;
mod driver;
mod handle;
mod transaction;

pub use connect::{Options, SOCKETS};
pub use handle::Client;
