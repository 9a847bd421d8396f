//! The store on a file system.

mod layout;
mod lock;
mod many;
mod meta;
mod read;
mod record;
mod root;
mod store;
#[cfg(test)]
mod tests;
mod tidy;
mod write;

pub use root::RootInputs;
pub use store::FsStore;
