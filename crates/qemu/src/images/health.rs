//! Whether images are whole, by qemu-img.

use async_trait::async_trait;
use xlsnap_orchestrator::{Health, ImageHealth, PortError};
use xlsnap_qemu_img::{Kind, Repair};
use xlsnap_types::model::DiskName;

use super::{Images, image_of};
use crate::error;

#[async_trait]
impl Health for Images {
    async fn examine(&self, disk: &DiskName) -> Result<Option<ImageHealth>, PortError> {
        let spec = self.spec(disk)?;
        if spec.file.is_empty() {
            return Ok(None);
        }
        match self.qemu_img().check(&image_of(&spec), None).await {
            Ok(found) => Ok(Some(ImageHealth { leaks: found.leaks, corruptions: found.corruptions })),
            // A format without checks, an image that another process has open, or one that was never made.
            Err(e) if matches!(e.kind(), Kind::Unsupported | Kind::Locked | Kind::NotFound) => Ok(None),
            Err(e) => Err(error::of_qemu_img(format!("disk {disk}: {} cannot be checked", spec.file), e)),
        }
    }

    /// Leaked clusters are freed; where qemu-img finds more than that, it mends all that it can.
    async fn mend(&self, disk: &DiskName) -> Result<(), PortError> {
        let spec = self.writable(disk)?;
        let failed = |e| error::of_qemu_img(format!("disk {disk}: {} cannot be mended", spec.file), e);
        let image = image_of(&spec);
        let found = self.qemu_img().check(&image, None).await.map_err(failed)?;
        let repair = if found.corruptions > 0 { Repair::All } else { Repair::Leaks };
        self.qemu_img().check(&image, Some(repair)).await.map_err(failed).map(drop)
    }
}
