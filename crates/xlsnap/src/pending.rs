//! Whether an interrupted operation waits for recovery, for commands that only read.

use std::fmt;

use uuid::Uuid;
use xlsnap_conf_store::ConfStore;
use xlsnap_orchestrator::{Error, Journal, Operation};
use xlsnap_types::model::SnapshotName;

use crate::Host;
use crate::failures::from_store;

/// An operation that was interrupted, and is finished or undone by [`Host::recover`] or by the next operation on the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRecovery {
    /// Which operation on which snapshot; `None` when its journal cannot be understood by this version.
    pub interrupted: Option<(Operation, SnapshotName)>,
}

impl fmt::Display for PendingRecovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interrupted {
            Some((Operation::Flatten, _)) => f.write_str("the flattening of disks was interrupted"),
            Some((Operation::Relocate, _)) => {
                f.write_str("the following of files that were moved was interrupted")
            }
            Some((operation, name)) => write!(f, "the {operation} of snapshot {name} was interrupted"),
            None => {
                f.write_str("an operation was interrupted, and its journal is not understood by this version")
            }
        }
    }
}

impl Host {
    /// What waits for recovery; the journal of an operation that goes on is none.
    pub(crate) async fn pending(&self, domain: Uuid, name: &str) -> Result<Option<PendingRecovery>, Error> {
        let cannot = |e| from_store(e, format!("whether domain {name} waits for recovery cannot be told"));
        if self.store.journal(domain).await.map_err(cannot)?.is_none()
            || self.store.is_locked(domain).await.map_err(cannot)?
        {
            return Ok(None);
        }
        // The operation may have ended between the two.
        let Some(journal) = self.store.journal(domain).await.map_err(cannot)? else { return Ok(None) };
        let interrupted =
            Journal::parse(&journal).ok().map(|journal| (journal.operation(), journal.name().clone()));
        Ok(Some(PendingRecovery { interrupted }))
    }
}
