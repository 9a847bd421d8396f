//! A snapshot with the guest's memory.

use std::future::Future;
use std::time::Duration;

use futures_util::future::{Either, select};
use uuid::Uuid;
use xlsnap_types::model::{MemoryWay, PassedOver};

use super::execute::{Taken, fail, look};
use super::outcome::judge;
use crate::error::from_port;
use crate::journal::Draft;
use crate::plan::{self, MemoryFacts};
use crate::session::Session;
use crate::{
    CreatePlan, DomainRef, Effect, Error, GuestState, Inventory, Kind, Memory, MemoryPlace, MemoryRequest,
    MemorySave, MemorySurvey, PortError, PortErrorKind, Ports,
};

/// Asks what can be done, and plans it.
pub(super) async fn prepare(
    ports: &Ports<'_>,
    domain: &DomainRef,
    guest: GuestState,
    plan: &CreatePlan,
    request: &MemoryRequest,
    id: Uuid,
) -> Result<MemorySave, Error> {
    let file = match (&request.place, ports.memory_files) {
        (MemoryPlace::Inside, _) => None,
        (MemoryPlace::File(file), _) => Some(file.clone()),
        (MemoryPlace::Default, Some(files)) => Some(files.place(&plan.name)),
        (MemoryPlace::Default, None) => None,
    };
    let survey = match ports.memory.filter(|_| matches!(guest, GuestState::On(_))) {
        Some(memory) => {
            let asked = memory.survey(file.as_deref()).await;
            asked.map_err(|e| {
                from_port(e, format!("how the memory of domain {} can be saved cannot be told", domain.name))
            })?
        }
        None => MemorySurvey::default(),
    };
    let facts = MemoryFacts { domain: &domain.name, guest, survey: &survey, file: file.as_deref(), id };
    plan::memory(&facts, plan, request)
}

/// What the memory will not fit after a revert.
pub(super) fn left_out(plan: &CreatePlan, inventory: &Inventory) -> Option<String> {
    let writable = |passed: &&PassedOver| {
        inventory.disk(&passed.disk).is_some_and(|disk| !disk.read_only && !disk.removable)
    };
    let disks: Vec<&str> =
        plan.passed_over.iter().filter(writable).map(|passed| passed.disk.as_str()).collect();
    (!disks.is_empty()).then(|| {
        format!(
            "the guest's memory knows disk {} as it is now, and that disk is not part of the snapshot: after a revert the two \
             may not fit",
            disks.join(", ")
        )
    })
}

/// Takes the disks and the memory, at one instant.
pub(super) async fn take(
    session: &mut Session<'_>,
    draft: &Draft,
    save: &MemorySave,
    id: Uuid,
    warnings: &mut Vec<String>,
) -> Result<Taken, Error> {
    let about = format!("snapshot {} of domain {}", draft.name, session.domain.name);
    let Some(memory) = session.ports.memory else {
        let cause = PortError::new(PortErrorKind::Refused, Effect::None, "the backend cannot save memory");
        return Err(fail(session, draft, id, format!("{about} cannot be taken"), cause).await);
    };
    if save.way == MemoryWay::Internal {
        return take_inside(session, memory, draft, save, id).await;
    }
    let progress = session.ports.progress;
    let beginning = interruptible(session, memory.begin(save, progress));
    if let Err(cause) = session.steps.run("bring the guest to a stop", beginning).await {
        return Err(
            fail(session, draft, id, format!("{about}: the guest's memory cannot be saved"), cause).await
        );
    }
    // The guest stands still from here to the end of `resume`.
    let before = session.ports.clock.monotonic();
    let taking = session.ports.disks.snapshot(&draft.actions);
    if let Err(cause) = session.steps.run(&format!("take snapshot {} of all disks", draft.name), taking).await
    {
        return Err(fail(session, draft, id, format!("{about} cannot be taken"), cause).await);
    }
    let took = session.ports.clock.monotonic().saturating_sub(before);
    let resuming = interruptible(session, memory.resume(save, progress));
    let pause = match session.steps.run("let the guest go on", resuming).await {
        Ok(pause) => pause,
        Err(cause) => {
            return Err(fail(session, draft, id, format!("{about}: the guest cannot go on"), cause).await);
        }
    };
    let finishing = interruptible(session, memory.finish(save, progress));
    let saved = match session.steps.run("save the guest's memory", finishing).await {
        Ok(saved) => saved,
        Err(cause) => {
            let message = format!("{about}: the guest's memory cannot be saved");
            return Err(fail(session, draft, id, message, cause).await);
        }
    };
    let looked = looked(session, draft, id, &about).await?;
    if pause > LONG_PAUSE && save.way == MemoryWay::Background {
        warnings.push(format!(
            "the guest stood still for {pause:?}, which is long for this way of saving memory"
        ));
    }
    Ok(Taken { looked, took, pause: save.was_running.then_some(pause), saved: Some(saved) })
}

