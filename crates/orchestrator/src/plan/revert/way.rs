//! What happens to the domain's process in a revert.

use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, Hypervisor, MemoryMeta, MemoryWay};

use super::RevertFacts;
use crate::plan::{MadeTop, NewTop, refused};
use crate::{
    Can, Error, GuestState, ImageSnapshot, MemoryHeader, MemoryInside, RevertRequest, RevertWay, Run,
};

/// Chooses it, or refuses.
pub(super) fn choose(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    tops: &[NewTop],
    warnings: &mut Vec<String>,
) -> Result<RevertWay, Error> {
    let memory = facts.record.meta.as_ref().and_then(|meta| meta.memory.as_ref());
    if request.without_memory {
        if facts.record.snapshot.has_memory() || memory.is_some() {
            warnings.push(format!(
                "the guest's memory of snapshot {} is not restored: its disks alone go back",
                request.name
            ));
        }
        return disks_alone(facts, request, tops, warnings);
    }
    match memory {
        Some(memory) if memory.way() == MemoryWay::Internal => load(facts, request, tops),
        Some(memory) if memory.file() == facts.record.snapshot.memory.as_deref() => {
            restore(facts, request, memory)
        }
        _ if facts.record.snapshot.has_memory() => {
            let message = format!(
                "snapshot {} of domain {} holds the guest's memory, which another program saved, and its disks belong to it",
                request.name, facts.domain.name
            );
            Err(refused(message).with_advice(
                "revert with the program that made it, or give the memory up: revert --without-memory",
            ))
        }
        _ => disks_alone(facts, request, tops, warnings),
    }
}

/// Whether the process that has the disks is ended for it. One that loads what is inside its images stays, unless it has to open new ones.
pub(super) fn ends(way: &RevertWay, tops: &[NewTop]) -> bool {
    match way {
        RevertWay::Restart { .. } | RevertWay::Restore { .. } => true,
        RevertWay::Load { .. } => !tops.is_empty(),
        RevertWay::Off | RevertWay::Release { .. } => false,
    }
}

fn disks_alone(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    tops: &[NewTop],
    warnings: &mut Vec<String>,
) -> Result<RevertWay, Error> {
    let domain = &facts.domain.name;
    let no_restart = facts.abilities.restart.why();
    let flags = match facts.guest {
        GuestState::On(flags) => flags,
        GuestState::Off => {
            return match (request.run, no_restart) {
                (None, _) => Ok(RevertWay::Off),
                (Some(run), None) => Ok(RevertWay::Restart { run }),
                (Some(_), Some(why)) => {
                    Err(refused(format!("domain {domain} cannot be started after the revert: {why}"))
                        .with_advice("revert it without --running and --paused, and start it yourself"))
                }
            };
        }
        GuestState::Serving => {
            return Err(refused(format!(
                "domain {domain} cannot be reverted while a storage daemon has its disks"
            ))
            .with_advice("end the storage daemon first, then revert"));
        }
    };
    let run = request.run.unwrap_or(Run::if_it(flags.can_run()));
    let no_release = if request.offline {
        Some("--offline was asked for".to_owned())
    } else if facts.record.snapshot.disks.len() == tops.len() {
        facts.pause.why().map(str::to_owned)
    } else {
        facts.abilities.release.why().map(str::to_owned)
    };
    let no_release = no_release
        .or_else(|| facts.abilities.reset.why().map(str::to_owned))
        .or_else(|| tops.iter().find_map(|top| no_swap(facts, top)));
    match (no_release, no_restart) {
        (None, _) => {
            warnings.push(format!(
                "the guest of domain {domain} is reset: what it holds in memory does not fit its disks any more"
            ));
            Ok(RevertWay::Release { run })
        }
        (Some(_), None) => {
            warnings.push(format!("the process of domain {domain} is ended, and the domain is started again"));
            Ok(RevertWay::Restart { run })
        }
        (Some(release), Some(restart)) => Err(refused(format!(
            "domain {domain} cannot be reverted while it runs (its process cannot let go of its disks: {release}; it cannot \
             be ended and started again: {restart})"
        ))
        .with_advice("shut the domain down first, then revert")),
    }
}

