//! The layers of a domain's disks: the files of the chains that its disks have, and of those that its records and its ledger name.
//!
//! A layer is known by device and inode. Who may write to it and who may remove it the ledger says ([`Owner`]); where that says
//! nothing of a file, because its snapshots were made before there was one, the records and the headers tell.

mod gather;
mod tidy;

pub(crate) use gather::gather;
pub(crate) use tidy::{Tidied, Tidy};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, ImageFormat, Owner, SnapshotName};

use crate::record::Part;
use crate::{Below, FileIdentity, Layer, LayerFile, Overlay, SnapshotId};

/// A layer, and what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerNode {
    pub(crate) disk: DiskName,
    pub(crate) layer: Layer,
    pub(crate) owner: Owner,
    pub(crate) guard: Guard,
    /// Whether the ledger has it.
    pub(crate) noted: bool,
}

/// Whether a layer is what the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// It is, or the ledger says nothing.
    Same,
    /// It was written to since it became read-only.
    Written,
    /// Another file has its name now.
    Replaced,
}

impl LayerNode {
    /// The file as a step names it.
    pub(crate) fn file(&self) -> LayerFile {
        LayerFile {
            disk: self.disk.clone(),
            file: self.layer.file.clone(),
            format: self.layer.format.clone(),
            identity: Some(self.layer.identity),
        }
    }
}

/// What a record says of the files of an external part.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartFiles {
    /// The file that holds the snapshot's state.
    pub image: String,
    /// Its format.
    pub format: ImageFormat,
    /// An overlay on it.
    pub overlay: String,
    /// The overlay's format.
    pub overlay_format: ImageFormat,
}

/// An external part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExternalPart {
    pub(crate) snapshot: SnapshotName,
    pub(crate) disk: DiskName,
    pub(crate) files: PartFiles,
}

/// The files of a part of a record, if it is external. Without meta nothing but the overlay's own header tells what it stands on.
pub(crate) fn external_part(part: &Part<'_>) -> Option<PartFiles> {
    let (overlay, meta) = part.overlay.zip(part.meta)?;
    Some(PartFiles {
        image: meta.image.clone(),
        format: meta.format.clone(),
        overlay: overlay.to_owned(),
        overlay_format: ImageFormat::Qcow2,
    })
}

/// The external parts of records, in their order.
pub(crate) fn external_parts(records: &BTreeMap<SnapshotName, Record>) -> Vec<ExternalPart> {
    let mut parts = Vec::new();
    for (snapshot, record) in records {
        for part in record.snapshot.disks.iter().filter(|disk| disk.is_external()) {
            let Some(disk) = part.device.as_deref().and_then(|device| DiskName::new(device).ok()) else {
                continue;
            };
            let meta = record.meta.iter().flat_map(|meta| &meta.disks).find(|meta| meta.disk == disk);
            // Without meta nothing but the overlay's own header tells what it stands on.
            let Some(meta) = meta else { continue };
            parts.push(ExternalPart {
                snapshot: snapshot.clone(),
                files: PartFiles {
                    image: meta.image.clone(),
                    format: meta.format.clone(),
                    overlay: part.file.clone().unwrap_or_default(),
                    overlay_format: image_format(part.format),
                },
                disk,
            });
        }
    }
    parts
}

/// The format of an overlay, as its record has it; overlays are qcow2 unless it says otherwise.
fn image_format(format: xlsnap_types::libxl::DiskFormat) -> ImageFormat {
    use xlsnap_types::libxl::DiskFormat;
    match format {
        DiskFormat::Raw => ImageFormat::Raw,
        DiskFormat::Vhd => ImageFormat::Vpc,
        DiskFormat::Qcow => ImageFormat::Qcow,
        DiskFormat::Qed => ImageFormat::Qed,
        _ => ImageFormat::Qcow2,
    }
}

/// All layers of a domain.
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerTree {
    nodes: Vec<LayerNode>,
    /// Those that are named and are not there, with what names them.
    pub(crate) missing: Vec<(LayerFile, String)>,
}

impl LayerTree {
    /// The layer of this name, or of another name of the same file.
    pub(crate) fn get(&self, file: &str) -> Option<&LayerNode> {
        self.nodes.iter().find(|node| node.layer.file == file)
    }

    fn by_identity(&self, identity: FileIdentity) -> Option<&LayerNode> {
        self.nodes.iter().find(|node| node.layer.identity == identity)
    }

    /// All layers.
    pub(crate) fn nodes(&self) -> &[LayerNode] {
        &self.nodes
    }

    /// The layers whose headers name this one.
    pub(crate) fn children(&self, file: &str) -> impl Iterator<Item = &LayerNode> {
        self.nodes.iter().filter(move |node| match &node.layer.base {
            Below::File { file: base, .. } => self.get(base).is_some_and(|base| base.layer.file == file),
            Below::Nothing | Below::Foreign(_) => false,
        })
    }

    /// The tree without a snapshot inside a layer that is to be deleted.
    pub(crate) fn delete_inside(&mut self, file: &str, snapshot: &SnapshotId) {
        for node in self.nodes.iter_mut().filter(|node| node.layer.file == file) {
            node.layer.snapshots.retain(|found| found.id != snapshot.id || found.name != snapshot.name);
        }
    }

    /// The tree with an overlay that is to be made.
    pub(crate) fn add_overlay(&mut self, overlay: &Overlay) {
        self.nodes.push(LayerNode {
            disk: overlay.disk.clone(),
            layer: Layer {
                file: overlay.file.clone(),
                identity: FileIdentity { device: u64::MAX, inode: u64::MAX - self.nodes.len() as u64 },
                format: overlay.format.clone(),
                virtual_size: overlay.virtual_size,
                bytes: 0,
                stamp: None,
                snapshots: Vec::new(),
                base: Below::File { file: overlay.base.clone(), format: Some(overlay.base_format.clone()) },
                in_use: true,
                encrypted: false,
            },
            owner: Owner::Made,
            guard: Guard::Same,
            noted: false,
        });
    }

    /// The layers from this one down, itself first.
    pub(crate) fn chain(&self, file: &str) -> Vec<&LayerNode> {
        let mut chain: Vec<&LayerNode> = Vec::new();
        let mut at = self.get(file);
        while let Some(node) = at.filter(|_| chain.len() <= self.nodes.len()) {
            chain.push(node);
            at = match &node.layer.base {
                Below::File { file, .. } => self.get(file),
                Below::Nothing | Below::Foreign(_) => None,
            };
        }
        chain
    }
}

#[cfg(test)]
mod tests;
