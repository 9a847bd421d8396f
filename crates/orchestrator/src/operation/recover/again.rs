//! A revert that was cut short, gone through once more.

use super::ending::{Ending, is_there};
use crate::journal::Journal;
use crate::step::{Does, Ended, ImageTarget, Look, Stage, UndoPoint};
use crate::{DomainRef, Effect, Error, GuestState, Kind, Outcome, Run};

/// A revert that goes forward once more, on every disk: that gives the same.
pub(super) struct Again<'a> {
    pub(super) domain: &'a DomainRef,
    pub(super) journal: &'a Journal,
    pub(super) look: &'a Look,
}

impl Again<'_> {
    pub(super) fn plan(&self, without_memory: bool) -> Result<Ending, Error> {
        let Self { domain, journal, look } = self;
        let name = journal.name();
        let mut warnings = Vec::new();
        let has = |is_it: fn(&Does) -> bool| journal.does().any(is_it);
        let with_memory = has(|does| matches!(does, Does::Restore { .. } | Does::Load { .. }));
        let without_memory = without_memory && with_memory;
        let is_process = |does: &Does| {
            matches!(
                does,
                Does::StopGuest { .. }
                    | Does::EndProcess(_)
                    | Does::Start { .. }
                    | Does::Restore { .. }
                    | Does::Release
                    | Does::TakeBack
                    | Does::ResetGuest
                    | Does::ResumeGuest
            )
        };
        let touches_process = has(|does| {
            matches!(
                does,
                Does::EndProcess(_)
                    | Does::Start { .. }
                    | Does::Restore { .. }
                    | Does::Release
                    | Does::Load { .. }
            )
        });
        let on = look.guest != GuestState::Off;
        if on && (without_memory || !touches_process) {
            let message = format!(
                "domain {} was started after a revert to {name} that was cut short: its disks may be of different times",
                domain.name
            );
            return Err(Error::new(Kind::Busy, Effect::None, message)
                .with_advice("shut the domain down, then run recover: its disks go back to the snapshot"));
        }
        self.all_there()?;
        let mut stages: Vec<Stage> = Vec::new();
        let one = |does| Stage::one(domain.uuid, does);
        // A load from inside is not one revert a disk; without the memory it is.
        for stage in &journal.stages {
            let first = &stage.steps()[0].does;
            match first {
                Does::MarkUndo(_) => {}
                Does::DropBitmap { disk, bitmap, .. } => {
                    let there = look.inventory.disk(disk).is_some_and(|disk| disk.bitmaps.contains(bitmap));
                    stages.extend(there.then(|| stage.clone()));
                }
                Does::Load { undo, inside, .. } if without_memory => {
                    let targets = undo.iter().filter_map(|point| self.inside(point, &inside.tag));
                    stages.extend(targets.map(one));
                }
                does if without_memory && is_process(does) => {}
                Does::Load { .. } if !on && !has(|does| matches!(does, Does::Start { .. })) => {
                    // The process that was to load it is gone.
                    stages.push(one(Does::Start { run: Run::Waits }));
                    stages.push(stage.clone());
                }
                // The process that was to take its disks back is gone.
                Does::Release | Does::TakeBack | Does::ResetGuest | Does::StopGuest { .. } if !on => {}
                Does::ResumeGuest if !on => {}
                // It waits for what is loaded.
                Does::Start { run: Run::Waits } if on && has(|does| matches!(does, Does::Load { .. })) => {}
                Does::Start { .. } | Does::Restore { .. }
                    if on && !has(|does| matches!(does, Does::EndProcess(_))) =>
                {
                    stages.insert(0, one(Does::EndProcess(Ended { was: None, memory: None })));
                    stages.push(stage.clone());
                }
                _ => stages.push(stage.clone()),
            }
        }
        if without_memory {
            warnings.push(format!("the memory of snapshot {name} was not restored: the domain is off"));
        } else if !on && has(|does| *does == Does::Release) {
            let run = Run::if_it(has(|does| *does == Does::ResumeGuest));
            match look.restart.why() {
                None => {
                    let end = stages.iter().position(Stage::looks).unwrap_or(stages.len());
                    stages.insert(end, one(Does::Start { run }));
                }
                Some(why) => warnings.push(format!(
                    "domain {} is off: its process has ended, and it cannot be started ({why})",
                    domain.name
                )),
            }
        }
        Ok(Ending { outcome: Outcome::Completed, stages, warnings })
    }

    /// The revert of one disk to the snapshot that holds the memory of all.
    fn inside(&self, point: &UndoPoint, tag: &str) -> Option<Does> {
        let disk = self.look.inventory.disk(&point.disk)?;
        let snapshot = disk.named(tag).next()?;
        let target = ImageTarget::on(disk, snapshot, None);
        Some(Does::Apply { target, undo: Some(point.clone()) })
    }

    /// Every image still holds what it goes to.
    fn all_there(&self) -> Result<(), Error> {
        for does in self.journal.does() {
            let Does::Apply { target, .. } = does else { continue };
            if !is_there(self.domain, target, self.look, self.journal.name())? {
                let message = format!(
                    "{} (disk {} of domain {}) does not hold the snapshot {} (id {}) any more",
                    target.image, target.disk, self.domain.name, target.snapshot.name, target.snapshot.id
                );
                return Err(Error::new(Kind::Refused, Effect::None, message)
                    .with_advice("see what check says, then run recover"));
            }
        }
        Ok(())
    }
}
