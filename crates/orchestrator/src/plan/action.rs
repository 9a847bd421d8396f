//! Plans for people: every image and file that an operation would touch.

use xlsnap_types::model::SnapshotName;

use super::{CreatePlan, DeletePlan, RevertPlan};
use crate::SnapshotAction;

/// One line of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What is done, in words of the domain.
    pub what: String,
    /// The image or file that it touches.
    pub touches: Option<String>,
}

impl Action {
    fn on(file: &str, what: String) -> Self {
        Self { what, touches: Some(file.to_owned()) }
    }

    fn record(what: String) -> Self {
        Self { what, touches: None }
    }
}

impl CreatePlan {
    /// The plan as lines, in the order of the effects.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for plan in &self.disks {
            if let SnapshotAction::External(overlay) = &plan.action {
                actions.push(Action::on(
                    &overlay.file,
                    format!("make an empty overlay for disk {} over {}", plan.disk, overlay.base),
                ));
            }
        }
        for plan in &self.disks {
            actions.push(match &plan.action {
                SnapshotAction::Internal { tag, .. } => {
                    Action::on(&plan.image, format!("take the internal snapshot {tag} of disk {}", plan.disk))
                }
                SnapshotAction::External(overlay) => Action::on(
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
