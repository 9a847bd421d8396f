//! What may stand on the command line.

mod cli;
mod design_era;
mod domain;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use cli::{
    Cli, Command, Completions, ENVIRONMENT, EXIT_CODES, Global, Help, Json, JsonType, Man, MaybeDomain,
    Monitor, OneDomain,
};
use cli::{bytes_a_second, seconds, split};
pub(crate) use design_era::{SnapshotCreate, SnapshotDelete, SnapshotList, SnapshotRevert};
pub(crate) use domain::{
    DiskWord, DomainAdd, DomainCommand, DomainForget, DomainRemove, DomainShow, DomainStart, DomainStop,
};
pub(crate) use snapshot::{
    Check, Compress, Create, Delete, Externals, Flatten, List, Memory, MemoryMode, Recover, Relocated,
    Revert, Show,
};
