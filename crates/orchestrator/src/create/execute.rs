//! Carrying out the plan of a creation.

use std::time::Duration;

use uuid::Uuid;
use xlsnap_conf_store::Record;

use super::outcome::{adopt_overlays, judge, undo};
use super::{Prepared, freeze, memory};
use crate::journal::{CreatePhase, Draft, Intent, Journal};
use crate::session::{Session, chain};
use crate::{
    CreateReport, Effect, Error, GuestState, Inventory, Kind, PortError, Reversibility, SavedMemory,
    SnapshotAction,
};

/// What was taken.
pub(super) struct Taken {
    /// The disks as they were found afterwards.
    pub(super) looked: Inventory,
    /// How long the disks' snapshots took.
    pub(super) took: Duration,
    /// How long the guest stood still; `None` when it did not have to.
    pub(super) pause: Option<Duration>,
    /// The memory file.
    pub(super) saved: Option<SavedMemory>,
}

/// The effects, each after its journal entry.
pub(super) async fn execute(
    session: &mut Session<'_>,
    prepared: Prepared,
    id: Uuid,
) -> Result<CreateReport, Error> {
    let Prepared { plan, draft, guest } = prepared;
    let overlays =
        draft.actions.iter().filter(|action| matches!(action, SnapshotAction::External(_))).count();
    let external = overlays > 0;
    let memory = match &draft.memory {
        None => 0,
        Some(save) if save.file.is_none() => 0,
        Some(_) => 3,
    };
    let freezing = if draft.quiesced.is_some() { 2 } else { 0 };
    session.steps.expect(if external { overlays + 3 } else { 2 } + memory + freezing);
    let mut journal =
        Journal::new(id, Intent::Create { phase: CreatePhase::Preparing, draft: Box::new(draft.clone()) });
    if external {
        session.intend(&journal).await?;
        make_overlays(session, &draft, id).await?;
        journal.intent = Intent::Create { phase: CreatePhase::Snapshotting, draft: Box::new(draft.clone()) };
        if let Err(cause) = session.set_journal(Some(&journal)).await {
            let message = format!("the intent to {} cannot be journaled", session.about(&journal));
            return Err(fail(session, &draft, id, message, cause).await);
        }
    } else {
        journal.intent = Intent::Create { phase: CreatePhase::Snapshotting, draft: Box::new(draft.clone()) };
        session.intend(&journal).await?;
    }

    let mut warnings = plan.warnings;
    let taken = match &draft.memory {
        None => freeze::around(session, &draft, id, &mut warnings).await?,
        Some(save) => memory::take(session, &draft, save, id, &mut warnings).await?,
    };
    if external {
        let adopting = adopt_overlays(session.ports.disks, &draft);
        if let Err(cause) = session.steps.run("name the overlays in the domain's description", adopting).await
        {
            let message =
                format!("{}: the domain's description cannot name the overlays", session.about(&journal));
            return Err(give_up(session, &draft, id, guest, message, cause).await);
        }
    }
    let record = commit(session, &draft, id, guest, &taken).await?;
    if let Err(e) = session.set_current(Some(&draft.name)).await {
        warnings.push(format!("the current snapshot could not be noted ({})", chain(&e)));
    } else {
        session.close_journal(&mut warnings).await;
    }
    let reversibility = Reversibility::of(&record);
    Ok(CreateReport {
        record,
        passed_over: plan.passed_over,
        reversibility,
        took: taken.took,
        pause: taken.pause,
        warnings,
        recovered: None,
    })
}

async fn make_overlays(session: &mut Session<'_>, draft: &Draft, id: Uuid) -> Result<(), Error> {
    let mut made = draft.clone();
    for (at, action) in draft.actions.iter().enumerate() {
        let SnapshotAction::External(overlay) = action else { continue };
        let making = session.ports.disks.make_overlay(overlay);
        let Err(cause) = session.steps.run(&format!("make the overlay {}", overlay.file), making).await
        else {
            continue;
        };
        let message = format!(
            "snapshot {} of domain {}: the overlay {} of disk {} cannot be made",
            draft.name, session.domain.name, overlay.file, overlay.disk
        );
        // One that was certainly not made is not ours to discard: somebody's file may be there since we looked.
        let ours = if cause.effect == Effect::None { at } else { at + 1 };
        made.actions.truncate(ours);
        made.meta.disks.truncate(ours);
        return Err(fail(session, &made, id, message, cause).await);
    }
    Ok(())
}

