//! Which block nodes are built on which.

use serde::{Deserialize, Serialize};

use super::command;

/// Which node is held by what. QEMU calls the command unstable (`x-`); it is there since 4.0, and nothing else tells which
/// nodes a job works on, and which nodes no other is built on.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryBlockGraph;

/// The result of [`QueryBlockGraph`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[non_exhaustive]
pub struct BlockGraph {
    /// The nodes, and those that hold them.
    pub nodes: Vec<GraphNode>,
    /// What holds which node.
    pub edges: Vec<GraphEdge>,
}

/// A node, a job or a device in a [`BlockGraph`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct GraphNode {
    /// Its number in this answer.
    pub id: u64,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: GraphNodeKind,
    /// The node's name, the job's id, the drive's id or the device's path.
    pub name: String,
}

/// What a [`GraphNode`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GraphNodeKind {
    /// A block node.
    BlockDriver,
    /// A block job.
    BlockJob,
    /// A device, a drive or an export.
    BlockBackend,
    /// One that came after QEMU 10.0.
    #[serde(other)]
    Unknown,
}

/// `parent` holds `child`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct GraphEdge {
    /// The number of the one that holds.
    pub parent: u64,
    /// The number of the one that is held.
    pub child: u64,
}

command! {
    QueryBlockGraph = "x-debug-query-block-graph" -> BlockGraph;
}
