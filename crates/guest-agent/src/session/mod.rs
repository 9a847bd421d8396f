//! The protocol without sockets and clocks: bytes go in; bytes and the answer come out.
//!
//! An agent answers in order and without ids, and what a former client was owed comes to the next one. So a session begins by
//! `guest-sync-delimited` (QEMU, docs/interop/qemu-ga-ref, "guest-sync-delimited"): a byte 0xFF, with which the agent forgets half
//! a command of a former client, and a number of our own; its answer comes behind a byte 0xFF, which stands in no JSON. Everything
//! before the answer with our number is dropped, whatever it is: complaints of the agent about that byte, answers to others, noise
//! of a console. From then on each line answers the oldest command.
//!
//! After a call that was given up its answer may still come. So the next call syncs anew, with another number.

mod machine;
mod message;

pub use machine::{Config, Session};
