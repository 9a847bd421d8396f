//! Plans for people: every image and file that an operation would touch.

use xlsnap_types::model::SnapshotName;

use super::{CreatePlan, DeletePlan, RevertPlan};
use crate::SnapshotAction;

/// What an [`Action`] is, for a backend to say by what it does that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deed {
    /// The empty file of an external snapshot is made.
    MakeOverlay,
    /// An internal snapshot is taken.
    TakeInternal,
    /// An overlay takes a disk's writes from now on.
    TakeExternal,
    /// An internal snapshot is deleted.
    DeleteInternal,
    /// A disk goes back to an internal snapshot.
    RevertInternal,
    /// Something is written down.
    Record,
}

/// One line of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What kind of thing it is.
    pub deed: Deed,
    /// What is done, in words of the domain.
    pub what: String,
    /// The image or file that it touches.
    pub touches: Option<String>,
}

impl Action {
    fn on(deed: Deed, file: &str, what: String) -> Self {
        Self { deed, what, touches: Some(file.to_owned()) }
    }

    fn record(what: String) -> Self {
        Self { deed: Deed::Record, what, touches: None }
    }
}

impl CreatePlan {
    /// The plan as lines, in the order of the effects.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for plan in &self.disks {
            if let SnapshotAction::External(overlay) = &plan.action {
                actions.push(Action::on(
                    Deed::MakeOverlay,
                    &overlay.file,
                    format!("make an empty overlay for disk {} over {}", plan.disk, overlay.base),
                ));
            }
        }
        for plan in &self.disks {
            actions.push(match &plan.action {
                SnapshotAction::Internal { tag, .. } => Action::on(
                    Deed::TakeInternal,
                    &plan.image,
                    format!("take the internal snapshot {tag} of disk {}", plan.disk),
                ),
                SnapshotAction::External(overlay) => Action::on(
                    Deed::TakeExternal,
                    &overlay.file,
                    format!("direct the writes of disk {} to it; {} stays as it is", plan.disk, plan.image),
                ),
            });
        }
        actions.push(Action::record(format!("store the record of snapshot {}", self.name)));
        actions
    }
}

impl DeletePlan {
    /// The plan as lines, in the order of the effects.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for deletion in &self.snapshots {
            actions.extend(deletion.disks.iter().map(|target| {
                Action::on(
                    Deed::DeleteInternal,
                    &target.image,
                    format!(
                        "delete the internal snapshot {} (id {}) of disk {}",
                        target.snapshot.name, target.snapshot.id, target.disk
                    ),
                )
            }));
            actions.push(Action::record(format!("delete the record of snapshot {}", deletion.name)));
        }
        actions.extend(self.reparented.iter().map(|(name, parent)| {
            let to = parent.as_ref().map_or("none", SnapshotName::as_str);
            Action::record(format!("change the parent in the record of snapshot {name} to {to}"))
        }));
        if let Some(current) = &self.current {
            let to = current.as_ref().map_or("none", SnapshotName::as_str);
            actions.push(Action::record(format!("change the current snapshot to {to}")));
        }
        actions
    }
}

impl RevertPlan {
    /// The plan as lines, in the order of the effects.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = self.safety.as_ref().map(CreatePlan::actions).unwrap_or_default();
        actions.extend(self.disks.iter().map(|target| {
            Action::on(
                Deed::RevertInternal,
                &target.image,
                format!(
                    "revert disk {} to the internal snapshot {} (id {})",
                    target.disk, target.snapshot.name, target.snapshot.id
                ),
            )
        }));
        actions.push(Action::record(format!("change the current snapshot to {}", self.name)));
        actions
    }
}
