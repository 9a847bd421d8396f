//! How a creation ends: whether it was done is told from the disks, and so it is undone.

use uuid::Uuid;
use xlsnap_types::model::{ImageFormat, MemoryWay};

use super::memory::no_backend;
use crate::journal::{CreatePhase, Draft, Intent, Journal};
use crate::session::{Session, chain};
use crate::{
    Disks, Effect, Error, GuestState, Inventory, Kind, Overlay, PortError, PortErrorKind, SnapshotAction,
};

/// Whether every disk has its part of the snapshot. The plan refused names that were there before, so a snapshot of that
/// name is ours. While the domain is off, an overlay counts as taken: it is empty and equals its base, or it holds what the
/// guest wrote before it ended.
pub(crate) fn judge(draft: &Draft, guest: GuestState, inventory: &Inventory) -> bool {
    let inside = draft.memory.as_ref().is_some_and(|save| save.way == MemoryWay::Internal);
    if inside && !holds_memory(draft, inventory) {
        return false;
    }
    draft.actions.iter().all(|action| match action {
        SnapshotAction::Internal { disk, tag } => {
            inventory.disk(disk).is_some_and(|disk| disk.named(tag).next().is_some())
        }
        SnapshotAction::External(overlay) => guest == GuestState::Off || attached(overlay, inventory),
    })
}

/// Whether an image holds the memory of the snapshot.
fn holds_memory(draft: &Draft, inventory: &Inventory) -> bool {
    let snapshots = inventory.disks.iter().flat_map(|disk| &disk.snapshots);
    snapshots.into_iter().any(|snapshot| snapshot.name == draft.name.as_str() && snapshot.vm_state_size > 0)
}

fn attached(overlay: &Overlay, inventory: &Inventory) -> bool {
    inventory.disk(&overlay.disk).is_some_and(|disk| disk.image == overlay.file)
}

/// Makes the domain's description name the overlays.
pub(crate) async fn adopt_overlays(disks: &dyn Disks, draft: &Draft) -> Result<(), PortError> {
    for action in &draft.actions {
        if let SnapshotAction::External(overlay) = action {
            disks.adopt(&overlay.disk, &overlay.file, &overlay.format).await?;
        }
    }
    Ok(())
}

/// Puts everything back, and removes the journal. Done again, it finishes what is left.
///
/// An overlay that takes a guest's writes stays, because they are in it; what was kept so is returned as sentences.
pub(crate) async fn undo(session: &mut Session<'_>, draft: &Draft, id: Uuid) -> Result<Vec<String>, Error> {
    let domain = session.domain;
    let about = format!("the creation of snapshot {} of domain {} cannot be undone", draft.name, domain.name);
    let unwritten = |e| Error::new(Kind::RecoveryPending, Effect::Unknown, about.clone()).with_source(e);
    // First of all: a guest that stands still for it goes on, whatever else fails.
    if let Some(save) = &draft.memory {
        let Some(memory) = session.ports.memory else { return Err(no_backend(&domain.name)) };
        memory.abandon(save).await.map_err(|e| unwritten_port(&about, e))?;
    }
    if draft.actions.is_empty() {
        session.set_journal(None).await.map_err(unwritten)?;
        return Ok(Vec::new());
    }
    let intent = Intent::Create { phase: CreatePhase::Undoing, draft: Box::new(draft.clone()) };
    session.set_journal(Some(&Journal::new(id, intent))).await.map_err(unwritten)?;
    let guest = session.guest().await?;
    let inventory = session.inventory().await?;
    let mut kept = Vec::new();
    let mut left: Vec<PortError> = Vec::new();
    for action in &draft.actions {
        let undone = match action {
            SnapshotAction::Internal { disk, tag } => delete_tag(session, &inventory, disk, tag).await,
            SnapshotAction::External(overlay)
                if guest != GuestState::Off && attached(overlay, &inventory) =>
            {
                kept.push(format!(
                    "disk {} goes on writing to {}, which stays over {}",
                    overlay.disk, overlay.file, overlay.base
                ));
                session.ports.disks.adopt(&overlay.disk, &overlay.file, &overlay.format).await
            }
            SnapshotAction::External(overlay) => discard(session, &inventory, overlay).await,
        };
        left.extend(undone.err());
    }
    if left.is_empty() {
        session.set_journal(None).await.map_err(unwritten)?;
        return Ok(kept);
    }
    let others: Vec<String> = left.iter().skip(1).map(|e| chain(e)).collect();
    let others = if others.is_empty() { String::new() } else { format!(" (and: {})", others.join("; ")) };
    let first = left.swap_remove(0);
    Err(Error::new(Kind::RecoveryPending, Effect::Unknown, format!("{about}{others}")).with_source(first))
}

fn unwritten_port(about: &str, cause: PortError) -> Error {
    Error::new(Kind::RecoveryPending, Effect::Unknown, about.to_owned()).with_source(cause)
}

async fn delete_tag(
    session: &Session<'_>,
    inventory: &Inventory,
    disk: &xlsnap_types::model::DiskName,
    tag: &str,
) -> Result<(), PortError> {
    let Some(found) = inventory.disk(disk) else {
        let message =
            format!("disk {disk} is no longer a disk of the domain, and may hold the snapshot {tag}");
        return Err(PortError::new(PortErrorKind::NotFound, Effect::None, message));
    };
    let named: Vec<_> = found.named(tag).collect();
    match named.as_slice() {
        [] => Ok(()),
        [snapshot] => match session.ports.disks.delete(disk, snapshot).await {
            Err(e) if e.kind == PortErrorKind::NotFound => Ok(()),
            done => done,
        },
        _ => {
            let message = format!("{} (disk {disk}) holds more than one snapshot {tag}", found.image);
            Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
        }
    }
}

/// Discards an overlay that takes nobody's writes.
async fn discard(session: &Session<'_>, inventory: &Inventory, overlay: &Overlay) -> Result<(), PortError> {
    let disks = session.ports.disks;
    if attached(overlay, inventory) {
        let format: &ImageFormat = &overlay.base_format;
        disks.adopt(&overlay.disk, &overlay.base, format).await?;
    }
    disks.discard_overlay(overlay).await
}
