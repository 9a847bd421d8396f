//! Planning a deletion.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, Owner, SnapshotName};

use super::{NewParent, NewTop, deletion_stages, refused};
use crate::layers::{ExternalPart, InternalPart, LayerNode, LayerTree, PartFiles, Tidied, Tidy};
use crate::record::{Found, Part, find, parts};
use crate::step::{Does, ImageTarget, LayerNote, Stage};
use crate::{
    Below, Can, DeletePlan, DeleteRequest, DomainRef, Effect, Error, Inventory, Kind, LayerFile, NameSwap,
    Overlay, Run, SnapshotDeletion,
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
    /// The operation's own id.
    pub(crate) id: Uuid,
}

/// What planning is to know of the layers of a domain; of one without external snapshots nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerFacts {
    pub(crate) tree: LayerTree,
    /// The external parts of all records.
    pub(crate) parts: Vec<ExternalPart>,
    /// The internal parts of all records.
    pub(crate) inside: Vec<InternalPart>,
    /// Whether a process has the disks open.
    pub(crate) on: bool,
    /// The disks whose image can be named otherwise.
    pub(crate) renames: BTreeSet<DiskName>,
    /// What the guest does.
    pub(crate) guest: Option<Run>,
    /// Why it cannot be stopped and let run, as a clause.
    pub(crate) no_pause: Option<String>,
    /// The layers that are not written to and not removed, and why, as a clause.
    pub(crate) closed: BTreeMap<String, String>,
    /// The names that something has which is no layer.
    pub(crate) taken: BTreeSet<String>,
}

impl LayerFacts {
    /// What the ledger does not say yet, because its snapshots are older than it.
    pub(crate) fn unnoted(&self, inventory: &Inventory, tops: &[NewTop]) -> Vec<LayerNote> {
        let replaced = |file: &str| tops.iter().any(|top| top.old.file == file);
        let is_top = |file: &str| inventory.disks.iter().any(|disk| disk.image == file) && !replaced(file);
        let unnoted = self.tree.nodes().iter().filter(|node| !node.noted);
        unnoted.map(|node| note(node, !is_top(&node.layer.file))).collect()
    }

    /// The layers below a new overlay: the first becomes read-only, of the others the ledger may know nothing.
    pub(crate) fn below(&self, overlay: &Overlay) -> Vec<LayerNote> {
        let chain = self.tree.chain(&overlay.base).into_iter().enumerate();
        chain.filter(|(depth, node)| *depth == 0 || !node.noted).map(|(_, node)| note(node, true)).collect()
    }

    /// What tidying takes when the records of `gone` are deleted.
    pub(crate) fn tidy(
        &self,
        domain: Uuid,
        inventory: &Inventory,
        gone: &BTreeSet<&SnapshotName>,
        (merges, id): (Merges, Uuid),
    ) -> Tidied {
        let stay = |part: &&ExternalPart| !gone.contains(&part.snapshot);
        Tidy {
            tree: self.tree.clone(),
            parts: self.parts.iter().filter(stay).cloned().collect(),
            inside: self.inside.iter().filter(|part| !gone.contains(&part.snapshot)).cloned().collect(),
            on: self.on,
            renames: self.renames.clone(),
            tops: inventory.disks.iter().map(|disk| (disk.name.clone(), disk.image.clone())).collect(),
            runs: self.guest.is_some_and(Run::runs),
            no_pause: self.no_pause.clone(),
            merges: merges == Merges::Done,
            closed: self.closed.clone(),
            domain,
            id,
        }
        .plan()
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
    last.into_iter().map(|(disk, file)| format!("disk {disk} writes to {file} from then on{start}")).collect()
}

impl LayerFacts {
    /// The same when these internal snapshots are gone.
    fn without(&self, snapshots: &[SnapshotDeletion]) -> Self {
        let mut after = self.clone();
        for target in snapshots.iter().flat_map(|deletion| &deletion.disks) {
            after.tree.drop_snapshot(&target.image, &target.snapshot);
        }
        after
    }

    /// Supposes that an external snapshot was taken of a disk.
    pub(crate) fn suppose(
        &mut self,
        domain: Uuid,
        snapshot: &SnapshotName,
        (overlay, names): (&Overlay, Option<&NameSwap>),
        inventory: &mut Inventory,
    ) {
        self.tree.add_overlay(overlay);
        if let Some(names) = names {
            self.follow_names(domain, names);
            let files = PartFiles {
                image: overlay.file.clone(),
                format: overlay.base_format.clone(),
                overlay: overlay.base.clone(),
                overlay_format: overlay.format.clone(),
            };
            self.parts.push(ExternalPart { snapshot: snapshot.clone(), disk: overlay.disk.clone(), files });
            let made = self.tree.get(&overlay.base).map(|node| node.layer.identity);
            for disk in inventory.disks.iter_mut().filter(|disk| disk.name == overlay.disk) {
                disk.identity = made;
                disk.snapshots.clear();
            }
            return;
        }
        let files = PartFiles {
            image: overlay.base.clone(),
            format: overlay.base_format.clone(),
            overlay: overlay.file.clone(),
            overlay_format: overlay.format.clone(),
        };
        self.parts.push(ExternalPart { snapshot: snapshot.clone(), disk: overlay.disk.clone(), files });
        for disk in inventory.disks.iter_mut().filter(|disk| disk.name == overlay.disk) {
            disk.image.clone_from(&overlay.file);
            disk.format = overlay.format.clone();
        }
    }

