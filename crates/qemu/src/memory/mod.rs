//! The memory of a guest: into a file beside its disks, or inside them; and what can be said of such a file.

mod checksum;
mod files;
mod header;
pub(crate) mod inside;
pub(crate) mod migration;
pub(crate) mod pause;
mod place;
mod read;
mod receive;
pub(crate) mod restore;
pub(crate) mod save;
mod settings;
pub(crate) mod survey;
mod worker;

pub use files::Saves;
