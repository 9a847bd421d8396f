//! The disks.

use std::path::Path;

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Disks, Effect, Inventory, Overlay, PortError, PortErrorKind, SnapshotAction, SnapshotId,
};
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::usage;

use super::XlDomain;
use super::seen::{NO_EXTERNAL, files};

#[async_trait]
impl Disks for XlDomain {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        match self.running().await? {
            Some(domain) => self.look_live(domain).await,
            None => self.look_off().await,
        }
    }

    async fn exists(&self, file: &str) -> Result<bool, PortError> {
        match std::fs::symlink_metadata(file) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let message = format!("{file}: it cannot be told whether something is there");
                Err(crate::error::of_io(message, error, Effect::None))
            }
        }
    }

    async fn make_overlay(&self, overlay: &Overlay) -> Result<(), PortError> {
        Err(no_overlay(&overlay.disk))
    }

    async fn discard_overlay(&self, overlay: &Overlay) -> Result<(), PortError> {
        // None was ever made here; what is there is somebody's.
        if Path::new(&overlay.file).symlink_metadata().is_ok() {
            Err(no_overlay(&overlay.disk))
        } else {
            Ok(())
        }
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        if let Some(SnapshotAction::External(overlay)) =
            actions.iter().find(|action| matches!(action, SnapshotAction::External(_)))
        {
            return Err(no_overlay(&overlay.disk));
        }
        let before = self.seen();
        match (self.running().await?, before) {
            (Some(domain), Some(before)) if before.domain.domid != domain.domid => {
                let message = format!(
                    "domain {} was started anew meanwhile: it had the domid {} and has {}",
                    self.name, before.domain.domid, domain.domid
                );
                Err(PortError::new(PortErrorKind::Busy, Effect::None, message))
            }
            (Some(domain), _) => {
                let seen = self.seen_now(domain).await?;
                seen.act(async |live| live.snapshot(actions).await).await
            }
            (None, Some(before)) => {
                let message = format!("{} has ended meanwhile", self.called(before.domain.domid));
                Err(PortError::new(PortErrorKind::Unreachable, Effect::None, message))
            }
            (None, None) => {
                let (images, kept) = self.images()?;
                usage::nobody_uses(&*self.context.store, &files(kept)).await?;
                images.snapshot(actions).await
            }
        }
    }

    async fn adopt(&self, disk: &DiskName, _file: &str, _format: &ImageFormat) -> Result<(), PortError> {
        Err(no_overlay(disk))
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        match self.running().await? {
            Some(domain) => {
                let seen = self.seen_now(domain).await?;
                seen.act(async |live| live.delete(disk, snapshot).await).await
            }
            None => {
                let (images, kept) = self.images()?;
                usage::nobody_uses(&*self.context.store, &of_disk(kept, disk)).await?;
                images.delete(disk, snapshot).await
            }
        }
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        if let Some(domain) = self.running().await? {
            let message = format!(
                "disk {disk}: {} runs, and a disk is reverted while nobody has it",
                self.called(domain.domid)
            );
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        }
        let (images, kept) = self.images()?;
        usage::nobody_uses(&*self.context.store, &of_disk(kept, disk)).await?;
        images.revert(disk, snapshot).await
    }
}

fn of_disk(kept: &[xlsnap_types::model::XenDisk], disk: &DiskName) -> Vec<String> {
    kept.iter().filter(|of| of.disk == *disk).map(|of| of.image.clone()).collect()
}

fn no_overlay(disk: &DiskName) -> PortError {
    let message = format!("disk {disk}: no overlay is put on it: {NO_EXTERNAL}");
    PortError::new(PortErrorKind::Refused, Effect::None, message)
}
