//! Domains that a file describes: what is in the file, and the directory of such files.

mod file;
mod run_file;
mod shelf;
mod start;

pub use file::Domain;
pub(crate) use file::{MAX_FILE_BYTES, parse, render, with_image};
pub(crate) use run_file::RunFile;
pub use shelf::FiledDomain;
pub(crate) use shelf::Shelf;
