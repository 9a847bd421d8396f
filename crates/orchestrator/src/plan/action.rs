//! Plans for people: every image and file that an operation would touch.

use xlsnap_types::model::SnapshotName;

use super::{CreatePlan, DeletePlan, RevertPlan, RevertWay};
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
    /// The guest's file systems are frozen, or let go.
    Freeze,
    /// The guest's memory is saved to a file, or inside the images.
    SaveMemory,
    /// A memory file is removed.
    RemoveMemory,
    /// The domain's process is ended.
    Destroy,
    /// The domain is started.
    Start,
    /// The domain is started with the memory of a file.
    RestoreMemory,
    /// Memory and disks come back from inside the images.
    LoadInside,
    /// The process lets go of its disks.
    Release,
    /// The process takes its disks back, and the guest is reset.
    TakeBack,
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
        if self.quiesce.is_some() {
            actions.push(Action {
                deed: Deed::Freeze,
                what: "freeze the guest's file systems, and let them go after the snapshot".to_owned(),
                touches: Some("the guest".to_owned()),
            });
        }
        if let Some(save) = &self.memory {
            let what = format!("save the guest's memory ({})", save.way.word());
            let touches = save.file.clone().or_else(|| self.disks.first().map(|disk| disk.image.clone()));
            actions.push(Action { deed: Deed::SaveMemory, what, touches });
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
            actions.extend(deletion.memory.as_deref().map(|file| {
                Action::on(
                    Deed::RemoveMemory,
                    file,
                    format!("remove the memory of snapshot {}", deletion.name),
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
        let process = |deed, what: &str| Action {
            deed,
            what: what.to_owned(),
            touches: Some("the domain's process".to_owned()),
        };
        let then =
            |run: bool, what: &str| format!("{what}; {}", if run { "it runs" } else { "it stays paused" });
        match &self.way {
            RevertWay::Off => {}
            RevertWay::Release { .. } => {
                actions
                    .push(process(Deed::Release, "stop the guest, and let its process let go of its disks"));
            }
            RevertWay::Restart { .. } | RevertWay::Restore { .. } => {
                actions.push(process(Deed::Destroy, "end the domain's process, if it has one"));
            }
            RevertWay::Load { inside, run } => {
                actions.push(process(
                    Deed::LoadInside,
                    &then(*run, &format!("load memory and disks of {} from inside the images", inside.tag)),
                ));
            }
        }
        let by_itself = matches!(self.way, RevertWay::Load { .. });
        actions.extend(self.disks.iter().filter(|_| !by_itself).map(|target| {
            Action::on(
                Deed::RevertInternal,
                &target.image,
                format!(
                    "revert disk {} to the internal snapshot {} (id {})",
                    target.disk, target.snapshot.name, target.snapshot.id
                ),
            )
        }));
        match &self.way {
            RevertWay::Off | RevertWay::Load { .. } => {}
            RevertWay::Release { run } => {
                let what = then(*run, "give the process its disks back, and reset the guest");
                actions.push(process(Deed::TakeBack, &what));
            }
            RevertWay::Restart { run } => {
                actions.push(process(Deed::Start, &then(*run, "start the domain from its disks")));
            }
            RevertWay::Restore { memory, run } => {
                let file = memory.file.clone().unwrap_or_default();
                let what = then(*run, "start the domain with the memory of the snapshot");
                actions.push(Action::on(Deed::RestoreMemory, &file, what));
            }
        }
        actions.push(Action::record(format!("change the current snapshot to {}", self.name)));
        actions
    }
}
