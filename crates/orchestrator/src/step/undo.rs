//! The way back: for each step that was begun, the steps that undo it, from what a look found. Pure.

use xlsnap_types::model::{DiskName, Owner};

use crate::look::is_named;

use super::{Adoption, Does, Ended, ImageFile, ImageTarget, LayerNote, Stage, Step, UndoPoint};
use crate::{
    Can, Effect, Error, GuestState, Inventory, Kind, LayerFile, NameSwap, Overlay, Run, SnapshotAction,
    SnapshotId,
};

/// What a look found.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) guest: GuestState,
    pub(crate) inventory: Inventory,
    /// Whether the domain can be started.
    pub(crate) restart: Can,
    /// Whether another writer's record has the name of the snapshot: what is in the images under that name may be of that one.
    pub(crate) foreign: bool,
}

/// The way back.
#[derive(Debug, Default)]
pub(crate) struct Wayback {
    pub(crate) stages: Vec<Stage>,
    /// What cannot be as it was, as sentences.
    pub(crate) kept: Vec<String>,
}

/// When a step of the way back is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before all others: a guest that stands still for it goes on, whatever else fails.
    First,
    /// In its turn.
    InTurn,
}

/// Steps of one stage of the way back, which are done side by side.
type Group = (When, Vec<Does>);

/// Plans the way back from `begun`: the stages whose steps were begun, or may have been, of `all`.
///
/// # Errors
/// [`Kind::Refused`] when an image does not hold what leads back.
pub(crate) fn back(begun: &[Stage], all: &[Stage], look: &Look) -> Result<Wayback, Error> {
    let mut planner = Planner { begun, look, leads_back: true, kept: Vec::new() };
    let leads_back = planner.marks().all(|point| planner.look.inventory.mark(point).is_some());
    planner.leads_back = leads_back;
    let mut groups: Vec<(When, Vec<Step>)> = Vec::new();
    for stage in begun.iter().rev() {
        let side_by_side = stage.steps().len() > 1;
        groups.extend(planner.release_for(stage));
        let first = groups.len();
        for step in stage.steps() {
            for (when, does) in planner.undo(&step.does)? {
                let steps = does.into_iter().map(|does| Step { domain: step.domain, does });
                match groups[first..].iter_mut().find(|(at, _)| side_by_side && *at == when) {
                    Some((_, group)) => group.extend(steps),
                    None => groups.push((when, steps.collect())),
                }
            }
        }
    }
    let mut stages: Vec<Stage> = Vec::new();
    for when in [When::First, When::InTurn] {
        for (_, steps) in groups.iter().filter(|(at, _)| *at == when) {
            let stage = Stage::of(steps.clone());
            if !stages.contains(&stage) || when == When::InTurn {
                stages.push(stage);
            }
        }
    }
    stages.extend(planner.follow_kept_names(all));
    Ok(Wayback { stages, kept: planner.kept })
}

struct Planner<'a> {
    begun: &'a [Stage],
    look: &'a Look,
    /// Whether every disk has its mark. The marks are removed when the disks are as they were, and before a guest writes to them:
    /// where one is missing, no disk is changed any more.
    leads_back: bool,
    kept: Vec<String>,
}

