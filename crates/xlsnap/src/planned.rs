//! A plan together with what would carry it out, for a dry run.

use std::path::PathBuf;

use xlsnap_orchestrator::{Action, CreatePlan, Deed, DeletePlan, RevertPlan};

use crate::Reach;

/// A plan, and what it would be carried out by.
#[derive(Debug, Clone)]
pub struct Planned<P> {
    /// The plan.
    pub plan: P,
    /// How the domain is reached now; `None` when nobody knows its disks.
    pub reach: Option<Reach>,
    /// Where the domain's records are.
    pub records: PathBuf,
    /// The domain's file, if it has one.
    pub file: Option<PathBuf>,
}

/// One line of a dry run: what would be done to which image or file, by which command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What would be done.
    pub what: String,
    /// The image, file or directory that it would touch.
    pub touches: Option<String>,
    /// The command, or `xlsnap` itself.
    pub by: &'static str,
}

impl Planned<CreatePlan> {
    /// Its lines, in the order of the effects.
    pub fn steps(&self) -> Vec<Step> {
        self.of(self.plan.actions())
    }
}

impl Planned<DeletePlan> {
    /// Its lines, in the order of the effects.
    pub fn steps(&self) -> Vec<Step> {
        self.of(self.plan.actions())
    }
}

impl Planned<RevertPlan> {
    /// Its lines, in the order of the effects.
    pub fn steps(&self) -> Vec<Step> {
        self.of(self.plan.actions())
    }
}

impl<P> Planned<P> {
    fn of(&self, actions: Vec<Action>) -> Vec<Step> {
        let mut steps = Vec::with_capacity(actions.len());
        for Action { deed, what, touches } in actions {
            let touches = touches.or_else(|| Some(self.records.display().to_string()));
            steps.push(Step { what, touches, by: self.by(deed) });
            if let (Deed::TakeExternal, Some(file)) = (deed, &self.file) {
                let what = "write down that it is the disk's image from the next start on".to_owned();
                steps.push(Step { what, touches: Some(file.display().to_string()), by: "xlsnap" });
            }
        }
        steps
    }

    fn by(&self, deed: Deed) -> &'static str {
        let live = matches!(self.reach, Some(Reach::Monitor { .. } | Reach::Xen { domid: Some(_) }));
        if matches!(self.reach, Some(Reach::Xen { .. })) {
            match deed {
                Deed::SaveMemory => return "xl save -p, and afterwards xl unpause",
                Deed::Destroy => return "xl destroy",
                Deed::Start => return "xl create -p, xl unpause",
                Deed::RestoreMemory => return "xl restore -p, xl unpause",
                _ => {}
            }
        }
        match (deed, live) {
            (Deed::MakeOverlay, _) => "qemu-img create",
            (Deed::TakeInternal, true) => "QMP transaction: blockdev-snapshot-internal-sync",
            (Deed::TakeInternal, false) => "qemu-img snapshot -c",
            (Deed::TakeExternal, true) => "QMP blockdev-add, transaction: blockdev-snapshot",
            (Deed::DeleteInternal, true) => "QMP blockdev-snapshot-delete-internal-sync",
            (Deed::DeleteInternal, false) => "qemu-img snapshot -d",
            (Deed::RevertInternal, _) => "qemu-img snapshot -a",
            (Deed::Freeze, _) => "guest-fsfreeze-freeze and -thaw of the guest's agent",
            (Deed::SaveMemory, _) => "QMP migrate, or snapshot-save",
            (Deed::RemoveMemory, _) => "xlsnap",
            (Deed::Destroy, _) => "QMP quit, or a signal",
            (Deed::Start, _) => "the domain's start",
            (Deed::RestoreMemory, _) => "the domain's start with -incoming, QMP migrate-incoming",
            (Deed::LoadInside, _) => "QMP snapshot-load",
            (Deed::Release, _) => "QMP stop, blockdev-set-active",
            (Deed::TakeBack, _) => "QMP blockdev-set-active, system_reset",
            // Of a domain that is off, only the description changes.
            (Deed::TakeExternal, false) | (Deed::Record, _) => "xlsnap",
        }
    }
}
