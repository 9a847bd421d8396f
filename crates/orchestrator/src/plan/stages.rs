//! The lists of stages, one function an operation.

use uuid::Uuid;
use xlsnap_types::model::{DiskName, SnapshotName};

use super::{NewParent, NewTop, Reverting, SnapshotDeletion};
use crate::journal::Draft;
use crate::step::{Adoption, Does, Ended, Expected, ImageFile, ImageTarget, LayerNote, Stage, Step};
use crate::{LayerFile, LayerSnapshot, NameSwap, Overlay, RevertWay, Run, SaveTo, SnapshotAction};

/// A list under way.
struct List {
    domain: Uuid,
    stages: Vec<Stage>,
}

impl List {
    fn new(domain: Uuid) -> Self {
        Self { domain, stages: Vec::new() }
    }

    fn step(&self, does: Does) -> Step {
        Step { domain: self.domain, does }
    }

    fn one(&mut self, does: Does) {
        self.stages.push(Stage::one(self.domain, does));
    }

    fn each(&mut self, all: impl IntoIterator<Item = Does>) {
        for does in all {
            self.one(does);
        }
    }

    fn side_by_side(&mut self, all: impl IntoIterator<Item = Does>) {
        let steps: Vec<Step> = all.into_iter().map(|does| self.step(does)).collect();
        if !steps.is_empty() {
            self.stages.push(Stage::of(steps));
        }
    }

    fn at_once(&mut self, all: impl IntoIterator<Item = Does>) {
        let steps: Vec<Step> = all.into_iter().map(|does| self.step(does)).collect();
        if !steps.is_empty() {
            self.stages.push(Stage::AtOnce(steps));
        }
    }

    fn take(&mut self, actions: &[SnapshotAction]) {
        self.at_once(actions.iter().cloned().map(Does::Take));
    }

    fn look_for(&mut self, actions: &[SnapshotAction], inside: bool) {
        self.one(Does::Look(Expected::Taken { actions: actions.to_vec(), inside }));
    }

    /// Gives new files the names of the disks' images; where a process has these open, it closes them meanwhile.
    fn name(&mut self, swaps: &[NameSwap], on: bool) {
        self.each(swaps.iter().filter(|_| on).map(|names| Does::Detach(names.old.clone())));
        self.each(swaps.iter().cloned().map(Does::SwapNames));
        let top = |names: &NameSwap| Does::SwapTop { to: names.top(), from: names.old.clone() };
        self.each(swaps.iter().filter(|_| on).map(top));
    }

    fn adopt(&mut self, actions: &[SnapshotAction]) {
        self.side_by_side(overlays(actions).map(|overlay| {
            Does::Adopt(Adoption {
                disk: overlay.disk.clone(),
                file: overlay.file.clone(),
                format: overlay.format.clone(),
                was: None,
            })
        }));
    }
}

fn overlays(actions: &[SnapshotAction]) -> impl Iterator<Item = &Overlay> {
    actions.iter().filter_map(|action| match action {
        SnapshotAction::External(overlay) => Some(overlay),
        SnapshotAction::Internal { .. } => None,
    })
}

/// The new files that take the names of the disks' images.
#[derive(Debug, Default)]
pub(crate) struct Naming {
    pub(crate) swaps: Vec<NameSwap>,
    /// What the guest does; `None` when no process has the disks.
    pub(crate) was: Option<Run>,
    /// The steps on records of other snapshots that name the files.
    pub(crate) followed: Vec<Stage>,
}

impl Naming {
    /// Whether the disk writes to its overlay by the exchange of names alone.
    fn is_of(&self, disk: &DiskName) -> bool {
        self.swaps.iter().any(|names| names.old.disk == *disk)
    }
}

