//! Clauses that several answers share.

use std::borrow::Cow;
use std::io::{self, Write};

use xlsnap::{PendingRecovery, Recovered, Undo};
use xlsnap_types::model::{Consistency, StateFlags};

use super::style::Style;
use super::text::{bytes, visible};
use crate::answer::{SnapshotDiskForm, SnapshotForm};
use crate::failure::Failure;

/// What was finished before, and what is worth knowing although it worked.
pub(crate) fn notes(
    out: &mut dyn Write,
    recovered: Option<&Recovered>,
    warnings: &[String],
) -> Result<(), Failure> {
    if let Some(recovered) = recovered {
        writeln!(out, "first: {}", visible(&recovered.to_string()))?;
        for warning in &recovered.warnings {
            writeln!(out, "note: {}", visible(warning))?;
        }
    }
    for warning in warnings {
        writeln!(out, "note: {}", visible(warning))?;
    }
    Ok(())
}

/// Tells that an interrupted operation on the domain waits for recovery, if one does.
pub(crate) fn pending(
    out: &mut dyn Write,
    style: Style,
    domain: &str,
    pending: Option<&PendingRecovery>,
) -> io::Result<()> {
    let Some(pending) = pending else { return Ok(()) };
    let (lead, what) = (style.bad("recovery pending:"), pending.to_string());
    writeln!(out, "{lead} {}; to finish or undo it: xlsnap recover {}", visible(&what), visible(domain))
}

/// Whether something can be done, and how, or why not.
pub(crate) fn can(undo: &Undo) -> Cow<'_, str> {
    match undo {
        Undo::Possible { how } => visible(how),
        Undo::Impossible { why, instead } => {
            Cow::Owned(format!("not possible: {}; {}", visible(why), visible(instead)))
        }
    }
}

/// `vda, vdb (internal); vdc (external: /file)`.
pub(crate) fn disks(disks: &[SnapshotDiskForm<'_>]) -> String {
    let internal: Vec<Cow<'_, str>> =
        disks.iter().filter(|disk| disk.file.is_none()).map(|disk| visible(disk.disk)).collect();
    let mut parts = Vec::new();
    if !internal.is_empty() {
        parts.push(format!("{} (internal)", internal.join(", ")));
    }
    parts.extend(disks.iter().filter_map(|disk| {
        let state = disk.image.map(|image| format!(", its state is in {}", visible(image)));
        Some(format!(
            "{} (external: writes go to {}{})",
            visible(disk.disk),
            visible(disk.file?),
            state.unwrap_or_default()
        ))
    }));
    if parts.is_empty() { "none".to_owned() } else { parts.join("; ") }
}

/// The memory of a snapshot: where it is, how large, how it was saved.
pub(crate) fn memory(snapshot: &SnapshotForm<'_>) -> Option<String> {
    let place = match (snapshot.memory, snapshot.saved_memory) {
        (None, None) => return None,
        (Some(file), _) => visible(file),
        (None, Some(_)) => Cow::Borrowed("inside the images"),
    };
    Some(match snapshot.saved_memory {
        Some(saved) => format!("{place} ({}, {})", bytes(saved.bytes), saved.way().word()),
        None => place.into_owned(),
    })
}

/// The domain's state before a snapshot, in one word.
pub(crate) fn state(state: StateFlags) -> &'static str {
    match state {
        StateFlags { dying: true, .. } => "dying",
        StateFlags { shutdown: true, .. } => "shut down",
        StateFlags { paused: true, .. } => "paused",
        StateFlags { running: true, .. } => "running",
        StateFlags { blocked: true, .. } => "idle",
        _ => "off",
    }
}

/// What a guest finds after a revert, in a clause.
pub(crate) fn consistency(consistency: Option<Consistency>) -> &'static str {
    match consistency {
        Some(Consistency::Offline) => "at rest",
        Some(Consistency::Crash) => "as after a power cut",
        Some(Consistency::FileSystem) => "file systems frozen",
        Some(Consistency::Memory) => "with memory",
        _ => "not recorded",
    }
}
