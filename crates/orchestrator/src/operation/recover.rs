//! Finishing or undoing what a crash left: a look, a new list, and the same executor.

use tracing::Instrument;
use xlsnap_conf_store::Kind as StoreKind;
use xlsnap_types::model::{ImageFormat, SnapshotName};

use super::back::{look, undo};
use super::delete::{Tree, moved, names};
use crate::error::from_store;
use crate::execute::Execution;
use crate::journal::{Direction, Journal};
use crate::look::{holds_memory, is_ours, is_taken};
use crate::plan::{deletion_stages, heir};
use crate::session::{Session, chain, left_journal, pending};
use crate::step::{Does, Ended, Expected, ImageTarget, Look, Stage, Step, UndoPoint, back};
use crate::{
    DomainRef, Effect, Error, GuestState, Kind, Operation, Outcome, Ports, RecoverPlan, Recovered, Run,
    SaveTo, SnapshotAction, SnapshotDeletion,
};

/// What [`recover`] would do, with no effect: a dry run. `None` when nothing was left.
///
/// # Errors
/// As [`recover`] before its first effect.
///
/// # Cancel safety
/// It only looks.
pub async fn plan_recover(
    ports: &Ports<'_>,
    domain: &DomainRef,
    without_memory: bool,
) -> Result<Option<RecoverPlan>, Error> {
    let Some(journal) = left_journal(ports.store, domain).await? else { return Ok(None) };
    let looked = look(ports, domain, &journal).await?;
    let facts = Facts { look: &looked, stored: stored(ports, domain, &journal).await?, without_memory };
    let tree = Tree::read(ports.store, domain).await?;
    let mut plan = Ending::plan(domain, &journal, &facts, &tree)?;
    if let Some(first) = settling(domain, &journal) {
        plan.stages.insert(0, first);
    }
    Ok(Some(RecoverPlan {
        operation: journal.operation(),
        name: journal.name().clone(),
        outcome: plan.outcome,
        stages: plan.stages,
        warnings: plan.warnings,
    }))
}

/// Finishes or undoes what a crash left; `None` when nothing was left. Every other operation that changes something does it
/// first by itself. What a crash left is told from the disks; done again after a crash of its own, it goes on.
///
/// # Errors
/// [`Kind::RecoveryPending`] when it cannot be finished now; what is left is still journaled. A journal that cannot be
/// read, or that a newer version wrote, is left untouched.
///
/// # Cancel safety
/// Dropping it leaves what a crash would: call it again.
pub async fn recover(ports: &Ports<'_>, domain: &DomainRef) -> Result<Option<Recovered>, Error> {
    Session::open(ports.store, ports.clock, domain, "recover").await?.recover(ports).await
}

/// As [`recover`], but a revert that was cut short is finished with the disks alone, and leaves the domain off: for a memory
/// that cannot be restored any more.
///
/// # Errors
/// As [`recover`]; [`Kind::Busy`] while the domain runs.
///
/// # Cancel safety
/// As [`recover`].
pub async fn recover_without_memory(
    ports: &Ports<'_>,
    domain: &DomainRef,
) -> Result<Option<Recovered>, Error> {
    let session = Session::open(ports.store, ports.clock, domain, "recover").await?;
    session.recover_without_memory(ports).await
}

impl Session<'_> {
    /// Finishes or undoes what a crash left: see [`recover`].
    ///
    /// # Errors
    /// As [`recover`].
    ///
    /// # Cancel safety
    /// As [`recover`].
    pub async fn recover(&self, ports: &Ports<'_>) -> Result<Option<Recovered>, Error> {
        let span = tracing::info_span!("recover", domain = %self.domain.name);
        finish(self, ports).instrument(span).await
    }

    /// As [`Session::recover`], but a revert is finished with the disks alone: see [`recover_without_memory`].
    ///
    /// # Errors
    /// As [`recover_without_memory`].
    ///
    /// # Cancel safety
    /// As [`recover`].
    pub async fn recover_without_memory(&self, ports: &Ports<'_>) -> Result<Option<Recovered>, Error> {
        let span = tracing::info_span!("recover_without_memory", domain = %self.domain.name);
        end(self, ports, true).instrument(span).await
    }
}

/// Finishes or undoes what is left, under the domain's lock.
pub(crate) async fn finish(session: &Session<'_>, ports: &Ports<'_>) -> Result<Option<Recovered>, Error> {
    let recovered = end(session, ports, false).await?;
    if let Some(recovered) = &recovered {
        tracing::info!(domain = %session.domain.name, "{recovered}");
    }
    Ok(recovered)
}

