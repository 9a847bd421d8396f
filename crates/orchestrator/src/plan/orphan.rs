//! Planning what becomes of an orphan: a record, or its deletion.

use std::collections::BTreeSet;

use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_types::model::{
    Consistency, DiskMeta, DiskName, Hypervisor, MemoryMeta, Meta, PassedOver, SavedIn, SnapshotName,
    StateFlags,
};

use super::{InLayers, LayerFacts, adopting_stages, orphan_stages, refused};
use crate::journal::Draft;
use crate::layers::Stray;
use crate::orphan::{Held, Named, deleting, orphans, word};
use crate::record::SAME_TIME;
use crate::step::{ImageTarget, UndoPoint};
use crate::{
    AdoptPlan, AdoptRequest, Can, Disk, DomainRef, Effect, Error, FoundMemory, Inventory, Kind, LayerFile,
    LayerSnapshot, OrphanDeletion, OrphanRequest, SnapshotAction,
};

/// What planning is to know.
#[derive(Debug)]
pub(crate) struct OrphanFacts<'a> {
    pub(crate) domain: &'a DomainRef,
    pub(crate) inventory: &'a Inventory,
    pub(crate) layers: &'a LayerFacts,
    pub(crate) named: &'a Named,
}

impl<'a> OrphanFacts<'a> {
    /// The orphans of this name, of all disks or of `only` these.
    fn holders(&self, tag: &str, only: &BTreeSet<DiskName>) -> Result<Vec<Held<'a>>, Error> {
        let domain = &self.domain.name;
        if let Some(disk) = only.iter().find(|disk| self.inventory.disk(disk).is_none()) {
            let known: Vec<&str> = self.inventory.disks.iter().map(|d| d.name.as_str()).collect();
            return Err(refused(format!("domain {domain} has no disk {disk}"))
                .with_advice(format!("its disks are: {}", known.join(", "))));
        }
        if UndoPoint::is_one(tag) {
            let message = format!("{tag} is the mark of a revert, and no snapshot of a user's");
            return Err(refused(message).with_advice(
                "one of a revert that has ended is removed by a repair: xlsnap check --repair",
            ));
        }
        let mut holders = orphans(self.inventory, &self.layers.tree, self.named);
        holders.retain(|held| held.snapshot.name == tag && (only.is_empty() || only.contains(held.disk)));
        // qemu-img and QEMU delete and apply by name.
        let mut met = BTreeSet::new();
        if let Some(twice) = holders.iter().find(|held| !met.insert(held.image)) {
            let message = format!(
                "{} (disk {} of domain {domain}) holds more than one snapshot {tag}",
                twice.image, twice.disk
            );
            return Err(refused(message).with_advice(format!(
                "shut the domain down and delete the wrong one from the image by its id: qemu-img snapshot -d ID {}",
                twice.image
            )));
        }
        if holders.is_empty() {
            let message = format!("no image of domain {domain} holds a snapshot {tag} that no record names");
            return Err(Error::new(Kind::NotFound, Effect::None, message)
                .with_advice(format!("to see what no record names: xlsnap check {}", word(domain))));
        }
        Ok(holders)
    }

    fn is_read_only(&self, held: &Held<'_>) -> bool {
        self.inventory.disk(held.disk).is_some_and(|disk| disk.read_only)
    }

    /// Of several of one disk that in the uppermost image alone, which has the latest state; a sentence of each other one.
    fn uppermost(&self, holders: &mut Vec<Held<'a>>) -> Vec<String> {
        let depth = |held: &Held<'_>| {
            let top = self.inventory.disk(held.disk).map(|disk| self.layers.tree.chain(&disk.image));
            let mut below = top.into_iter().flatten();
            below.position(|node| node.layer.file == held.image).unwrap_or(usize::MAX)
        };
        // What the disk does not read comes last.
        holders.sort_by_key(|held| (held.layer.is_some(), depth(held)));
        let mut met = BTreeSet::new();
        let (kept, others): (Vec<_>, Vec<_>) =
            std::mem::take(holders).into_iter().partition(|held| met.insert(held.disk));
        *holders = kept;
        holders.sort_by_key(|held| held.disk);
        let stays = |held: Held<'_>| {
            format!(
                "{} (disk {}) holds a snapshot {} too, which stays without a record",
                held.image, held.disk, held.snapshot.name
            )
        };
        others.into_iter().map(stays).collect()
    }
}

