//! The protocol without sockets and clocks: bytes and the time go in; bytes, messages and deadlines come out.
//!
//! A driver reads from its stream into [`Session::handle_input`], writes what [`Session::poll_transmit`] gives,
//! wakes the session at [`Session::poll_timeout`] with [`Session::handle_timeout`], and after each of these takes
//! what [`Session::poll_output`] has until it is empty. [`crate::Client`] is such a driver; a test is another.
//!
//! What the session guarantees, whatever comes in:
//! - A call ends exactly once: by its reply, its deadline, its abandonment or the end of the session.
//! - A reply reaches a call only by the call's own id, which holds the session's nonce: QEMU hands the reply of a
//!   former client's last command to the next client. The one exception is an error without an id, see
//!   [`DropReason::NoId`].
//! - Not more than [`Config::max_message`] bytes are kept of a message that is not complete.
//! - After [`Output::Closed`] nothing happens any more.

mod call;
mod config;
mod frame;
mod machine;
mod message;

pub use call::{CallId, Lost};
pub use config::Config;
pub use machine::{DropReason, Output, Session};
pub use message::Greeting;
