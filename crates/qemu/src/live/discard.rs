//! Removes an overlay that takes no disk's writes.

use xlsnap_orchestrator::{Effect, Overlay, PortError, PortErrorKind};

use crate::overlay;

use super::Live;

impl Live {
    /// Closes the nodes that were opened for it, makes sure that QEMU has no other, and unlinks the file.
    pub(super) async fn discard_overlay(&self, overlay: &Overlay) -> Result<(), PortError> {
        let in_use = |by: &str| {
            let message = format!("disk {}: the overlay {} stays: {by} uses it", overlay.disk, overlay.file);
            PortError::new(PortErrorKind::Busy, Effect::None, message)
        };
        if self.specs().iter().any(|spec| spec.file == overlay.file) {
            return Err(in_use("the domain's description"));
        }
        if let Some(node) = self.close_unused(&overlay.file).await? {
            return Err(in_use(&format!("QEMU's node {node}")));
        }
        overlay::remove(&*self.qemu_img, overlay).await
    }
}
