//! The parts of a snapshot that other layers hold than the disks' images: a disk gets a new overlay on the image that holds its
//! state, or, where that state is an internal snapshot of a layer that stays as it is, a copy of it.

use std::collections::BTreeSet;

use xlsnap_types::model::{ImageFormat, Owner};

use super::RevertFacts;
use crate::layers::{Guard, LayerNode, PartFiles, WITHOUT_DATA, external_part};
use crate::plan::create::token;
use crate::plan::{MadeTop, Merges, NewTop, Tidying, file_beside, overlay_stem, refused};
use crate::record::{Found, Part, find, parts};
use crate::step::{Does, LayerNote, Stage};
use crate::{Below, Can, CopyOut, Disk, Error, LayerFile, Overlay, RevertRequest};

/// How many names are tried for an overlay.
const NAMES: usize = 100_000;

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
    let Some(file) = unused(facts, request, disk, &chain, &format) else {
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
    Ok(NewTop { made: MadeTop::Overlay(overlay), old: image_of(disk) })
}

fn image_of(disk: &Disk) -> LayerFile {
    LayerFile {
        disk: disk.name.clone(),
        file: disk.image.clone(),
        format: disk.format.clone(),
        identity: disk.identity,
    }
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
    let chain = facts.layers.tree.chain(&meta.image);
    let format = ImageFormat::Qcow2;
    let Some(file) = unused(facts, request, disk, &chain, &format) else {
        return Err(refused(format!("{about}: no name is free for a copy beside {}", meta.image))
            .with_advice("remove the files there that no record names: see what check says"));
    };
    let copy = CopyOut {
        from: node.file(),
        snapshot,
        to: LayerFile { disk: part.disk.clone(), file, format, identity: None },
        virtual_size: meta.virtual_size,
    };
    Ok(Some(NewTop { made: MadeTop::Copy(copy), old: image_of(disk) }))
}

/// A name for the overlay that no file has: `IMAGE.SNAPSHOT-N.qcow2`, where the image is the domain's own.
fn unused(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    disk: &Disk,
    chain: &[&LayerNode],
    format: &ImageFormat,
) -> Option<String> {
    let stem = overlay_stem(&facts.domain.name, disk, chain)?;
    let taken: BTreeSet<&str> =
        facts.layers.tree.nodes().iter().map(|node| node.layer.file.as_str()).collect();
    (1..NAMES)
        .map(|number| file_beside(&stem, &format!("{}-{number}", request.name), format))
        .find(|file| !taken.contains(file.as_str()) && !facts.layers.taken.contains(file))
}

/// Where the disks write to from then on, and what is lost, as sentences.
pub(super) fn moves(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    (tops, tidying): (&[NewTop], &[Stage]),
) -> Vec<String> {
    let is_kept = |file: &str| facts.layers.parts.iter().any(|part| part.files.image == file);
    let mut told: Vec<String> = tops
        .iter()
        .map(|top| {
            let (disk, old, file) = (top.disk(), &top.old.file, top.file().file);
            let what = match &top.made {
                MadeTop::Overlay(overlay) => format!("which stands on {}", overlay.base),
                MadeTop::Copy(CopyOut { from, virtual_size, .. }) => {
                    format!("a copy, of up to {virtual_size} bytes, of the snapshot inside {}", from.file)
                }
            };
            let start = match facts.abilities.restart {
                Can::Yes => String::new(),
                Can::No(_) => format!("; what starts domain {} has to name it", facts.domain.name),
            };
            let lost = match &request.safety {
                Some(safety) => format!("; what {old} holds is kept in snapshot {safety}"),
                // The disk writes to what a snapshot needs as it is.
                None if is_kept(old) => String::new(),
                None => format!("; what {old} holds and no snapshot has is lost"),
            };
            format!("disk {disk} writes to {file} from then on, {what}{start}{lost}")
        })
        .collect();
    for step in tidying.iter().flat_map(Stage::steps) {
        let (Does::Unlink(layer) | Does::EmptyLayer { layer, .. }) = &step.does else { continue };
        let has_data = facts.layers.tree.get(&layer.file).is_some_and(|node| node.layer.bytes > WITHOUT_DATA);
        if has_data && !tops.iter().any(|top| top.old.file == layer.file) {
            told.push(format!("what {} (disk {}) holds and no snapshot has is lost", layer.file, layer.disk));
        }
    }
    told
}

/// What becomes of the layers after the commit: the new ones are noted, and those that no disk and no snapshot needs any more are
/// removed.
pub(super) fn tidying(facts: &RevertFacts<'_>, tops: &[NewTop]) -> Vec<Stage> {
    if tops.is_empty() {
        return Vec::new();
    }
    let notes = tops.iter().map(|top| LayerNote {
        file: top.file(),
        owner: Owner::Made,
        base: match &top.made {
            MadeTop::Overlay(overlay) => Some(overlay.base.clone()),
            MadeTop::Copy(_) => None,
        },
        frozen: false,
    });
    let add: Vec<LayerNote> = notes.chain(facts.layers.unnoted(facts.inventory, tops)).collect();
    let noted = Stage::one(facts.domain.uuid, Does::NoteLayers { add, remove: Vec::new() });
    let mut after = facts.layers.clone();
    let mut inventory = facts.inventory.clone();
    for top in tops {
        after.tree.add(top);
        for disk in inventory.disks.iter_mut().filter(|disk| disk.name == *top.disk()) {
            disk.image = top.file().file;
        }
    }
    let (gone, flat) = (BTreeSet::new(), BTreeSet::new());
    let tidying = Tidying { gone: &gone, merges: Merges::Left, flat: &flat, id: facts.id };
    let tidied = after.tidy(facts.domain, &inventory, &tidying);
    std::iter::once(noted).chain(tidied.stages).collect()
}
