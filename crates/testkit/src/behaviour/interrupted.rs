//! Disks whose process ends within a transaction.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Disks, Effect, Inventory, Overlay, PortError, PortErrorKind, SnapshotAction, SnapshotId,
};
use xlsnap_types::model::{DiskName, ImageFormat};

/// Disks that take only the first so many snapshots of a transaction and answer nothing from then on: whoever asked them
/// can neither learn the outcome nor undo it, as after a crash.
pub struct Interrupted<'a> {
    disks: &'a dyn Disks,
    taken: usize,
    gone: AtomicBool,
}

impl<'a> Interrupted<'a> {
    /// Interrupts the next transaction after `taken` of its disks.
    pub fn after(disks: &'a dyn Disks, taken: usize) -> Self {
        Self { disks, taken, gone: AtomicBool::new(false) }
    }

    fn alive(&self) -> Result<&'a dyn Disks, PortError> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(PortError::new(
                PortErrorKind::Unreachable,
                Effect::Unknown,
                "nobody answers any more",
            ));
        }
        Ok(self.disks)
    }
}

#[async_trait]
impl Disks for Interrupted<'_> {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        self.alive()?.inventory().await
    }

    async fn exists(&self, file: &str) -> Result<bool, PortError> {
        self.alive()?.exists(file).await
    }

    async fn make_overlay(&self, overlay: &Overlay) -> Result<(), PortError> {
        self.alive()?.make_overlay(overlay).await
    }

    async fn discard_overlay(&self, overlay: &Overlay) -> Result<(), PortError> {
        self.alive()?.discard_overlay(overlay).await
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        let disks = self.alive()?;
        let taken = &actions[..self.taken.min(actions.len())];
        if !taken.is_empty() {
            disks.snapshot(taken).await?;
        }
        self.gone.store(true, Ordering::Relaxed);
        self.alive().map(drop)
    }

    async fn adopt(&self, disk: &DiskName, file: &str, format: &ImageFormat) -> Result<(), PortError> {
        self.alive()?.adopt(disk, file, format).await
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.alive()?.delete(disk, snapshot).await
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.alive()?.revert(disk, snapshot).await
    }
}
