//! Planning a creation.

use std::collections::BTreeSet;

use uuid::Uuid;
use xlsnap_types::model::{AbsoluteFile, DiskName, ImageFormat, PassedOver, SnapshotName};

use super::{Keeping, LayerFacts, NameFacts, keep, names, refused};
use crate::step::UndoPoint;
use crate::{
    Can, CreatePlan, CreateRequest, Disk, DiskChoice, DiskPlan, Error, Inventory, KeepName, MemoryPlace,
    Overlay, SnapshotAction, UndescribedKind,
};

/// What planning a creation is to know.
#[derive(Debug)]
pub(crate) struct CreateFacts<'a> {
    /// What the domain is called.
    pub(crate) domain: &'a str,
    pub(crate) inventory: &'a Inventory,
    /// The names of all records.
    pub(crate) names: &'a BTreeSet<SnapshotName>,
    /// What is known of the layers; of a snapshot without external parts nothing.
    pub(crate) layers: &'a LayerFacts,
    pub(crate) naming: &'a NameFacts,
    /// The operation's own id.
    pub(crate) id: Uuid,
    /// Seconds since 1970-01-01 UTC.
    pub(crate) now: u64,
}

/// Plans a creation. The overlay files that it names must still be looked for.
pub(crate) fn create(facts: &CreateFacts<'_>, request: &CreateRequest) -> Result<CreatePlan, Error> {
    check_selection(facts, request)?;
    let name = name(facts, request)?;
    let mut plan = CreatePlan {
        name,
        disks: Vec::new(),
        passed_over: Vec::new(),
        memory: None,
        quiesce: None,
        warnings: Vec::new(),
        stages: Vec::new(),
        names: Vec::new(),
    };
    undescribed(facts, request, &mut plan)?;
    for disk in &facts.inventory.disks {
        if let Some(why) = why_passed_over(facts, request, disk)? {
            plan.passed_over.push(PassedOver { disk: disk.name.clone(), why: why.to_owned() });
            continue;
        }
        let action = match request.choice(&disk.name) {
            DiskChoice::Internal => {
                let loads = request.memory.as_ref().is_some_and(|memory| memory.place == MemoryPlace::Inside);
                let action = internal(facts, &plan.name, disk, loads)?;
                plan.warnings.extend(bitmaps_in_the_way(disk));
                action
            }
            DiskChoice::External { file, format } => {
                let file = match file {
                    Some(file) => file.clone(),
                    None => unused(facts, &plan, disk, format)?,
                };
                let overlay = overlay(facts, &plan, disk, file, format)?;
                plan.warnings.extend(out_of_reach(disk));
                plan.warnings.extend(unguarded(facts, disk));
                keep_name(facts, &mut plan, (disk, &overlay), request)?;
                SnapshotAction::External(overlay)
            }
        };
        plan.disks.push(DiskPlan { disk: disk.name.clone(), image: disk.image.clone(), action });
    }
    if plan.disks.is_empty() {
        let why =
            plan.passed_over.iter().map(|p| format!("{}: {}", p.disk, p.why)).collect::<Vec<_>>().join("; ");
        let why = if why.is_empty() { "it has no disks".to_owned() } else { why };
        return Err(refused(format!("there is nothing to snapshot in domain {} ({why})", facts.domain))
            .with_advice("include a writable disk"));
    }
    Ok(plan)
}

/// What the guest writes to and the description does not name: a disk has to be left out by name, NVRAM is told.
fn undescribed(facts: &CreateFacts<'_>, request: &CreateRequest, plan: &mut CreatePlan) -> Result<(), Error> {
    let selection = &request.selection;
    for other in &facts.inventory.undescribed {
        let why = match other.kind {
            _ if selection.except.contains(&other.name) => "it was excluded",
            _ if !selection.only.is_empty() => "it was not asked for",
            UndescribedKind::Nvram => {
                plan.warnings.push(format!(
                    "the NVRAM of domain {} ({}, {}) is not in the snapshot: the domain's description does not name it",
                    facts.domain, other.name, other.image
                ));
                "the domain's description does not name it"
            }
            UndescribedKind::Disk => {
                let message = format!(
                    "the guest of domain {} writes to a disk that the domain's description does not name: {} ({})",
                    facts.domain, other.name, other.image
                );
                let advice = format!("leave it out (--exclude {0}), or describe disk {0}", other.name);
                return Err(refused(message).with_advice(advice));
            }
        };
        plan.passed_over.push(PassedOver { disk: other.name.clone(), why: why.to_owned() });
    }
    Ok(())
}

