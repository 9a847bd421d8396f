//! Planning a deletion.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_types::model::SnapshotName;

use super::{InLayers, LayerFacts, Merges, NewParent, Tidying, deletion_stages, refused};
use crate::layers::{LayerNode, Tidied};
use crate::record::{Found, Part, find, parts};
use crate::step::{Does, ImageTarget, Stage};
use crate::{
    Can, DeletePlan, DeleteRequest, DomainRef, Effect, Error, Inventory, Kind, LayerSnapshot,
    SnapshotDeletion, SnapshotId,
};

/// What planning a deletion is to know.
#[derive(Debug)]
pub(crate) struct DeleteFacts<'a> {
    pub(crate) domain: &'a DomainRef,
    pub(crate) inventory: &'a Inventory,
    pub(crate) parents: &'a Parents,
    /// The records of the snapshots that [`order`] names; one that cannot be read is not here.
    pub(crate) records: &'a BTreeMap<SnapshotName, Record>,
    pub(crate) current: Option<&'a SnapshotName>,
    pub(crate) layers: &'a LayerFacts,
    /// Whether the domain can be started by what carries the plan out.
    pub(crate) restart: &'a Can,
    /// Whether the process that has the disks can let go of them and take them back.
    pub(crate) release: &'a Can,
    /// The operation's own id.
    pub(crate) id: Uuid,
}

impl DeleteFacts<'_> {
    fn in_layers(&self) -> InLayers<'_> {
        let Self { domain, inventory, layers, release, .. } = self;
        InLayers { domain, inventory, layers, release }
    }
}

/// Which image a disk writes to after its layers were merged, as sentences.
fn moved(facts: &DeleteFacts<'_>, tidied: &Tidied) -> Vec<String> {
    let mut last = BTreeMap::new();
    for step in tidied.stages.iter().flat_map(Stage::steps) {
        if let Does::Adopt(adoption) = &step.does {
            last.insert(&adoption.disk, &adoption.file);
        }
    }
    // The name is as it was.
    last.retain(|disk, file| facts.inventory.disk(disk).is_none_or(|disk| disk.image != **file));
    let start = match facts.restart {
        Can::Yes => String::new(),
        Can::No(_) => format!("; what starts domain {} has to name it", facts.domain.name),
    };
    let mut told: Vec<String> = last
        .into_iter()
        .map(|(disk, file)| format!("disk {disk} writes to {file} from then on{start}"))
        .collect();
    for step in tidied.stages.iter().flat_map(Stage::steps) {
        let Does::Rename { file, over } = &step.does else { continue };
        if facts.layers.lent.contains(&file.file) {
            told.push(format!("{} has the name {} from then on, and its own no more", file.file, over.file));
        }
    }
    told
}

/// The parent of every snapshot whose record can be read.
pub(crate) type Parents = BTreeMap<SnapshotName, Option<SnapshotName>>;

/// The snapshots that a request means, in the order of deletion: every snapshot comes after its children.
pub(crate) fn order(parents: &Parents, request: &DeleteRequest) -> Vec<SnapshotName> {
    let mut children: BTreeMap<&SnapshotName, Vec<&SnapshotName>> = BTreeMap::new();
    for (name, parent) in parents {
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(name);
        }
    }
    // A circle of parents, which only a damaged store has, ends where it began.
    let mut met = BTreeSet::from([&request.name]);
    let mut order = vec![&request.name];
    let mut next = 0;
    while let Some(&name) = order.get(next).filter(|_| request.children) {
        let below = children.get(name).into_iter().flatten();
        order.extend(below.filter(|child| met.insert(child)));
        next += 1;
    }
    order.into_iter().rev().cloned().collect()
}

/// Plans a deletion.
pub(crate) fn delete(facts: &DeleteFacts<'_>, request: &DeleteRequest) -> Result<DeletePlan, Error> {
    let order = order(facts.parents, request);
    let gone: BTreeSet<&SnapshotName> = order.iter().collect();
    let Deletions { snapshots, mut warnings, mut stages } = deletions(facts, &order, request.metadata_only)?;
    if !request.metadata_only {
        let merges = if request.no_merge { Merges::Left } else { Merges::Done };
        let layers = facts.layers.without(&snapshots);
        let tidying =
            Tidying { gone: &gone, merges, flat: &BTreeSet::new(), id: facts.id, rate: request.rate };
        let tidied = layers.tidy(facts.domain, facts.inventory, &tidying);
        warnings.extend(forked_and_moved(facts, &gone, &tidied));
        stages.extend(tidied.stages);
        facts.layers.refuse_unused(facts.domain, &stages, &tidied.why_not)?;
        warnings.extend(tidied.kept);
    }
    Ok(DeletePlan { snapshots, warnings, stages })
}