/// Why the process that has a disk cannot be made to write to its new image while it lives, as a clause.
fn no_swap(facts: &RevertFacts<'_>, top: &NewTop) -> Option<String> {
    let (name, virtual_size) = (top.disk(), top.virtual_size());
    let disk = facts.inventory.disk(name)?;
    if let Some(why) = disk.swap.why() {
        return Some(format!("disk {name}: {why}"));
    }
    (disk.virtual_size != virtual_size).then(|| {
        format!("disk {name} has {} bytes now, and had {virtual_size} in the snapshot", disk.virtual_size)
    })
}

fn restore(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    memory: &MemoryMeta,
) -> Result<RevertWay, Error> {
    let about = format!("snapshot {} of domain {}", request.name, facts.domain.name);
    let cannot = |why: &str, advice: &str| {
        Err(refused(format!("{about}: the guest's memory cannot be restored: {why}")).with_advice(advice))
    };
    // A toolstack's file holds how the domain is started, too.
    if let Can::No(why) = &facts.abilities.restart
        && memory.way() != MemoryWay::Toolstack
    {
        return cannot(why.as_str(), "mend that, or give the memory up: revert --without-memory");
    }
    if let Can::No(why) = &facts.abilities.restore {
        return cannot(why.as_str(), "mend that, or give the memory up: revert --without-memory");
    }
    // What xl saved names its own requirements, and xl compares them.
    if memory.way() != MemoryWay::Toolstack
        && let Err((why, advice)) = fits(facts, &facts.abilities.hypervisor)
    {
        return cannot(&why, advice);
    }
    let run = request.run.unwrap_or_else(|| ran(facts.record));
    Ok(RevertWay::Restore { memory: memory.clone(), run })
}

/// Whether what is to take the memory fits what ran the domain then.
fn fits(facts: &RevertFacts<'_>, now: &Hypervisor) -> Result<(), (String, &'static str)> {
    let Some(meta) = &facts.record.meta else { return Ok(()) };
    let then = &meta.hypervisor;
    if let (Some(then), Some(now)) = (&then.machine, &now.machine)
        && then != now
    {
        let why = format!("it is of machine type {then}, and the domain has {now} now");
        return Err((why, "give the domain its earlier machine type back"));
    }
    if let (Some(then), Some(now)) = (then.memory_bytes, now.memory_bytes)
        && then != now
    {
        let mib = |bytes: u64| bytes / (1 << 20);
        let why = format!("it is of {} MiB, and the domain has {} MiB now", mib(then), mib(now));
        return Err((why, "give the domain its earlier memory size back"));
    }
    // Where nothing is known of either's devices there is nothing to compare.
    if !then.devices.is_empty() && !now.devices.is_empty() {
        if let Some(gone) = then.devices.iter().find(|device| !now.devices.contains(device)) {
            let why = format!("the guest had the device {gone}, which the domain has not now");
            return Err((why, "give the domain its earlier devices back"));
        }
        if let Some(new) = now.devices.iter().find(|device| !then.devices.contains(device)) {
            let why = format!("the domain has the device {new} now, which the guest had not");
            return Err((why, "give the domain its earlier devices back"));
        }
    }
    if let (Some(then), Some(now)) = (&then.qemu, &now.qemu)
        && let (Some(old), Some(new)) = (version(then), version(now))
        && new < old
    {
        let why = format!("QEMU {then} saved it, and QEMU {now}, which is older, would take it");
        return Err((why, "use a QEMU that is not older"));
    }
    Ok(())
}

