//! The layers of a domain's disks: the files of the chains that its disks have, and of those that its records and its ledger name.
//!
//! A layer is known by device and inode. Who may write to it and who may remove it the ledger says ([`Owner`]); where that says
//! nothing of a file, because its snapshots were made before there was one, the records and the headers tell.

mod gather;
mod strays;
mod tidy;

pub(crate) use gather::gather;
pub(crate) use strays::{Stray, strays};
pub(crate) use tidy::{Tidied, Tidy, WITHOUT_DATA};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, ImageFormat, Owner, SnapshotName};

use crate::plan::{MadeTop, NewTop};
use crate::record::Part;
use crate::{Below, FileIdentity, Layer, LayerFile, NameSwap, Overlay, SnapshotId};

/// The device of a layer that is to be made.
const NO_DEVICE: u64 = u64::MAX;

/// Whether an overlay without data that was to be made is not what is there, but something that was written to, or follows another base.
pub(crate) fn is_another(found: &Layer, overlay: &Overlay) -> bool {
    found.bytes > WITHOUT_DATA || found.base.file().is_some_and(|base| base != overlay.base)
}

/// A layer, and what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerNode {
    pub(crate) disk: DiskName,
    pub(crate) layer: Layer,
    pub(crate) owner: Owner,
    pub(crate) guard: Guard,
    /// Whether the ledger has it.
    pub(crate) noted: bool,
    /// The name that it had as the disk's image, where a file above it has that name now.
    pub(crate) named: Option<String>,
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
            identity: (self.layer.identity.device != NO_DEVICE).then_some(self.layer.identity),
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

/// An internal part of a snapshot, and the file that it is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InternalPart {
    pub(crate) snapshot: SnapshotName,
    pub(crate) disk: DiskName,
    pub(crate) image: String,
}

