//! Carrying out a list of stages. Nothing here decides: a stage is done, or the fault says how far it came.

mod freezing;
mod layers;
mod perform;
mod telling;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::lock::Mutex as AsyncMutex;
use tracing::Instrument;
use uuid::Uuid;
use xlsnap_conf_store::Record;

use crate::journal::{Direction, Journal};
use crate::session::{Session, chain};
use crate::step::{Does, Stage, Step, gives_up_guest};
use crate::{
    Effect, Error, Inventory, Kind, Ports, SavedMemory, SnapshotAction, StoppedGuest, UnfinishedMemory,
};

/// What was found on the way.
#[derive(Default)]
pub(crate) struct Found {
    /// The disks as they were when they were last looked at.
    pub(crate) looked: Option<Inventory>,
    /// How long the disks' snapshots took.
    pub(crate) took: Duration,
    /// How long the guest stood still; `None` when it did not have to.
    pub(crate) pause: Option<Duration>,
    /// When the guest was stopped, of one that ran and stands still.
    stopped: Option<Duration>,
    /// The memory file.
    pub(crate) saved: Option<SavedMemory>,
    /// The record, as stored.
    pub(crate) record: Option<Record>,
    /// Sentences for people.
    pub(crate) warnings: Vec<String>,
    /// The operation is done, but for what the journal says and the next operation goes on with.
    pub(crate) is_left: bool,
    /// The guest's file systems could not be thawed.
    pub(crate) is_frozen: bool,
}

/// A guest's memory that is being saved.
enum Saving<'e> {
    Not,
    Stopped(Box<dyn StoppedGuest<'e> + 'e>),
    Unfinished(Box<dyn UnfinishedMemory + 'e>),
}

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Its stage.
    pub(crate) at: usize,
    /// What it was to do; `None` when the operation was to end early before it.
    pub(crate) does: Option<Does>,
    /// What was begun before it, and of its own stage what may have had an effect.
    pub(crate) begun: Vec<Stage>,
    pub(crate) error: Error,
}

impl Fault {
    /// Whether this is what failed.
    pub(crate) fn is(&self, is_it: impl Fn(&Does) -> bool) -> bool {
        self.does.as_ref().is_some_and(is_it)
    }
}

/// An operation that is being carried out.
pub(crate) struct Execution<'e> {
    pub(crate) session: &'e Session<'e>,
    pub(crate) ports: Ports<'e>,
    id: Uuid,
    found: Mutex<Found>,
    saving: AsyncMutex<Saving<'e>>,
}

/// What of a stage failed.
struct Failed {
    does: Does,
    /// What of the stage may have had an effect.
    begun: Option<Stage>,
    error: Error,
}

impl<'e> Execution<'e> {
    pub(crate) fn new(session: &'e Session<'e>, ports: &Ports<'e>, id: Uuid) -> Self {
        Self { session, ports: *ports, id, found: Mutex::default(), saving: AsyncMutex::new(Saving::Not) }
    }

    /// What was found on the way.
    pub(crate) fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, when it is over.
    pub(crate) fn into_found(self) -> Found {
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, warning: String) {
        self.found().warnings.push(warning);
    }

    /// Goes forward through the journal's list, from where it is.
    ///
    /// # Cancel safety
    /// Dropping it leaves what a crash would.
    pub(crate) async fn forward(&self, journal: &mut Journal) -> Result<(), Fault> {
        let stages = std::mem::take(&mut journal.stages);
        let done = self.forward_through(&stages, journal).await;
        journal.stages = stages;
        done
    }

    async fn forward_through(&self, stages: &[Stage], journal: &mut Journal) -> Result<(), Fault> {
        let is_commit = |stage: &Stage| stage.any(|does| *does == Does::Commit);
        let committed = stages.iter().position(is_commit);
        let last_wish = last_way_back(stages);
        let mut steps = Progression::new(self.ports, stages);
        for (at, stage) in stages.iter().enumerate() {
            let fault = |error, does: Option<&Does>, part: Option<Stage>| Fault {
                at,
                does: does.cloned(),
                begun: stages[..at].iter().cloned().chain(part).collect(),
                error,
            };
            if last_wish.is_some_and(|last| at <= last) && self.is_interrupted() {
                return Err(fault(interrupted(Effect::None), None, None));
            }
            let is_told = stages.iter().any(|stage| stage.any(Does::makes_top)) && gives_up_guest(stages, at);
            // From here on a guest may write to new files, which cannot be told from what they hold.
            let resumes = stage.any(|does| matches!(does, Does::ResumeGuest | Does::RunOn(_)))
                && stages.iter().any(|stage| stage.any(|does| matches!(does, Does::SwapNames(_))));
            if is_told || resumes || stage.any(Does::flushes) {
                journal.at = at;
                if let Err(e) = self.flush(journal, stages).await {
                    let error =
                        Error::new(e.kind().into(), Effect::None, "how far it is cannot be journaled");
                    return Err(fault(error.with_source(e), None, None));
                }
            }
            if let Some(what) = stage.text() {
                self.session.tell(&what);
            }
            let done = if is_commit(stage) {
                journal.at = at + 1;
                steps.run(stage, self.commit(stage, journal, stages)).await
            } else {
                let done = steps.run(stage, self.stage(stage)).await;
                // Once more, as with the commit itself: each of these may be done again.
                let may_be_again = |does: &Does| does.is_tidying() || matches!(does, Does::DeleteInside(_));
                if done.is_err() && committed.is_some_and(|commit| at > commit) && stage.any(may_be_again) {
                    self.stage(stage).await
                } else {
                    done
                }
            };
            match done {
                Ok(()) => {}
                // The operation is done: what is left over is found by a check. A step on layers relies on those before it.
                Err(failed) if committed.is_some_and(|commit| at > commit) => {
                    self.warn(format!("{}; recover, or the next operation, does it", chain(&failed.error)));
                    self.found().is_left = true;
                    if !matches!(failed.does, Does::DropUndo(_)) {
                        return Ok(());
                    }
                }
                Err(Failed { does, begun, error }) => return Err(fault(error, Some(&does), begun)),
            }
        }
        Ok(())
    }