/// Plans the record of an orphan. `memory` is the memory file of its name that no record names, if there is one.
pub(crate) fn adopt(
    facts: &OrphanFacts<'_>,
    request: &AdoptRequest,
    memory: Option<FoundMemory>,
    id: Uuid,
) -> Result<AdoptPlan, Error> {
    let (domain, name) = (&facts.domain.name, &request.name);
    if facts.named.has_record(name.as_str()) {
        return Err(refused(format!("domain {domain} has a record of a snapshot {name} already"))
            .with_advice(format!(
                "to see it: xlsnap show {0} {1}; to see what no record names: xlsnap check {0}",
                word(domain),
                word(name.as_str())
            )));
    }
    let mut holders = facts.holders(name.as_str(), &request.disks)?;
    holders.retain(|held| !facts.is_read_only(held));
    let mut warnings = facts.uppermost(&mut holders);
    same_shape(facts, name, &holders)?;
    let passed_over = passed_over(facts, request, &holders);
    let date = holders.iter().map(|held| held.snapshot.date).min().unwrap_or_default();
    let machine = memory.as_ref().and_then(|found| found.header.machine.clone());
    let memory = of_memory(facts, name, &holders, memory, &mut warnings);
    let hypervisor =
        Hypervisor { machine: machine.filter(|_| file_of(&memory).is_some()), ..Hypervisor::default() };
    warnings.push(if memory.is_some() {
        format!(
            "whether the guest ran when {name} was taken is not known: the record says that it ran (revert --paused leaves it paused)"
        )
    } else {
        format!(
            "what the guest did when {name} was taken is not known: the record says that it was off, and that its disks are as after a power cut"
        )
    });
    let disks = holders.iter().map(|held| DiskMeta {
        disk: held.disk.clone(),
        image: held.image.to_owned(),
        format: held.format.clone(),
        id: Some(held.snapshot.id.clone()),
        virtual_size: held.virtual_size,
        made: None,
    });
    let consistency = if memory.is_some() { Consistency::Memory } else { Consistency::Crash };
    let draft = Draft {
        name: name.clone(),
        description: String::new(),
        creation_time: date,
        state: StateFlags { running: memory.is_some(), ..StateFlags::default() },
        actions: holders.iter().map(|held| internal(held, name)).collect(),
        memory: None,
        quiesced: None,
        meta: Meta {
            operation: Some(id),
            disks: disks.collect(),
            passed_over: passed_over.clone(),
            hypervisor,
            memory,
            ..Meta::new(consistency)
        },
    };
    let record: Record = draft.record(None, None);
    let stages = adopting_stages(facts.domain.uuid, draft);
    Ok(AdoptPlan { name: name.clone(), record, passed_over, warnings, stages })
}

fn internal(held: &Held<'_>, name: &SnapshotName) -> SnapshotAction {
    let (disk, image) = (held.disk.clone(), held.image.to_owned());
    SnapshotAction::Internal { disk, image, tag: name.to_string() }
}

fn file_of(memory: &Option<MemoryMeta>) -> Option<&str> {
    memory.as_ref().and_then(MemoryMeta::file)
}

/// Refuses what is not one snapshot of several disks, but several of one name.
fn same_shape(facts: &OrphanFacts<'_>, name: &SnapshotName, holders: &[Held<'_>]) -> Result<(), Error> {
    let domain = &facts.domain.name;
    let about = format!("the snapshots {name} in the images of domain {domain}");
    let part = |held: &Held<'_>| format!("disk {} (id {})", held.disk, held.snapshot.id);
    let advice = |held: &Held<'_>| {
        format!(
            "adopt them of single disks (--disk DISK, which may be repeated), or delete the one that is not wanted: {} --disk {}",
            deleting(facts.domain, name.as_str()),
            held.disk
        )
    };
    let Some(first) = holders.iter().min_by_key(|held| held.snapshot.date) else {
        return Err(refused(format!("{about} are in images of disks that are read-only now"))
            .with_advice("make the disks writable first"));
    };
    let apart = |held: &Held<'_>| held.snapshot.date.abs_diff(first.snapshot.date);
    if let Some(last) = holders.iter().find(|held| apart(held) > SAME_TIME) {
        let seconds = apart(last);
        let message = format!(
            "{about} are not of one time: that of {} is {seconds} s older than that of {}",
            part(first),
            part(last)
        );
        return Err(refused(message).with_advice(advice(first)));
    }
    let with_memory: Vec<&Held<'_>> = holders.iter().filter(|held| held.snapshot.vm_state_size > 0).collect();
    if let [one, other, ..] = with_memory[..] {
        let message = format!("{about} are of two machines' states: {} and {}", part(one), part(other));
        return Err(refused(message).with_advice(advice(other)));
    }
    let id_of = |disk: &&Disk| {
        disk.snapshots.iter().any(|other| other.id == name.as_str() && other.name != name.as_str())
    };
    if let Some(disk) = facts.inventory.disks.iter().find(id_of) {
        let message = format!(
            "the name {name} is the id of another snapshot in {} (disk {} of domain {domain}): tools would take one for the other",
            disk.image, disk.name
        );
        return Err(refused(message).with_advice("delete that other snapshot from the image first"));
    }
    Ok(())
}