/// The internal parts of a record, with meta.
pub(crate) fn internal_parts(snapshot: &SnapshotName, record: &Record) -> Vec<InternalPart> {
    let is_external = |disk: &DiskName| {
        let mut parts = record.snapshot.disks.iter();
        parts.any(|part| part.is_external() && part.device.as_deref() == Some(disk.as_str()))
    };
    let metas = record.meta.iter().flat_map(|meta| &meta.disks);
    let inside = metas.filter(|meta| !is_external(&meta.disk)).map(|meta| InternalPart {
        snapshot: snapshot.clone(),
        disk: meta.disk.clone(),
        image: meta.image.clone(),
    });
    inside.collect()
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

/// Whether a record tells which file holds the state of each of its external disks. One that has only libxl's part names the overlay.
pub(crate) fn tells_needs(record: &Record) -> bool {
    record.snapshot.disks.iter().filter(|disk| disk.is_external()).all(|disk| {
        let device = disk.device.as_deref();
        record.meta.iter().flat_map(|meta| &meta.disks).any(|meta| Some(meta.disk.as_str()) == device)
    })
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
    /// The layer of this name.
    pub(crate) fn get(&self, file: &str) -> Option<&LayerNode> {
        self.nodes.iter().find(|node| node.layer.file == file)
    }

    fn by_identity(&self, identity: FileIdentity) -> Option<&LayerNode> {
        self.nodes.iter().find(|node| node.layer.identity == identity)
    }

    /// The layer that a record names as the image of an internal part, if the part's snapshot is in it.
    pub(crate) fn holder(&self, part: &Part<'_>) -> Option<(&LayerNode, SnapshotId)> {
        let meta = part.meta?;
        let node = self.get(&meta.image)?;
        let mut named = node.layer.snapshots.iter().filter(|snapshot| snapshot.name == part.tag);
        let found = named.find(|snapshot| meta.id.as_ref().is_none_or(|id| *id == snapshot.id))?;
        Some((node, found.as_id()))
    }

    /// Whether the layer is there and holds no snapshot of this name.
    pub(crate) fn lacks(&self, file: &str, tag: &str) -> bool {
        self.get(file).is_some_and(|node| node.layer.snapshots.iter().all(|held| held.name != tag))
    }

    /// The tree after an internal snapshot was deleted.
    pub(crate) fn drop_snapshot(&mut self, file: &str, gone: &SnapshotId) {
        for node in self.nodes.iter_mut().filter(|node| node.layer.file == file) {
            node.layer.snapshots.retain(|held| held.id != gone.id || held.name != gone.name);
        }
    }

    /// All layers.
    pub(crate) fn nodes(&self) -> &[LayerNode] {
        &self.nodes
    }

    /// The layers whose headers name this one.
    pub(crate) fn children(&self, file: &str) -> impl Iterator<Item = &LayerNode> {
        self.nodes.iter().filter(move |node| self.below(node).is_some_and(|base| base.layer.file == file))
    }

    /// The layer that this one stands on.
    pub(crate) fn below(&self, node: &LayerNode) -> Option<&LayerNode> {
        self.get(node.layer.base.file()?)
    }

    /// Whether the image that a record names for an internal part is a layer, and holds the snapshot.
    pub(crate) fn holds(&self, part: &Part<'_>) -> bool {
        self.holder(part).is_some()
    }

    /// The tree with an image that is to be made.
    pub(crate) fn add(&mut self, top: &NewTop) {
        let base = match &top.made {
            MadeTop::Overlay(overlay) => return self.add_overlay(overlay),
            MadeTop::Copy(copy) if copy.whole.is_some() => {
                self.get(&copy.from.file).map_or(Below::Nothing, |node| node.layer.base.clone())
            }
            MadeTop::Copy(_) => Below::Nothing,
        };
        self.add_new(top.file(), top.virtual_size(), base);
    }

    /// The tree with an overlay that is to be made.
    pub(crate) fn add_overlay(&mut self, overlay: &Overlay) {
        let Overlay { disk, file, format, base, base_format, virtual_size, .. } = overlay.clone();
        let base = Below::File { file: base, format: Some(base_format) };
        self.add_new(LayerFile { disk, file, format, identity: None }, virtual_size, base);
    }

    fn add_new(&mut self, file: LayerFile, virtual_size: u64, base: Below) {
        self.nodes.push(LayerNode {
            disk: file.disk,
            layer: Layer {
                file: file.file,
                // No file has it.
                identity: FileIdentity { device: NO_DEVICE, inode: u64::MAX - self.nodes.len() as u64 },
                format: file.format,
                virtual_size,
                bytes: 0,
                stamp: None,
                snapshots: Vec::new(),
                base,
                in_use: true,
                encrypted: false,
            },
            owner: Owner::Made,
            guard: Guard::Same,
            noted: false,
            named: None,
        });
    }

    /// The tree after two files have exchanged their names: what stood on the old one stands on it still.
    pub(crate) fn swap_names(&mut self, names: &NameSwap) {
        let (kept, other) = (names.kept(), names.new.file.as_str());
        for node in &mut self.nodes {
            if let Below::File { file, .. } = &mut node.layer.base
                && file == kept
            {
                other.clone_into(file);
            }
            if node.layer.file == kept {
                other.clone_into(&mut node.layer.file);
                node.named = Some(kept.to_owned());
            } else if node.layer.file == other {
                kept.clone_into(&mut node.layer.file);
                node.named = None;
            }
        }
    }

    /// Whether the disk's image keeps its name when files on top of it come and go.
    pub(crate) fn keeps_name(&self, disk: &DiskName, image: &str) -> bool {
        self.nodes.iter().any(|node| node.disk == *disk && node.named.as_deref() == Some(image))
    }

    /// The tree after a layer was made anew: its file is another one, without data.
    pub(crate) fn make_anew(&mut self, file: &str) {
        let count = self.nodes.len() as u64;
        for (at, node) in self.nodes.iter_mut().enumerate().filter(|(_, node)| node.layer.file == file) {
            // No file has it, nor has it a layer that is to be made.
            let inode = u64::MAX / 2 - count - at as u64;
            node.layer.identity = FileIdentity { device: NO_DEVICE, inode };
            node.layer.bytes = 0;
        }
    }

    /// The layers from this one down, itself first.
    pub(crate) fn chain(&self, file: &str) -> Vec<&LayerNode> {
        let mut chain: Vec<&LayerNode> = Vec::new();
        let mut at = self.get(file);
        while let Some(node) = at.filter(|_| chain.len() <= self.nodes.len()) {
            chain.push(node);
            at = self.below(node);
        }
        chain
    }
}
