//! Drops a dirty bitmap of an open image.

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport::QmpExt;
use xlsnap_qmp_transport::commands::BlockDirtyBitmapRemove;
use xlsnap_types::model::DiskName;

use crate::error;

use super::Live;
use super::adapter::find;

impl Live {
    /// QEMU takes one that is persistent out of the image at once.
    pub(super) async fn remove_bitmap(&self, disk: &DiskName, bitmap: &str) -> Result<(), PortError> {
        let looked = self.look_again().await?;
        let found = find(&looked.disks, disk)?;
        if !found.disk.bitmaps.iter().any(|of| of.name == bitmap) {
            return Ok(());
        }
        let Some(medium) = &found.medium else {
            let message = format!("disk {disk}: its drive is empty");
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        };
        let command = BlockDirtyBitmapRemove { node: medium.node.clone(), name: bitmap.to_owned() };
        let removed = self.qmp.execute(command).await;
        self.forget();
        let failed =
            |e| error::of_qmp(format!("disk {disk}: QEMU did not drop the dirty bitmap {bitmap:?}"), e);
        removed.map(drop).map_err(failed)
    }
}