    /// Of the files that held the states of `gone`: those that stay because more than one file stands on them, as sentences.
    fn forked(&self, gone: &BTreeSet<&SnapshotName>, tidied: &Tidied) -> Vec<String> {
        let held = |file: &str| {
            self.parts.iter().any(|part| part.files.image == file && !gone.contains(&part.snapshot))
        };
        let goes = |file: &str| {
            tidied.stages.iter().flat_map(Stage::steps).any(|step| match &step.does {
                Does::Unlink(layer) => layer.file == file,
                Does::Merge(merge) => merge.into.file == file,
                _ => false,
            })
        };
        let parts = self.parts.iter().filter(|part| gone.contains(&part.snapshot));
        let files = parts.map(|part| &part.files.image).filter(|file| !held(file) && !goes(file));
        let mut told = Vec::new();
        for file in files.collect::<BTreeSet<_>>() {
            let children: Vec<&str> = self
                .tree
                .children(file)
                .map(|child| child.layer.file.as_str())
                .filter(|child| !goes(child))
                .collect();
            if let (Some(node), 2..) = (self.tree.get(file), children.len())
                && node.owner != Owner::Foreign
            {
                told.push(format!(
                    "{file} (disk {}) stays, because {} stand on it",
                    node.disk,
                    children.join(" and ")
                ));
            }
        }
        told
    }
}

pub(crate) fn note(node: &LayerNode, frozen: bool) -> LayerNote {
    LayerNote {
        file: LayerFile { identity: None, ..node.file() },
        owner: node.owner,
        base: match &node.layer.base {
            Below::File { file, .. } => Some(file.clone()),
            Below::Nothing | Below::Foreign(_) => None,
        },
        frozen,
        named: node.named.clone(),
    }
}

/// Whether layers that no snapshot needs any more are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merges {
    /// They are.
    Done,
    /// They stay.
    Left,
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
    let mut snapshots = Vec::with_capacity(order.len());
    let mut warnings = Vec::new();
    for name in &order {
        let (memory, disks) = match facts.records.get(name) {
            Some(record) if request.metadata_only => {
                warnings.extend(staying(name, record));
                (None, Vec::new())
            }
            Some(record) => (memory(facts, name, record)?, targets(facts, name, record, &mut warnings)?),
            None => (None, Vec::new()),
        };
        let parent = heir(facts.parents, &gone, name);
        snapshots.push(SnapshotDeletion { name: name.clone(), parent, disks, memory });
    }
    let parents = new_parents(facts.parents, &gone);
    let current = facts.current.filter(|current| gone.contains(current));
    let current = current.map(|current| (current, heir(facts.parents, &gone, current)));
    let mut stages = deletion_stages(facts.domain.uuid, &snapshots, &parents, current);
    if !request.metadata_only {
        let merges = if request.no_merge { Merges::Left } else { Merges::Done };
        let layers = facts.layers.without(&snapshots);
        let tidied = layers.tidy(facts.domain.uuid, facts.inventory, &gone, (merges, facts.id));
        warnings.extend(moved(facts, &tidied));
        warnings.extend(facts.layers.forked(&gone, &tidied));
        stages.extend(tidied.stages);
        warnings.extend(tidied.kept);
    }
    Ok(DeletePlan { snapshots, warnings, stages })
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

fn targets(
    facts: &DeleteFacts<'_>,
    name: &SnapshotName,
    record: &Record,
    warnings: &mut Vec<String>,
) -> Result<Vec<ImageTarget>, Error> {
    let domain = &facts.domain.name;
    let metadata = format!("or delete only the record of snapshot {name} (metadata only)");
    let mut targets = Vec::new();
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
            Found::OtherImage(disk) if let Some((holder, _)) = facts.layers.tree.holder(&part) => {
                let file = &holder.layer.file;
                let message = format!(
                    "{about}: the snapshot is inside {file}, and the disk writes to {} now: snapshots inside such a file are not \
                     deleted",
                    disk.image
                );
                return Err(refused(message).with_advice(format!(
                    "delete only its record, and its data stays in {file}: xlsnap delete {domain} {name} --metadata-only"
                )));
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
    Ok(targets)
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
