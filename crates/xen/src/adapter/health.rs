//! Whether the images of a domain that is off are whole.

use async_trait::async_trait;
use xlsnap_orchestrator::{Effect, Health, ImageHealth, PortError, PortErrorKind};
use xlsnap_types::model::DiskName;

use super::XlDomain;

#[async_trait]
impl Health for XlDomain {
    async fn examine(&self, disk: &DiskName) -> Result<Option<ImageHealth>, PortError> {
        if self.running().await?.is_some() {
            return Ok(None);
        }
        match self.unused(disk).await {
            // A disk that is no qcow2 image of QEMU's is none of them.
            Ok(images) => match images.examine(disk).await {
                Err(error) if error.kind == PortErrorKind::NotFound => Ok(None),
                found => found,
            },
            Err(error) if error.kind == PortErrorKind::Busy => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn mend(&self, disk: &DiskName) -> Result<(), PortError> {
        if let Some(domain) = self.running().await? {
            let called = self.called(domain.domid);
            let message = format!("disk {disk}: {called} has its image; shut the domain down first");
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
        }
        self.unused(disk).await?.mend(disk).await
    }
}
