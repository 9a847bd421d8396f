#![doc = include_str!("../README.md")]

mod cancel;
mod design;
mod error;
mod failure;
mod findings;
mod host;
mod listing;
mod operations;
mod options;
mod relocate;
mod runtime;
mod string;
mod structs;
mod validate;

pub use cancel::*;
pub use design::*;
pub use error::xlsnap_last_error;
pub use failure::*;
pub use findings::*;
pub use host::*;
pub use listing::*;
pub use operations::*;
pub use options::*;
pub use relocate::*;
pub use structs::*;
