//! Takes snapshots of disks at one instant.

use serde_json::{Map, Value, json};
use xlsnap_orchestrator::{Effect, Overlay, PortError, PortErrorKind, SnapshotAction};
use xlsnap_qmp_transport::commands::{
    Action, Backing, BlockdevAdd, BlockdevDel, CacheMode, NodeRef, Transaction,
};
use xlsnap_qmp_transport::{Kind, QmpExt};
use xlsnap_types::model::DiskName;

use crate::error;
use crate::inventory::attached::Medium;
use crate::inventory::matching::Found;

use super::Live;
use super::adapter::find;

impl Live {
    /// One transaction over all disks: QEMU does all of it or nothing, and no guest's write falls between two of them.
    pub(super) async fn take(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        let looked = self.known().await?;
        let found = &looked.disks;
        let mut transaction = Vec::with_capacity(actions.len());
        let mut overlays = Vec::new();
        for action in actions {
            match action {
                SnapshotAction::Internal { disk, tag, .. } => {
                    transaction.push(Action::internal(&medium(found, disk)?.node, tag));
                }
                SnapshotAction::External(overlay) => {
                    let base = medium(found, &overlay.disk)?;
                    transaction.push(Action::overlay(&base.node, node_name(overlay)));
                    overlays.push((overlay, base));
                }
            }
        }
        for (at, (overlay, base)) in overlays.iter().enumerate() {
            if let Err(error) = self.qmp.execute(open(overlay, base)).await {
                self.close(overlays[..at].iter().map(|(overlay, _)| *overlay)).await;
                let message =
                    format!("disk {}: QEMU could not open the overlay {}", overlay.disk, overlay.file);
                // A node that no device uses is no effect on a disk, whether it was opened or not.
                return Err(error::of_query(message, error));
            }
        }
        let result = self.qmp.execute(Transaction::new(transaction)).await;
        if result.is_err() || !overlays.is_empty() {
            self.forget();
        }
        let Err(error) = result else {
            return Ok(());
        };
        if error.kind() == Kind::Rejected {
            self.close(overlays.iter().map(|(overlay, _)| *overlay)).await;
        }
        let subject = culprit(found, &error.to_string());
        Err(error::of_qmp(format!("{subject}: QEMU did not take the snapshot"), error))
    }

    /// Closes nodes that were opened for overlays and are not used. What can't be closed now is closed when the
    /// overlay is discarded.
    async fn close(&self, overlays: impl Iterator<Item = &Overlay>) {
        for overlay in overlays {
            let node_name = node_name(overlay);
            if let Err(error) = self.qmp.execute(BlockdevDel { node_name }).await {
                tracing::debug!(%error, disk = %overlay.disk, "the overlay's node stays open for now");
            }
        }
    }
}

/// The node of an overlay: QEMU allows 31 bytes that start with a letter.
pub(super) fn node_name(overlay: &Overlay) -> String {
    format!("xls-{}", overlay.token)
}

fn medium<'a>(found: &'a [Found], disk: &DiskName) -> Result<&'a Medium, PortError> {
    find(found, disk)?.medium.as_ref().ok_or_else(|| {
        let message = format!("disk {disk}: its drive is empty");
        PortError::new(PortErrorKind::Refused, Effect::None, message)
    })
}

/// Which disk QEMU's refusal of a transaction is about: it names the node.
fn culprit(found: &[Found], refusal: &str) -> String {
    let named = |found: &&Found| {
        found.medium.as_ref().is_some_and(|medium| refusal.contains(&format!("'{}'", medium.node)))
    };
    found.iter().find(named).map_or_else(|| "the disks".into(), |found| format!("disk {}", found.disk.name))
}

/// The overlay as a node of its own, to be put on top by the transaction. It treats the host's cache as its base does:
/// what the guest's flushes mean must not change.
fn open(overlay: &Overlay, base: &Medium) -> BlockdevAdd {
    let node = BlockdevAdd::image(node_name(overlay), overlay.format.driver(), &overlay.file);
    like(node.with_backing(Backing::None), base)
}

/// A node that takes a guest's writes as `base` does.
pub(super) fn like(node: BlockdevAdd, base: &Medium) -> BlockdevAdd {
    let mut node = cached(node, base.cache);
    if let Some(mode) = base.detect_zeroes.as_deref().filter(|mode| matches!(*mode, "on" | "unmap")) {
        node.options.insert("detect-zeroes".into(), mode.into());
        if mode == "unmap" {
            // QEMU refuses the one without the other.
            node.options.insert("discard".into(), "unmap".into());
        }
    }
    node
}

/// The node, using the host's cache so.
pub(super) fn cached(mut node: BlockdevAdd, cache: CacheMode) -> BlockdevAdd {
    let options = cache_options(cache);
    if let Some(NodeRef::Inline(file)) = &mut node.file {
        file.options.clone_from(&options);
    }
    node.options = options;
    node
}

fn cache_options(cache: CacheMode) -> Map<String, Value> {
    let mut options = Map::new();
    if cache != CacheMode::default() {
        options.insert("cache".into(), json!({"direct": cache.direct, "no-flush": cache.no_flush}));
    }
    options
}
