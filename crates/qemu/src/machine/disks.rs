//! Its disks and its guest: each call goes to whoever has them now.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Disks, Guest, GuestState, Inventory, Overlay, PortError, SnapshotAction, SnapshotId,
};
use xlsnap_types::model::{DiskName, ImageFormat};

use super::Machine;
use super::state::Holder;
use crate::overlay;

#[async_trait]
impl Guest for Machine {
    async fn state(&self) -> Result<GuestState, PortError> {
        match self.on()? {
            Some(on) => on.live.state().await,
            None => Ok(GuestState::Off),
        }
    }
}

#[async_trait]
impl Disks for Machine {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.inventory().await,
            Holder::Images(images) => images.inventory().await,
        }
    }

    async fn exists(&self, file: &str) -> Result<bool, PortError> {
        overlay::exists(file)
    }

    async fn make_overlay(&self, overlay: &Overlay) -> Result<(), PortError> {
        overlay::make(&*self.qemu_img, overlay).await
    }

    async fn discard_overlay(&self, overlay: &Overlay) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.discard_overlay(overlay).await,
            Holder::Images(images) => images.discard_overlay(overlay).await,
        }
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.snapshot(actions).await,
            Holder::Images(images) => images.snapshot(actions).await,
        }
    }

    async fn adopt(&self, disk: &DiskName, file: &str, format: &ImageFormat) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.adopt(disk, file, format).await,
            Holder::Images(images) => images.adopt(disk, file, format).await,
        }?;
        self.change_specs(|specs| {
            for spec in specs.iter_mut().filter(|spec| spec.name == *disk) {
                file.clone_into(&mut spec.file);
                spec.format.clone_from(format);
            }
        });
        Ok(())
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.delete(disk, snapshot).await,
            Holder::Images(images) => images.delete(disk, snapshot).await,
        }
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.revert(disk, snapshot).await,
            Holder::Images(images) => images.revert(disk, snapshot).await,
        }
    }
}
