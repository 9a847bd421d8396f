//! A client on tokio: one task that drives a [`Session`](crate::session::Session) over a stream.

mod connect;
mod driver;
mod handle;

pub use connect::Options;
pub use handle::Client;
