//! Small files that survive a power cut, in a directory that no other user may write.
//!
//! A [`Dir`] is an open directory. Everything in it is reached relative to its handle, by plain names, and no symbolic
//! link is followed, so nothing that is planted there leads anywhere else. A file is only ever written whole: into a
//! temporary file, which is flushed, renamed to its name, and the directory flushed. So a reader, and a power cut, sees the
//! old content or the new.
//!
//! ```
//! use xlsnap_conf_store::durable::Dir;
//!
//! # let scratch = tempfile::tempdir()?;
//! let dir = Dir::create(&scratch.path().join("domains"))?;
//! dir.create_new("web.toml", b"uuid = 1\n")?;
//! dir.replace("web.toml", b"uuid = 2\n")?;
//! assert_eq!(dir.read("web.toml", 1 << 20)?, b"uuid = 2\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calls;
mod dir;
#[cfg(test)]
pub(crate) mod fault;
mod file;
mod lock;
mod refusal;
mod staged;

pub use dir::Dir;
pub(crate) use file::Opened;
pub use lock::LockFile;
pub(crate) use lock::{Attempt, Stopped, waiting};
pub(crate) use staged::Staged;
