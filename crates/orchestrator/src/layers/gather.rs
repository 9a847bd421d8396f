//! Looking at all layers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::future::join_all;
use xlsnap_conf_store::Record;
use xlsnap_types::model::{ImageFormat, LayerRecord, Owner, SnapshotName};

use super::{ExternalPart, Guard, LayerNode, LayerTree, external_parts};
use crate::error::from_port;
use crate::{Below, DomainRef, Error, FileIdentity, Inventory, Layer, LayerFile, Layers, Port, Ports};

/// How many layers are looked at side by side.
const AT_ONCE: usize = 8;

/// The most layers of a domain that are looked at; a chain of more opens in no QEMU.
const MOST: usize = 4_096;

/// Looks at the layers of a domain: its disks' chains, and all that its records and its ledger name.
///
/// # Errors
/// A file that is there and cannot be looked at.
///
/// # Cancel safety
/// It only looks.
pub(crate) async fn gather(
    ports: &Ports<'_>,
    domain: &DomainRef,
    inventory: &Inventory,
    records: &BTreeMap<SnapshotName, Record>,
    ledger: &[LayerRecord],
) -> Result<LayerTree, Error> {
    let parts = external_parts(records);
    let Port::Has(layers) = ports.layers else { return Ok(LayerTree::default()) };
    let mut waiting: VecDeque<(LayerFile, String)> = named(inventory, &parts, ledger).into();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let mut tree = LayerTree::default();
    while !waiting.is_empty() {
        let mut batch = Vec::new();
        while let Some((file, by)) = waiting.pop_front().filter(|_| batch.len() < AT_ONCE) {
            if asked.len() < MOST && asked.insert(file.file.clone()) {
                batch.push((file, by));
            }
            if batch.len() == AT_ONCE {
                break;
            }
        }
        let looks = batch.iter().map(|(file, _)| look(layers, domain, file));
        for (found, (file, by)) in join_all(looks).await.into_iter().zip(&batch) {
            let Some(layer) = found? else {
                tree.missing.push((file.clone(), by.clone()));
                continue;
            };
            if tree.by_identity(layer.identity).is_some() {
                continue;
            }
            if let Below::File { file: base, format } = &layer.base {
                let format = format.clone().unwrap_or(ImageFormat::Raw);
                let below = LayerFile { disk: file.disk.clone(), file: base.clone(), format, identity: None };
                waiting.push_back((below, format!("the header of {}", layer.file)));
            }
            tree.nodes.push(node(file, layer, inventory, &parts, ledger));
        }
    }
    Ok(tree)
}

async fn look(layers: &dyn Layers, domain: &DomainRef, file: &LayerFile) -> Result<Option<Layer>, Error> {
    layers.look(file).await.map_err(|e| {
        let what = format!(
            "the layer {} of disk {} of domain {} cannot be looked at",
            file.file, file.disk, domain.name
        );
        from_port(e, what)
    })
}

/// What is named by the disks, the ledger and the records, with what names it.
fn named(inventory: &Inventory, parts: &[ExternalPart], ledger: &[LayerRecord]) -> Vec<(LayerFile, String)> {
    let mut files = Vec::new();
    let mut add = |disk: &_, file: &str, format: &ImageFormat, by: String| {
        let (disk, format) = (Clone::clone(disk), format.clone());
        files.push((LayerFile { disk, file: file.to_owned(), format, identity: None }, by));
    };
    for disk in inventory.disks.iter().filter(|disk| !disk.image.is_empty() && !disk.removable) {
        add(&disk.name, &disk.image, &disk.format, format!("disk {}", disk.name));
    }
    for part in parts {
        let by = format!("the record of snapshot {}", part.snapshot);
        add(&part.disk, &part.files.image, &part.files.format, by.clone());
        if !part.files.overlay.is_empty() {
            add(&part.disk, &part.files.overlay, &part.files.overlay_format, by);
        }
    }
    for entry in ledger {
        add(&entry.disk, &entry.file, &entry.format, "the ledger".to_owned());
    }
    files
}

/// A layer with what the ledger says of it. What the ledger does not know, because its snapshots are older: the overlay that a
/// record names was made for it; the disk's image, and what holds the state of a snapshot, is the domain's; all else is foreign.
fn node(
    file: &LayerFile,
    layer: Layer,
    inventory: &Inventory,
    parts: &[ExternalPart],
    ledger: &[LayerRecord],
) -> LayerNode {
    let is = |name: &str| layer.file == name;
    let entry = ledger.iter().find(|entry| is(&entry.file));
    let (owner, guard) = match entry {
        // One of the same length and time was moved, or restored from a backup.
        Some(entry)
            if !FileIdentity { device: entry.device, inode: entry.inode }.is_still(layer.identity)
                && (entry.stamp.is_none() || entry.stamp != layer.stamp) =>
        {
            (Owner::Foreign, Guard::Replaced)
        }
        Some(entry) => {
            let written = entry.stamp.is_some_and(|stamp| layer.stamp.is_some_and(|now| now != stamp));
            (entry.owner, if written { Guard::Written } else { Guard::Same })
        }
        None if parts.iter().any(|part| is(&part.files.overlay)) => (Owner::Made, Guard::Same),
        None if inventory.disks.iter().any(|disk| is(&disk.image))
            || parts.iter().any(|part| is(&part.files.image)) =>
        {
            (Owner::Domain, Guard::Same)
        }
        None => (Owner::Foreign, Guard::Same),
    };
    let named = entry.filter(|_| guard != Guard::Replaced).and_then(|entry| entry.named.clone());
    LayerNode { disk: file.disk.clone(), layer, owner, guard, noted: entry.is_some(), named }
}