/// Makes a snapshot. The commit point is the storing of its record. Where overlays take the names of images, the guest stands still from
/// before the snapshot until the disks write to them, so that up to then nothing is written that could not be given up.
pub(crate) fn creation_stages(
    domain: Uuid,
    draft: Draft,
    naming: Naming,
    layers: Vec<LayerNote>,
) -> Vec<Stage> {
    let mut list = List::new(domain);
    list.side_by_side(overlays(&draft.actions).cloned().map(Does::MakeLayer));
    list.each(naming.swaps.iter().cloned().map(Does::ReadyNames));
    list.each(draft.quiesced.map(|bound| Does::Freeze { bound }));
    let taken: Vec<SnapshotAction> =
        draft.actions.iter().filter(|action| !naming.is_of(action.disk())).cloned().collect();
    let on = naming.was.is_some();
    match &draft.memory {
        None => {
            let stopped = naming.was.filter(|was| was.runs() && !naming.swaps.is_empty());
            list.each(stopped.map(|was| Does::StopGuest { was }));
            list.take(&taken);
            list.name(&naming.swaps, on);
            list.each(stopped.map(|_| Does::ResumeGuest));
        }
        Some(save) if save.to == SaveTo::Inside => {
            list.one(Does::TakeInside { save: save.clone(), actions: draft.actions.clone() });
        }
        Some(save) => {
            list.one(Does::BeginMemory(save.clone()));
            list.take(&taken);
            list.name(&naming.swaps, on);
            list.one(Does::RunOn(save.clone()));
            list.one(Does::FinishMemory(save.clone()));
        }
    }
    list.each(draft.quiesced.map(|bound| Does::Thaw { bound }));
    if !taken.is_empty() {
        list.look_for(&taken, draft.memory.as_ref().is_some_and(|save| save.to == SaveTo::Inside));
    }
    if !naming.swaps.is_empty() {
        list.one(Does::Look(Expected::Named(naming.swaps)));
    }
    list.adopt(&taken);
    let (to, from) = (Some(draft.name.clone()), draft.meta.parent.clone());
    list.one(Does::StoreRecord(Box::new(draft)));
    list.one(Does::SetCurrent { to, from });
    list.stages.extend(Stage::gathered(naming.followed));
    list.each((!layers.is_empty()).then_some(Does::NoteLayers { add: layers, remove: Vec::new() }));
    list.stages
}

/// Takes snapshots of disks that no record names: the design's `libxl_disk_snapshot_create`.
pub(crate) fn disk_stages(domain: Uuid, actions: &[SnapshotAction]) -> Vec<Stage> {
    let mut list = List::new(domain);
    list.side_by_side(overlays(actions).cloned().map(Does::MakeLayer));
    list.take(actions);
    list.look_for(actions, false);
    list.adopt(actions);
    list.stages
}

/// Makes a record of what is in the images already. The commit point is the storing of it.
pub(crate) fn adopting_stages(domain: Uuid, draft: Draft) -> Vec<Stage> {
    vec![Stage::one(domain, Does::StoreRecord(Box::new(draft)))]
}

/// Deletes what no record names: snapshots inside images, or a memory file with the name of what it is of.
pub(crate) fn orphan_stages(
    domain: Uuid,
    disks: &[ImageTarget],
    file: Option<(&str, SnapshotName)>,
) -> Vec<Stage> {
    let mut list = List::new(domain);
    list.side_by_side(disks.iter().cloned().map(Does::DeleteInside));
    list.each(file.map(|(file, snapshot)| Does::RemoveMemory { file: file.to_owned(), snapshot }));
    list.stages
}

/// Deletes snapshots. The commit point of each is the removal of its record; from its first image on there is no way back.
pub(crate) fn deletion_stages(
    domain: Uuid,
    deletions: &[SnapshotDeletion],
    parents: &[NewParent],
    current: Option<(&SnapshotName, Option<SnapshotName>)>,
) -> Vec<Stage> {
    let mut list = List::new(domain);
    for SnapshotDeletion { name, disks, memory, .. } in deletions {
        list.side_by_side(disks.iter().cloned().map(Does::DeleteInside));
        // After the disks: without its disks a memory is of no use.
        list.each(memory.clone().map(|file| Does::RemoveMemory { file, snapshot: name.clone() }));
        list.each(
            parents
                .iter()
                .filter(|change| change.old == *name)
                .map(|change| Does::SetParent { snapshot: change.child.clone(), parent: change.new.clone() }),
        );
        if let Some((current, to)) = current.as_ref().filter(|(current, _)| *current == name) {
            list.one(Does::SetCurrent { to: to.clone(), from: Some((*current).clone()) });
        }
        list.one(Does::DeleteRecord(name.clone()));
    }
    list.stages
}

/// Deletes snapshots inside layers that the disks do not write to. Of a guest whose process reads some of these layers, `held` is
/// what it does: it stands still while the process lets go of them.
pub(crate) fn layer_deletion_stages(
    domain: Uuid,
    (at_rest, read): (&[LayerSnapshot], &[LayerSnapshot]),
    held: Option<Run>,
    notes: Vec<LayerNote>,
) -> Vec<Stage> {
    let mut list = List::new(domain);
    list.each(at_rest.iter().cloned().map(Does::DeleteInLayer));
    if let Some(was) = held {
        list.one(Does::StopGuest { was });
        list.one(Does::Release);
    }
    list.each(read.iter().cloned().map(Does::DeleteInLayer));
    if let Some(was) = held {
        list.one(Does::TakeBack);
        list.each(was.runs().then_some(Does::ResumeGuest));
    }
    // That was our own write.
    list.each((!notes.is_empty()).then_some(Does::NoteLayers { add: notes, remove: Vec::new() }));
    list.stages
}