/// What the disks write to after their layers were tidied, and which layers stay because several stand on them, as sentences.
pub(super) fn forked_and_moved(
    facts: &DeleteFacts<'_>,
    gone: &BTreeSet<&SnapshotName>,
    tidied: &Tidied,
) -> Vec<String> {
    let mut told = moved(facts, tidied);
    told.extend(facts.layers.forked(gone, tidied));
    told
}

/// The deletion of snapshots, without what becomes of their layers.
pub(super) struct Deletions {
    /// What goes.
    pub(super) snapshots: Vec<SnapshotDeletion>,
    /// What is odd about it, as sentences.
    pub(super) warnings: Vec<String>,
    pub(super) stages: Vec<Stage>,
}

/// The deletion of snapshots, in this order.
pub(super) fn deletions(
    facts: &DeleteFacts<'_>,
    order: &[SnapshotName],
    metadata_only: bool,
) -> Result<Deletions, Error> {
    let gone: BTreeSet<&SnapshotName> = order.iter().collect();
    let mut snapshots = Vec::with_capacity(order.len());
    let mut warnings = Vec::new();
    for name in order {
        let mut deletion = SnapshotDeletion {
            name: name.clone(),
            parent: heir(facts.parents, &gone, name),
            disks: Vec::new(),
            layers: Vec::new(),
            memory: None,
        };
        match facts.records.get(name) {
            Some(record) if metadata_only => warnings.extend(staying(name, record)),
            Some(record) => {
                deletion.memory = memory(facts, name, record)?;
                targets(facts, record, &mut deletion, &mut warnings)?;
            }
            None => {}
        }
        snapshots.push(deletion);
    }
    let parents = new_parents(facts.parents, &gone);
    let current = facts.current.filter(|current| gone.contains(current));
    let current = current.map(|current| (current, heir(facts.parents, &gone, current)));
    let inside = snapshots.iter().flat_map(|deletion| &deletion.layers).cloned();
    let mut stages = facts.in_layers().stages(inside, &mut warnings);
    stages.extend(deletion_stages(facts.domain.uuid, &snapshots, &parents, current));
    Ok(Deletions { snapshots, warnings, stages })
}

/// The snapshots that stay and whose parent goes.
pub(crate) fn new_parents(parents: &Parents, gone: &BTreeSet<&SnapshotName>) -> Vec<NewParent> {
    let moved = parents.iter().filter_map(|(child, parent)| {
        let old = parent.as_ref().filter(|parent| gone.contains(parent) && !gone.contains(child))?;
        Some(NewParent { child: child.clone(), old: old.clone(), new: heir(parents, gone, old) })
    });
    moved.collect()
}

/// What stays when only the record goes.
fn staying(name: &SnapshotName, record: &Record) -> Option<String> {
    let places: Vec<String> = record
        .snapshot
        .disks
        .iter()
        .map(|disk| {
            let device = disk.device.as_deref().unwrap_or("(unnamed)");
            match disk.file.as_deref().filter(|file| !file.is_empty()) {
                Some(file) => format!("{file} (disk {device})"),
                None => format!("a snapshot inside the image of disk {device}"),
            }
        })
        .chain(
            record
                .snapshot
                .memory
                .clone()
                .filter(|file| !file.is_empty())
                .map(|file| format!("{file} (memory)")),
        )
        .collect();
    (!places.is_empty())
        .then(|| format!("the data of snapshot {name} stays, unknown to any record: {}", places.join(", ")))
}

/// The nearest ancestor that stays.
pub(crate) fn heir(
    parents: &Parents,
    gone: &BTreeSet<&SnapshotName>,
    name: &SnapshotName,
) -> Option<SnapshotName> {
    let up = |name: &&SnapshotName| parents.get(*name).and_then(Option::as_ref);
    let ancestors = std::iter::successors(up(&name), up);
    // No way up is longer than there are snapshots, but in a circle.
    ancestors.take(parents.len()).find(|ancestor| !gone.contains(*ancestor)).cloned()
}

/// The memory file that goes with it: one that we made, as both parts of the record say.
fn memory(facts: &DeleteFacts<'_>, name: &SnapshotName, record: &Record) -> Result<Option<String>, Error> {
    let ours = record.meta.as_ref().and_then(|meta| meta.memory.as_ref()?.file());
    match record.snapshot.memory.as_deref().filter(|file| !file.is_empty()) {
        None => Ok(None),
        Some(file) if Some(file) == ours => Ok(Some(file.to_owned())),
        Some(file) => {
            let message = format!(
                "snapshot {name} of domain {} holds the guest's memory in a file that is not ours ({file})",
                facts.domain.name
            );
            Err(refused(message).with_advice(format!(
                "delete it with the program that made it, or delete only the record of snapshot {name} (metadata only)"
            )))
        }
    }
}

