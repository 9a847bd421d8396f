//! Planning the flattening of disks: each stops depending on the files below its image.

use std::collections::BTreeSet;

use xlsnap_types::model::{DiskName, SnapshotName};

use super::delete::{Deletions, deletions, forked_and_moved};
use super::{DeleteFacts, FlattenPlan, FlattenedDisk, Merges, Parents, Tidying, about_unread, refused};
use crate::layers::{Guard, LayerNode};
use crate::step::{Does, Stage};
use crate::{Below, Disk, Effect, Error, FlattenRequest, Kind};

/// The snapshots that the domain descends from, beyond the nearest, in the order of deletion: every snapshot comes after its children.
pub(crate) fn beyond(
    parents: &Parents,
    current: Option<&SnapshotName>,
    keep: Option<usize>,
) -> Vec<SnapshotName> {
    let Some(keep) = keep else { return Vec::new() };
    let up = |name: &&SnapshotName| parents.get(*name).and_then(Option::as_ref);
    let ancestors = std::iter::successors(current.filter(|name| parents.contains_key(*name)), up);
    // No way up is longer than there are snapshots, but in a circle.
    ancestors.take(parents.len()).skip(keep).cloned().collect()
}

/// Plans it.
pub(crate) fn flatten(facts: &DeleteFacts<'_>, request: &FlattenRequest) -> Result<FlattenPlan, Error> {
    let chosen = chosen(facts, request)?;
    let order = beyond(facts.parents, facts.current, request.keep);
    let gone: BTreeSet<&SnapshotName> = order.iter().collect();
    let Deletions { snapshots, mut warnings, mut stages } = deletions(facts, &order, false)?;
    let layers = facts.layers.without(&snapshots);
    for disk in &chosen {
        refuse_chain(facts, disk)?;
    }
    let flat: BTreeSet<DiskName> = chosen.iter().map(|disk| disk.name.clone()).collect();
    let tidied = layers.tidy(
        facts.domain,
        facts.inventory,
        &Tidying { gone: &gone, merges: Merges::Done, flat: &flat, id: facts.id, rate: request.rate },
    );
    // What is read through the disk's image is the same afterwards, whoever does.
    let closed = layers.closed_by_its_own(&gone);
    let mut disks = Vec::new();
    for step in tidied.stages.iter().flat_map(Stage::steps) {
        let Does::Stream(stream) = &step.does else { continue };
        let file = &stream.into.file;
        let is_top = facts.inventory.disks.iter().any(|disk| disk.image == *file);
        let is_chosen = is_top && stream.below.is_none() && flat.contains(&stream.into.disk);
        if !is_chosen {
            continue;
        }
        if let Some(node) = layers.tree.get(file) {
            refuse_pinned(facts, node)?;
        }
        if let Some(why) = closed.get(file) {
            return Err(refused(format!(
                "disk {} of domain {} cannot be flattened: {file}: {why}",
                stream.into.disk, facts.domain.name
            ))
            .with_advice(layers.unread_but(&gone).map_or_else(
                || "change that first, or flatten other disks: --disk".to_owned(),
                |name| about_unread(facts.domain, name),
            )));
        }
        let bytes = layers.streamed_bytes(stream);
        warnings.push(format!(
            "up to {bytes} bytes are copied into {file} (disk {}), which stands on nothing from then on",
            stream.into.disk
        ));
        disks.push(FlattenedDisk { disk: stream.into.disk.clone(), image: file.clone(), bytes });
    }
    for disk in &chosen {
        let alone = layers.tree.get(&disk.image).is_none_or(|node| node.layer.base == Below::Nothing);
        if alone && !request.disks.is_empty() {
            warnings.push(format!("disk {} stands on nothing already: {}", disk.name, disk.image));
        }
    }
    warnings.extend(forked_and_moved(facts, &gone, &tidied));
    stages.extend(tidied.stages);
    facts.layers.refuse_unused(facts.domain, &stages, &tidied.why_not)?;
    warnings.extend(tidied.kept);
    Ok(FlattenPlan { snapshots, disks, warnings, stages })
}