    /// The commit point of a revert: the journal says durably that the operation is done.
    async fn commit(&self, stage: &Stage, journal: &mut Journal, stages: &[Stage]) -> Result<(), Failed> {
        // Once more, so that one refusal of the store gives up nothing that is done.
        let mut noted = self.flush(journal, stages).await;
        if noted.is_err() {
            noted = self.flush(journal, stages).await;
        }
        noted.map_err(|e| Failed {
            does: Does::Commit,
            begun: Some(stage.clone()),
            error: Error::new(e.kind().into(), Effect::Unknown, Does::Commit.failure()).with_source(e),
        })
    }

    async fn flush(&self, journal: &mut Journal, stages: &[Stage]) -> Result<(), xlsnap_conf_store::Error> {
        journal.stages = stages.to_vec();
        let written = self.session.set_journal(Some(journal)).await;
        journal.stages.clear();
        written
    }

    /// Goes through a way back from what a journal says. All that can be undone is tried; the error is the first.
    ///
    /// Where a domain is started again, the marks go before that, and no mark tells of new files that were made for disks. So the journal
    /// says first that its process was ended and nothing was begun after it: another way back then starts it, or leaves its guest alone.
    pub(crate) async fn back(&self, stages: &[Stage], journal: &mut Journal) -> Result<(), Error> {
        let ended = journal.stage_with(|does| matches!(does, Does::EndProcess(_)));
        self.go_back(stages, ended.map(|ended| (journal, ended + 1))).await
    }

    /// The same where nothing is started that could not be told from what is there.
    pub(crate) async fn backward(&self, stages: &[Stage]) -> Result<(), Error> {
        self.go_back(stages, None).await
    }

