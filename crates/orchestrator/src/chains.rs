//! The chains of a domain's disks, for people: which file holds which state, and what it takes.

use std::collections::BTreeSet;

use serde::Serialize;
use xlsnap_types::model::{DiskName, ImageFormat, Owner, SnapshotName};

use crate::layers::{Guard, LayerNode};
use crate::operation::{inventory, layers_of_tops};
use crate::plan::LayerFacts;
use crate::step::UndoPoint;
use crate::{Below, DomainRef, Error, Inventory, LayerFile, Ports};

/// A file of a disk's chains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainFile {
    /// The disk.
    pub disk: DiskName,
    /// The file.
    pub file: String,
    /// Its format.
    pub format: ImageFormat,
    /// What its header has below it.
    pub base: Option<String>,
    /// How many files of the domain's are below it.
    pub depth: usize,
    /// What it takes on its disk, in bytes; 0 of one that is not there.
    pub bytes: u64,
    /// The size that it has for a guest, in bytes; 0 of one that is not there.
    pub virtual_size: u64,
    /// Who may write to it and remove it; `None` of one that is not there.
    pub owner: Option<Owner>,
    /// Whether the disk writes to it.
    pub top: bool,
    /// The external snapshots whose state it holds.
    pub states: Vec<SnapshotName>,
    /// The snapshots inside it.
    pub inside: Vec<String>,
    /// What is wrong with it.
    pub problem: Option<ChainProblem>,
}

/// What is wrong with a file of a chain; [`crate::plan_check`] says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ChainProblem {
    /// It is not there.
    Missing,
    /// It was written to, although something stands on it.
    Written,
    /// Another file has its name.
    Replaced,
    /// No disk, record or ledger names it.
    Unrecorded,
}

/// The files of all chains: each after the one that it stands on, those of one disk together.
///
/// # Errors
/// When the disks, the store or a file that is there cannot be looked at.
///
/// # Cancel safety
/// It only looks, and takes no lock.
pub async fn chains(ports: &Ports<'_>, domain: &DomainRef) -> Result<Vec<ChainFile>, Error> {
    let inventory = inventory(ports, domain).await?;
    let facts = layers_of_tops(ports, domain, &inventory).await?;
    Ok(rows(&inventory, &facts))
}

fn rows(inventory: &Inventory, facts: &LayerFacts) -> Vec<ChainFile> {
    let tree = &facts.tree;
    let mut names: Vec<&DiskName> = inventory.disks.iter().map(|disk| &disk.name).collect();
    let others: BTreeSet<&DiskName> = tree.nodes().iter().map(|node| &node.disk).collect();
    names.extend(others.iter().filter(|name| inventory.disk(name).is_none()));
    let mut rows = Vec::new();
    for disk in names {
        let missing = tree.missing.iter().map(|(layer, _)| layer).filter(|layer| layer.disk == *disk);
        rows.extend(missing.map(|layer| ChainFile {
            states: states(facts, &layer.file),
            problem: Some(ChainProblem::Missing),
            ..ChainFile::bare(layer)
        }));
        let is_root = |node: &&LayerNode| tree.below(node).is_none();
        let roots = tree.nodes().iter().filter(|node| node.disk == *disk).filter(is_root);
        let mut waiting: Vec<(&LayerNode, usize)> = roots.map(|node| (node, 0)).collect();
        waiting.reverse();
        let mut met = BTreeSet::new();
        while let Some((node, depth)) = waiting.pop() {
            // Only damaged headers name a file twice.
            if !met.insert(&node.layer.file) {
                continue;
            }
            rows.push(row(inventory, facts, node, depth));
            let mut above: Vec<_> = tree.children(&node.layer.file).map(|child| (child, depth + 1)).collect();
            above.reverse();
            waiting.extend(above);
            rows.extend(facts.strays.iter().filter(|stray| stray.base == node.layer.file).map(|stray| {
                ChainFile {
                    base: Some(stray.base.clone()),
                    depth: depth + 1,
                    virtual_size: node.layer.virtual_size,
                    owner: Some(Owner::Foreign),
                    problem: Some(ChainProblem::Unrecorded),
                    ..ChainFile::bare(&stray.layer())
                }
            }));
        }
    }
    rows
}

fn row(inventory: &Inventory, facts: &LayerFacts, node: &LayerNode, depth: usize) -> ChainFile {
    let layer = &node.layer;
    let base = match &layer.base {
        Below::Nothing => None,
        Below::File { file, .. } => Some(file.clone()),
        Below::Foreign(name) => Some(name.clone()),
    };
    let inside = layer.snapshots.iter().map(|snapshot| snapshot.name.clone());
    ChainFile {
        base,
        depth,
        bytes: layer.bytes,
        virtual_size: layer.virtual_size,
        owner: Some(node.owner),
        top: inventory.disks.iter().any(|disk| disk.image == layer.file),
        states: states(facts, &layer.file),
        inside: inside.filter(|name| !UndoPoint::is_one(name)).collect(),
        problem: match node.guard {
            Guard::Same => None,
            Guard::Written => Some(ChainProblem::Written),
            Guard::Replaced => Some(ChainProblem::Replaced),
        },
        ..ChainFile::bare(&node.file())
    }
}

impl ChainFile {
    /// A file of which nothing else is known.
    fn bare(layer: &LayerFile) -> Self {
        Self {
            disk: layer.disk.clone(),
            file: layer.file.clone(),
            format: layer.format.clone(),
            base: None,
            depth: 0,
            bytes: 0,
            virtual_size: 0,
            owner: None,
            top: false,
            states: Vec::new(),
            inside: Vec::new(),
            problem: None,
        }
    }
}

fn states(facts: &LayerFacts, file: &str) -> Vec<SnapshotName> {
    let held = facts.parts.iter().filter(|part| part.files.image == file);
    held.map(|part| part.snapshot.clone()).collect()
}
