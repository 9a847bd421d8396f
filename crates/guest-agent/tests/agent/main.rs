//! The session and the client: on bytes, on a peer that does what the real agent cannot be made to do, and on the real agent in a
//! guest.
#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod client;
mod real;
mod session;
