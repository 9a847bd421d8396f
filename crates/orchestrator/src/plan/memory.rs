//! Planning to save a guest's memory.

use uuid::Uuid;
use xlsnap_types::model::{Compression, MemoryWay, StateFlags};

use super::create::token;
use super::refused;
use crate::{
    CreatePlan, DiskPlan, Error, GuestState, MemoryPlace, MemoryRequest, MemorySave, MemorySurvey,
    SnapshotAction,
};

/// What planning it is to know.
#[derive(Debug)]
pub(crate) struct MemoryFacts<'a> {
    /// What the domain is called.
    pub(crate) domain: &'a str,
    pub(crate) guest: GuestState,
    pub(crate) survey: &'a MemorySurvey,
    /// The file that was looked for.
    pub(crate) file: Option<&'a str>,
    /// The operation's own id.
    pub(crate) id: Uuid,
}

/// Plans how the memory is saved along with the disks of `plan`.
pub(crate) fn memory(
    facts: &MemoryFacts<'_>,
    plan: &CreatePlan,
    request: &MemoryRequest,
) -> Result<MemorySave, Error> {
    let was_running = runs(facts)?;
    let inside = request.place == MemoryPlace::Inside;
    let way = way(facts, request, inside)?;
    if inside {
        if let Some(disk) = plan.disks.iter().find(|disk| !is_internal(disk)) {
            return Err(refused(format!(
                "the memory of domain {} cannot be inside its images: disk {} is taken externally",
                facts.domain, disk.disk
            ))
            .with_advice(format!("save it to a file, or take disk {} internally", disk.disk)));
        }
    } else {
        place(facts, plan)?;
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
    let file = if inside { None } else { facts.file.map(str::to_owned) };
    Ok(MemorySave { way, file, compression: request.compression, was_running, token: token(facts.id, 0) })
}

fn is_internal(plan: &DiskPlan) -> bool {
    matches!(plan.action, SnapshotAction::Internal { .. })
}

/// Whether the guest runs; refuses where there is none.
fn runs(facts: &MemoryFacts<'_>) -> Result<bool, Error> {
    let none = |why: &str, advice: &str| {
        Err(refused(format!("domain {} has no memory to save: {why}", facts.domain)).with_advice(advice))
    };
    match facts.guest {
        GuestState::Off => none("it is off", "start it first, or take a snapshot of its disks alone"),
        GuestState::Serving => none(
            "a storage daemon has its disks, and there is no guest",
            "take a snapshot of its disks alone",
        ),
        GuestState::On(StateFlags { shutdown: true, .. } | StateFlags { dying: true, .. }) => {
            none("its guest has shut down", "take a snapshot of its disks alone")
        }
        GuestState::On(flags) => Ok(!flags.paused),
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
fn place(facts: &MemoryFacts<'_>, plan: &CreatePlan) -> Result<(), Error> {
    let file = facts.file.unwrap_or_default();
    let about = format!("the memory of domain {} cannot be saved to {file:?}", facts.domain);
    if !file.starts_with('/')
        || file.ends_with('/')
        || file.len() > 4095
        || file.chars().any(char::is_control)
    {
        return Err(refused(format!("{about}: it is not an absolute file name"))
            .with_advice("give the file in full, from the root directory"));
    }
    let used = plan.disks.iter().any(|disk| {
        disk.image == file
            || matches!(&disk.action, SnapshotAction::External(overlay) if overlay.file == file)
    });
    if facts.survey.taken || used {
        return Err(refused(format!("{about}: it is there already")).with_advice("name another file"));
    }
    if let Some(why) = &facts.survey.no_place {
        return Err(refused(format!("{about}: {why}"))
            .with_advice("make its directory first, or name a file in one that is there"));
    }
    if let Some(free) = facts.survey.free.filter(|free| *free < facts.survey.needed) {
        let message =
            format!("{about}: it may take {} bytes, and {free} are free there", facts.survey.needed);
        return Err(refused(message).with_advice("make room, or name a file on a larger file system"));
    }
    Ok(())
}
