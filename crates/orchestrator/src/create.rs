//! Making a snapshot of all disks.

mod execute;
mod freeze;
mod memory;
mod outcome;

use std::collections::BTreeSet;

use tracing::Instrument;
use uuid::Uuid;
use xlsnap_types::model::{Consistency, DiskMeta, Meta, SnapshotName, StateFlags};

pub(crate) use freeze::thaw;
pub(crate) use outcome::{adopt_overlays, judge, undo};

use crate::error::from_store;
use crate::journal::Draft;
use crate::plan::{self, CreateFacts};
use crate::session::{Session, guest, inventory, refuse_pending};
use crate::{
    CreatePlan, CreateReport, CreateRequest, DomainRef, Effect, Error, GuestState, Inventory, Kind, Ports,
    SnapshotAction,
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
    execute::execute(session, prepared, id).await
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
    let mut plan = plan::create(&facts, request)?;
    refuse_existing_files(ports, domain, &plan).await?;
    if let Some(wanted) = &request.memory {
        plan.memory = Some(memory::prepare(ports, domain, guest, &plan, wanted, id).await?);
        plan.warnings.extend(memory::left_out(&plan, &inventory));
    }
    plan.quiesce = freeze::prepare(ports, domain, guest, request, &mut plan.warnings)?;
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
    let consistency = match guest {
        _ if plan.memory.is_some() => Consistency::Memory,
        _ if plan.quiesce.is_some() => Consistency::FileSystem,
        GuestState::Off => Consistency::Offline,
        _ => Consistency::Crash,
    };
    Draft {
        name: plan.name.clone(),
        description: request.description.clone(),
        creation_time: now,
        state: match guest {
            GuestState::On(flags) => flags,
            GuestState::Off | GuestState::Serving => StateFlags::default(),
        },
        actions: plan.disks.iter().map(|plan| plan.action.clone()).collect(),
        memory: plan.memory.clone(),
        quiesced: plan.quiesce,
        meta: Meta {
            format_version: Meta::FORMAT_VERSION,
            parent,
            consistency,
            disks: disks.collect(),
            passed_over: plan.passed_over.clone(),
            hypervisor: inventory.hypervisor.clone(),
            // A disk-only snapshot does not stop the guest; of another one it is known afterwards.
            downtime_us: None,
            memory: None,
            labels: request.labels.clone(),
            expires: request.expires,
        },
    }
}