async fn end(
    session: &Session<'_>,
    ports: &Ports<'_>,
    without_memory: bool,
) -> Result<Option<Recovered>, Error> {
    let Some(mut journal) = session.left_journal().await? else { return Ok(None) };
    let (operation, name) = (journal.operation(), journal.name().clone());
    let about = journal.about(&session.domain.name);
    let ended = end_journaled(session, ports, &mut journal, without_memory).await;
    let (outcome, warnings) = ended.map_err(|cause| {
        let pending =
            pending(format!("the interrupted operation ({about}) cannot be finished"), cause.effect());
        match cause.advice().map(str::to_owned) {
            Some(advice) => pending.with_advice(advice),
            None => pending,
        }
        .with_source(cause)
    })?;
    Ok(Some(Recovered { operation, name, outcome, warnings }))
}

async fn end_journaled(
    session: &Session<'_>,
    ports: &Ports<'_>,
    journal: &mut Journal,
    without_memory: bool,
) -> Result<(Outcome, Vec<String>), Error> {
    let execution = Execution::new(session, ports, journal.id());
    if let Some(first) = settling(session.domain, journal) {
        execution.backward(&[first]).await?;
    }
    let looked = look(ports, session.domain, journal).await?;
    let facts =
        Facts { look: &looked, stored: stored(ports, session.domain, journal).await?, without_memory };
    let tree = Tree::read(session.store, session.domain).await?;
    let Ending { outcome, stages, mut warnings } = Ending::plan(session.domain, journal, &facts, &tree)?;
    execution.found().looked = Some(looked.inventory.clone());
    match outcome {
        Outcome::Undone => execution.backward(&stages).await?,
        // What is left are marks that lead nowhere any more.
        Outcome::Completed if journal.is_committed() => execution.backward(&stages).await?,
        Outcome::Completed => {
            let (at, whole) = (journal.at, std::mem::replace(&mut journal.stages, stages));
            journal.at = 0;
            if let Err(fault) = execution.forward(journal).await {
                let begun = (journal.operation(), has_marks(&whole));
                (journal.at, journal.stages) = (at, whole);
                if begun != (Operation::Revert, true) {
                    return Err(unadopted(&execution, journal, looked.guest, fault.error).await);
                }
                // It cannot go on; so it goes back.
                let stages = journal.stages.clone();
                let cause = chain(&fault.error);
                let kept = undo(&execution, session, ports, journal, (stages.len(), &stages)).await;
                warnings.extend(kept.map_err(|e| e.with_advice("remove the cause, then run recover"))?);
                warnings.push(format!("it could not go on ({cause}), so it went back"));
                warnings.append(&mut execution.found().warnings);
                return Ok((Outcome::Undone, warnings));
            }
        }
    }
    session.set_journal(None).await.map_err(|e| from_store(e, "the journal entry cannot be removed"))?;
    warnings.append(&mut execution.found().warnings);
    Ok((outcome, warnings))
}

/// The end of a saving inside images that a journal began: the backend may be at it still, and what is in the images is told
/// afterwards.
fn settling(domain: &DomainRef, journal: &Journal) -> Option<Stage> {
    let save = journal.does().find_map(|does| match does {
        Does::TakeInside { save, .. } => Some(save.clone()),
        _ => None,
    })?;
    Some(Stage::One(Step { domain: domain.uuid, does: Does::AbandonMemory(save) }))
}

/// A description that names an overlay which cannot be opened would keep the domain from starting: it names the base again.
async fn unadopted(execution: &Execution<'_>, journal: &Journal, guest: GuestState, cause: Error) -> Error {
    if guest != GuestState::Off {
        return cause;
    }
    let overlays = journal.does().filter_map(|does| match does {
        Does::Take(SnapshotAction::External(overlay)) => Some(overlay),
        _ => None,
    });
    let adopt = |file: &str, format: &ImageFormat, overlay: &crate::Overlay| {
        let adoption = crate::step::Adoption {
            disk: overlay.disk.clone(),
            file: file.to_owned(),
            format: format.clone(),
        };
        Stage::One(Step { domain: uuid::Uuid::nil(), does: Does::Adopt(adoption) })
    };
    let stages: Vec<Stage> =
        overlays.map(|overlay| adopt(&overlay.base, &overlay.base_format, overlay)).collect();
    match execution.backward(&stages).await {
        Ok(()) => cause,
        Err(e) => {
            let message =
                format!("the domain's description may name an overlay that cannot be opened ({})", chain(&e));
            Error::new(Kind::RecoveryPending, Effect::Unknown, message).with_source(cause)
        }
    }
}

