//! The parts of a snapshot that other layers hold than the disks' images: a disk gets a new overlay on the image that holds its
//! state, or, where that state is an internal snapshot of a layer that stays as it is, a copy of it.

use std::collections::BTreeSet;

use xlsnap_conf_store::Record;
use xlsnap_types::model::{ImageFormat, MemoryWay, Owner, SnapshotName};

use super::{RevertFacts, way};
use crate::layers::{Guard, PartFiles, WITHOUT_DATA, external_part};
use crate::plan::create::token;
use crate::plan::{LayerFacts, MadeTop, Merges, NameFacts, NewTop, Tidying, keep, refused};
use crate::record::{Found, Part, find, parts};
use crate::step::{Does, ImageTarget, LayerNote, Stage};
use crate::{
    Below, Can, CopyOut, Disk, Error, GuestState, LayerFile, NameSwap, Overlay, RevertRequest, RevertWay,
};

/// The new images.
pub(super) fn tops(facts: &RevertFacts<'_>, request: &RevertRequest) -> Result<Vec<NewTop>, Error> {
    let mut tops = Vec::new();
    for part in parts(facts.domain, &request.name, facts.record)? {
        let number = tops.len();
        if let Some(files) = external_part(&part) {
            tops.push(top(facts, request, &part, &files, number)?);
        } else if part.overlay.is_none() && !matches!(find(&part, facts.inventory), Found::Here(..)) {
            tops.extend(copy(facts, request, &part)?);
        }
    }
    Ok(tops)
}

fn top(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    part: &Part<'_>,
    files: &PartFiles,
    number: usize,
) -> Result<NewTop, Error> {
    let name = &request.name;
    let about = format!("snapshot {name} of domain {}: disk {}", facts.domain.name, part.disk);
    let Some(disk) = facts.inventory.disk(&part.disk) else {
        return Err(refused(format!("{about} is no longer a disk of the domain"))
            .with_advice("give the domain its disk back"));
    };
    if disk.read_only {
        return Err(refused(format!("{about} is read-only now")).with_advice("make the disk writable first"));
    }
    let Some(base) = facts.layers.tree.get(&files.image) else {
        return Err(refused(format!("{about}: {}, which holds its state, is not there", files.image))
            .with_advice(format!("bring {} back, or see what check says", files.image)));
    };
    let why = match base.guard {
        Guard::Same => None,
        Guard::Written => {
            Some("was written to since, so that it does not hold the snapshot's state any more")
        }
        Guard::Replaced => Some("is another file than the one that held the snapshot's state"),
    };
    if let Some(why) = why {
        return Err(refused(format!("{about}: {} {why}", files.image)).with_advice("see what check says"));
    }
    if base.layer.encrypted {
        return Err(refused(format!(
            "{about}: {} is encrypted, and an overlay on it would not be",
            files.image
        ))
        .with_advice("start the domain from a copy of that image"));
    }
    let chain = facts.layers.tree.chain(&files.image);
    if let Some(Below::Foreign(end)) = chain.last().map(|last| &last.layer.base) {
        tracing::debug!(end, "the chain ends in what is no local file");
    }
    let virtual_size = part.meta.map_or(base.layer.virtual_size, |meta| meta.virtual_size);
    let format = ImageFormat::Qcow2;
    let Some(file) = unused(facts, request, disk, &format) else {
        return Err(refused(format!("{about}: no name is free for its overlay beside {}", files.image))
            .with_advice("remove the overlays there that no record names: see what check says"));
    };
    let overlay = Overlay {
        disk: part.disk.clone(),
        file,
        format,
        base: files.image.clone(),
        base_format: base.layer.format.clone(),
        virtual_size,
        token: token(facts.id, number),
    };
    Ok(NewTop { made: MadeTop::Overlay(overlay), old: keep::image_of(disk) })
}

/// The new images that take the names of those before: where the name of a disk's image was kept so far, and can be, and where nothing else
/// leads what starts the domain to them.
///
/// # Errors
/// Where that is so and the name cannot be kept.
pub(super) fn names(
    facts: &RevertFacts<'_>,
    name: &SnapshotName,
    tops: &[NewTop],
    way: &RevertWay,
) -> Result<Vec<NameSwap>, Error> {
    // A process that is ended first has none of the files open.
    let guest = if way::ends(way, tops) { GuestState::Off } else { facts.naming.guest };
    let naming = NameFacts { guest, ..facts.naming.clone() };
    let mut kept = Vec::new();
    for (number, top) in tops.iter().enumerate() {
        let Some(disk) = facts.inventory.disk(top.disk()) else { continue };
        let file = top.file();
        let why = keep::why_not(&naming, &facts.layers, disk, (&file.file, &file.format));
        match (&disk.adopt, why) {
            (Can::No(starts), Some(why)) => {
                let message = format!(
                    "snapshot {} of domain {}: disk {}: a new file has to take the name {}, since {starts}, and cannot: {why}",
                    name, facts.domain.name, disk.name, disk.image
                );
                return Err(refused(message).with_advice("change that first, then revert"));
            }
            (Can::Yes, _) if !facts.layers.tree.keeps_name(&disk.name, &disk.image) => {}
            (_, Some(_)) => {}
            (_, None) => kept.push(NameSwap {
                old: top.old.clone(),
                new: file,
                stands_on_old: false,
                token: token(facts.id, 0x100 + number),
            }),
        }
    }
    Ok(kept)
}

