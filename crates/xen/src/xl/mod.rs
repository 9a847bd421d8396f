//! Runs Xen's `xl`: a mechanism that knows no snapshots.
//!
//! No shell, C locale, no input, a process group of its own. What xl says goes into a file without a name, never into a pipe:
//! should we end, xl goes on, where a broken pipe would end it with a guest half saved. So nothing is lost by dropping a
//! future (what a live save sends comes by a pipe, since xl lets the guest go on when that breaks); [`Toolstack::end_save`](crate::Toolstack::end_save) ends what a save left behind, whichever process began it.

mod error;
mod list;
mod live;
mod output;
mod process;
mod program;
mod recognise;
mod stream;

pub use error::{Effect, Error, Kind};
pub use program::{Limits, Xl};
