//! Dirty bitmaps: what a backup program keeps of a node from one backup to the next.

use serde::Serialize;

use super::{Nothing, command};

/// Adds a dirty bitmap to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockDirtyBitmapAdd {
    /// The node, or the drive's id.
    pub node: String,
    /// The bitmap's name.
    pub name: String,
    /// Whether it is stored in the image when the process ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
}

/// Removes a dirty bitmap, from the image too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockDirtyBitmapRemove {
    /// The node, or the drive's id.
    pub node: String,
    /// The bitmap's name.
    pub name: String,
}

command! {
    BlockDirtyBitmapAdd = "block-dirty-bitmap-add" -> Nothing;
    BlockDirtyBitmapRemove = "block-dirty-bitmap-remove" -> Nothing;
}