/// The copy of an internal snapshot, where a layer below the disk's image, or beside it, holds it.
fn copy(facts: &RevertFacts<'_>, request: &RevertRequest, part: &Part<'_>) -> Result<Option<NewTop>, Error> {
    let found = facts.inventory.disk(&part.disk).zip(facts.layers.tree.holder(part)).zip(part.meta);
    let Some(((disk, (node, snapshot)), meta)) = found else { return Ok(None) };
    let about = format!("snapshot {} of domain {}: disk {}", request.name, facts.domain.name, part.disk);
    if disk.read_only {
        return Err(refused(format!("{about} is read-only now")).with_advice("make the disk writable first"));
    }
    if node.layer.encrypted {
        return Err(refused(format!(
            "{about}: {} is encrypted, and a copy of its snapshot would not be",
            meta.image
        ))
        .with_advice("copy the image, and start the domain from the copy"));
    }
    let whole = loads(facts.record, request).then_some(node.layer.bytes);
    if whole.is_some() {
        if node.layer.snapshots.iter().filter(|held| held.name == snapshot.name).count() > 1 {
            return Err(refused(format!(
                "{about}: {} holds more than one snapshot {}, and QEMU would load the first",
                meta.image, snapshot.name
            ))
            .with_advice("delete the wrong one from the image by its id"));
        }
        if node.layer.virtual_size != meta.virtual_size {
            let message = format!(
                "{about}: {} has {} bytes now, and had {} in the snapshot",
                meta.image, node.layer.virtual_size, meta.virtual_size
            );
            return Err(refused(message).with_advice("give the memory up: revert --without-memory"));
        }
    }
    let format = if whole.is_some() { node.layer.format.clone() } else { ImageFormat::Qcow2 };
    let Some(file) = unused(facts, request, disk, &format) else {
        return Err(refused(format!("{about}: no name is free for a copy beside {}", meta.image))
            .with_advice("remove the files there that no record names: see what check says"));
    };
    let copy = CopyOut {
        from: node.file(),
        snapshot,
        to: LayerFile { disk: part.disk.clone(), file, format, identity: None },
        virtual_size: meta.virtual_size,
        whole,
    };
    Ok(Some(NewTop { made: MadeTop::Copy(copy), old: keep::image_of(disk) }))
}

/// Whether the guest's memory comes back from inside images: then a disk's image has to hold the snapshot itself.
fn loads(record: &Record, request: &RevertRequest) -> bool {
    let memory = record.meta.as_ref().and_then(|meta| meta.memory.as_ref());
    !request.without_memory && memory.is_some_and(|memory| memory.way() == MemoryWay::Internal)
}

/// The snapshots inside whole copies: the layers that were copied keep them, so that the copies do not have to.
pub(super) fn copied(facts: &RevertFacts<'_>, tops: &[NewTop], names: &[NameSwap]) -> Vec<ImageTarget> {
    let mut all = Vec::new();
    for top in tops {
        let MadeTop::Copy(CopyOut { from, whole: Some(_), .. }) = &top.made else { continue };
        let image = top.named(names).file;
        let inside = facts.layers.tree.get(&from.file).into_iter().flat_map(|node| &node.layer.snapshots);
        all.extend(inside.map(|held| ImageTarget {
            disk: top.disk().clone(),
            image: image.clone(),
            identity: None,
            snapshot: held.as_id(),
            virtual_size: None,
        }));
    }
    all
}

/// A name for a new image that no file has.
fn unused(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    disk: &Disk,
    format: &ImageFormat,
) -> Option<String> {
    let LayerFacts { tree, taken, .. } = &facts.layers;
    let named = (facts.domain.name.as_str(), disk, &request.name);
    crate::plan::names::unused(named, format, tree, |file| taken.contains(file))
}