/// Major and minor version: stable releases of one minor version take each other's state.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn load(facts: &RevertFacts<'_>, request: &RevertRequest, tops: &[NewTop]) -> Result<RevertWay, Error> {
    let about = format!("snapshot {} of domain {}", request.name, facts.domain.name);
    let give_up = "mend that, or give the memory up: revert --without-memory";
    if let Some(top) = tops.iter().find(|top| matches!(top.made, MadeTop::Overlay(_))) {
        let message = format!(
            "{about} holds the guest's memory inside an image, and its disk {} goes back to what another file holds: they cannot be \
             loaded together",
            top.disk()
        );
        return Err(refused(message).with_advice("give the memory up: revert --without-memory"));
    }
    if let Can::No(why) = &facts.abilities.load {
        return Err(refused(format!("{about}: the memory inside its images cannot be loaded: {why}"))
            .with_advice(give_up));
    }
    // A new image is opened by a new process.
    if let (Some(top), Can::No(why)) = (tops.first(), &facts.abilities.restart) {
        let message = format!(
            "{about}: disk {} has left the image that it was inside, so that the domain has to be started with a copy of that, and cannot be: \
             {why}",
            top.disk()
        );
        return Err(refused(message).with_advice(give_up));
    }
    // The process that there is loads it; where there is none, one is started for it.
    let stays = facts.guest.is_on() && tops.is_empty();
    let taker = if stays { &facts.inventory.hypervisor } else { &facts.abilities.hypervisor };
    if let Err((why, advice)) = fits(facts, taker) {
        return Err(
            refused(format!("{about}: the guest's memory cannot be restored: {why}")).with_advice(advice)
        );
    }
    let tag = request.name.as_str();
    let holds = |snapshots: &[ImageSnapshot]| snapshots.iter().any(|s| s.name == tag && s.vm_state_size > 0);
    let copy_of = |disk: &DiskName| tops.iter().find(|top| top.disk() == disk);
    let state = facts.inventory.disks.iter().find(|disk| match copy_of(&disk.name).map(|top| &top.made) {
        Some(MadeTop::Copy(copy)) => {
            facts.layers.tree.get(&copy.from.file).is_some_and(|node| holds(&node.layer.snapshots))
        }
        _ => holds(&disk.snapshots),
    });
    let Some(state) = state else {
        return Err(refused(format!("{about}: no image holds its memory any more"))
            .with_advice("see what check says"));
    };
    let of_record = |disk: &&crate::Disk| {
        facts.record.snapshot.disks.iter().any(|part| part.device.as_deref() == Some(disk.name.as_str()))
    };
    let disks = facts.inventory.disks.iter().filter(of_record).map(|disk| disk.name.clone()).collect();
    let run = request.run.unwrap_or_else(|| ran(facts.record));
    let inside = MemoryInside { tag: tag.to_owned(), state: state.name.clone(), disks };
    Ok(RevertWay::Load { inside, run })
}

/// What the guest did in the snapshot.
fn ran(record: &Record) -> Run {
    Run::if_it(xlsnap_types::model::StateFlags::from(&record.snapshot).can_run())
}

/// Compares what a memory file says of itself with the domain.
pub(crate) fn header(
    facts: &RevertFacts<'_>,
    request: &RevertRequest,
    memory: &MemoryMeta,
    header: &MemoryHeader,
) -> Result<(), Error> {
    let file = memory.file().unwrap_or_default();
    let about = format!("snapshot {} of domain {}: its memory file {file}", request.name, facts.domain.name);
    let recorded = facts.record.meta.as_ref().and_then(|meta| meta.hypervisor.machine.as_deref());
    let now = facts.abilities.hypervisor.machine.as_deref();
    if let Some(found) = &header.machine {
        for expected in [now, recorded].into_iter().flatten() {
            if found != expected {
                return Err(refused(format!("{about} is of machine type {found}, not {expected}"))
                    .with_advice("give the domain its earlier machine type back, or see what check says"));
            }
        }
    }
    if let Some(found) = header.domain.as_deref().filter(|found| *found != facts.domain.name) {
        return Err(refused(format!("{about} is of domain {found}"))
            .with_advice("restore the domain's own file, or name the domain as it was named then"));
    }
    Ok(())
}