/// Whether the record that a creation was to store is there.
async fn stored(ports: &Ports<'_>, domain: &DomainRef, journal: &Journal) -> Result<bool, Error> {
    let Some(draft) = journal.draft() else { return Ok(false) };
    match ports.store.load(domain.uuid, &draft.name).await {
        Ok(record) => Ok(is_ours(&record, draft, journal.id())),
        Err(e) if e.kind() == StoreKind::NotFound => Ok(false),
        Err(e) => Err(from_store(e, format!("the record of snapshot {} cannot be read", draft.name))),
    }
}

/// What the end of an operation is planned from.
struct Facts<'a> {
    look: &'a Look,
    /// Whether the record that a creation was to store is there.
    stored: bool,
    without_memory: bool,
}

/// How an interrupted operation is brought to its end.
struct Ending {
    outcome: Outcome,
    stages: Vec<Stage>,
    warnings: Vec<String>,
}

impl Ending {
    fn plan(domain: &DomainRef, journal: &Journal, facts: &Facts<'_>, tree: &Tree) -> Result<Self, Error> {
        match journal.operation() {
            Operation::Create => Self::of_creation(domain, journal, facts),
            Operation::Delete => Self::of_deletion(domain, journal, facts, tree),
            Operation::Revert => Self::of_revert(domain, journal, facts),
        }
    }

    fn completed(stages: Vec<Stage>) -> Self {
        Self { outcome: Outcome::Completed, stages, warnings: Vec::new() }
    }

    fn undone(begun: &[Stage], look: &Look) -> Result<Self, Error> {
        let mut way = back(begun, look)?;
        // That was done before the look.
        let is_settled = |does: &Does| matches!(does, Does::AbandonMemory(save) if save.to == SaveTo::Inside);
        way.stages.retain(|stage| !stage.steps().iter().any(|step| is_settled(&step.does)));
        Ok(Self { outcome: Outcome::Undone, stages: way.stages, warnings: way.kept })
    }

    fn of_creation(domain: &DomainRef, journal: &Journal, facts: &Facts<'_>) -> Result<Self, Error> {
        let look = facts.look;
        let forward = journal.direction == Direction::Forward;
        let from =
            |is_it: fn(&Does) -> bool| journal.stage_with(is_it).map_or(&[][..], |at| &journal.stages[at..]);
        if forward && facts.stored {
            // The commit point was passed.
            return Ok(Self::completed(from(|does| matches!(does, Does::SetCurrent { .. })).to_vec()));
        }
        let taking = journal.stage_with(|does| matches!(does, Does::Take(_) | Does::TakeInside { .. }));
        let taking = taking.unwrap_or(journal.stages.len());
        let actions: Vec<SnapshotAction> = journal
            .does()
            .flat_map(|does| match does {
                Does::Take(action) => std::slice::from_ref(action),
                Does::TakeInside { actions, .. } => actions.as_slice(),
                _ => &[],
            })
            .cloned()
            .collect();
        let inside = journal.does().any(|does| matches!(does, Does::TakeInside { .. }));
        // Whether a memory file is whole only the record tells.
        let outside =
            journal.does().any(|does| matches!(does, Does::BeginMemory(save) if save.to != SaveTo::Inside));
        let external = actions.iter().any(|action| matches!(action, SnapshotAction::External(_)));
        let reached = !external || journal.at >= taking;
        let there = is_taken(&actions, look.guest, &look.inventory)
            && (!inside || holds_memory(&actions, &look.inventory));
        if forward && !outside && reached && there && !look.foreign {
            let thaw = journal.does().filter_map(|does| match does {
                Does::Freeze { bound } if look.guest.is_on() => Some(Does::Thaw { bound: *bound }),
                _ => None,
            });
            let mut stages: Vec<Stage> =
                thaw.map(|does| Stage::One(Step { domain: domain.uuid, does })).collect();
            stages.extend(from(|does| matches!(does, Does::Adopt(_) | Does::StoreRecord(_))).iter().cloned());
            let opened = Does::Look(Expected::Taken { actions, inside });
            let at = stages
                .iter()
                .position(|stage| stage.steps().iter().any(|step| matches!(step.does, Does::StoreRecord(_))));
            // An overlay that cannot be opened is found before the record says that it is there.
            stages.insert(at.unwrap_or(stages.len()), Stage::One(Step { domain: domain.uuid, does: opened }));
            return Ok(Self::completed(stages));
        }
        let begun = if forward && external && !reached { taking } else { journal.stages.len() };
        Self::undone(&journal.stages[..begun], look)
    }

