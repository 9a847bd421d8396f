//! Finishing or undoing what a crash left: a look, a new list, and the same executor.

mod again;
mod ending;

use tracing::Instrument;

use self::ending::Ending;
use super::back::undo;
use crate::error::from_store;
use crate::execute::Execution;
use crate::journal::Journal;
use crate::session::{Session, chain, left_journal, pending};
use crate::step::{Adoption, Does, Look, Stage};
use crate::{
    DomainRef, Effect, Error, GuestState, Kind, Operation, Outcome, Overlay, Ports, RecoverPlan, Recovered,
    SnapshotAction,
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
    let (ending, _) = Ending::plan(ports, domain, &journal, without_memory).await?;
    let Ending { outcome, stages, warnings } = ending;
    let stages = settling(domain, &journal).into_iter().chain(stages).collect();
    let (operation, name) = (journal.operation(), journal.name().clone());
    Ok(Some(RecoverPlan { operation, name, outcome, stages, warnings }))
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
    let (ending, looked) = Ending::plan(ports, session.domain, journal, without_memory).await?;
    let Ending { outcome, stages, mut warnings } = ending;
    execution.found().looked = Some(looked.inventory.clone());
    match outcome {
        Outcome::Undone => execution.back(&stages, journal).await?,
        // What is left are marks that lead nowhere any more.
        Outcome::Completed if journal.is_committed() => execution.backward(&stages).await?,
        Outcome::Completed => {
            let (at, whole) = (journal.at, std::mem::replace(&mut journal.stages, stages));
            journal.at = 0;
            if let Err(fault) = execution.forward(journal).await {
                let begun = (
                    journal.operation(),
                    whole.iter().any(|stage| stage.any(|does| matches!(does, Does::MarkUndo(_)))),
                );
                (journal.at, journal.stages) = (at, whole);
                if begun != (Operation::Revert, true) {
                    return Err(unadopted(&execution, journal, &looked, fault.error).await);
                }
                // It cannot go on; so it goes back.
                let stages = journal.stages.clone();
                let cause = chain(&fault.error);
                let kept = undo(&execution, journal, &stages).await;
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
    Some(Stage::one(domain.uuid, Does::AbandonMemory(save)))
}

/// A description that names an overlay which cannot be opened would keep the domain from starting: it names again what it named before,
/// or, where that was the overlay already, its base.
async fn unadopted(execution: &Execution<'_>, journal: &Journal, looked: &Look, cause: Error) -> Error {
    if looked.guest != GuestState::Off {
        return cause;
    }
    let overlays = journal.does().filter_map(|does| match does {
        Does::Take(SnapshotAction::External(overlay)) => Some(overlay),
        _ => None,
    });
    let adopt = |overlay: &Overlay| {
        let before = looked.inventory.disk(&overlay.disk).filter(|disk| disk.image != overlay.file);
        let (file, format) =
            before.map_or((&overlay.base, &overlay.base_format), |disk| (&disk.image, &disk.format));
        let adoption =
            Adoption { disk: overlay.disk.clone(), file: file.clone(), format: format.clone(), was: None };
        Stage::one(execution.session.domain.uuid, Does::Adopt(adoption))
    };
    let stages: Vec<Stage> = overlays.map(adopt).collect();
    match execution.backward(&stages).await {
        Ok(()) => cause,
        Err(e) => {
            let message =
                format!("the domain's description may name an overlay that cannot be opened ({})", chain(&e));
            Error::new(Kind::RecoveryPending, Effect::Unknown, message).with_source(cause)
        }
    }
}
