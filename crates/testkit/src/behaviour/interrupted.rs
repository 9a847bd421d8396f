//! Disks whose transaction ends after the process that asked for it is gone.

use async_trait::async_trait;
use tokio::sync::Notify;
use xlsnap_orchestrator::{Bitmap, Disks, Inventory, PortError, SnapshotAction, SnapshotId};
use xlsnap_types::model::DiskName;

/// Disks that take only the first so many snapshots of a transaction, and never answer: the operation is to be dropped then, as a
/// crash would end it.
pub struct Interrupted<'a> {
    disks: &'a dyn Disks,
    taken: usize,
    gone: Notify,
}

impl<'a> Interrupted<'a> {
    /// Interrupts the next transaction after `taken` of its disks.
    pub fn after(disks: &'a dyn Disks, taken: usize) -> Self {
        Self { disks, taken, gone: Notify::new() }
    }

    /// Returns when the transaction was interrupted.
    pub async fn gone(&self) {
        self.gone.notified().await;
    }
}

#[async_trait]
impl Disks for Interrupted<'_> {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        self.disks.inventory().await
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        let taken = &actions[..self.taken.min(actions.len())];
        if !taken.is_empty() {
            self.disks.snapshot(taken).await?;
        }
        self.gone.notify_one();
        std::future::pending().await
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.disks.delete(disk, snapshot).await
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.disks.revert(disk, snapshot).await
    }

    async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError> {
        self.disks.drop_bitmap(disk, bitmap).await
    }
}
