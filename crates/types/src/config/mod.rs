//! The user's configuration file of a snapshot to be made: `KEY=VALUE`, in the syntax of `xl.cfg(5)`.
//!
//! ```text
//! # Comments reach to the end of the line; a line end or ';' ends a setting.
//! name = "before-upgrade"
//! description = 'all services stopped'
//! memory = "no"
//! type = "internal"
//! disk = [
//!     'vdev=xvda',
//!     'format=qcow2,vdev=xvdb,target=/var/lib/overlays/xvdb.qcow2',
//! ]
//! ```
//!
//! | key | value |
//! |---|---|
//! | `name` | the snapshot's name; by default the time's |
//! | `description` | any text |
//! | `memory` | `"no"` (the default), `"yes"` for a file in the default place, or the absolute path of the file |
//! | `type` | `"internal"` (the default) or `"external"`: how disks are taken that do not say it |
//! | `disk` | the disks to take; by default every writable one |
//!
//! An element of `disk` is `vdev=NAME`, and `type=`, `format=` and `target=` as wanted, joined with commas. `target` is
//! the absolute path of the file that takes the writes from then on. It makes the disk external, and since it reaches
//! to the end of the element it stands last.

mod error;
mod lex;
mod user;

pub use error::{ConfigError, ConfigReason};
pub use user::{DiskKind, MemoryChoice, UserConfig, UserDisk};
