//! Exports of block nodes: what a storage daemon serves, and how a test writes to a disk without a guest.

use serde::{Deserialize, Serialize};

use super::{Nothing, command};

/// Starts QEMU's NBD server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NbdServerStart {
    /// Where it listens.
    pub addr: SocketAddress,
    /// How many clients it serves at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SocketAddress {
    /// A Unix socket.
    Unix {
        /// Its path.
        path: String,
    },
}

/// Stops QEMU's NBD server.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct NbdServerStop;

/// Exports a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockExportAdd {
    /// How.
    #[serde(rename = "type")]
    pub export_type: ExportType,
    /// The export's id.
    pub id: String,
    /// The node's name.
    pub node_name: String,
    /// Whether clients may write; QEMU's default is no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable: Option<bool>,
    /// For NBD: the name that clients ask for; the node's when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// All exports.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryBlockExports;

/// An export, in the result of [`QueryBlockExports`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct BlockExport {
    /// Its id.
    pub id: String,
    /// The node that it serves.
    pub node_name: String,
    /// Whether it is going away.
    #[serde(default)]
    pub shutting_down: bool,
}

/// How a node is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ExportType {
    /// Through the NBD server.
    Nbd,
}

/// Ends an export. It is gone when BLOCK_EXPORT_DELETED comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockExportDel {
    /// The export's id.
    pub id: String,
    /// Whether clients that are connected are cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<RemovalMode>,
}

/// What happens to the clients of an export that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemovalMode {
    /// With a client connected, it fails; QEMU's default.
    Safe,
    /// They are cut off.
    Hard,
}

command! {
    QueryBlockExports = "query-block-exports" -> Vec<BlockExport>;
    NbdServerStart = "nbd-server-start" -> Nothing;
    NbdServerStop = "nbd-server-stop" -> Nothing;
    BlockExportAdd = "block-export-add" -> Nothing;
    BlockExportDel = "block-export-del" -> Nothing;
}
