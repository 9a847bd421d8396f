//! The names of image files. What xl starts a domain from goes on naming the image that it names, and xenstore and a saved memory do too: so a
//! new file takes that name. The QEMU of a paused PV guest closes the image meanwhile; of a domain that is off nothing has it open.

use std::sync::Arc;

use async_trait::async_trait;
use xlsnap_orchestrator::{Can, Effect, LayerFile, NameSwap, Names, PortError, PortErrorKind};
use xlsnap_types::model::DiskName;

use crate::usage;

use super::XlDomain;
use super::look::LiveDisks;

impl XlDomain {
    /// The disks of a domain that is on, if its QEMU has them.
    pub(super) async fn served(&self) -> Result<Option<Arc<LiveDisks>>, PortError> {
        let Some(domain) = self.running().await? else { return Ok(None) };
        let disks = self.live_disks(domain).await?;
        Ok(disks.live().is_ok().then_some(disks))
    }
}

#[async_trait]
impl Names for XlDomain {
    async fn movable(&self, file: &str) -> Result<Can, PortError> {
        self.image_files().await?.movable(file).await
    }

    async fn ready_names(&self, names: &NameSwap) -> Result<(), PortError> {
        let Some(disks) = self.served().await? else {
            return self.at_rest(&[names.kept()]).await?.ready_names(names).await;
        };
        let kept = [names.kept().to_owned()];
        usage::must_be_of_domain(&*self.context.store, &kept, disks.domain.domid).await?;
        disks.leaving(disks.live()?.ready_names(names)).await
    }

    async fn swap_names(&self, names: &NameSwap) -> Result<(), PortError> {
        let Some(disks) = self.served().await? else {
            return self.at_rest(&[names.kept(), &names.new.file]).await?.swap_names(names).await;
        };
        disks.leaving(disks.live()?.swap_names(names)).await
    }

    async fn swap_names_back(&self, names: &NameSwap) -> Result<(), PortError> {
        let Some(disks) = self.served().await? else {
            return self.at_rest(&[names.kept(), &names.new.file]).await?.swap_names_back(names).await;
        };
        disks.leaving(disks.live()?.swap_names_back(names)).await
    }

    async fn rename(&self, file: &LayerFile, over: &LayerFile) -> Result<(), PortError> {
        let Some(disks) = self.served().await? else {
            return self.at_rest(&[&file.file, &over.file]).await?.rename(file, over).await;
        };
        disks.leaving(disks.live()?.rename(file, over)).await
    }

    async fn detach(&self, disk: &DiskName) -> Result<(), PortError> {
        let Some(disks) = self.served().await? else {
            let message = format!("disk {disk}: no QEMU has it, so none can be made to close it");
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        };
        disks.leaving(disks.live()?.detach(disk)).await
    }
}
