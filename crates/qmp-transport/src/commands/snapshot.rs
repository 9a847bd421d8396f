//! Snapshots of disks, alone and several at one instant.

use serde::{Deserialize, Serialize};

use super::{Nothing, SnapshotInfo, command};

/// Makes an internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockdevSnapshotInternalSync {
    /// The node's name, or the drive's id; never the id of the guest's device.
    pub device: String,
    /// The snapshot's name.
    pub name: String,
}

/// Deletes an internal snapshot and gives what it was. At least one of `id` and `name` must be there; with both, both
/// must match.
///
/// QEMU 7.2 and 10.0 abort when the node is inactive: check [`BlockNode::active`](super::BlockNode::active) before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockdevSnapshotDeleteInternalSync {
    /// As in [`BlockdevSnapshotInternalSync`].
    pub device: String,
    /// The snapshot's id in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The snapshot's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Puts an overlay, which was opened without its backing, on top of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockdevSnapshot {
    /// The node's name.
    pub node: String,
    /// The overlay's node name.
    pub overlay: String,
}

/// Makes an overlay file and puts it on top. It overwrites a file that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevSnapshotSync {
    /// The drive's id; this or `node_name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The node's name; needs `snapshot_node_name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The overlay's file.
    pub snapshot_file: String,
    /// The overlay's node name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_node_name: Option<String>,
    /// The overlay's format; qcow2 when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Whether the overlay's file is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<NewImageMode>,
}

/// Whether an overlay's file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewImageMode {
    /// It is there.
    Existing,
    /// It is made; QEMU's default.
    AbsolutePaths,
}

/// Executes all actions at one instant, or none of them. Not crash-atomic: a QEMU that is killed meanwhile may leave
/// the snapshot on some disks only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transaction {
    /// The actions, in order.
    pub actions: Vec<Action>,
}

impl Transaction {
    /// A transaction of `actions`.
    pub fn new(actions: impl IntoIterator<Item = Action>) -> Self {
        Self { actions: actions.into_iter().collect() }
    }
}

/// An action of a [`Transaction`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// An internal snapshot.
    BlockdevSnapshotInternalSync(BlockdevSnapshotInternalSync),
    /// An overlay that is open already.
    BlockdevSnapshot(BlockdevSnapshot),
    /// A new overlay file.
    BlockdevSnapshotSync(BlockdevSnapshotSync),
    /// Fails, so that all others are undone: for tests.
    Abort {},
}

impl Action {
    /// An internal snapshot `name` of the node or drive `device`.
    pub fn internal(device: impl Into<String>, name: impl Into<String>) -> Self {
        let (device, name) = (device.into(), name.into());
        Self::BlockdevSnapshotInternalSync(BlockdevSnapshotInternalSync { device, name })
    }

    /// The open node `overlay` on top of `node`.
    pub fn overlay(node: impl Into<String>, overlay: impl Into<String>) -> Self {
        Self::BlockdevSnapshot(BlockdevSnapshot { node: node.into(), overlay: overlay.into() })
    }
}

command! {
    BlockdevSnapshotInternalSync = "blockdev-snapshot-internal-sync" -> Nothing;
    BlockdevSnapshotDeleteInternalSync = "blockdev-snapshot-delete-internal-sync" -> SnapshotInfo;
    BlockdevSnapshot = "blockdev-snapshot" -> Nothing;
    BlockdevSnapshotSync = "blockdev-snapshot-sync" -> Nothing;
    Transaction = "transaction" -> Nothing;
}
