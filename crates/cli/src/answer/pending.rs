//! An interrupted operation, as it stands in several answers.

use serde::Serialize;
use xlsnap::{Operation, PendingRecovery};
use xlsnap_types::model::SnapshotName;

/// An operation that waits for recovery.
#[derive(Serialize)]
pub(crate) struct PendingForm<'a> {
    /// Null when its journal is not understood.
    operation: Option<Operation>,
    name: Option<&'a SnapshotName>,
}

impl<'a> PendingForm<'a> {
    pub(crate) fn new(of: &'a PendingRecovery) -> Self {
        let (operation, name) =
            of.interrupted.as_ref().map_or((None, None), |(operation, name)| (Some(*operation), Some(name)));
        Self { operation, name }
    }
}
