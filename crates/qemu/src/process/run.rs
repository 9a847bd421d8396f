//! What is written down of a process that was started.

use serde::{Deserialize, Serialize};
use xlsnap_orchestrator::PortError;

use super::Identity;

/// A process that was started for a domain, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which process.
    #[serde(flatten)]
    pub process: Identity,
    /// When it was started, in seconds since 1970-01-01 UTC.
    pub since: u64,
}

/// Where a domain's [`Run`] is kept, so that a later program knows its process again.
pub trait RunRecord: Send + Sync {
    /// What is written down.
    ///
    /// # Errors
    /// When it cannot be read, or is not understood.
    fn load(&self) -> Result<Option<Run>, PortError>;

    /// Writes it down, durably, in place of an older one.
    ///
    /// # Errors
    /// When it cannot be written.
    fn store(&self, run: &Run) -> Result<(), PortError>;

    /// Removes it; again is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn clear(&self) -> Result<(), PortError>;
}