/// Dirty bitmaps, which a revert has to drop first, as a sentence.
fn bitmaps_in_the_way(disk: &Disk) -> Option<String> {
    let names: Vec<&str> = disk.bitmaps.iter().map(|bitmap| bitmap.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "disk {} has dirty bitmaps ({}), by which a backup program goes: a revert has to drop them (--drop-bitmaps)",
            disk.name,
            names.join(", ")
        )
    })
}

/// A name for an overlay that no file has.
fn unused(
    facts: &CreateFacts<'_>,
    plan: &CreatePlan,
    disk: &Disk,
    format: &ImageFormat,
) -> Result<String, Error> {
    let is_taken = |file: &str| {
        let mut overlays = plan.overlays();
        facts.layers.taken.contains(file) || overlays.any(|overlay| overlay.file == file)
    };
    let named = (facts.domain, disk, &plan.name);
    names::unused(named, format, &facts.layers.tree, is_taken).ok_or_else(|| {
        let message = format!(
            "disk {} of domain {}: no name is free for its overlay beside {}",
            disk.name, facts.domain, disk.image
        );
        refused(message).with_advice(format!("name a file for it: --external {}=FILE", disk.name))
    })
}

/// Every disk that the request names must be there and wanted in one way.
fn check_selection(facts: &CreateFacts<'_>, request: &CreateRequest) -> Result<(), Error> {
    let selection = &request.selection;
    let named = selection.only.iter().chain(&selection.except).chain(request.disks.keys());
    for disk in named {
        let is_undescribed = facts.inventory.undescribed.iter().any(|found| found.name == *disk);
        if facts.inventory.disk(disk).is_none() && !(is_undescribed && selection.except.contains(disk)) {
            let known: Vec<&str> = facts.inventory.disks.iter().map(|d| d.name.as_str()).collect();
            return Err(refused(format!("domain {} has no disk {disk}", facts.domain))
                .with_advice(format!("its disks are: {}", known.join(", "))));
        }
    }
    let wanted = selection.only.iter().chain(request.disks.keys());
    if let Some(disk) = wanted.clone().find(|disk| selection.except.contains(*disk)) {
        return Err(refused(format!(
            "disk {disk} of domain {} is both asked for and excluded",
            facts.domain
        )));
    }
    let stray =
        request.disks.keys().find(|disk| !selection.only.is_empty() && !selection.only.contains(*disk));
    if let Some(disk) = stray {
        let message = format!(
            "the request says how to take disk {disk} of domain {}, but not to take it",
            facts.domain
        );
        return Err(refused(message).with_advice(format!("include disk {disk}, or say nothing of it")));
    }
    Ok(())
}

fn why_passed_over(
    facts: &CreateFacts<'_>,
    request: &CreateRequest,
    disk: &Disk,
) -> Result<Option<&'static str>, Error> {
    let selection = &request.selection;
    let by_name = selection.only.contains(&disk.name) || request.disks.contains_key(&disk.name);
    if selection.except.contains(&disk.name) {
        return Ok(Some("it was excluded"));
    }
    if !selection.only.is_empty() && !by_name {
        return Ok(Some("it was not asked for"));
    }
    if disk.read_only && by_name {
        let message =
            format!("disk {} of domain {} is read-only, and takes no snapshot", disk.name, facts.domain);
        return Err(refused(message).with_advice(format!("exclude disk {}", disk.name)));
    }
    Ok(match (disk.read_only, disk.removable && !by_name) {
        (true, _) => Some("it is read-only"),
        (_, true) => Some("it is a removable medium"),
        _ => None,
    })
}

/// `loads`: whether the domain's process itself would go back, by loading what is inside its images.
fn internal(
    facts: &CreateFacts<'_>,
    name: &SnapshotName,
    disk: &Disk,
    loads: bool,
) -> Result<SnapshotAction, Error> {
    if let Some(why) = disk.internal.why() {
        let message = format!(
            "disk {} of domain {} ({}) takes no internal snapshot: {why}",
            disk.name, facts.domain, disk.image
        );
        let advice = match disk.external.why() {
            None => format!("exclude disk {0}, or take disk {0} externally", disk.name),
            Some(why) => format!("exclude disk {} (it takes no external one either: {why})", disk.name),
        };
        return Err(refused(message).with_advice(advice));
    }
    if let Some(why) = disk.revert.why().filter(|_| !loads) {
        let message = format!(
            "disk {} of domain {} ({}) could not be reverted to the snapshot: {why}",
            disk.name, facts.domain, disk.image
        );
        return Err(refused(message)
            .with_advice(format!("remove the cause, or leave the disk out (--exclude {})", disk.name)));
    }
    Ok(SnapshotAction::Internal { disk: disk.name.clone(), tag: name.to_string(), image: disk.image.clone() })
}

