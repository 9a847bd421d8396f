//! Planning to save a guest's memory.

use uuid::Uuid;
use xlsnap_types::model::{AbsoluteFile, Compression, MemoryWay, PassedOver, StateFlags};

use super::create::token;
use super::refused;
use crate::{
    CreatePlan, DiskPlan, Error, GuestState, Inventory, MemoryPlace, MemoryRequest, MemorySave, MemorySurvey,
    Run, SaveTo, SnapshotAction,
};

/// What planning it is to know.
#[derive(Debug)]
pub(crate) struct MemoryFacts<'a> {
    /// What the domain is called.
    pub(crate) domain: &'a str,
    /// What its guest does.
    pub(crate) was: Run,
    pub(crate) survey: &'a MemorySurvey,
    /// The file that was looked for.
    pub(crate) file: Option<&'a str>,
    /// The operation's own id.
    pub(crate) id: Uuid,
}

/// What the memory will not fit after a revert, as a sentence.
pub(crate) fn left_out(plan: &CreatePlan, inventory: &Inventory) -> Option<String> {
    let writable = |passed: &&PassedOver| {
        inventory.disk(&passed.disk).is_some_and(|disk| !disk.read_only && !disk.removable)
    };
    let disks: Vec<&str> =
        plan.passed_over.iter().filter(writable).map(|passed| passed.disk.as_str()).collect();
    (!disks.is_empty()).then(|| {
        format!(
            "the guest's memory knows disk {} as it is now, and that disk is not part of the snapshot: after a revert the two \
             may not fit",
            disks.join(", ")
        )
    })
}

/// Plans how the memory is saved along with the disks of `plan`.
pub(crate) fn memory(
    facts: &MemoryFacts<'_>,
    plan: &CreatePlan,
    request: &MemoryRequest,
) -> Result<MemorySave, Error> {
    let inside = request.place == MemoryPlace::Inside;
    let way = way(facts, request, inside)?;
    let file = if inside { None } else { Some(place(facts, plan)?) };
    if inside && let Some(disk) = plan.disks.iter().find(|disk| !is_internal(disk)) {
        return Err(refused(format!(
            "the memory of domain {} cannot be inside its images: disk {} is taken externally",
            facts.domain, disk.disk
        ))
        .with_advice(format!("save it to a file, or take disk {} internally", disk.disk)));
    }
    if way == MemoryWay::Toolstack && request.compression != Compression::None {
        return Err(refused(format!(
            "the memory of domain {} cannot be compressed: its toolstack writes the file itself",
            facts.domain
        ))
        .with_advice("leave compression out; the file can be put on a file system that compresses"));
    }
    if inside && request.compression != Compression::None {
        return Err(refused(format!(
            "the memory of domain {} cannot be compressed inside its images",
            facts.domain
        ))
        .with_advice("leave compression out, or save it to a file"));
    }
    let to = match file {
        None => SaveTo::Inside,
        Some(file) => SaveTo::File { file, way, compression: request.compression },
    };
    Ok(MemorySave { to, was: facts.was, token: token(facts.id, 0) })
}

fn is_internal(plan: &DiskPlan) -> bool {
    matches!(plan.action, SnapshotAction::Internal { .. })
}

/// What the guest does whose memory is to be saved.
///
/// # Errors
/// [`crate::Kind::Refused`] where there is no guest with a memory.
pub(crate) fn run_to_save(domain: &str, guest: GuestState) -> Result<Run, Error> {
    let none = |why: &str, advice: &str| {
        Err(refused(format!("domain {domain} has no memory to save: {why}")).with_advice(advice))
    };
    match guest {
        GuestState::Off => none("it is off", "start it first, or take a snapshot of its disks alone"),
        GuestState::Serving => none(
            "a storage daemon has its disks, and there is no guest",
            "take a snapshot of its disks alone",
        ),
        GuestState::On(StateFlags { shutdown: true, .. } | StateFlags { dying: true, .. }) => {
            none("its guest has shut down", "take a snapshot of its disks alone")
        }
        GuestState::On(flags) => Ok(Run::if_it(!flags.paused)),
    }
}

fn way(facts: &MemoryFacts<'_>, request: &MemoryRequest, inside: bool) -> Result<MemoryWay, Error> {
    let fits = |way: &MemoryWay| (*way == MemoryWay::Internal) == inside;
    let wanted = match (request.way, inside) {
        (Some(way), _) if !fits(&way) => {
            let message = format!(
                "the memory of domain {} is asked for {} its images, and in a way ({}) that is not so",
                facts.domain,
                if inside { "inside" } else { "outside" },
                way.word()
            );
            return Err(refused(message).with_advice("leave out one of the two"));
        }
        (Some(way), _) => Some(way),
        (None, true) => Some(MemoryWay::Internal),
        (None, false) => None,
    };
    let found = facts.survey.ways.iter().copied().find(|way| match wanted {
        Some(wanted) => *way == wanted,
        None => fits(way),
    });
    if let Some(way) = found {
        return Ok(way);
    }
    let lacking = facts.survey.lacking.iter().filter(|(way, _)| match wanted {
        Some(wanted) => *way == wanted,
        None => fits(way),
    });
    let whys: Vec<String> = lacking.map(|(way, why)| format!("{}: {why}", way.word())).collect();
    let why = if whys.is_empty() { "its backend has no such way".to_owned() } else { whys.join("; ") };
    let others: Vec<&str> = facts.survey.ways.iter().map(|way| way.word()).collect();
    let advice = if others.is_empty() {
        "take a snapshot of its disks alone".to_owned()
    } else {
        format!("choose another way ({}), or take a snapshot of its disks alone", others.join(", "))
    };
    let how = wanted.map(|way| format!(" in the way {}", way.word())).unwrap_or_default();
    Err(refused(format!("the memory of domain {} cannot be saved{how} now ({why})", facts.domain))
        .with_advice(advice))
}

/// Whether the file can be made and has room.
fn place(facts: &MemoryFacts<'_>, plan: &CreatePlan) -> Result<AbsoluteFile, Error> {
    let file = facts.file.unwrap_or_default();
    let about = format!("the memory of domain {} cannot be saved to {file:?}", facts.domain);
    let Ok(absolute) = AbsoluteFile::new(file) else {
        return Err(refused(format!("{about}: it is not an absolute file name"))
            .with_advice("give the file in full, from the root directory"));
    };
    let used = plan.disks.iter().any(|disk| {
        disk.image == file
            || matches!(&disk.action, SnapshotAction::External(overlay) if overlay.file == file)
    });
    if facts.survey.taken || used {
        return Err(refused(format!("{about}: it is there already")).with_advice("name another file"));
    }
    if let Some(why) = facts.survey.place.why() {
        return Err(refused(format!("{about}: {why}"))
            .with_advice("make its directory first, or name a file in one that is there"));
    }
    if let Some(free) = facts.survey.free.filter(|free| *free < facts.survey.needed) {
        let message =
            format!("{about}: it may take {} bytes, and {free} are free there", facts.survey.needed);
        return Err(refused(message).with_advice("make room, or name a file on a larger file system"));
    }
    Ok(absolute)
}