/// A guest whose writes can be tracked is not stopped longer for it.
const LONG_PAUSE: Duration = Duration::from_secs(2);

async fn take_inside(
    session: &mut Session<'_>,
    memory: &dyn Memory,
    draft: &Draft,
    save: &MemorySave,
    id: Uuid,
) -> Result<Taken, Error> {
    let about = format!("snapshot {} of domain {}", draft.name, session.domain.name);
    let before = session.ports.clock.monotonic();
    let taking = interruptible(session, memory.take_inside(save, &draft.actions, session.ports.progress));
    let what = format!("take snapshot {} of all disks, with the guest's memory", draft.name);
    let pause = match session.steps.run(&what, taking).await {
        Ok(pause) => pause,
        Err(cause) => return Err(fail(session, draft, id, format!("{about} cannot be taken"), cause).await),
    };
    let took = session.ports.clock.monotonic().saturating_sub(before);
    let looked = looked(session, draft, id, &about).await?;
    Ok(Taken { looked, took, pause: save.was_running.then_some(pause), saved: None })
}

/// Looks whether every disk has its part.
async fn looked(session: &mut Session<'_>, draft: &Draft, id: Uuid, about: &str) -> Result<Inventory, Error> {
    match look(session).await {
        Ok((guest, inventory)) if judge(draft, guest, &inventory) => Ok(inventory),
        Ok(_) => {
            let cause = PortError::new(
                PortErrorKind::Corrupt,
                Effect::Unknown,
                "a snapshot is not in its image after it was taken; another program may write to the image",
            );
            let message = format!("{about}: the backend took it, yet it is not on every disk");
            Err(fail(session, draft, id, message, cause).await)
        }
        Err(cause) => {
            let message = format!("{about} was taken, but its disks cannot be looked at");
            Err(session.pending(message, Effect::Done).with_source(cause))
        }
    }
}

/// Runs a long step until it ends, or somebody wants the operation to end.
fn interruptible<'s, T: 's>(
    session: &Session<'s>,
    step: impl Future<Output = Result<T, PortError>> + Send + 's,
) -> impl Future<Output = Result<T, PortError>> + 's {
    let interrupt = session.ports.interrupt;
    async move {
        let Some(interrupt) = interrupt else { return step.await };
        match select(Box::pin(step), interrupt.requested()).await {
            Either::Left((done, _)) => done,
            Either::Right(((), _)) => {
                Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, "it was interrupted on request"))
            }
        }
    }
}

/// The error of a recovery whose backend cannot do what an earlier one did.
pub(super) fn no_backend(domain: &str) -> Error {
    let message =
        format!("the memory of domain {domain} was being saved, and its backend cannot do that now");
    Error::new(Kind::RecoveryPending, Effect::None, message)
        .with_advice("recover it where it was begun; a guest that stands still goes on then")
}
