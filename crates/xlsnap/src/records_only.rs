//! A domain of which only records are left: no file and no process tells its disks.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Bitmap, Disks, Effect, Guest, GuestState, Inventory, PortError, PortErrorKind, SnapshotAction, SnapshotId,
};
use xlsnap_types::model::DiskName;

/// Refuses whatever needs a disk, and says why.
#[derive(Debug)]
pub(crate) struct RecordsOnly {
    why: String,
}

impl RecordsOnly {
    /// `why` is a sentence that names the domain.
    pub(crate) fn new(why: String) -> Self {
        Self { why }
    }

    fn refuse<T>(&self) -> Result<T, PortError> {
        Err(PortError::new(PortErrorKind::Refused, Effect::None, self.why.clone()))
    }
}

#[async_trait]
impl Disks for RecordsOnly {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        self.refuse()
    }

    async fn snapshot(&self, _actions: &[SnapshotAction]) -> Result<(), PortError> {
        self.refuse()
    }

    async fn delete(&self, _disk: &DiskName, _snapshot: &SnapshotId) -> Result<(), PortError> {
        self.refuse()
    }

    async fn drop_bitmap(&self, _disk: &DiskName, _bitmap: &Bitmap) -> Result<(), PortError> {
        self.refuse()
    }

    async fn revert(&self, _disk: &DiskName, _snapshot: &SnapshotId) -> Result<(), PortError> {
        self.refuse()
    }
}

#[async_trait]
impl Guest for RecordsOnly {
    async fn state(&self) -> Result<GuestState, PortError> {
        self.refuse()
    }
}