fn overlay(
    facts: &CreateFacts<'_>,
    plan: &CreatePlan,
    disk: &Disk,
    file: String,
    format: &ImageFormat,
) -> Result<Overlay, Error> {
    let about = format!("disk {} of domain {}", disk.name, facts.domain);
    if let Some(why) = disk.external.why() {
        let message = format!("{about} ({}) takes no external snapshot: {why}", disk.image);
        let advice = match disk.internal {
            Can::Yes => format!("exclude disk {0}, or take disk {0} internally", disk.name),
            Can::No(_) => format!("exclude disk {}", disk.name),
        };
        return Err(refused(message).with_advice(advice));
    }
    if !matches!(format, ImageFormat::Qcow2 | ImageFormat::Qcow | ImageFormat::Qed) {
        return Err(refused(format!("{about}: an overlay of format {format:?} cannot lie over an image"))
            .with_advice("use format qcow2"));
    }
    if AbsoluteFile::new(file.as_str()).is_err() {
        return Err(refused(format!("{about}: the overlay {file:?} is not an absolute file name"))
            .with_advice("give the overlay's file in full, from the root directory"));
    }
    let images = facts.inventory.disks.iter().map(|disk| disk.image.as_str());
    let overlays = plan.disks.iter().filter_map(|plan| match &plan.action {
        SnapshotAction::External(overlay) => Some(overlay.file.as_str()),
        SnapshotAction::Internal { .. } => None,
    });
    if images.chain(overlays).any(|used| used == file) {
        return Err(refused(format!("{about}: the overlay {file} is the file of another disk"))
            .with_advice("give each overlay a file of its own"));
    }
    Ok(Overlay {
        disk: disk.name.clone(),
        file,
        format: format.clone(),
        base: disk.image.clone(),
        base_format: disk.format.clone(),
        virtual_size: disk.virtual_size,
        token: token(facts.id, plan.disks.len()),
    })
}

/// That nothing shows a write to the base by another program, where it is a block device: it has no time of its last write.
fn unguarded(facts: &CreateFacts<'_>, disk: &Disk) -> Option<String> {
    let base = &disk.image;
    disk.identity.filter(|base| base.is_device()).map(|_| {
        format!(
            "disk {}: {base} is a block device, so neither xlsnap nor check finds it when another program writes to it from then on, which \
             would spoil the snapshot and the disk: let nothing but domain {} use it",
            disk.name, facts.domain
        )
    })
}

/// Whether the overlay takes the image's name. What is left without it is told: nothing keeps others from starting the image.
fn keep_name(
    facts: &CreateFacts<'_>,
    plan: &mut CreatePlan,
    (disk, overlay): (&Disk, &Overlay),
    request: &CreateRequest,
) -> Result<(), Error> {
    let domain = facts.domain;
    // A file that was named is the one that takes the writes.
    let wanted = match (request.keep_name, request.overlay_of(&disk.name)) {
        (KeepName::WhereOthersStart, Some(_)) => KeepName::No,
        (wanted, _) => wanted,
    };
    let why = match keep::of_overlay(facts.naming, facts.layers, (domain, disk, overlay), wanted)? {
        Keeping::Kept(names) => {
            plan.warnings.push(format!(
                "disk {} writes to a new file under the name {}; what it holds now is {} from then on",
                disk.name, overlay.base, overlay.file
            ));
            plan.names.push(names);
            return Ok(());
        }
        Keeping::Left(why) => why,
    };
    refuse_unadopted(domain, disk, overlay, (wanted, why.as_deref()))?;
    if facts.naming.restart.is_yes() {
        return Ok(());
    }
    let Overlay { disk, file, base, .. } = overlay;
    let why =
        why.map(|why| format!(" (the new file does not take the name {base}: {why})")).unwrap_or_default();
    plan.warnings.push(format!(
        "what starts domain {domain} has to name {file} for disk {disk} from then on, in place of {base}{why}: once the domain is off, \
         nothing refuses a start of {base}, and a write to it would spoil the snapshot and the disk"
    ));
    Ok(())
}

