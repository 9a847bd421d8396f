//! The protocol without sockets and clocks: bytes and the time go in; bytes, replies, events and deadlines come out.
//!
//! A driver reads from its stream into [`Session::handle_input`], writes what [`Session::poll_transmit`] gives,
//! wakes the session at [`Session::poll_timeout`] with [`Session::handle_timeout`], and after each of these takes
//! what [`Session::poll_output`] has until it is empty. [`crate::Client`] is such a driver; a test is another.
//!
//! The source of the facts is Xen's `docs/misc/xenstore.txt` and the numbers of its public header `io/xs_wire.h`.
//!
//! What the session guarantees, whatever comes in:
//! - A call ends exactly once: by its reply, its deadline, its abandonment or the end of the session.
//! - A reply reaches a call by the call's own id, in any order, and is decoded by the call's request. One of another
//!   type or transaction ends the session: the stream cannot be trusted.
//! - Not more than a header and [`MAX_REPLY`] bytes are kept of a message that is not complete.
//! - A transaction whose beginning is not awaited any more is discarded when xenstored tells its number.
//! - After [`Output::Closed`] nothing happens any more.

mod call;
mod frame;
mod machine;
mod reply;
mod request;
mod wire;

pub use call::{CallId, Lost, MAX_OPEN};
pub use machine::{Output, Session};
pub use reply::Reply;
pub use request::{Request, TransactionId};
pub use wire::{MAX_PAYLOAD, MAX_REPLY};
