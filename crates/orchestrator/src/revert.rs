//! Going back to a snapshot.

use futures_util::future::join_all;
use tracing::Instrument;
use uuid::Uuid;
use xlsnap_types::model::SnapshotName;

use crate::create::{create_in, prepare as prepare_create};
use crate::error::{from_port, from_store};
use crate::journal::{Intent, Journal};
use crate::plan::{self, RevertFacts, no_such};
use crate::session::{Session, guest, inventory, places, refuse_pending};
use crate::{
    CreateReport, CreateRequest, DomainRef, Effect, Error, GuestState, ImageTarget, Kind, Ports, RevertPlan,
    RevertReport, RevertRequest,
};

/// Plans a revert, with no effect: a dry run. It asks the store, the guest and the disks, and verifies all that the revert
/// needs.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such snapshot; [`Kind::Refused`] names the disk that stands in the way and says what
/// to do; [`Kind::RecoveryPending`] when an operation was interrupted, so that the plan would not last.
///
/// # Cancel safety
/// It only reads.
pub async fn plan_revert(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &RevertRequest,
    id: Uuid,
) -> Result<RevertPlan, Error> {
    refuse_pending(ports, domain).await?;
    let span = tracing::info_span!("plan_revert", domain = %domain.name, %id);
    let work = async {
        let mut plan = prepare(ports, domain, request).await?;
        if let Some(safety) = safety_request(request) {
            plan.safety = Some(prepare_create(ports, domain, &safety, id).await?.plan);
        }
        Ok(plan)
    };
    work.instrument(span).await
}

/// Makes the domain's disks what they were in a snapshot, while the domain is off. The commit point is the removal of the
/// journal entry: a revert that was cut short is done again, on every disk.
///
/// Record, guest, each image's snapshot by name and id, and the sizes are verified before the first effect. With
/// [`RevertRequest::safety`] a snapshot of now is made first; it stays when the revert fails.
///
/// # Errors
/// As [`plan_revert`]; [`Kind::Failed`] or [`Kind::Busy`] when every disk is as it was; [`Kind::RecoveryPending`] when some
/// disks went back: don't start the domain before [`crate::recover`] finished it.
///
/// # Cancel safety
/// Dropping it leaves what a crash would: [`crate::recover`], or the next operation, completes it.
pub async fn revert(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &RevertRequest,
    id: Uuid,
) -> Result<RevertReport, Error> {
    let span = tracing::info_span!("revert", domain = %domain.name, %id);
    let work = async {
        let (mut session, recovered) = Session::open_recovered(ports, domain, "revert").await?;
        match revert_in(&mut session, request, id).await {
            Ok(report) => Ok(RevertReport { recovered, ..report }),
            Err(error) => Err(error.with_recovered(recovered)),
        }
    };
    work.instrument(span).await
}

fn safety_request(request: &RevertRequest) -> Option<CreateRequest> {
    let name = request.safety.clone()?;
    let description = format!("before the revert to {}", request.name);
    Some(CreateRequest { name: Some(name), description, ..CreateRequest::default() })
}

/// Looks and plans, without the safety snapshot.
async fn prepare(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &RevertRequest,
) -> Result<RevertPlan, Error> {
    let record = match ports.store.load(domain.uuid, &request.name).await {
        Ok(record) => record,
        Err(e) if e.kind() == xlsnap_conf_store::Kind::NotFound => {
            return Err(no_such(domain, &request.name));
        }
        Err(e) => {
            let message =
                format!("the record of snapshot {} of domain {} cannot be read", request.name, domain.name);
            return Err(from_store(e, message));
        }
    };
    let guest = guest(ports, domain).await?;
    let inventory = inventory(ports, domain).await?;
    plan::revert(&RevertFacts { domain, guest, inventory: &inventory, record: &record }, request)
}

