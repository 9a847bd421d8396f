//! Going back to a snapshot.

mod carry;

use tracing::Instrument;
use uuid::Uuid;
use xlsnap_types::model::SnapshotName;

pub(crate) use carry::revert_journaled;

use crate::create::{create_in, prepare as prepare_create};
use crate::error::{from_port, from_store};
use crate::journal::{Intent, Journal};
use crate::plan::{self, RevertFacts, no_such};
use crate::session::{Session, guest, inventory, refuse_pending};
use crate::{
    Abilities, CreateReport, CreateRequest, DomainRef, Effect, Error, GuestState, ImageTarget, Kind,
    MemoryRequest, Ports, RevertPlan, RevertReport, RevertRequest, RevertWay,
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
        let (mut plan, guest) = prepare(ports, domain, request, Verify::All).await?;
        if let Some(safety) = safety_request(request, &plan.way, guest) {
            plan.safety = Some(prepare_create(ports, domain, &safety, id).await?.plan);
        }
        Ok(plan)
    };
    work.instrument(span).await
}

/// Makes the domain what it was in a snapshot: its disks, and its guest's memory where that is part of it. The commit point is
/// the removal of the journal entry: a revert that was cut short is done again, on every disk.
///
/// A domain that is off stays off when its disks alone come back. One that runs has its disks reverted under it and its guest
/// reset, or is ended and started again ([`RevertWay`]); one whose memory comes back is ended and goes on where it was.
///
/// Record, guest, each image's snapshot by name and id, the sizes, the whole memory file, and whether the domain can be started
/// from it are verified before the first effect. With
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

/// The snapshot of now: with the memory of a guest that is given up for another memory.
fn safety_request(request: &RevertRequest, way: &RevertWay, guest: GuestState) -> Option<CreateRequest> {
    let name = request.safety.clone()?;
    let description = format!("before the revert to {}", request.name);
    let gives_up = matches!(way, RevertWay::Restore { .. }) && matches!(guest, GuestState::On(_));
    let memory = gives_up.then(MemoryRequest::default);
    Some(CreateRequest { name: Some(name), description, memory, ..CreateRequest::default() })
}

/// How much is verified.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verify {
    /// Everything.
    All,
    /// All but the contents of the memory file, which were verified just now.
    ButContents,
}

/// Looks and plans, without the safety snapshot.
async fn prepare(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &RevertRequest,
    verify: Verify,
) -> Result<(RevertPlan, GuestState), Error> {
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
    let has_memory = record.meta.as_ref().is_some_and(|meta| meta.memory.is_some());
    let needs_power = has_memory || request.run.is_some() || guest != GuestState::Off;
    let abilities = if needs_power { abilities(ports, domain).await? } else { None };
    let facts =
        RevertFacts { domain, guest, inventory: &inventory, record: &record, abilities: abilities.as_ref() };
    let plan = plan::revert(&facts, request)?;
    if let (RevertWay::Restore { memory, .. }, Verify::All) = (&plan.way, verify) {
        let about = format!("snapshot {} of domain {}", request.name, domain.name);
        let Some(files) = ports.memory_files else {
            let message = format!("{about}: its memory file cannot be read by this backend");
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_advice("revert with the backend that made it"));
        };
        let header = files.verify(memory, ports.progress).await.map_err(|e| {
            from_port(e, format!("{about}: the guest's memory cannot be restored"))
                .with_advice("see what check says; a snapshot whose memory file is lost can only be deleted")
        })?;
        plan::header(&facts, request, memory, &header)?;
    }
    Ok((plan, guest))
}

async fn abilities(ports: &Ports<'_>, domain: &DomainRef) -> Result<Option<Abilities>, Error> {
    let Some(power) = ports.power else { return Ok(None) };
    let asked = power.abilities().await;
    asked.map(Some).map_err(|e| {
        from_port(e, format!("what can be done with the process of domain {} cannot be told", domain.name))
    })
}

async fn revert_in(
    session: &mut Session<'_>,
    request: &RevertRequest,
    id: Uuid,
) -> Result<RevertReport, Error> {
    let (mut plan, mut guest) = prepare(&session.ports, session.domain, request, Verify::All).await?;
    let mut safety: Option<CreateReport> = None;
    if let Some(create) = safety_request(request, &plan.way, guest) {
        let made = create_in(session, &create, id).await?;
        safety = Some(made);
        // The disks have changed since they were verified.
        (plan, guest) = prepare(&session.ports, session.domain, request, Verify::ButContents)
            .await
            .map_err(|e| after_safety(e, request))?;
    }
    let RevertPlan { name, disks, way, untouched, mut warnings, safety: _ } = plan;
    let journal = Journal::new(id, Intent::Revert { name, disks, way: way.clone() });
    session.intend(&journal).await.map_err(|e| after_safety(e, request))?;
    let Intent::Revert { name, disks, .. } = journal.intent else { unreachable!("it was made just now") };
    if let Err(broken) = carry::out(session, &name, &disks, &way, guest).await {
        return Err(match broken {
            carry::Broken::Untouched(cause) => session.give_up(after_safety(cause, request)).await,
            carry::Broken::Touched { state, cause, advice } => {
                session.pending(state, Effect::Unknown).with_source(cause).with_advice(advice)
            }
        });
    }
    settle(session, &name, &disks).await.map_err(|cause| {
        let message =
            format!("domain {} went back to snapshot {name}, but that cannot be noted", session.domain.name);
        session.pending(message, Effect::Done).with_source(cause)
    })?;
    session.close_journal(&mut warnings).await;
    let disks = disks.into_iter().map(|target| target.disk).collect();
    Ok(RevertReport { name, disks, untouched, way, safety, warnings, recovered: None })
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
