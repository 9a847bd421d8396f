//! Drives, block nodes and images.

use serde::{Deserialize, Serialize};

use super::command;

/// All drives: what a guest sees as a disk, with the medium in it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryBlock;

/// A drive, in the result of [`QueryBlock`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct BlockDevice {
    /// The `id` of `-drive`; empty for a node that was attached with `-device ...,drive=NODE`.
    pub device: String,
    /// The path or id of the guest's device.
    pub qdev: Option<String>,
    /// Whether its medium may be taken out: CD-ROMs and floppies.
    #[serde(default)]
    pub removable: bool,
    /// Whether the tray is open; `None` where there is none.
    pub tray_open: Option<bool>,
    /// The medium; `None` when it is empty.
    pub inserted: Option<BlockNode>,
}

/// All block nodes that have a name, also those that no drive uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueryNamedBlockNodes {
    /// Leave out the nested information on backing images, which is repeated for each node otherwise.
    pub flat: bool,
}

impl QueryNamedBlockNodes {
    /// Each node once.
    pub const FLAT: Self = Self { flat: true };
}

/// A block node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct BlockNode {
    /// Its name: the user's, or QEMU's own (`#block165`), which changes from start to start.
    #[serde(rename = "node-name")]
    pub node_name: Option<String>,
    /// The driver: `qcow2`, `raw`, `file`, ...
    pub drv: String,
    /// The file as QEMU calls it; `json:{...}` when it has no simple name.
    pub file: String,
    /// Whether it is read-only.
    pub ro: bool,
    /// Whether it is active. QEMU 7.2 does not say: `None`.
    pub active: Option<bool>,
    /// The backing file's name, when it has one.
    pub backing_file: Option<String>,
    /// How many backing files are below.
    #[serde(default)]
    pub backing_file_depth: u64,
    /// The image in it.
    pub image: ImageInfo,
    /// How it uses the host's cache.
    #[serde(default)]
    pub cache: CacheMode,
    /// Whether zeros that the guest writes are found: `off`, `on` or `unmap`.
    pub detect_zeroes: Option<String>,
    /// Its dirty bitmaps.
    #[serde(default, rename = "dirty-bitmaps")]
    pub dirty_bitmaps: Vec<DirtyBitmap>,
}

/// A dirty bitmap of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct DirtyBitmap {
    /// Its name; one without belongs to a job.
    pub name: Option<String>,
    /// Whether it is, or will be, stored in the image.
    #[serde(default)]
    pub persistent: bool,
}

/// How a node uses the host's cache; by default it does, and flushes when the guest says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CacheMode {
    /// Whether it goes round the host's cache.
    #[serde(default)]
    pub direct: bool,
    /// Whether it ignores the guest's flushes.
    #[serde(default)]
    pub no_flush: bool,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ImageInfo {
    /// Its file's name.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// The size of the disk that the guest sees, in bytes.
    pub virtual_size: u64,
    /// The space that its file takes, in bytes.
    pub actual_size: Option<u64>,
    /// The size of a cluster, in bytes.
    pub cluster_size: Option<u64>,
    /// The backing file's name as it stands in the header.
    pub backing_filename: Option<String>,
    /// The same relative to where QEMU runs.
    pub full_backing_filename: Option<String>,
    /// The backing file's format as it stands in the header.
    pub backing_filename_format: Option<String>,
    /// Whether its data is encrypted.
    #[serde(default)]
    pub encrypted: bool,
    /// Its internal snapshots.
    #[serde(default)]
    pub snapshots: Vec<SnapshotInfo>,
    /// What only its format has.
    pub format_specific: Option<FormatSpecific>,
    /// The backing image, when the query was not flat.
    pub backing_image: Option<Box<ImageInfo>>,
}

/// What only one format has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct FormatSpecific {
    /// The format.
    #[serde(rename = "type")]
    pub format: String,
    /// Its members.
    #[serde(default)]
    pub data: FormatData,
}

/// The members of [`FormatSpecific`] that are used: qcow2's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct FormatData {
    /// The file that holds the data instead; no internal snapshots are possible then.
    pub data_file: Option<String>,
    /// Whether the image is marked corrupt.
    pub corrupt: Option<bool>,
}

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its id in this image: a small number. Ids are used again.
    pub id: String,
    /// Its name, which need not be unique.
    pub name: String,
    /// The size of the machine's state in it, in bytes; 0 for one of the disk only.
    #[serde(default)]
    pub vm_state_size: u64,
    /// When it was made, in seconds since 1970-01-01 UTC.
    #[serde(default)]
    pub date_sec: u64,
    /// And the nanoseconds.
    #[serde(default)]
    pub date_nsec: u64,
}

command! {
    QueryBlock = "query-block" -> Vec<BlockDevice>;
    QueryNamedBlockNodes = "query-named-block-nodes" -> Vec<BlockNode>;
}
