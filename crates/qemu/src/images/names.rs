//! The names of image files of a domain that is off.

use async_trait::async_trait;
use xlsnap_orchestrator::{Can, Effect, LayerFile, NameSwap, Names, PortError, PortErrorKind};
use xlsnap_types::model::DiskName;

use super::Images;
use crate::names;

#[async_trait]
impl Names for Images {
    async fn movable(&self, file: &str) -> Result<Can, PortError> {
        names::movable(file)
    }

    async fn ready_names(&self, swap: &NameSwap) -> Result<(), PortError> {
        let key = self.spec(&swap.old.disk)?.key_file;
        names::ready(&*self.qemu_img, swap, key).await
    }

    async fn swap_names(&self, swap: &NameSwap) -> Result<(), PortError> {
        let key = self.spec(&swap.old.disk)?.key_file;
        names::swap(&*self.qemu_img, swap, key, false).await
    }

    async fn swap_names_back(&self, swap: &NameSwap) -> Result<(), PortError> {
        let key = self.spec(&swap.old.disk)?.key_file;
        names::back(&*self.qemu_img, swap, key).await
    }

    async fn rename(&self, file: &LayerFile, over: &LayerFile) -> Result<(), PortError> {
        names::rename(file, over)
    }

    async fn detach(&self, disk: &DiskName) -> Result<(), PortError> {
        let message = format!("disk {disk}: no process has it open, so none can be made to close it");
        Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
    }
}
