//! Making a snapshot of all disks.

mod outcome;

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::Instrument;
use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_types::model::{Consistency, DiskMeta, Meta, SnapshotName, StateFlags};

pub(crate) use outcome::{adopt_overlays, judge, undo};

use crate::error::from_store;
use crate::journal::{CreatePhase, Draft, Intent, Journal};
use crate::plan::{self, CreateFacts};
use crate::session::{Session, chain, guest, inventory, refuse_pending};
use crate::{
    CreatePlan, CreateReport, CreateRequest, DomainRef, Effect, Error, GuestState, Inventory, Kind,
    PortError, Ports, Reversibility, SnapshotAction,
};

/// Plans a snapshot, with no effect: a dry run. It asks the store, the guest and the disks.
///
/// # Errors
/// [`Kind::Refused`] names the disk or the name that stands in the way, and says what to do; [`Kind::RecoveryPending`]
/// when an operation was interrupted, so that the plan would not last.
///
/// # Cancel safety
/// It only reads.
pub async fn plan_create(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CreateRequest,
    id: Uuid,
) -> Result<CreatePlan, Error> {
    refuse_pending(ports, domain).await?;
    let span = tracing::info_span!("plan_create", domain = %domain.name, %id);
    Ok(prepare(ports, domain, request, id).instrument(span).await?.plan)
}

/// Makes a snapshot of all chosen disks at one instant. The commit point is the storing of its record: a snapshot has a
/// record exactly when every one of its disks has it.
///
/// What a crash left is finished first. A failure undoes what was done; what was done is looked up, not assumed.
///
/// # Errors
/// [`Kind::Refused`] before any effect; [`Kind::Failed`] when everything is as it was; [`Kind::RecoveryPending`] when the
/// disks cannot be looked at or put back now, so that [`crate::recover`] has to.
///
/// # Cancel safety
/// Dropping it leaves what a crash would: [`crate::recover`], or the next operation, completes or undoes it.
pub async fn create(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CreateRequest,
    id: Uuid,
) -> Result<CreateReport, Error> {
    let span = tracing::info_span!("create", domain = %domain.name, %id);
    let work = async {
        let (mut session, recovered) = Session::open_recovered(ports, domain, "create").await?;
        match create_in(&mut session, request, id).await {
            Ok(report) => Ok(CreateReport { recovered, ..report }),
            Err(error) => Err(error.with_recovered(recovered)),
        }
    };
    work.instrument(span).await
}

/// Makes a snapshot under a lock that is held, with nothing left to recover.
pub(crate) async fn create_in(
    session: &mut Session<'_>,
    request: &CreateRequest,
    id: Uuid,
) -> Result<CreateReport, Error> {
    let prepared = prepare(&session.ports, session.domain, request, id).await?;
    execute(session, prepared, id).await
}

/// A plan, and what of the domain goes into the record.
pub(crate) struct Prepared {
    pub(crate) plan: CreatePlan,
    draft: Draft,
    guest: GuestState,
}

/// Looks and plans.
pub(crate) async fn prepare(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CreateRequest,
    id: Uuid,
) -> Result<Prepared, Error> {
    let unreadable = |e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name));
    let names: BTreeSet<SnapshotName> =
        ports.store.names(domain.uuid).await.map_err(unreadable)?.into_iter().collect();
    let parent =
        ports.store.domain_record(domain.uuid).await.map_err(unreadable)?.and_then(|record| record.current);
    let guest = guest(ports, domain).await?;
    let inventory = inventory(ports, domain).await?;
    let now = ports.clock.epoch_seconds();
    let facts = CreateFacts { domain: &domain.name, inventory: &inventory, names: &names, id, now };
    let plan = plan::create(&facts, request)?;
    refuse_existing_files(ports, domain, &plan).await?;
    let parent = parent.filter(|parent| names.contains(parent));
    let draft = draft(&plan, &inventory, guest, request, parent, now);
    Ok(Prepared { plan, draft, guest })
}

/// A file that is there is somebody's. After a crash we would take it for the overlay that we meant to make.
async fn refuse_existing_files(
    ports: &Ports<'_>,
    domain: &DomainRef,
    plan: &CreatePlan,
) -> Result<(), Error> {
    for disk in &plan.disks {
        let SnapshotAction::External(overlay) = &disk.action else { continue };
        let about = format!("disk {} of domain {}: the overlay {}", disk.disk, domain.name, overlay.file);
        match ports.disks.exists(&overlay.file).await {
            Ok(false) => {}
            Ok(true) => {
                return Err(Error::new(Kind::Refused, Effect::None, format!("{about} is there already"))
                    .with_advice("name another file for the overlay, or another snapshot"));
            }
            Err(e) => return Err(crate::error::from_port(e, format!("{about} cannot be looked for"))),
        }
    }
    Ok(())
}