/// The disks that are meant.
fn chosen<'a>(facts: &DeleteFacts<'a>, request: &FlattenRequest) -> Result<Vec<&'a Disk>, Error> {
    if let Some(unknown) = request.disks.iter().find(|name| facts.inventory.disk(name).is_none()) {
        let message = format!("domain {} has no disk {unknown}", facts.domain.name);
        return Err(Error::new(Kind::NotFound, Effect::None, message)
            .with_advice(format!("see its disks: xlsnap domain show {}", facts.domain.name)));
    }
    let is_meant = |disk: &&Disk| {
        if request.disks.is_empty() {
            !disk.read_only && !disk.removable && !disk.image.is_empty()
        } else {
            request.disks.contains(&disk.name)
        }
    };
    let disks: Vec<&Disk> = facts.inventory.disks.iter().filter(is_meant).collect();
    if let Some(disk) = disks.iter().find(|disk| disk.read_only || disk.image.is_empty()) {
        let why = if disk.read_only { "is read-only" } else { "has no image" };
        let message =
            format!("disk {} of domain {} {why}, and is not flattened", disk.name, facts.domain.name);
        return Err(refused(message).with_advice("leave it out: --disk names those that are flattened"));
    }
    Ok(disks)
}

/// Refuses a chain that cannot be read to its end, or not rightly.
fn refuse_chain(facts: &DeleteFacts<'_>, disk: &Disk) -> Result<(), Error> {
    let domain = &facts.domain.name;
    let chain = facts.layers.tree.chain(&disk.image);
    if chain.first().is_none_or(|top| top.layer.base == Below::Nothing) {
        return Ok(());
    }
    let refuse = |why: String, advice: String| {
        let message = format!("disk {} of domain {domain} cannot be flattened: {why}", disk.name);
        Err(refused(message).with_advice(advice))
    };
    for node in &chain {
        let file = &node.layer.file;
        let check = format!("see what is wrong with it: xlsnap check {domain}");
        match node.guard {
            Guard::Same => {}
            Guard::Written => {
                return refuse(format!("{file} was written to, although something stands on it"), check);
            }
            Guard::Replaced => return refuse(format!("another file has the name {file} now"), check),
        }
    }
    match chain.last().map(|last| (&last.layer.base, &last.layer.file)) {
        Some((Below::Foreign(end), file)) => refuse(
            format!("{file} stands on {end}, which is no local file"),
            format!("copy that to a file first, and make {file} stand on it (qemu-img rebase -u)"),
        ),
        Some((Below::File { file: missing, .. }, file)) => refuse(
            format!("{file} stands on {missing}, which is not there"),
            format!("bring {missing} back, from a backup if it has to be"),
        ),
        _ => {
            let top = chain[0];
            if let Some(secret) =
                chain.iter().find(|node| node.layer.encrypted).filter(|_| !top.layer.encrypted)
            {
                let why = format!(
                    "{} is encrypted, and {} would hold its data without encryption",
                    secret.layer.file, disk.image
                );
                return refuse(why, "copy the disk into an encrypted image instead".to_owned());
            }
            if facts.layers.guest.is_some()
                && let Some(why) = disk.jobs.why()
            {
                return refuse(why.to_owned(), "shut the domain down first".to_owned());
            }
            if facts.layers.served {
                let why =
                    "a storage daemon has it open, and has no command that brings what it copied to the disk";
                return refuse(why.to_owned(), "end the storage daemon first".to_owned());
            }
            Ok(())
        }
    }
}

/// What is inside an image reads through to what is below it, and would read zeros.
fn refuse_pinned(facts: &DeleteFacts<'_>, top: &LayerNode) -> Result<(), Error> {
    if top.layer.snapshots.is_empty() {
        return Ok(());
    }
    let domain = &facts.domain.name;
    let names: Vec<&str> = top.layer.snapshots.iter().map(|held| held.name.as_str()).collect();
    let message = format!(
        "disk {} of domain {domain} cannot be flattened: {} holds internal snapshots ({}), which are read through it from below",
        top.disk,
        top.layer.file,
        names.join(", ")
    );
    Err(refused(message).with_advice(format!(
        "delete these first, or take an external snapshot, whose overlay can be flattened: xlsnap create {domain} --external {}",
        top.disk
    )))
}