/// A snapshot inside a layer that its disk does not write to, if it can be deleted there.
fn in_layer(
    facts: &DeleteFacts<'_>,
    about: &str,
    name: &SnapshotName,
    holder: (&LayerNode, SnapshotId),
) -> Result<LayerSnapshot, Error> {
    let (domain, file) = (&facts.domain.name, &holder.0.layer.file);
    let or_else = format!(
        "or delete only its record, and its data stays in {file}: xlsnap delete {domain} {name} --metadata-only"
    );
    facts.in_layers().target(about, &or_else, holder)
}

/// Where the parts of a snapshot are deleted.
fn targets(
    facts: &DeleteFacts<'_>,
    record: &Record,
    deletion: &mut SnapshotDeletion,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let SnapshotDeletion { name, disks: targets, layers, .. } = deletion;
    let name = &*name;
    let domain = &facts.domain.name;
    let metadata = format!("or delete only the record of snapshot {name} (metadata only)");
    for part in parts(facts.domain, name, record)? {
        let about = format!("snapshot {name} of domain {domain}: disk {}", part.disk);
        if part.overlay.is_some() {
            // What becomes of its layers is judged for the whole tree.
            warnings.extend(without_layers(facts, &about, &part));
            continue;
        }
        match find(&part, facts.inventory) {
            // Its id tells which one is meant, but qemu-img deletes by name only, and would fail half-way.
            Found::Here(disk, _) if disk.named(part.tag).count() > 1 => {
                let message = format!("{about}: {} holds more than one snapshot {}", disk.image, part.tag);
                let advice = format!("delete the other one from the image by its id, {metadata}");
                return Err(refused(message).with_advice(advice));
            }
            Found::Here(disk, snapshot) => targets.push(ImageTarget::on(disk, snapshot, None)),
            Found::Missing(disk) => warnings
                .push(format!("{} (disk {}) held no snapshot {} any more", disk.image, part.disk, part.tag)),
            Found::NoDisk => {
                let message = format!("{about} is no longer a disk of the domain");
                return Err(
                    refused(message).with_advice(format!("give the domain its disk back, {metadata}"))
                );
            }
            Found::OtherImage(_) if let Some(holder) = facts.layers.tree.holder(&part) => {
                layers.push(in_layer(facts, &about, name, holder)?);
            }
            // The layer is there, and the snapshot is gone from it.
            Found::OtherImage(disk)
                if let Some(meta) =
                    part.meta.filter(|meta| facts.layers.tree.lacks(&meta.image, part.tag)) =>
            {
                warnings.push(format!(
                    "{} (disk {}) held no snapshot {} any more",
                    meta.image, disk.name, part.tag
                ));
            }
            Found::OtherImage(disk) => {
                let message =
                    format!("{about}: its image is {} now, which does not hold the snapshot", disk.image);
                let advice = format!("give the domain its earlier image back, {metadata}");
                return Err(refused(message).with_advice(advice));
            }
            Found::OtherId(disk, _) => {
                let message = format!(
                    "{about}: the snapshot {} in {} is not the recorded one: its id differs",
                    part.tag, disk.image
                );
                return Err(refused(message).with_advice(format!("see what check says, {metadata}")));
            }
            Found::Ambiguous(disk) => {
                let message = format!("{about}: {} holds more than one snapshot {}", disk.image, part.tag);
                let advice = format!("delete the wrong one from the image by its id, {metadata}");
                return Err(refused(message).with_advice(advice));
            }
        }
    }
    Ok(())
}

/// Of an external part whose layers nothing is known of: that they stay.
fn without_layers(facts: &DeleteFacts<'_>, about: &str, part: &Part<'_>) -> Option<String> {
    let overlay = part.overlay.unwrap_or_default();
    let Some(meta) = part.meta else {
        return Some(format!(
            "{about}: another program made it, and its files stay: {overlay} and what is below it"
        ));
    };
    let known = facts.layers.tree.get(&meta.image).is_some();
    (!known).then(|| format!("{about}: {} is not there, and {overlay} stays as it is", meta.image))
}

/// There is no such snapshot.
pub(crate) fn no_such(domain: &DomainRef, name: &SnapshotName) -> Error {
    Error::new(Kind::NotFound, Effect::None, format!("domain {} has no snapshot {name}", domain.name))
        .with_advice("list shows the domain's snapshots")
}