fn draft(
    plan: &CreatePlan,
    inventory: &Inventory,
    guest: GuestState,
    request: &CreateRequest,
    parent: Option<SnapshotName>,
    now: u64,
) -> Draft {
    let disks = plan.disks.iter().map(|plan| {
        let disk = inventory.disk(&plan.disk).expect("the plan is of this inventory");
        DiskMeta {
            disk: disk.name.clone(),
            image: disk.image.clone(),
            format: disk.format.clone(),
            id: None,
            virtual_size: disk.virtual_size,
            made: match &plan.action {
                SnapshotAction::External(overlay) => Some(overlay.file.clone()),
                SnapshotAction::Internal { .. } => None,
            },
        }
    });
    Draft {
        name: plan.name.clone(),
        description: request.description.clone(),
        creation_time: now,
        state: match guest {
            GuestState::On(flags) => flags,
            GuestState::Off | GuestState::Serving => StateFlags::default(),
        },
        actions: plan.disks.iter().map(|plan| plan.action.clone()).collect(),
        meta: Meta {
            format_version: Meta::FORMAT_VERSION,
            parent,
            consistency: if guest == GuestState::Off { Consistency::Offline } else { Consistency::Crash },
            disks: disks.collect(),
            passed_over: plan.passed_over.clone(),
            hypervisor: inventory.hypervisor.clone(),
            // A disk-only snapshot does not stop the guest.
            downtime_us: None,
            memory: None,
            labels: request.labels.clone(),
            expires: request.expires,
        },
    }
}

/// The effects, each after its journal entry.
async fn execute(session: &mut Session<'_>, prepared: Prepared, id: Uuid) -> Result<CreateReport, Error> {
    let Prepared { plan, draft, guest } = prepared;
    let overlays =
        draft.actions.iter().filter(|action| matches!(action, SnapshotAction::External(_))).count();
    let external = overlays > 0;
    session.steps.expect(if external { overlays + 3 } else { 2 });
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
    let (looked, took) = take(session, &draft, id, &mut warnings).await?;
    if external {
        let adopting = adopt_overlays(session.ports.disks, &draft);
        if let Err(cause) = session.steps.run("name the overlays in the domain's description", adopting).await
        {
            let message =
                format!("{}: the domain's description cannot name the overlays", session.about(&journal));
            return Err(give_up(session, &draft, id, guest, message, cause).await);
        }
    }
    let record = commit(session, &draft, id, guest, &looked).await?;
    if let Err(e) = session.set_current(Some(&draft.name)).await {
        warnings.push(format!("the current snapshot could not be noted ({})", chain(&e)));
    } else {
        session.close_journal(&mut warnings).await;
    }
    let reversibility = Reversibility::of(&record);
    Ok(CreateReport { record, passed_over: plan.passed_over, reversibility, took, warnings, recovered: None })
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
async fn take(
    session: &mut Session<'_>,
    draft: &Draft,
    id: Uuid,
    warnings: &mut Vec<String>,
) -> Result<(Inventory, Duration), Error> {
    let before = session.ports.clock.monotonic();
    let taking = session.ports.disks.snapshot(&draft.actions);
    let taken = session.steps.run(&format!("take snapshot {} of all disks", draft.name), taking).await;
    let took = session.ports.clock.monotonic().saturating_sub(before);
    let about = format!("snapshot {} of domain {}", draft.name, session.domain.name);
    if let Err(cause) = taken {
        if cause.effect == Effect::None {
            return Err(fail(session, draft, id, format!("{about} cannot be taken"), cause).await);
        }
        // Whether it was taken is not known: look.
        let message = format!("{about}: the outcome is not known");
        return match look(session).await {
            Ok((guest, inventory)) if judge(draft, guest, &inventory) => {
                warnings
                    .push(format!("the snapshots were taken, although the backend said: {}", chain(&cause)));
                Ok((inventory, took))
            }
            Ok(_) => {
                Err(fail(session, draft, id, format!("{about} was not taken of every disk"), cause).await)
            }
            Err(_) => Err(session.pending(message, Effect::Unknown).with_source(cause)),
        };
    }
    match look(session).await {
        Ok((guest, inventory)) if judge(draft, guest, &inventory) => Ok((inventory, took)),
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

async fn look(session: &Session<'_>) -> Result<(GuestState, Inventory), Error> {
    Ok((session.guest().await?, session.inventory().await?))
}

/// The commit point.
async fn commit(
    session: &mut Session<'_>,
    draft: &Draft,
    id: Uuid,
    guest: GuestState,
    looked: &Inventory,
) -> Result<Record, Error> {
    let record = draft.record(looked);
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
    if external && guest != GuestState::Off {
        let message = format!("{message}; the guest writes to the overlays already");
        return session.pending(message, Effect::Done).with_source(cause);
    }
    fail(session, draft, id, message, cause).await
}

/// Undoes, and makes the error that says how that went.
async fn fail(
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