async fn revert_in(
    session: &mut Session<'_>,
    request: &RevertRequest,
    id: Uuid,
) -> Result<RevertReport, Error> {
    let mut plan = prepare(&session.ports, session.domain, request).await?;
    let mut safety: Option<CreateReport> = None;
    if let Some(create) = safety_request(request) {
        let made = create_in(session, &create, id).await?;
        safety = Some(made);
        // The disks have changed since they were verified.
        plan =
            prepare(&session.ports, session.domain, request).await.map_err(|e| after_safety(e, request))?;
    }
    let journal = Journal::new(id, Intent::Revert { name: plan.name.clone(), disks: plan.disks.clone() });
    session.intend(&journal).await.map_err(|e| after_safety(e, request))?;
    session.steps.expect(1);
    if let Err((cause, touched)) = apply(session, &plan.name, &plan.disks).await {
        if touched {
            let message =
                format!("domain {} went back to snapshot {} in part", session.domain.name, plan.name);
            return Err(session
                .pending(message, Effect::Unknown)
                .with_source(cause)
                .with_advice("don't start the domain; remove the cause, then run recover"));
        }
        return Err(session.give_up(after_safety(cause, request)).await);
    }
    settle(session, &plan.name, &plan.disks).await.map_err(|cause| {
        let message = format!(
            "domain {} went back to snapshot {}, but that cannot be noted",
            session.domain.name, plan.name
        );
        session.pending(message, Effect::Done).with_source(cause)
    })?;
    let mut warnings = Vec::new();
    session.close_journal(&mut warnings).await;
    let disks = plan.disks.into_iter().map(|target| target.disk).collect();
    Ok(RevertReport { name: plan.name, disks, untouched: plan.untouched, safety, warnings, recovered: None })
}

/// The safety snapshot is an effect that stays.
fn after_safety(error: Error, request: &RevertRequest) -> Error {
    let Some(safety) = &request.safety else { return error };
    let advice = match error.advice() {
        Some(advice) => format!("{advice}; the safety snapshot {safety} was made and stays"),
        None => format!("the safety snapshot {safety} was made and stays; delete it if it is not needed"),
    };
    error.with_advice(advice)
}

/// Goes on with a revert that was interrupted: on every disk again, which gives the same.
pub(crate) async fn revert_journaled(
    session: &mut Session<'_>,
    name: &SnapshotName,
    disks: &[ImageTarget],
) -> Result<(), Error> {
    if session.guest().await? != GuestState::Off {
        let message = format!(
            "domain {} was started after a revert to {name} that was cut short: its disks may be of different times",
            session.domain.name
        );
        return Err(Error::new(Kind::Busy, Effect::None, message)
            .with_advice("shut the domain down, then run recover: its disks go back to the snapshot"));
    }
    let inventory = session.inventory().await?;
    for target in disks {
        let found = inventory.disk(&target.disk);
        let there = found.filter(|disk| disk.named(&target.snapshot.name).any(|s| s == target.snapshot));
        if there.is_none() {
            let message = format!(
                "{} (disk {} of domain {}) does not hold the snapshot {} (id {}) any more",
                target.image, target.disk, session.domain.name, target.snapshot.name, target.snapshot.id
            );
            return Err(Error::new(Kind::Refused, Effect::None, message));
        }
    }
    session.steps.expect(1);
    apply(session, name, disks).await.map_err(|(cause, _)| cause)?;
    settle(session, name, disks).await
}

/// Makes the disks what they were, all at once. The error says whether some were, or may be.
async fn apply(
    session: &mut Session<'_>,
    name: &SnapshotName,
    disks: &[ImageTarget],
) -> Result<(), (Error, bool)> {
    let port = session.ports.disks;
    let reverting = join_all(disks.iter().map(|target| port.revert(&target.disk, &target.snapshot)));
    let done = session.steps.run(&format!("revert all disks to {name}"), reverting).await;
    let mut failed = Vec::new();
    let mut touched = false;
    for (target, result) in disks.iter().zip(done) {
        match result {
            Ok(()) => touched = true,
            Err(e) => {
                touched |= e.effect != Effect::None;
                failed.push((target, e));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let places = places(&failed, |target| format!("disk {} ({})", target.disk, target.image));
    let message = format!("domain {}: snapshot {name} cannot be applied to {}", session.domain.name, places);
    let (_, first) = failed.swap_remove(0);
    Err((from_port(first, message), touched))
}

/// Looks, and notes where the domain is now.
async fn settle(session: &mut Session<'_>, name: &SnapshotName, disks: &[ImageTarget]) -> Result<(), Error> {
    let inventory = session.inventory().await?;
    let wrong = disks.iter().find(|target| {
        let size = inventory.disk(&target.disk).map(|disk| disk.virtual_size);
        size.is_none() || target.virtual_size.is_some_and(|expected| size != Some(expected))
    });
    if let Some(target) = wrong {
        let message = format!(
            "disk {} of domain {} does not have the size that it had in snapshot {name}",
            target.disk, session.domain.name
        );
        return Err(Error::new(Kind::Failed, Effect::Done, message));
    }
    session
        .set_current(Some(name))
        .await
        .map_err(|e| from_store(e, "the domain's current snapshot cannot be noted"))
}