    fn of_deletion(
        domain: &DomainRef,
        journal: &Journal,
        facts: &Facts<'_>,
        tree: &Tree,
    ) -> Result<Self, Error> {
        let names = names(journal);
        if names.is_empty() {
            // Snapshots of disks that no record names.
            let mut stages = Vec::new();
            for does in journal.does() {
                if let Does::DeleteInside(target) = does
                    && is_there(domain, target, facts.look, journal.name())?
                {
                    stages.push(Stage::One(Step { domain: domain.uuid, does: does.clone() }));
                }
            }
            return Ok(Self::completed(stages));
        }
        let gone = names.iter().copied().collect();
        let mut deletions: Vec<SnapshotDeletion> = names
            .iter()
            .map(|name| SnapshotDeletion {
                name: (*name).clone(),
                parent: heir(&tree.parents, &gone, name),
                disks: Vec::new(),
                memory: None,
            })
            .collect();
        let mut at = 0;
        for does in journal.does() {
            match does {
                Does::DeleteInside(target) => {
                    let there = is_there(domain, target, facts.look, &deletions[at].name)?;
                    deletions[at].disks.extend(there.then(|| target.clone()));
                }
                // It goes before the record, so that it is gone with it.
                Does::RemoveMemory { file, snapshot } if tree.parents.contains_key(snapshot) => {
                    deletions[at].memory = Some(file.clone());
                }
                Does::DeleteRecord(_) => at = (at + 1).min(deletions.len() - 1),
                _ => {}
            }
        }
        let current = journal.does().find_map(|does| match does {
            Does::SetCurrent { from: Some(from), to } => Some((from, to.clone())),
            _ => None,
        });
        let current = current.filter(|(from, _)| tree.parents.contains_key(*from));
        let parents = moved(tree, &names);
        Ok(Self::completed(deletion_stages(domain.uuid, &deletions, &parents, current)))
    }

    fn of_revert(domain: &DomainRef, journal: &Journal, facts: &Facts<'_>) -> Result<Self, Error> {
        let look = facts.look;
        if journal.is_committed() {
            let drops =
                journal.does().filter(|does| matches!(does, Does::DropUndo(point) if holds(look, point)));
            let stages =
                drops.map(|does| Stage::One(Step { domain: domain.uuid, does: does.clone() })).collect();
            return Ok(Self::completed(stages));
        }
        let marks: Vec<&UndoPoint> = journal
            .does()
            .filter_map(|does| match does {
                Does::MarkUndo(point) => Some(point),
                _ => None,
            })
            .collect();
        if journal.direction == Direction::Back {
            return Self::undone(&journal.stages[..journal.at], look);
        }
        if !marks.iter().all(|point| holds(look, point)) {
            // Nothing is changed before all marks are there.
            let marked = journal.stage_with(|does| matches!(does, Does::MarkUndo(_))).map_or(0, |at| at + 1);
            return Self::undone(&journal.stages[..marked], look);
        }
        Again { domain, journal, look }.plan(facts.without_memory)
    }
}

fn has_marks(stages: &[Stage]) -> bool {
    stages.iter().flat_map(Stage::steps).any(|step| matches!(step.does, Does::MarkUndo(_)))
}

fn holds(look: &Look, point: &UndoPoint) -> bool {
    look.inventory.disk(&point.disk).is_some_and(|disk| disk.named(&point.tag).next().is_some())
}

/// Whether a snapshot is in its image. A disk that the domain has no more may hold it still.
fn is_there(
    domain: &DomainRef,
    target: &ImageTarget,
    look: &Look,
    name: &SnapshotName,
) -> Result<bool, Error> {
    let Some(disk) = look.inventory.disk(&target.disk) else {
        let message = format!(
            "disk {} is no longer a disk of domain {}, and {} may hold the snapshot {name}",
            target.disk, domain.name, target.image
        );
        return Err(Error::new(Kind::Refused, Effect::None, message)
            .with_advice("give the domain its disk back, then run recover"));
    };
    Ok(disk.named(&target.snapshot.name).any(|s| s == target.snapshot))
}

/// A revert that goes forward once more, on every disk: that gives the same.
struct Again<'a> {
    domain: &'a DomainRef,
    journal: &'a Journal,
    look: &'a Look,
}

impl Again<'_> {
    fn plan(&self, without_memory: bool) -> Result<Ending, Error> {
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
        let one = |does| Stage::One(Step { domain: domain.uuid, does });
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
                Does::Start { run: Run::Waits } if on => {}
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
        let target = ImageTarget {
            disk: point.disk.clone(),
            image: disk.image.clone(),
            identity: disk.identity,
            snapshot,
            virtual_size: None,
        };
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