    async fn go_back(&self, stages: &[Stage], mut tell: Option<(&mut Journal, usize)>) -> Result<(), Error> {
        let mut first: Option<Error> = None;
        let mut steps = Progression::new(self.ports, stages);
        let is_start =
            |stage: &Stage| stage.any(|does| matches!(does, Does::Start { .. } | Does::Restore { .. }));
        let drops = |stage: &Stage| stage.any(|does| matches!(does, Does::DropUndo(_)));
        let start = stages.iter().position(is_start);
        let told = start.map(|start| start - usize::from(start > 0 && drops(&stages[start - 1])));
        // A file that the description may name still is not removed: without it the disks could not be looked at any more.
        let mut may_be_named = false;
        let removes =
            |stage: &Stage| stage.any(|does| matches!(does, Does::RemoveLayer(_) | Does::Unlink(_)));
        for (at, stage) in stages.iter().enumerate() {
            if may_be_named && removes(stage) {
                continue;
            }
            if told == Some(at)
                && let Some((journal, at)) = tell.take()
            {
                (journal.direction, journal.at) = (Direction::Back, at);
                if let Err(e) = self.session.set_journal(Some(journal)).await {
                    let message = "the domain is not started again, since that cannot be journaled";
                    return Err(first.unwrap_or_else(|| {
                        Error::new(e.kind().into(), Effect::Unknown, message).with_source(e)
                    }));
                }
            }
            let Err(Failed { does, error, .. }) = steps.run(stage, self.stage(stage)).await else { continue };
            may_be_named |= matches!(does, Does::Adopt(_));
            let swaps_later =
                || stages[at..].iter().any(|stage| stage.any(|does| matches!(does, Does::SwapTop { .. })));
            match does {
                // What is left of these is harmless, and found by a check.
                Does::DropUndo(_) => self.warn(chain(&error)),
                // A disk is found in its process by the image that the description names: under another one recovery would not find it.
                Does::Adopt(_) if swaps_later() => return Err(first.unwrap_or(error)),
                // A disk that is not as it was must not be given to a guest.
                Does::Apply { .. }
                | Does::Release
                | Does::Detach(_)
                | Does::SwapNamesBack(_)
                | Does::SwapTop { .. }
                | Does::EndProcess(_)
                | Does::AbandonMemory(_) => {
                    return Err(first.unwrap_or(error));
                }
                _ => first = Some(first.unwrap_or(error)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Does one step of a repair.
    pub(crate) async fn mend(&self, step: Step) -> Result<(), Error> {
        self.stage(&Stage::One(step)).await.map_err(|failed| failed.error)
    }

    fn is_interrupted(&self) -> bool {
        let interrupt = self.ports.interrupt.get();
        interrupt.is_some_and(|interrupt| interrupt.requested().now_or_never().is_some())
    }

    /// Does one stage.
    async fn stage(&self, stage: &Stage) -> Result<(), Failed> {
        match stage {
            Stage::One(step) => self.perform(step).await.map_err(|error| Failed {
                begun: (error.effect() != Effect::None).then(|| stage.clone()),
                does: step.does.clone(),
                error,
            }),
            Stage::AtOnce(steps) => self.at_once(stage, steps).await,
            Stage::Parallel(steps) if stage.removes() => self.unlink_all(steps).await,
            Stage::Parallel(steps) => self.parallel(steps).await,
            Stage::OneWrite(steps) => self.one_write(steps).await.map_err(|error| Failed {
                begun: (error.effect() != Effect::None).then(|| stage.clone()),
                does: steps[0].does.clone(),
                error: error.reworded(stage.failure()),
            }),
        }
    }

    async fn at_once(&self, stage: &Stage, steps: &[Step]) -> Result<(), Failed> {
        let actions: Vec<SnapshotAction> = steps.iter().filter_map(|step| step.does.snapshot()).collect();
        let first = &steps[0].does;
        let before = self.ports.clock.monotonic();
        let taken = self.take(first, &actions).await;
        self.found().took = self.ports.clock.monotonic().saturating_sub(before);
        let Err(error) = taken else { return Ok(()) };
        if error.effect() != Effect::None && matches!(first, Does::Take(_)) {
            // Whether they were taken is not known: look.
            if let Ok(true) = self.are_taken(&actions, false).await {
                self.warn(format!("the snapshots were taken, although the backend said: {}", chain(&error)));
                return Ok(());
            }
        }
        let begun = (error.effect() != Effect::None).then(|| stage.clone());
        Err(Failed { does: first.clone(), begun, error })
    }

    async fn parallel(&self, steps: &[Step]) -> Result<(), Failed> {
        let done = join_all(steps.iter().map(|step| self.perform(step))).await;
        let mut begun = Vec::new();
        let mut failed: Vec<(&Step, Error)> = Vec::new();
        for (step, result) in steps.iter().zip(done) {
            let error = result.err();
            if error.as_ref().is_none_or(|error| error.effect() != Effect::None) {
                begun.push(step.clone());
            }
            failed.extend(error.map(|error| (step, error)));
        }
        if failed.is_empty() {
            return Ok(());
        }
        let (step, error) = failed.remove(0);
        // Every one that failed is named: the first as the cause, the others beside it.
        let others: Vec<String> = failed.iter().map(|(_, error)| chain(error)).collect();
        let error = if others.is_empty() {
            error
        } else {
            let message = format!("{error} (and: {})", others.join("; "));
            error.reworded(message)
        };
        Err(Failed {
            does: step.does.clone(),
            begun: (!begun.is_empty()).then_some(Stage::Parallel(begun)),
            error,
        })
    }
}

/// The last stage before which an operation may end early and have everything as it was; `None` where it cannot.
fn last_way_back(stages: &[Stage]) -> Option<usize> {
    let first = |is_it: fn(&Does) -> bool| stages.iter().position(|stage| stage.any(is_it));
    let commit = first(|does| *does == Does::Commit).unwrap_or(stages.len());
    let deletes =
        first(|does| matches!(does, Does::DeleteInside(_) | Does::DeleteInLayer(_) | Does::DeleteRecord(_)))
            .filter(|at| *at < commit);
    // What follows data that moved is short, and a step of it that is long is ended within.
    if deletes.or_else(|| first(|does| matches!(does, Does::Merge(_) | Does::Stream(_)))).is_some() {
        return None;
    }
    // What a guest writes to an overlay cannot be taken away from it.
    let overlay = first(|does| matches!(does, Does::Take(SnapshotAction::External(_)) | Does::SwapNames(_)));
    overlay
        .or_else(|| first(|does| matches!(does, Does::Commit | Does::StoreRecord(_))))
        .or(stages.len().checked_sub(1))
}

/// Where an operation is in its list, for the progress and the log.
struct Progression<'e> {
    ports: Ports<'e>,
    number: usize,
    total: usize,
}

impl<'e> Progression<'e> {
    fn new(ports: Ports<'e>, stages: &[Stage]) -> Self {
        Self { ports, number: 0, total: stages.iter().filter(|stage| !stage.looks()).count().max(1) }
    }

    async fn run<T>(&mut self, stage: &Stage, work: impl Future<Output = T>) -> T {
        let Some(what) = stage.text() else { return work.await };
        self.number += 1;
        self.ports.progress.step(self.number, self.total, &what);
        work.instrument(tracing::info_span!("step", what)).await
    }
}

/// The error of an operation that was to end early.
pub(crate) fn interrupted(effect: Effect) -> Error {
    Error::new(Kind::Failed, effect, "it was interrupted on request")
}
