//! The journal: the steps of an operation, durable before the first effect.

mod check;
mod first;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xlsnap_types::model::{Meta, SnapshotName, StateFlags};

use crate::step::Does;
use crate::{MemorySave, Operation, SnapshotAction, Stage};

/// Why a journal cannot be used. Nothing is touched then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A later version of this program wrote it.
    #[error("the journal has format version {found}; this program knows versions up to {known}", known = Journal::VERSION)]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It is larger than any journal that this program writes.
    #[error("the journal has {bytes} bytes; at most {max} are read", max = Journal::MAX_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is no journal.
    #[error("the journal cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// It says what no journal of this program says.
    #[error("the journal contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// Which way an operation goes through its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// It does the steps.
    Forward,
    /// A step failed, and what was begun is undone. Without this word, a creation that is being undone could look like one that
    /// succeeded: an overlay of a domain that is off counts as taken.
    Back,
}

/// The journal entry of an operation: JSON with a version.
///
/// The list is written once. How far it is (`at`) is written again only where a look cannot tell: before an overlay takes a disk's
/// writes, at the commit point of a revert, and when the direction changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    id: Uuid,
    operation: Operation,
    name: SnapshotName,
    pub(crate) direction: Direction,
    /// The first stage that was not begun when this was written; the stages after it may have been begun since.
    pub(crate) at: usize,
    pub(crate) stages: Vec<Stage>,
}

/// A snapshot that is being made: all of its record but what only the images know; of one that is adopted, all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    pub(crate) name: SnapshotName,
    pub(crate) description: String,
    pub(crate) creation_time: u64,
    pub(crate) state: StateFlags,
    /// One for each disk of `meta`, in its order.
    pub(crate) actions: Vec<SnapshotAction>,
    /// The guest's memory, saved with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemorySave>,
    /// The guest's file systems are frozen meanwhile; how long its agent has for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quiesced: Option<Duration>,
    pub(crate) meta: Meta,
}

impl Journal {
    /// The version that this program writes.
    pub const VERSION: u32 = 2;
    /// The most bytes that are read or written: thousands of disks.
    pub const MAX_BYTES: usize = 4 << 20;

    pub(crate) fn new(id: Uuid, operation: Operation, name: SnapshotName, stages: Vec<Stage>) -> Self {
        Self { version: Self::VERSION, id, operation, name, direction: Direction::Forward, at: 0, stages }
    }

    /// Reads an entry that a store kept; one of format 1 as the steps that it means.
    ///
    /// # Errors
    /// Everything that no version of the program would have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, JournalError> {
        parse(bytes)
    }

    /// The entry as bytes for a store.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and maps with string keys serialise")
    }

    /// The operation that wrote it.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The operation's own id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The snapshot it is about; of several the one that was asked for.
    pub fn name(&self) -> &SnapshotName {
        &self.name
    }

    /// "delete snapshot s of domain d".
    pub(crate) fn about(&self, domain: &str) -> String {
        if self.operation == Operation::Flatten {
            return format!("flatten disks of domain {domain}");
        }
        if self.operation == Operation::Relocate {
            return format!("follow files of domain {domain} that were moved");
        }
        format!("{} snapshot {} of domain {domain}", self.operation, self.name)
    }

    /// What its steps do, in order.
    pub(crate) fn does(&self) -> impl Iterator<Item = &Does> {
        self.stages.iter().flat_map(Stage::steps).map(|step| &step.does)
    }

    /// The stage of the first step that is so.
    pub(crate) fn stage_with(&self, is_it: impl Fn(&Does) -> bool) -> Option<usize> {
        self.stages.iter().position(|stage| stage.any(&is_it))
    }

    /// The snapshot that it makes, if it makes one with a record.
    pub(crate) fn draft(&self) -> Option<&Draft> {
        self.does().find_map(|does| match does {
            Does::StoreRecord(draft) => Some(&**draft),
            _ => None,
        })
    }

    /// Whether the commit point was passed when this was written.
    pub(crate) fn is_committed(&self) -> bool {
        self.stage_with(|does| *does == Does::Commit).is_some_and(|commit| self.at > commit)
    }
}

/// Reads an entry that a store kept.
pub(crate) fn parse(bytes: &[u8]) -> Result<Journal, JournalError> {
    #[derive(Deserialize)]
    struct Header {
        version: u32,
    }
    if bytes.len() > Journal::MAX_BYTES {
        return Err(JournalError::TooLarge { bytes: bytes.len() });
    }
    let Header { version } = serde_json::from_slice(bytes).map_err(JournalError::Malformed)?;
    let journal = match version {
        0 => return Err(JournalError::Contradiction("its version is 0")),
        1 => first::parse(bytes)?,
        Journal::VERSION => serde_json::from_slice(bytes).map_err(JournalError::Malformed)?,
        found => return Err(JournalError::Newer { found }),
    };
    check::check(&journal).map_err(JournalError::Contradiction)?;
    Ok(journal)
}