/// Where the disks write to from then on, and what is lost, as sentences.
pub(super) fn moves(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    (tops, names, tidying): (&[NewTop], &[NameSwap], &[Stage]),
) -> Vec<String> {
    let closed = facts.layers.closed_without(&BTreeSet::new());
    let is_kept = |file: &str| facts.layers.parts.iter().any(|part| part.files.image == file);
    let mut told: Vec<String> = tops
        .iter()
        .map(|top| {
            let (disk, mut old, mut file) = (top.disk(), &top.old.file, top.file().file);
            let kept = names.iter().find(|names| names.old.disk == *disk);
            let is_kept_state = is_kept(old);
            if let Some(names) = kept {
                (old, file) = (&names.new.file, format!("a new file under the name {}", names.kept()));
            }
            let what = match &top.made {
                MadeTop::Overlay(overlay) => format!("which stands on {}", overlay.base),
                MadeTop::Copy(CopyOut { from, whole: Some(bytes), .. }) => {
                    format!(
                        "a copy, of {bytes} bytes, of {}, which holds the guest's memory or belongs to it",
                        from.file
                    )
                }
                MadeTop::Copy(CopyOut { from, virtual_size, .. }) => {
                    format!("a copy, of up to {virtual_size} bytes, of the snapshot inside {}", from.file)
                }
            };
            let start = match facts.abilities.restart {
                _ if kept.is_some() => String::new(),
                Can::Yes => String::new(),
                Can::No(_) => format!("; what starts domain {} has to name it", facts.domain.name),
            };
            let lost = match &request.safety {
                Some(safety) => format!("; what {old} holds is kept in snapshot {safety}"),
                // The disk writes to what a snapshot needs as it is.
                None if is_kept_state => String::new(),
                None if let Some(why) = closed.get(&top.old.file) => {
                    format!("; {old} stays, and nothing is read from it any more: {why}")
                }
                None if kept.is_some() => "; what it holds now and no snapshot has is lost".to_owned(),
                None => format!("; what {old} holds and no snapshot has is lost"),
            };
            format!("disk {disk} writes to {file} from then on, {what}{start}{lost}")
        })
        .collect();
    for step in tidying.iter().flat_map(Stage::steps) {
        let (Does::Unlink(layer) | Does::EmptyLayer { layer, .. }) = &step.does else { continue };
        let has_data = facts.layers.tree.get(&layer.file).is_some_and(|node| node.layer.bytes > WITHOUT_DATA);
        let is_told = tops.iter().any(|top| top.old.identity.is_some() && top.old.identity == layer.identity);
        if has_data && !is_told {
            told.push(format!("what {} (disk {}) holds and no snapshot has is lost", layer.file, layer.disk));
        }
    }
    told
}

/// What becomes of the layers after the commit: the new ones are noted, and those that no disk and no snapshot needs any more are
/// removed.
pub(super) fn tidying(facts: &RevertFacts<'_>, tops: &[NewTop], names: &[NameSwap]) -> Vec<Stage> {
    if tops.is_empty() {
        return Vec::new();
    }
    let domain = facts.domain.uuid;
    let mut after = facts.layers.clone();
    let mut inventory = facts.inventory.clone();
    let mut add: Vec<LayerNote> = Vec::new();
    let mut stages = Vec::new();
    for top in tops {
        after.tree.add(top);
        let kept = names.iter().find(|names| names.old.disk == *top.disk());
        let file = top.named(names);
        for disk in inventory.disks.iter_mut().filter(|disk| disk.name == *top.disk()) {
            disk.image.clone_from(&file.file);
        }
        add.push(LayerNote {
            file,
            owner: Owner::Made,
            base: match &top.made {
                MadeTop::Overlay(overlay) => Some(overlay.base.clone()),
                MadeTop::Copy(_) => None,
            },
            looked: false,
            frozen: false,
            named: None,
        });
        if let Some(names) = kept {
            stages.extend(after.follow_names(domain, names));
            add.extend(after.moved(names, false));
        }
    }
    let is_moved = |file: &str| names.iter().any(|names| names.kept() == file);
    let unnoted = facts.layers.unnoted(facts.inventory, tops);
    add.extend(unnoted.into_iter().filter(|note| !is_moved(&note.file.file)));
    let (gone, flat) = (BTreeSet::new(), BTreeSet::new());
    let tidying = Tidying { gone: &gone, merges: Merges::Left, flat: &flat, id: facts.id, rate: None };
    let tidied = after.tidy(facts.domain, &inventory, &tidying);
    // What becomes of these has steps of its own, which may be done before the note is written once more.
    let goes = |file: &str| {
        tidied.stages.iter().flat_map(Stage::steps).any(|step| match &step.does {
            Does::Unlink(layer) | Does::EmptyLayer { layer, .. } => layer.file == file,
            _ => false,
        })
    };
    add.retain(|note| !goes(&note.file.file));
    stages.push(Stage::one(domain, Does::NoteLayers { add, remove: Vec::new() }));
    stages.extend(tidied.stages);
    stages
}