/// Takes the snapshots, and looks whether they are there.
pub(super) async fn take(
    session: &mut Session<'_>,
    draft: &Draft,
    id: Uuid,
    warnings: &mut Vec<String>,
) -> Result<Taken, Error> {
    let before = session.ports.clock.monotonic();
    let taking = session.ports.disks.snapshot(&draft.actions);
    let done = session.steps.run(&format!("take snapshot {} of all disks", draft.name), taking).await;
    let took = session.ports.clock.monotonic().saturating_sub(before);
    taken(session, draft, id, (done, took), warnings).await
}

/// Looks whether the snapshots are there, after the backend gave its word, and how long that took.
pub(super) async fn taken(
    session: &mut Session<'_>,
    draft: &Draft,
    id: Uuid,
    (done, took): (Result<(), PortError>, Duration),
    warnings: &mut Vec<String>,
) -> Result<Taken, Error> {
    let about = format!("snapshot {} of domain {}", draft.name, session.domain.name);
    if let Err(cause) = done {
        if cause.effect == Effect::None {
            return Err(fail(session, draft, id, format!("{about} cannot be taken"), cause).await);
        }
        // Whether it was taken is not known: look.
        let message = format!("{about}: the outcome is not known");
        return match look(session).await {
            Ok((guest, inventory)) if judge(draft, guest, &inventory) => {
                warnings
                    .push(format!("the snapshots were taken, although the backend said: {}", chain(&cause)));
                Ok(Taken { looked: inventory, took, pause: None, saved: None })
            }
            Ok(_) => {
                Err(fail(session, draft, id, format!("{about} was not taken of every disk"), cause).await)
            }
            Err(_) => Err(session.pending(message, Effect::Unknown).with_source(cause)),
        };
    }
    match look(session).await {
        Ok((guest, inventory)) if judge(draft, guest, &inventory) => {
            Ok(Taken { looked: inventory, took, pause: None, saved: None })
        }
        Ok(_) => {
            // Two programs with the same image each keep their own list of its snapshots; the later one to write wins.
            let message = format!("{about}: the backend took it, yet it is not on every disk");
            let cause = PortError::new(
                crate::PortErrorKind::Corrupt,
                Effect::Unknown,
                "a snapshot is not in its image after it was taken; another program may write to the image",
            );
            Err(fail(session, draft, id, message, cause).await)
        }
        Err(cause) => {
            let message = format!("{about} was taken, but its disks cannot be looked at");
            Err(session.pending(message, Effect::Done).with_source(cause))
        }
    }
}

pub(super) async fn look(session: &Session<'_>) -> Result<(GuestState, Inventory), Error> {
    Ok((session.guest().await?, session.inventory().await?))
}

/// The commit point.
async fn commit(
    session: &mut Session<'_>,
    draft: &Draft,
    id: Uuid,
    guest: GuestState,
    taken: &Taken,
) -> Result<Record, Error> {
    let mut record = draft.record(&taken.looked, taken.saved.as_ref());
    if let (Some(meta), Some(pause)) = (&mut record.meta, taken.pause) {
        meta.downtime_us = Some(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
    }
    let storing = session.lock.store(&record, false);
    let Err(cause) = session.steps.run("store the record", storing).await else { return Ok(record) };
    let message =
        format!("the record of snapshot {} of domain {} cannot be stored", draft.name, session.domain.name);
    // It may be there although storing it failed.
    match session.ports.store.names(session.domain.uuid).await {
        Ok(names) if names.contains(&draft.name) => Ok(record),
        Ok(_) => Err(give_up(session, draft, id, guest, message, cause).await),
        Err(_) => Err(session.pending(message, Effect::Unknown).with_source(cause)),
    }
}

/// Undoes where that can be done: an overlay that takes a guest's writes cannot be taken away from it, so that the
/// creation is to be completed later.
async fn give_up(
    session: &mut Session<'_>,
    draft: &Draft,
    id: Uuid,
    guest: GuestState,
    message: String,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let external = draft.actions.iter().any(|action| matches!(action, SnapshotAction::External(_)));
    // Of memory only the record would tell whether it is whole.
    if external && draft.memory.is_none() && guest != GuestState::Off {
        let message = format!("{message}; the guest writes to the overlays already");
        return session.pending(message, Effect::Done).with_source(cause);
    }
    fail(session, draft, id, message, cause).await
}

/// Undoes, and makes the error that says how that went.
pub(super) async fn fail(
    session: &mut Session<'_>,
    draft: &Draft,
    id: Uuid,
    message: String,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    match undo(session, draft, id).await {
        Ok(kept) if kept.is_empty() => Error::new(Kind::Failed, Effect::None, message).with_source(cause),
        Ok(kept) => Error::new(Kind::Failed, Effect::Done, format!("{message}; {}", kept.join("; ")))
            .with_source(cause),
        Err(undoing) => {
            let message = format!("{message}; undoing it failed too ({})", chain(&undoing));
            session.pending(message, Effect::Unknown).with_source(cause)
        }
    }
}
