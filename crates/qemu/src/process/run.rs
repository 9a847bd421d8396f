//! What is written down of a process that was started.

use std::io;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xlsnap_orchestrator::PortError;

use super::{Identity, mark};

/// A process that was started for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which process.
    #[serde(flatten)]
    pub process: Identity,
    /// When it was started, in seconds since 1970-01-01 UTC.
    pub since: u64,
}

/// A start that was begun: its process may be there, may come, or may never have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The id of this start, which its processes have in their environment (`XLSNAP_START`).
    pub start: Uuid,
    /// When it was begun, in seconds since 1970-01-01 UTC.
    pub since: u64,
}

/// What is written down of a domain's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Written {
    /// Its monitor has greeted.
    Started(Run),
    /// Written before anything is started, so that a program that is killed in between leaves no process that is not known.
    Begun(Begun),
}

impl Written {
    /// The process, if it lives; of a start that was begun the first of its processes.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn living(&self) -> io::Result<Option<Identity>> {
        match self {
            Self::Started(run) => Ok(run.process.lives()?.then_some(run.process)),
            Self::Begun(begun) => Ok(mark::processes(begun.start).into_iter().next()),
        }
    }
}

/// Where that is kept, so that a later program knows its process again.
pub trait RunRecord: Send + Sync {
    /// What is written down.
    ///
    /// # Errors
    /// When it cannot be read, or is not understood.
    fn load(&self) -> Result<Option<Written>, PortError>;

    /// Writes it down, durably, in place of what was.
    ///
    /// # Errors
    /// When it cannot be written.
    fn store(&self, written: &Written) -> Result<(), PortError>;

    /// Removes it; again is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn clear(&self) -> Result<(), PortError>;
}
