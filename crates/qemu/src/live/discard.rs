//! Removes an overlay that takes no disk's writes.

use xlsnap_orchestrator::{Effect, Overlay, PortError, PortErrorKind};
use xlsnap_qmp_transport::commands::{BlockNode, BlockdevDel, QueryNamedBlockNodes};
use xlsnap_qmp_transport::{Kind, QmpExt};

use crate::inventory::file_name;
use crate::inventory::identity::Files;
use crate::{error, overlay};

use super::Live;
use super::look::within_limits;
use super::take::node_name;

impl Live {
    /// Closes the node that was opened for it, makes sure that QEMU has no other, and unlinks the file.
    pub(super) async fn discard_overlay(&self, overlay: &Overlay) -> Result<(), PortError> {
        let in_use = |by: &str| {
            let message = format!("disk {}: the overlay {} stays: {by} uses it", overlay.disk, overlay.file);
            PortError::new(PortErrorKind::Busy, Effect::None, message)
        };
        if self.specs().iter().any(|spec| spec.file == overlay.file) {
            return Err(in_use("the domain's description"));
        }
        match self.qmp.execute(BlockdevDel { node_name: node_name(overlay) }).await {
            Ok(_) => {}
            // There is none, or it is in use: the nodes tell which.
            Err(error) if error.kind() == Kind::Rejected => {}
            Err(error) => {
                let message =
                    format!("disk {}: QEMU could not close the overlay {}", overlay.disk, overlay.file);
                return Err(error::of_qmp(message, error));
            }
        }
        let nodes = self.ask(QueryNamedBlockNodes::FLAT).await?;
        within_limits(&nodes[..])?;
        let mut files = Files::new(self.directory.as_deref());
        let uses = |node: &&BlockNode| files.same(&overlay.file, &file_name::parse(&node.file).file);
        if let Some(node) = nodes.iter().find(uses) {
            return Err(in_use(&format!("QEMU's node {}", node.node_name.as_deref().unwrap_or("?"))));
        }
        overlay::remove(&*self.qemu_img, overlay).await
    }
}
