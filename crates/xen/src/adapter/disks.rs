//! The disks.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Bitmap, Disks, Effect, Inventory, PortError, PortErrorKind, SnapshotAction, SnapshotId, UndoPoint,
};
use xlsnap_qemu::Images;
use xlsnap_types::model::DiskName;

use crate::usage;

use super::XlDomain;
use super::look::{NO_ADOPT, files};

#[async_trait]
impl Disks for XlDomain {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        match self.running().await? {
            Some(domain) => self.look_live(domain).await,
            None => self.look_off().await,
        }
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        if let Some(SnapshotAction::External(overlay)) =
            actions.iter().find(|action| matches!(action, SnapshotAction::External(_)))
        {
            return Err(no_overlay(&overlay.disk));
        }
        let before = self.last_look();
        match (self.running().await?, before) {
            (Some(domain), Some(before)) if before.domain.domid != domain.domid => {
                let message = format!(
                    "domain {} was started again meanwhile: it had the domid {} and has {}; do it again",
                    self.name, before.domain.domid, domain.domid
                );
                Err(PortError::new(PortErrorKind::Busy, Effect::None, message))
            }
            (Some(domain), _) => {
                let disks = self.live_disks(domain).await?;
                if disks.has_ended() && !actions.iter().all(is_mark) {
                    let message = format!(
                        "no snapshot of domain {} can be taken: its QEMU has ended, and with it what the guest wrote last; destroy the \
                         domain, or revert it to a snapshot",
                        self.name
                    );
                    return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
                }
                let done = disks.port(&*self.context.store).await?.snapshot(actions).await;
                disks.leave().await;
                done
            }
            (None, Some(before)) => {
                let message = format!("{} has ended meanwhile", self.called(before.domain.domid));
                Err(PortError::new(PortErrorKind::Unreachable, Effect::None, message))
            }
            (None, None) => {
                let (images, kept) = self.images()?;
                usage::must_be_unused(&*self.context.store, &files(&kept)).await?;
                images.snapshot(actions).await
            }
        }
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        match self.running().await? {
            Some(domain) => {
                let disks = self.live_disks(domain).await?;
                let done = disks.port(&*self.context.store).await?.delete(disk, snapshot).await;
                disks.leave().await;
                done
            }
            None => self.unused(disk).await?.delete(disk, snapshot).await,
        }
    }

    async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError> {
        match self.running().await? {
            Some(domain) => {
                let disks = self.live_disks(domain).await?;
                let done = disks.port(&*self.context.store).await?.drop_bitmap(disk, bitmap).await;
                disks.leave().await;
                done
            }
            None => self.unused(disk).await?.drop_bitmap(disk, bitmap).await,
        }
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        if let Some(domain) = self.running().await? {
            let message = format!(
                "disk {disk}: {} is on, and a disk is reverted while no process has its image",
                self.called(domain.domid)
            );
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        }
        self.unused(disk).await?.revert(disk, snapshot).await
    }
}

impl XlDomain {
    /// The images of a domain that is off, of which that of `disk` is used by no domain and no process now.
    pub(super) async fn unused(&self, disk: &DiskName) -> Result<Images, PortError> {
        let (images, kept) = self.images()?;
        usage::must_be_unused(&*self.context.store, &of_disk(&kept, disk)).await?;
        Ok(images)
    }
}

/// Whether it marks what a disk holds now, for a revert to go back to: also where no QEMU serves the disk any more.
fn is_mark(action: &SnapshotAction) -> bool {
    matches!(action, SnapshotAction::Internal { tag, .. } if UndoPoint::is_one(tag))
}

fn of_disk(kept: &[xlsnap_types::model::XenDisk], disk: &DiskName) -> Vec<String> {
    kept.iter().filter(|of| of.disk == *disk).map(|of| of.image.clone()).collect()
}

fn no_overlay(disk: &DiskName) -> PortError {
    let message = format!("disk {disk}: no overlay under a name of its own is put on it: {NO_ADOPT}");
    PortError::new(PortErrorKind::Refused, Effect::None, message)
}
