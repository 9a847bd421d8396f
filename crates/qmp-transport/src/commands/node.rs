//! Block nodes: opening, closing, activating.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Nothing, command};

/// Opens an image. Also the description of a node inside of another ([`NodeRef::Inline`]).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevAdd {
    /// The driver: a format (`qcow2`, `raw`) or a protocol (`file`, `null-co`).
    pub driver: String,
    /// The node's name; at most 31 bytes, must begin with a letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Whether it is read-only; QEMU's default is no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// For a protocol on files: the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// For a format: the node below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<NodeRef>,
    /// For a format with backing files: the backing node. When it is not there, QEMU opens what the header says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing: Option<Backing>,
    /// All other options.
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

impl BlockdevAdd {
    /// The image `filename` of format `driver`, in a file, as node `node_name`.
    pub fn image(
        node_name: impl Into<String>,
        driver: impl Into<String>,
        filename: impl Into<String>,
    ) -> Self {
        let file = Self { driver: "file".into(), filename: Some(filename.into()), ..Self::default() };
        Self {
            driver: driver.into(),
            node_name: Some(node_name.into()),
            file: Some(NodeRef::Inline(Box::new(file))),
            ..Self::default()
        }
    }

    /// The same with this backing.
    #[must_use]
    pub fn with_backing(mut self, backing: Backing) -> Self {
        self.backing = Some(backing);
        self
    }
}

/// A node below another.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum NodeRef {
    /// One that is open.
    Name(String),
    /// One that is opened with it.
    Inline(Box<BlockdevAdd>),
}

/// The backing of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Backing {
    /// None, whatever the header says: for an overlay that is about to be put on top of its backing.
    None,
    /// This one.
    Node(NodeRef),
}

/// Closes a node that is not in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevDel {
    /// The node's name.
    pub node_name: String,
}

/// Moves a node that no device has, and all below it, to a thread of its own. It is one of QEMU's experimental commands, with the same
/// arguments from QEMU 2.12 to 11.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevSetIothread {
    /// The node's name.
    pub node_name: String,
    /// The id of the thread, an object of type `iothread`.
    pub iothread: String,
}

/// Activates or inactivates a node, or all: QEMU 10.0. Inactivate only under a stopped guest: the next write to an
/// inactive node aborts QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevSetActive {
    /// The node's name; all nodes when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Whether it shall be active.
    pub active: bool,
}

command! {
    BlockdevAdd = "blockdev-add" -> Nothing;
    BlockdevDel = "blockdev-del" -> Nothing;
    BlockdevSetIothread = "x-blockdev-set-iothread" -> Nothing;
    BlockdevSetActive = "blockdev-set-active" -> Nothing;
}