/// The new image as the disk's in the description.
fn adoption(top: &NewTop) -> Does {
    let was = Some(ImageFile { file: top.old.file.clone(), format: top.old.format.clone() });
    let LayerFile { disk, file, format, .. } = top.file();
    Does::Adopt(Adoption { disk, file, format, was })
}

/// The new image under the disk's device.
fn swap(top: &NewTop) -> Does {
    Does::SwapTop { to: top.file(), from: top.old.clone() }
}

/// Goes back to a snapshot. The commit point is the step [`Does::Commit`]; up to it there is a way back.
pub(crate) fn reverting_stages(domain: Uuid, revert: &Reverting) -> Vec<Stage> {
    let mut list = List::new(domain);
    let points = || revert.points.iter().cloned();
    let point_of = |disk: &_| revert.points.iter().find(|point| point.disk == *disk).cloned();
    let apply = || {
        revert.disks.iter().map(|target| Does::Apply { target: target.clone(), undo: point_of(&target.disk) })
    };
    // From here to the end nothing is written that an undo point does not hold.
    list.each(revert.was.filter(|_| revert.stops).map(|was| Does::StopGuest { was }));
    list.at_once(points().map(Does::MarkUndo));
    let (made, copied): (Vec<_>, Vec<_>) =
        revert.tops.iter().map(NewTop::making).partition(|does| matches!(does, Does::MakeLayer(_)));
    list.side_by_side(made);
    list.each(copied);
    list.each(revert.bitmaps.iter().cloned());
    let is_named = |top: &&NewTop| revert.names.iter().any(|names| names.old.disk == *top.disk());
    let others = || revert.tops.iter().filter(|top| !is_named(top));
    let adopt = || others().map(adoption);
    let ended = || Does::EndProcess(Ended { was: revert.was, memory: revert.safety.clone() });
    match &revert.way {
        RevertWay::Off => {
            list.side_by_side(apply());
            list.name(&revert.names, false);
            list.side_by_side(adopt());
        }
        RevertWay::Release { run } => {
            if !revert.disks.is_empty() {
                list.one(Does::Release);
                list.side_by_side(apply());
                list.one(Does::TakeBack);
            }
            list.each(others().map(swap));
            list.name(&revert.names, true);
            list.side_by_side(adopt());
            list.one(Does::ResetGuest);
            list.each(run.runs().then_some(Does::ResumeGuest));
        }
        RevertWay::Restart { run } => {
            list.each(revert.was.is_some().then(ended));
            list.side_by_side(apply());
            list.name(&revert.names, false);
            list.side_by_side(adopt());
            list.one(Does::Start { run: *run });
        }
        RevertWay::Restore { memory, run } => {
            list.each(revert.was.is_some().then(ended));
            list.side_by_side(apply());
            list.name(&revert.names, false);
            list.side_by_side(adopt());
            list.one(Does::Restore { memory: memory.clone(), run: *run });
        }
        RevertWay::Load { inside, run } => {
            let is_new = !revert.tops.is_empty();
            if is_new {
                list.each(revert.was.is_some().then(ended));
                list.name(&revert.names, false);
                list.side_by_side(adopt());
            }
            list.each((is_new || revert.was.is_none()).then_some(Does::Start { run: Run::Waits }));
            list.one(Does::Load {
                inside: inside.clone(),
                run: *run,
                undo: revert.points.clone(),
                // A process that was ended for it is started with that again.
                safety: revert.safety.clone().filter(|_| !is_new),
                copies: revert.tops.iter().map(|top| top.named(&revert.names)).collect(),
            });
        }
    }
    if !revert.disks.is_empty() {
        list.one(Does::Look(Expected::Sizes(revert.disks.clone())));
    }
    if !revert.names.is_empty() {
        list.one(Does::Look(Expected::Named(revert.names.clone())));
    }
    list.one(Does::SetCurrent { to: Some(revert.name.clone()), from: revert.from.clone() });
    if !revert.points.is_empty() || !revert.tops.is_empty() {
        list.one(Does::Commit);
        list.side_by_side(points().map(Does::DropUndo));
    }
    list.each(revert.copied.iter().cloned().map(Does::DeleteInside));
    list.stages.extend(Stage::gathered(revert.tidying.clone()));
    list.stages
}
