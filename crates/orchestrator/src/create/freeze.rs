//! The guest's file systems hold still while the disks are taken.

use std::time::Duration;

use uuid::Uuid;

use super::execute::{Taken, fail, take, taken};
use crate::error::from_port;
use crate::journal::Draft;
use crate::session::{Session, chain};
use crate::{CreateRequest, DomainRef, Effect, Error, GuestState, Kind, Ports};

/// Whether they are to be frozen; refuses where that cannot be.
pub(super) fn prepare(
    ports: &Ports<'_>,
    domain: &DomainRef,
    guest: GuestState,
    request: &CreateRequest,
    warnings: &mut Vec<String>,
) -> Result<Option<Duration>, Error> {
    let Some(bound) = request.quiesce else { return Ok(None) };
    let refused = |why: &str, advice: &str| {
        let message = format!("the file systems of domain {} cannot be frozen: {why}", domain.name);
        Err(Error::new(Kind::Refused, Effect::None, message).with_advice(advice))
    };
    if request.memory.is_some() {
        return refused(
            "its memory is saved too, and would hold them frozen",
            "leave freezing out: with its memory the guest goes on where it was",
        );
    }
    match guest {
        GuestState::On(flags) if flags.paused || flags.shutdown || flags.dying => {
            warnings.push(format!(
                "the file systems of domain {} were not frozen: its guest does not run, so nobody could ask it",
                domain.name
            ));
            return Ok(None);
        }
        GuestState::On(_) => {}
        GuestState::Off => {
            warnings.push(format!("the file systems of domain {} need no freezing: it is off", domain.name));
            return Ok(None);
        }
        GuestState::Serving => return refused("a storage daemon has its disks", "leave freezing out"),
    }
    if ports.agent.is_none() {
        return refused(
            "no guest agent is known",
            "say in the domain's description where its agent's socket is",
        );
    }
    Ok(Some(bound))
}

/// Takes the disks, with the file systems frozen around it if that is planned. They are let go in any case; that this failed is
/// a warning on a good snapshot.
pub(super) async fn around(
    session: &mut Session<'_>,
    draft: &Draft,
    id: Uuid,
    warnings: &mut Vec<String>,
) -> Result<Taken, Error> {
    let (Some(bound), Some(agent)) = (draft.quiesced, session.ports.agent) else {
        return take(session, draft, id, warnings).await;
    };
    let freezing = agent.freeze(bound);
    if let Err(cause) = session.steps.run("freeze the guest's file systems", freezing).await {
        let about = format!("snapshot {} of domain {}", draft.name, session.domain.name);
        if cause.effect != Effect::None {
            thaw(session, bound, warnings).await;
        }
        let message = format!("{about}: the guest's file systems cannot be frozen{}", so_far(warnings));
        return Err(fail(session, draft, id, message, cause).await);
    }
    // Nothing between the two but the snapshot: the guest's programs wait for their disks.
    let before = session.ports.clock.monotonic();
    let done = session.ports.disks.snapshot(&draft.actions).await;
    let took = session.ports.clock.monotonic().saturating_sub(before);
    thaw(session, bound, warnings).await;
    taken(session, draft, id, (done, took), warnings).await
}

fn so_far(warnings: &[String]) -> String {
    warnings.last().map(|warning| format!(" ({warning})")).unwrap_or_default()
}

/// Lets the file systems go; a failure becomes a warning.
pub(crate) async fn thaw(session: &mut Session<'_>, bound: Duration, warnings: &mut Vec<String>) {
    let Some(agent) = session.ports.agent else {
        warnings.push(
            "the guest's file systems may be frozen still, and no agent is known to let them go".to_owned(),
        );
        return;
    };
    let mut thawed = session.steps.run("let the guest's file systems go", agent.thaw(bound)).await;
    if thawed.is_err() {
        thawed = agent.thaw(bound).await;
    }
    if let Err(e) = thawed {
        let e = from_port(e, "the guest's file systems could not be let go");
        warnings.push(format!("{}; they let go by themselves, or by a reset of the guest", chain(&e)));
    }
}
