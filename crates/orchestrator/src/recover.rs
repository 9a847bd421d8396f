//! Finishing or undoing what a crash left.

use tracing::Instrument;
use xlsnap_conf_store::Kind as StoreKind;

use crate::create::{adopt_overlays, judge, thaw, undo};
use crate::delete::delete_journaled;
use crate::error::from_store;
use crate::journal::{CreatePhase, Draft, Intent, Journal};
use crate::revert::revert_journaled;
use crate::session::{Session, chain};
use crate::{DomainRef, Effect, Error, GuestState, Kind, Outcome, Ports, Recovered, SnapshotAction};

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
    let span = tracing::info_span!("recover", domain = %domain.name);
    let work = async {
        let (_session, recovered) = Session::open_recovered(ports, domain, "recover").await?;
        Ok(recovered)
    };
    work.instrument(span).await
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
    let span = tracing::info_span!("recover_without_memory", domain = %domain.name);
    let work = async {
        let mut session = Session::open(ports, domain, "recover").await?;
        session.without_memory = true;
        finish(&mut session).await
    };
    work.instrument(span).await
}

/// The journal that is left, if any.
pub(crate) async fn left(session: &Session<'_>) -> Result<Option<Journal>, Error> {
    let domain = &session.domain.name;
    let bytes = session
        .ports
        .store
        .journal(session.domain.uuid)
        .await
        .map_err(|e| from_store(e, format!("the journal of domain {domain} cannot be read")))?;
    let Some(bytes) = bytes else { return Ok(None) };
    match Journal::parse(&bytes) {
        Ok(journal) => Ok(Some(journal)),
        Err(e) => {
            let message = format!(
                "an operation on domain {domain} was interrupted, and what its journal says is not understood"
            );
            Err(Error::new(Kind::RecoveryPending, Effect::None, message)
                .with_source(e)
                .with_advice("recover with the version that wrote it; nothing was touched"))
        }
    }
}

/// Finishes or undoes what is left, under the domain's lock.
pub(crate) async fn finish(session: &mut Session<'_>) -> Result<Option<Recovered>, Error> {
    let Some(journal) = left(session).await? else { return Ok(None) };
    let mut warnings = Vec::new();
    let outcome = match &journal.intent {
        Intent::Create { phase, draft } => {
            finish_create(session, &journal, *phase, draft, &mut warnings).await
        }
        Intent::Delete { snapshots } => {
            delete_journaled(session, snapshots, &mut warnings).await.map(|()| Outcome::Completed)
        }
        Intent::Revert { name, disks, way } => {
            revert_journaled(session, name, disks, way, &mut warnings).await.map(|()| Outcome::Completed)
        }
    };
    let unfinished = |session: &Session<'_>, cause: Error| {
        let message = format!("the interrupted operation ({}) cannot be finished", session.about(&journal));
        let effect = cause.effect();
        let advice = cause.advice().map(str::to_owned);
        let error = session.pending(message, effect).with_source(cause);
        match advice {
            Some(advice) => error.with_advice(advice),
            None => error,
        }
    };
    let outcome = outcome.map_err(|cause| unfinished(session, cause))?;
    if let Err(cause) = session.set_journal(None).await {
        let cause = from_store(cause, "the journal entry cannot be removed");
        return Err(unfinished(session, cause));
    }
    let (operation, name) = (journal.operation(), journal.name().clone());
    Ok(Some(Recovered { operation, name, outcome, warnings }))
}

async fn finish_create(
    session: &mut Session<'_>,
    journal: &Journal,
    phase: CreatePhase,
    draft: &Draft,
    warnings: &mut Vec<String>,
) -> Result<Outcome, Error> {
    let store = session.ports.store;
    let names = store.names(session.domain.uuid).await;
    let names = names.map_err(|e| from_store(e, "what is stored of the domain cannot be read"))?;
    let stored = names.contains(&draft.name);
    if phase != CreatePhase::Undoing && stored {
        // The commit point was passed.
        note_current(session, draft).await?;
        return Ok(Outcome::Completed);
    }
    if let Some(bound) = draft.quiesced.filter(|_| phase != CreatePhase::Preparing) {
        let guest = session.guest().await?;
        if matches!(guest, GuestState::On(_)) {
            thaw(session, bound, warnings).await;
        }
    }
    // Whether a memory file is whole only the record tells.
    let outside = draft.memory.as_ref().is_some_and(|save| save.file.is_some());
    if phase == CreatePhase::Snapshotting && !outside {
        if let (Some(save), Some(memory)) = (&draft.memory, session.ports.memory) {
            // The backend may be at it still.
            memory.abandon(save).await.map_err(|e| {
                crate::error::from_port(e, "the saving of the guest's memory cannot be ended")
            })?;
        }
        let guest = session.guest().await?;
        let inventory = session.inventory().await?;
        if judge(draft, guest, &inventory) {
            complete(session, draft, guest).await?;
            return Ok(Outcome::Completed);
        }
    }
    warnings.extend(undo(session, draft, journal.id()).await?);
    Ok(Outcome::Undone)
}

/// Every disk has its part: adopt the overlays, store the record.
async fn complete(session: &mut Session<'_>, draft: &Draft, guest: GuestState) -> Result<(), Error> {
    let disks = session.ports.disks;
    let adopted = adopt_overlays(disks, draft).await;
    let looked = match adopted {
        Ok(()) => session.inventory().await,
        Err(e) => Err(crate::error::from_port(e, "the domain's description cannot name the overlays")),
    };
    let looked = match looked {
        Ok(looked) => looked,
        // A description that names an overlay which cannot be opened would keep the domain from starting.
        Err(cause) if guest == GuestState::Off => return Err(name_bases(session, draft, cause).await),
        Err(cause) => return Err(cause),
    };
    let stored = session.lock.store(&draft.record(&looked, None), false).await;
    match stored {
        Err(e) if e.kind() != StoreKind::AlreadyExists => {
            return Err(from_store(e, format!("the record of snapshot {} cannot be stored", draft.name)));
        }
        _ => {}
    }
    note_current(session, draft).await
}

async fn name_bases(session: &Session<'_>, draft: &Draft, cause: Error) -> Error {
    for action in &draft.actions {
        let SnapshotAction::External(overlay) = action else { continue };
        if let Err(e) = session.ports.disks.adopt(&overlay.disk, &overlay.base, &overlay.base_format).await {
            let message = format!(
                "the description of domain {} may name the overlay {} of disk {}, which cannot be opened, instead of {} ({})",
                session.domain.name,
                overlay.file,
                overlay.disk,
                overlay.base,
                chain(&e)
            );
            return Error::new(Kind::RecoveryPending, Effect::Unknown, message).with_source(cause);
        }
    }
    cause
}

async fn note_current(session: &mut Session<'_>, draft: &Draft) -> Result<(), Error> {
    let noted = session.set_current(Some(&draft.name)).await;
    noted.map_err(|e| from_store(e, "the domain's current snapshot cannot be noted"))
}