/// The writable disks that are not in the record, and why.
fn passed_over(facts: &OrphanFacts<'_>, request: &AdoptRequest, holders: &[Held<'_>]) -> Vec<PassedOver> {
    let others =
        facts.inventory.disks.iter().filter(|disk| !holders.iter().any(|held| *held.disk == disk.name));
    let why = |disk: &Disk| {
        if disk.read_only {
            "it is read-only".to_owned()
        } else if !request.disks.is_empty() && !request.disks.contains(&disk.name) {
            "it was not asked for".to_owned()
        } else {
            format!("{} holds no snapshot {}", disk.image, request.name)
        }
    };
    others.map(|disk| PassedOver { disk: disk.name.clone(), why: why(disk) }).collect()
}

/// The memory that belongs to the disks: inside an image, or in the file of that name.
fn of_memory(
    facts: &OrphanFacts<'_>,
    name: &SnapshotName,
    holders: &[Held<'_>],
    found: Option<FoundMemory>,
    warnings: &mut Vec<String>,
) -> Option<MemoryMeta> {
    let file = found.as_ref().and_then(|found| found.memory.file()).unwrap_or_default().to_owned();
    let stays = |why: &str| {
        format!(
            "the memory file {file} stays without a record: {why}; to delete it: {}",
            deleting(facts.domain, &file)
        )
    };
    if let Some(inside) = holders.iter().map(|held| held.snapshot).find(|inside| inside.vm_state_size > 0) {
        warnings.extend(found.map(|_| stays("the machine's state is inside an image")));
        return Some(MemoryMeta { place: SavedIn::Inside, bytes: inside.vm_state_size });
    }
    let found = found?;
    let taken = holders.iter().map(|held| held.snapshot.date).min().unwrap_or_default();
    // A memory is finished after its disks were taken, or shortly before.
    if found.written.saturating_add(SAME_TIME) < taken {
        warnings
            .push(stays("it is older than the snapshot of the disks, so that they are not of one instant"));
        return None;
    }
    warnings.push(format!(
        "only its name tells that the memory in {file} is of the same instant as the disks; if it is not: revert --without-memory {name}"
    ));
    Some(found.memory)
}

/// Plans the deletion of an orphan inside images. `release` is whether the process that has the disks can let go of them.
pub(crate) fn delete_orphan(
    facts: &OrphanFacts<'_>,
    request: &OrphanRequest,
    release: &Can,
) -> Result<OrphanDeletion, Error> {
    let OrphanFacts { domain, inventory, layers, .. } = facts;
    let holders = facts.holders(&request.orphan, &request.disks)?;
    let in_layers = InLayers { domain, inventory, layers, release };
    let (mut disks, mut targets, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for held in holders {
        let about = format!("snapshot {} of domain {}: disk {}", request.orphan, domain.name, held.disk);
        let id = held.snapshot.as_id();
        match (held.layer, inventory.disk(held.disk)) {
            (Some(node), _) => {
                targets.push(in_layers.target(&about, "or name the other disks (--disk)", (node, id))?)
            }
            (None, Some(disk)) if disk.read_only => {
                let message =
                    format!("{about}: it cannot be deleted from {}: the disk is read-only", held.image);
                return Err(
                    refused(message).with_advice("name the other disks (--disk), or make the disk writable")
                );
            }
            (None, Some(disk)) => disks.push(ImageTarget::on(disk, id, None)),
            (None, None) => {}
        }
    }
    let mut stages = in_layers.stages(targets.iter().cloned(), &mut warnings);
    stages.extend(orphan_stages(domain.uuid, &disks, None));
    disks.extend(targets.into_iter().map(|LayerSnapshot { layer, snapshot }| ImageTarget {
        disk: layer.disk,
        image: layer.file,
        identity: layer.identity,
        snapshot,
        virtual_size: None,
    }));
    Ok(OrphanDeletion { orphan: request.orphan.clone(), disks, file: None, warnings, stages })
}

/// The overlay that is to be deleted, if nothing recorded names it and nothing stands on it.
pub(crate) fn stray(domain: &DomainRef, strays: &[Stray], file: &str) -> Result<LayerFile, Error> {
    let Some(stray) = strays.iter().find(|stray| stray.file == file) else {
        let message = format!("domain {} has no file {file} that no record names", domain.name);
        return Err(Error::new(Kind::NotFound, Effect::None, message).with_advice(format!(
            "see what no record names: xlsnap check {}; a file that does not stand on a layer of the domain is not the domain's",
            word(&domain.name)
        )));
    };
    if let Some(above) = strays.iter().find(|above| above.base == file) {
        let message = format!("{file} cannot be deleted: {} stands on it", above.file);
        return Err(refused(message).with_advice(format!(
            "delete that first, if it is not needed: {}",
            deleting(domain, &above.file)
        )));
    }
    Ok(stray.layer())
}