/// Refuses an overlay under a name of its own where what starts the domain would go on naming the image below it.
fn refuse_unadopted(
    domain: &str,
    disk: &Disk,
    overlay: &Overlay,
    (wanted, why): (KeepName, Option<&str>),
) -> Result<(), Error> {
    let Can::No(starts) = &disk.adopt else { return Ok(()) };
    let (name, image) = (&disk.name, &disk.image);
    let message = format!("disk {name} of domain {domain} ({image}) takes no external snapshot");
    let Some(why) = why.filter(|_| wanted != KeepName::No) else {
        let message = format!("{message} under the name {}: {starts}", overlay.file);
        return Err(refused(message).with_advice(format!(
            "let the new file take the name {image}: xlsnap create {domain} --external {name} --keep-name"
        )));
    };
    let message =
        format!("{message}: the new file has to take the name {image}, since {starts}, and cannot: {why}");
    Err(refused(message).with_advice(format!(
        "take disk {name} internally, or shut domain {domain} down and do it then: xlsnap create {domain} --external {name}"
    )))
}

/// The snapshots inside the image that an overlay covers, with a machine's state that is not loaded from there.
fn out_of_reach(disk: &Disk) -> Option<String> {
    let machines = || disk.snapshots.iter().filter(|snapshot| snapshot.vm_state_size > 0);
    let names: Vec<&str> = machines().map(|snapshot| snapshot.name.as_str()).take(4).collect();
    let more = if machines().count() > names.len() { ", ..." } else { "" };
    (!names.is_empty()).then(|| {
        format!(
            "disk {} writes to another file than the one with its snapshots of machines ({}{more}): while it does, a revert to one of \
             them brings back the disks alone (revert --without-memory)",
            disk.name,
            names.join(", ")
        )
    })
}

/// 24 letters and digits that no other overlay has.
pub(crate) fn token(id: Uuid, disk: usize) -> String {
    format!("{}{disk:04x}", token_start(id))
}

/// How the tokens of an operation begin.
pub(crate) fn token_start(id: Uuid) -> String {
    let mut token = id.simple().to_string();
    token.truncate(20);
    token
}

/// The snapshot's name: unique among the records and in every image, and no image's id, because `qemu-img snapshot -a`
/// takes an id for one before it takes a name for one.
fn name(facts: &CreateFacts<'_>, request: &CreateRequest) -> Result<SnapshotName, Error> {
    let Some(name) = &request.name else {
        return Ok(SnapshotName::from_time(facts.now, |name| conflict(facts, name).is_some()));
    };
    if UndoPoint::is_one(name.as_str()) {
        let message = format!(
            "the name {name} is reserved: names that begin with {} mark what a revert can go back to",
            UndoPoint::PREFIX
        );
        return Err(refused(message).with_advice("choose another name"));
    }
    match conflict(facts, name) {
        None => Ok(name.clone()),
        Some(Conflict::Record) => {
            Err(refused(format!("domain {} has a snapshot {name} already", facts.domain))
                .with_advice("choose another name, or delete that snapshot first"))
        }
        Some(Conflict::Images(disks)) => {
            let images: Vec<String> =
                disks.iter().map(|(disk, image)| format!("{image} (disk {disk})")).collect();
            let message = format!(
                "domain {} has no record of a snapshot {name}, but one of that name is in {}",
                facts.domain,
                images.join(", ")
            );
            Err(refused(message).with_advice(
                "choose another name, or see what a check says of it and delete it from the image",
            ))
        }
        Some(Conflict::Id(disk, image)) => {
            let message = format!(
                "the name {name} is the id of another snapshot in {image} (disk {disk} of domain {}): tools would take \
                 one for the other",
                facts.domain
            );
            Err(refused(message).with_advice("choose a name that is not a small number"))
        }
    }
}

enum Conflict {
    Record,
    Images(Vec<(DiskName, String)>),
    Id(DiskName, String),
}

fn conflict(facts: &CreateFacts<'_>, name: &SnapshotName) -> Option<Conflict> {
    if facts.names.contains(name) {
        return Some(Conflict::Record);
    }
    let at = |disk: &Disk| (disk.name.clone(), disk.image.clone());
    let disks = &facts.inventory.disks;
    let named: Vec<_> =
        disks.iter().filter(|disk| disk.snapshots.iter().any(|s| s.name == name.as_str())).map(at).collect();
    if !named.is_empty() {
        return Some(Conflict::Images(named));
    }
    let (disk, image) =
        disks.iter().find(|disk| disk.snapshots.iter().any(|s| s.id == name.as_str())).map(at)?;
    Some(Conflict::Id(disk, image))
}
