//! What a look tells of a snapshot: whether it was taken, and which operation stored its record.

use uuid::Uuid;
use xlsnap_conf_store::Record;

use crate::journal::Draft;
use crate::{GuestState, Inventory, NameSwap, SnapshotAction};

/// Whether every disk has its part of the snapshot. The plan refused names that were there before, so a snapshot of that
/// name is ours. While the domain is off, an overlay counts as taken: it is empty and equals its base, or it holds what the
/// guest wrote before it ended.
pub(crate) fn is_taken(actions: &[SnapshotAction], guest: GuestState, inventory: &Inventory) -> bool {
    actions.iter().all(|action| match action {
        SnapshotAction::Internal { disk, tag, .. } => {
            inventory.disk(disk).is_some_and(|disk| disk.named(tag).next().is_some())
        }
        SnapshotAction::External(overlay) => {
            guest == GuestState::Off
                || inventory.disk(&overlay.disk).is_some_and(|disk| disk.image == overlay.file)
        }
    })
}

/// Whether a disk writes to the new file of an exchange of names.
pub(crate) fn is_named(names: &NameSwap, inventory: &Inventory) -> bool {
    inventory.disk(&names.old.disk).is_some_and(|disk| {
        disk.image == names.kept() && disk.identity.is_some() && !names.old.is(disk.identity)
    })
}

/// Whether an image holds the memory of the snapshot.
pub(crate) fn holds_memory(actions: &[SnapshotAction], inventory: &Inventory) -> bool {
    actions.iter().any(|action| {
        let SnapshotAction::Internal { disk, tag, .. } = action else { return false };
        inventory.disk(disk).is_some_and(|disk| {
            disk.snapshots.iter().any(|snapshot| snapshot.name == *tag && snapshot.vm_state_size > 0)
        })
    })
}

/// Whether a record is the one that an operation was to store, and not another writer's of the same name.
pub(crate) fn is_ours(record: &Record, draft: &Draft, id: Uuid) -> bool {
    let Some(meta) = &record.meta else { return false };
    match draft.meta.operation {
        Some(_) => meta.operation == Some(id),
        // A draft of format 1 does not name its operation.
        None => {
            record.snapshot.creation_time == draft.creation_time
                && record.snapshot.description.as_deref().unwrap_or_default() == draft.description
                && meta.disks.iter().map(|disk| (&disk.disk, &disk.image)).eq(draft
                    .meta
                    .disks
                    .iter()
                    .map(|disk| (&disk.disk, &disk.image)))
        }
    }
}