impl Planner<'_> {
    fn marks(&self) -> impl Iterator<Item = &UndoPoint> {
        self.begun.iter().flat_map(Stage::steps).filter_map(|step| match &step.does {
            Does::MarkUndo(point) => Some(point),
            _ => None,
        })
    }

    /// What a stage is undone by goes to the images, so a process that may have its disks again lets go of them.
    fn release_for(&self, stage: &Stage) -> Option<(When, Vec<Step>)> {
        let first = stage.steps().first().filter(|step| matches!(step.does, Does::Apply { .. }))?;
        let needed = self.is_on() && self.leads_back && self.any(|does| *does == Does::Release);
        let taken_back = self.any(|does| *does == Does::TakeBack);
        (needed && !taken_back)
            .then(|| (When::InTurn, vec![Step { domain: first.domain, does: Does::Release }]))
    }

    /// Removes the marks that are there.
    fn drops(&self) -> Option<Group> {
        let there = self
            .marks()
            .filter(|point| self.look.inventory.mark(point).is_some())
            .cloned()
            .map(Does::DropUndo);
        let drops: Vec<Does> = there.collect();
        (!drops.is_empty()).then_some((When::InTurn, drops))
    }

    fn any(&self, is_it: impl Fn(&Does) -> bool) -> bool {
        self.begun.iter().flat_map(Stage::steps).any(|step| is_it(&step.does))
    }

    fn is_on(&self) -> bool {
        self.look.guest.is_on()
    }

    fn undo(&mut self, does: &Does) -> Result<Vec<Group>, Error> {
        use When::{First, InTurn};
        let one = |when, does| vec![(when, vec![does])];
        Ok(match does {
            // Its name is that of the file which holds what was there before.
            Does::MakeLayer(overlay) if self.stays(&overlay.file) => Vec::new(),
            Does::SwapNames(names) if self.stays(&names.new.file) => self.stay_named(names),
            Does::ReadyNames(names)
                if self.stays(&names.new.file)
                    || self.any(|does| matches!(does, Does::SwapNames(begun) if begun == names)) =>
            {
                Vec::new()
            }
            Does::ReadyNames(names) | Does::SwapNames(names) => {
                one(InTurn, Does::SwapNamesBack(names.clone()))
            }
            Does::Detach(from) if self.is_on() && !self.has_run() => {
                let mut groups = one(InTurn, Does::SwapTop { to: from.clone(), from: from.clone() });
                groups.extend(self.reset_again(does));
                groups
            }
            Does::SwapTop { to, .. } if self.is_detached(&to.disk) => {
                let is_needed = self.is_on() && !self.has_run() && !self.is_back(&to.disk);
                if is_needed { one(InTurn, Does::Detach(to.clone())) } else { Vec::new() }
            }
            // One that no snapshot was to be taken with is of a revert: what was written to it is what is undone.
            Does::MakeLayer(overlay) if !self.is_taken_with(overlay) => {
                one(InTurn, Does::RemoveLayer(overlay.clone()))
            }
            Does::MakeLayer(overlay) => self.layer(overlay),
            Does::CopyOut(copy) => one(InTurn, Does::Unlink(copy.to.clone())),
            Does::Adopt(Adoption { disk, file, format, was: Some(before) }) => {
                let was = Some(ImageFile { file: file.clone(), format: format.clone() });
                let ImageFile { file, format } = before.clone();
                one(InTurn, Does::Adopt(Adoption { disk: disk.clone(), file, format, was }))
            }
            Does::SwapTop { to, from } => self.swap_back(to, from),
            Does::Take(SnapshotAction::Internal { disk, tag, .. }) => self
                .taken(disk, tag)?
                .map(|target| (InTurn, vec![Does::DeleteInside(target)]))
                .into_iter()
                .collect(),
            Does::TakeInside { save, actions } => {
                let mut groups = one(First, Does::AbandonMemory(save.clone()));
                let mut deletions = Vec::new();
                for action in actions {
                    if let SnapshotAction::Internal { disk, tag, .. } = action {
                        deletions.extend(self.taken(disk, tag)?.map(Does::DeleteInside));
                    }
                }
                groups.extend((!deletions.is_empty()).then_some((InTurn, deletions)));
                groups
            }
            // It lets the guest run, which must not write to files that are about to go.
            Does::BeginMemory(save)
                if self.any(|does| matches!(does, Does::Detach(_))) && !self.has_run() =>
            {
                one(InTurn, Does::AbandonMemory(save.clone()))
            }
            Does::BeginMemory(save) => one(First, Does::AbandonMemory(save.clone())),
            Does::Freeze { bound } if self.is_on() => one(First, Does::Thaw { bound: *bound }),
            Does::StopGuest { was: Run::Runs } if self.is_on() => one(InTurn, Does::ResumeGuest),
            // The images can be written only while the guest stands still.
            Does::ResumeGuest if self.is_on() => one(InTurn, Does::StopGuest { was: Run::Waits }),
            // A process that is started again writes to the disks: the marks go before that.
            Does::MarkUndo(point) if self.look.inventory.mark(point).is_some() && !self.starts_again() => {
                one(InTurn, Does::DropUndo(point.clone()))
            }
            Does::Apply { undo: Some(point), .. } if self.leads_back => one(InTurn, self.apply(point)?),
            Does::DropBitmap { disk, bitmap, .. } => {
                self.kept.push(format!("the dirty bitmap {} of disk {disk} may be removed", bitmap.name));
                Vec::new()
            }
            Does::Release => self.take_back(),
            Does::TakeBack if self.is_on() && self.leads_back => one(InTurn, Does::Release),
            Does::EndProcess(ended) => self.start_again(ended),
            Does::Start { .. } | Does::Restore { .. } if self.is_on() && self.leads_back => {
                one(InTurn, Does::EndProcess(Ended { was: None, memory: None }))
            }
            Does::Load { undo, safety, .. } => self.unload(undo, safety.clone())?,
            Does::SetCurrent { to, from } => {
                one(InTurn, Does::SetCurrent { to: from.clone(), from: to.clone() })
            }
            _ => Vec::new(),
        })
    }

    /// Whether the disk's process was made to close its image on the way.
    fn is_detached(&self, disk: &DiskName) -> bool {
        self.any(|does| matches!(does, Does::Detach(from) if from.disk == *disk))
    }

    /// Whether the disk writes to what it wrote to before, under the name that it had.
    fn is_back(&self, disk: &DiskName) -> bool {
        self.any(|does| match does {
            Does::SwapNames(names) if names.old.disk == *disk => {
                let found = self.look.inventory.disk(disk);
                found.is_some_and(|found| found.image == names.kept() && names.old.is(found.identity))
            }
            _ => false,
        })
    }

    /// Whether a guest may have written to the new files of a snapshot since they have their names.
    fn has_run(&self) -> bool {
        let resumed = self.any(|does| match does {
            Does::ResumeGuest => true,
            Does::RunOn(save) => save.was.runs(),
            _ => false,
        });
        let is_snapshot = |does: &Does| matches!(does, Does::SwapNames(names) if names.stands_on_old);
        self.any(is_snapshot) && (resumed || self.look.guest.run() == Some(Run::Runs))
    }

    /// Whether the new file of a disk stays what it is, because a guest may have written to it. `name` is the one that it had first.
    fn stays(&self, name: &str) -> bool {
        let inventory = &self.look.inventory;
        self.has_run()
            && self.any(|does| match does {
                Does::SwapNames(names) => names.new.file == name && is_named(names, inventory),
                _ => false,
            })
    }

    /// What the records of other snapshots say of a file follows it to its other name, where that is to stay.
    fn follow_kept_names(&self, all: &[Stage]) -> Vec<Stage> {
        let stays = |disk: &DiskName| {
            self.any(|does| match does {
                Does::SwapNames(names) => names.old.disk == *disk && self.stays(&names.new.file),
                _ => false,
            })
        };
        let follows = |stage: &&Stage| {
            stage.any(|does| match does {
                Does::SetPart { disk, .. } | Does::SetImage { disk, .. } => stays(disk),
                _ => false,
            })
        };
        all.iter().filter(follows).cloned().collect()
    }

    fn stay_named(&mut self, names: &NameSwap) -> Vec<Group> {
        let (top, moved) = (names.top(), names.moved());
        self.kept.push(format!(
            "disk {} goes on writing to a new file under the name {}; what it held before is {}, below that",
            top.disk, top.file, moved.file
        ));
        let note = LayerNote {
            file: LayerFile { identity: None, ..moved },
            owner: Owner::Domain,
            base: None,
            looked: false,
            frozen: true,
            named: Some(top.file.clone()),
        };
        let made = LayerNote::made(&top.disk, &top.file, &top.format, &note.file.file);
        vec![(When::InTurn, vec![Does::NoteLayers { add: vec![made, note], remove: Vec::new() }])]
    }

    fn is_taken_with(&self, overlay: &Overlay) -> bool {
        self.any(
            |does| matches!(does, Does::Take(SnapshotAction::External(taken)) if taken.file == overlay.file),
        ) || self.begun.iter().all(|stage| {
            !stage
                .any(|does| matches!(does, Does::Adopt(Adoption { was: Some(_), .. }) | Does::SwapTop { .. }))
        }) && self.look.inventory.disk(&overlay.disk).is_some_and(|disk| disk.image == overlay.file)
    }

    /// The layer of before under the disk's device. A guest that was reset on the new ones is reset once more, when all are back.
    fn swap_back(&self, to: &LayerFile, from: &LayerFile) -> Vec<Group> {
        let mut groups = Vec::new();
        if self.writes_to(to) {
            let back = Does::SwapTop { to: from.clone(), from: to.clone() };
            groups.push((When::InTurn, vec![back]));
        }
        groups.extend(self.reset_again(&Does::SwapTop { to: to.clone(), from: from.clone() }));
        groups
    }

    /// A reset when the last disk has its layer of before again: the first one that was given another is undone last.
    fn reset_again(&self, does: &Does) -> Option<Group> {
        // A process that lets go of its disks too is reset when it has them back.
        let was_reset =
            self.any(|does| *does == Does::ResetGuest) && !self.any(|does| *does == Does::Release);
        let mut swaps = self.begun.iter().flat_map(Stage::steps).filter(|step| match &step.does {
            Does::Detach(_) => true,
            Does::SwapTop { to, .. } => !self.is_detached(&to.disk),
            _ => false,
        });
        let is_first = swaps.next().is_some_and(|step| step.does == *does);
        (was_reset && self.is_on() && is_first).then(|| (When::InTurn, vec![Does::ResetGuest]))
    }

    /// Whether the domain's process writes a disk to this layer.
    fn writes_to(&self, layer: &LayerFile) -> bool {
        self.is_on() && self.look.inventory.disk(&layer.disk).is_some_and(|disk| disk.image == layer.file)
    }

    fn layer(&mut self, overlay: &Overlay) -> Vec<Group> {
        let attached = self.look.inventory.disk(&overlay.disk).is_some_and(|disk| disk.image == overlay.file);
        let adopt = |file: &str, format: &_| {
            Does::Adopt(Adoption {
                disk: overlay.disk.clone(),
                file: file.to_owned(),
                format: Clone::clone(format),
                was: None,
            })
        };
        // Without a record the ledger alone says whose the files are.
        let stays = || {
            let note = Does::NoteLayers { add: LayerNote::of_overlay(overlay), remove: Vec::new() };
            vec![(When::InTurn, vec![adopt(&overlay.file, &overlay.format)]), (When::InTurn, vec![note])]
        };
        if attached && self.look.guest != GuestState::Off {
            // A guest's writes are in it.
            self.kept.push(format!(
                "disk {} goes on writing to {}, which stays on {}",
                overlay.disk, overlay.file, overlay.base
            ));
            return stays();
        }
        let is_this = |does: &Does| matches!(does, Does::Take(SnapshotAction::External(taken)) if taken.file == overlay.file);
        let ran_on = self.any(|does| matches!(does, Does::RunOn(save) if save.was.runs()));
        if self.look.guest == GuestState::Off && ran_on && self.any(is_this) {
            // The guest may have run on it before its process died: then what it wrote is there, and nowhere else.
            self.kept.push(format!(
                "disk {} writes to {} from then on, which stays on {}: the guest may have written to it",
                overlay.disk, overlay.file, overlay.base
            ));
            return stays();
        }
        let remove = (When::InTurn, vec![Does::RemoveLayer(overlay.clone())]);
        // A description that could not be flushed may name it, although a look by what was known before says that it does not.
        let is_named = self.any(
            |does| matches!(does, Does::Adopt(named) if named.disk == overlay.disk && named.file == overlay.file),
        );
        if attached || is_named {
            return vec![(When::InTurn, vec![adopt(&overlay.base, &overlay.base_format)]), remove];
        }
        vec![remove]
    }

    /// The snapshot that was taken of a disk, if it is there.
    fn taken(&mut self, disk: &DiskName, tag: &str) -> Result<Option<ImageTarget>, Error> {
        let Some(found) = self.look.inventory.disk(disk) else {
            let message =
                format!("disk {disk} is no longer a disk of the domain, and may hold the snapshot {tag}");
            return Err(Error::new(Kind::NotFound, Effect::None, message)
                .with_advice(format!("give the domain its disk {disk} back, then run recover")));
        };
        let mut named: Vec<SnapshotId> = found.named(tag).collect();
        let Some(snapshot) = named.pop() else { return Ok(None) };
        if self.look.foreign {
            self.kept.push(format!(
                "{} (disk {disk}) keeps a snapshot {tag}, since the record of that name is of another operation",
                found.image
            ));
            return Ok(None);
        }
        if !named.is_empty() {
            let message = format!("{} (disk {disk}) holds more than one snapshot {tag}", found.image);
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_advice("delete the other one from the image by its id, then run recover"));
        }
        Ok(Some(ImageTarget::on(found, snapshot, None)))
    }

    fn apply(&self, point: &UndoPoint) -> Result<Does, Error> {
        let Some((disk, snapshot)) = self.look.inventory.mark(point) else {
            let message = format!(
                "{} (disk {}) does not hold the mark {}, which leads back to what was there before",
                point.image, point.disk, point.tag
            );
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_advice("give the disk its image back, then run recover"));
        };
        Ok(Does::Apply { target: ImageTarget::on(disk, snapshot, Some(point.virtual_size)), undo: None })
    }

    /// What a process that was only released gets back: its disks, and a reset only if its guest's memory was given up already.
    fn take_back(&mut self) -> Vec<Group> {
        if !self.is_on() {
            let was = self.begun.iter().flat_map(Stage::steps).find_map(|step| match step.does {
                Does::StopGuest { was } => Some(was),
                _ => None,
            });
            return self.boot(was.unwrap_or(Run::Runs));
        }
        let mut groups = vec![(When::InTurn, vec![Does::TakeBack])];
        if self.any(|does| matches!(does, Does::ResetGuest)) {
            groups.push((When::InTurn, vec![Does::ResetGuest]));
        }
        groups
    }

    /// Whether the way back starts the domain's process.
    fn starts_again(&self) -> bool {
        self.any(|does| match does {
            Does::EndProcess(ended) => ended.was.is_some() && !self.was_not_ended(),
            Does::Release => !self.is_on(),
            Does::Load { safety, .. } => !self.is_started_for_it() && (safety.is_some() || !self.is_on()),
            _ => false,
        })
    }

    /// Whether a process was started only to load what is inside the images: the domain was off, or its own was ended before.
    fn is_started_for_it(&self) -> bool {
        self.any(|does| matches!(does, Does::Start { .. }))
    }

    /// Whether the process that was to be ended is still there.
    fn was_not_ended(&self) -> bool {
        let started = self.any(|does| matches!(does, Does::Start { .. } | Does::Restore { .. }));
        self.is_on() && !(started && self.leads_back)
    }

    /// Starts a domain whose process ended by itself.
    fn boot(&mut self, run: Run) -> Vec<Group> {
        let mut groups: Vec<Group> = self.drops().into_iter().collect();
        match self.look.restart.why() {
            None => groups.push((When::InTurn, vec![Does::Start { run }])),
            Some(why) => {
                self.kept.push(format!(
                    "the domain is off: its process has ended, and it cannot be started ({why})"
                ));
            }
        }
        groups
    }

    fn start_again(&mut self, ended: &Ended) -> Vec<Group> {
        let Some(run) = ended.was else { return Vec::new() };
        if self.was_not_ended() {
            return Vec::new();
        }
        match &ended.memory {
            Some(memory) => {
                let mut groups: Vec<Group> = self.drops().into_iter().collect();
                groups.push((When::InTurn, vec![Does::Restore { memory: memory.clone(), run }]));
                groups
            }
            None => {
                self.kept.push("the guest boots: what it held in memory is lost".to_owned());
                self.boot(run)
            }
        }
    }

    /// After a load the guest's memory is lost, but for one that was saved before.
    fn unload(
        &mut self,
        undo: &[UndoPoint],
        safety: Option<xlsnap_types::model::MemoryMeta>,
    ) -> Result<Vec<Group>, Error> {
        let mut applied = Vec::with_capacity(undo.len());
        for point in undo.iter().filter(|_| self.leads_back) {
            applied.push(self.apply(point)?);
        }
        let applied = (!applied.is_empty()).then_some((When::InTurn, applied));
        let in_turn = |does| (When::InTurn, vec![does]);
        let ended = || in_turn(Does::EndProcess(Ended { was: None, memory: None }));
        if self.is_started_for_it() {
            let ends = (self.is_on() && self.leads_back).then(ended);
            return Ok(ends.into_iter().chain(applied).collect());
        }
        let was = self.begun.iter().flat_map(Stage::steps).find_map(|step| match step.does {
            Does::StopGuest { was } => Some(was),
            _ => None,
        });
        let was = was.unwrap_or(Run::Runs);
        let mut groups = Vec::new();
        match (safety, self.is_on()) {
            // It was started again already.
            (Some(_), true) if !self.leads_back => {}
            (Some(memory), on) => {
                groups.extend(on.then(ended));
                groups.extend(applied);
                groups.extend(self.drops());
                groups.push(in_turn(Does::Restore { memory, run: was }));
            }
            (None, true) => {
                if applied.is_some() {
                    groups.push(in_turn(Does::StopGuest { was: Run::Waits }));
                    groups.push(in_turn(Does::Release));
                }
                groups.extend(applied);
                groups.push(in_turn(Does::TakeBack));
                groups.push(in_turn(Does::ResetGuest));
                self.kept
                    .push("the guest was reset: loading the snapshot lost what it held in memory".to_owned());
            }
            (None, false) => {
                groups.extend(applied);
                groups.extend(self.boot(was));
            }
        }
        Ok(groups)
    }
}
