//! A domain whose disks nobody knows: only its records can be worked on.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Disks, Effect, Guest, GuestState, Inventory, Overlay, PortError, PortErrorKind, SnapshotAction,
    SnapshotId,
};
use xlsnap_types::model::{DiskName, ImageFormat};

/// Refuses whatever needs a disk, and says why.
#[derive(Debug)]
pub(crate) struct Nowhere {
    why: String,
}

impl Nowhere {
    /// `why` is a sentence that names the domain.
    pub(crate) fn new(why: String) -> Self {
        Self { why }
    }

    fn refuse<T>(&self) -> Result<T, PortError> {
        Err(PortError::new(PortErrorKind::Refused, Effect::None, self.why.clone()))
    }
}

#[async_trait]
impl Disks for Nowhere {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        self.refuse()
    }

    async fn exists(&self, _file: &str) -> Result<bool, PortError> {
        self.refuse()
    }

    async fn make_overlay(&self, _overlay: &Overlay) -> Result<(), PortError> {
        self.refuse()
    }

    async fn discard_overlay(&self, _overlay: &Overlay) -> Result<(), PortError> {
        self.refuse()
    }

    async fn snapshot(&self, _actions: &[SnapshotAction]) -> Result<(), PortError> {
        self.refuse()
    }

    async fn adopt(&self, _disk: &DiskName, _file: &str, _format: &ImageFormat) -> Result<(), PortError> {
        self.refuse()
    }

    async fn delete(&self, _disk: &DiskName, _snapshot: &SnapshotId) -> Result<(), PortError> {
        self.refuse()
    }

    async fn revert(&self, _disk: &DiskName, _snapshot: &SnapshotId) -> Result<(), PortError> {
        self.refuse()
    }
}

#[async_trait]
impl Guest for Nowhere {
    async fn state(&self) -> Result<GuestState, PortError> {
        self.refuse()
    }
}
