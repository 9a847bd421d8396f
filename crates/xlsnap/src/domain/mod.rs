//! Domains that a file describes: what is in the file, and the directory of such files.

mod file;
mod files;
mod run_file;
mod start;

pub use file::Domain;
pub(crate) use file::{MAX_FILE_BYTES, parse, render, with_image};
pub(crate) use files::DomainFiles;
pub use files::FiledDomain;
pub(crate) use run_file::RunFile;
