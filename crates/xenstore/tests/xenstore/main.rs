//! Tests of the crate from outside: the session in memory, the client on a fake xenstored, the words of a real one.
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic as the test does")]

mod client;
mod fake;
mod session;
mod transcripts;
