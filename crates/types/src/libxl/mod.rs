//! libxl's own structs and their JSON (libxl-json).
//!
//! [`DomainSnapshot`] and [`DiskSnapshot`] mirror the two C structs of the design: a NULL string is `None`, an empty
//! one is `Some("")`. Their `to_json` writes what libxl built on yajl writes, byte for byte; their `from_json` reads in
//! one of two [`Mode`]s. [`DiskFields`] and [`DomainFields`] are the same structs borrowed as C has them: strings of
//! any bytes and a format of any number.

mod domain;
mod error;
mod fields;
mod format;
mod lex;
mod normalise;
mod read;
mod write;

pub use domain::{DiskSnapshot, DomainSnapshot};
pub use error::{JsonError, JsonErrorKind, JsonReason};
pub use fields::{DiskFields, DomainFields};
pub use format::{DiskFormat, UnknownFormat};
pub use normalise::{StructType, UnknownStructType, normalise, without_terminator};
pub use read::Mode;
