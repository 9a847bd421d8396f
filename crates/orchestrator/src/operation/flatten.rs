//! Flattening disks: each stops depending on the files below its image.

use std::collections::BTreeMap;

use tracing::Instrument;
use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_types::model::SnapshotName;

use super::delete::{Tree, let_run_on, stands_still};
use super::layers::layers_of_tops;
use super::{abilities, finish, inventory, refuse_pending};
use crate::error::from_store;
use crate::execute::{Execution, Fault};
use crate::journal::Journal;
use crate::plan::{self, DeleteFacts};
use crate::session::{Session, pending};
use crate::step::Does;
use crate::{DomainRef, Effect, Error, FlattenPlan, FlattenReport, FlattenRequest, Kind, Operation, Ports};

/// Plans a flattening, with no effect: a dry run. It asks the store and the disks.
///
/// # Errors
/// [`Kind::Refused`] names the disk and the file that stand in the way and says what to do; [`Kind::NotFound`] for a disk that the domain
/// does not have; [`Kind::RecoveryPending`] when an operation was interrupted, so that the plan would not last.
///
/// # Cancel safety
/// It only reads.
pub async fn plan_flatten(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &FlattenRequest,
    id: Uuid,
) -> Result<FlattenPlan, Error> {
    refuse_pending(ports, domain).await?;
    let work = async { Ok(plan(ports, domain, request, id).await?.0) };
    work.instrument(tracing::info_span!("plan_flatten", domain = %domain.name, %id)).await
}

/// Flattens disks: opens a [`Session`] for [`Session::flatten`].
///
/// # Errors
/// [`Kind::Busy`] when another process holds the domain's lock; else as [`Session::flatten`].
///
/// # Cancel safety
/// As [`Session::flatten`].
pub async fn flatten(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &FlattenRequest,
    id: Uuid,
) -> Result<FlattenReport, Error> {
    Session::open(ports.store, ports.clock, domain, "flatten").await?.flatten(ports, request, id).await
}

impl Session<'_> {
    /// Makes disks stand on nothing: what is read through their images from the files below is copied into them, while a guest that
    /// runs goes on. No snapshot is deleted, but those that [`FlattenRequest::keep`] means: the files that hold the others stay
    /// beside. Layers that no snapshot needs are merged or removed.
    ///
    /// A copying that is interrupted or fails leaves the disk as it was; done again, it goes on from what was copied.
    ///
    /// # Errors
    /// As [`plan_flatten`]; [`Kind::Failed`] or [`Kind::Busy`] when a disk stands on what it stood on: with [`Effect::None`] everything is as
    /// it was, else other disks are flattened. [`Kind::RecoveryPending`] when a part of it was done that has to be finished.
    ///
    /// # Cancel safety
    /// Dropping it leaves what a crash would: [`crate::recover`], or the next operation, completes it.
    pub async fn flatten(
        &self,
        ports: &Ports<'_>,
        request: &FlattenRequest,
        id: Uuid,
    ) -> Result<FlattenReport, Error> {
        let work = async {
            let recovered = finish(self, ports).await?;
            match flatten_in(self, ports, request, id).await {
                Ok(report) => Ok(FlattenReport { recovered, ..report }),
                Err(error) => Err(error.with_recovered(recovered)),
            }
        };
        work.instrument(tracing::info_span!("flatten", domain = %self.domain.name, %id)).await
    }
}

/// The plan, and the snapshot that the domain is at.
async fn plan(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &FlattenRequest,
    id: Uuid,
) -> Result<(FlattenPlan, Option<SnapshotName>), Error> {
    let unreadable = |e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name));
    ports.layers.need(&format!("the disks of domain {} cannot be flattened", domain.name))?;
    let parents = Tree::read(ports.store, domain).await?.refuse_not_now(domain, None)?.parents;
    let current =
        ports.store.domain_record(domain.uuid).await.map_err(unreadable)?.unwrap_or_default().current;
    let mut records: BTreeMap<SnapshotName, Record> = BTreeMap::new();
    for name in plan::beyond(&parents, current.as_ref(), request.keep) {
        let loaded = ports.store.load(domain.uuid, &name).await;
        let message = format!("snapshot {name} of domain {} cannot be read", domain.name);
        records.insert(name, loaded.map_err(|e| from_store(e, message))?);
    }
    let inventory = inventory(ports, domain).await?;
    let mut layers = layers_of_tops(ports, domain, &inventory).await?;
    layers.lend(domain, &request.into_base)?;
    let abilities = abilities(ports, domain).await?;
    let mut plan = loop {
        let facts = DeleteFacts {
            domain,
            inventory: &inventory,
            parents: &parents,
            records: &records,
            current: current.as_ref(),
            layers: &layers,
            restart: &abilities.restart,
            release: &abilities.release,
            id,
        };
        let plan = plan::flatten(&facts, request)?;
        if !layers.close_full(ports, &plan.stages).await? && !layers.find_taken(ports, &plan.stages).await? {
            break plan;
        }
    };
    layers.refuse_other_names(ports, domain, &plan.stages).await?;
    layers.limit(ports, &mut plan.stages, &mut plan.warnings).await?;
    layers.advise(&mut plan.warnings);
    layers.refuse_places(ports, &format!("domain {}", domain.name), &plan.stages).await?;
    if plan.snapshots.iter().any(|deletion| deletion.memory.is_some()) {
        ports.memory_files.need(&format!("memory files of domain {} cannot be removed", domain.name))?;
    }
    Ok((plan, current))
}

async fn flatten_in(
    session: &Session<'_>,
    ports: &Ports<'_>,
    request: &FlattenRequest,
    id: Uuid,
) -> Result<FlattenReport, Error> {
    let (plan, current) = plan(ports, session.domain, request, id).await?;
    let FlattenPlan { snapshots, disks, mut warnings, stages } = plan;
    if !stages.is_empty() {
        let mut journal = Journal::new(id, Operation::Flatten, journal_name(current), stages);
        session.intend(&journal).await?;
        let execution = Execution::new(session, ports, id);
        if let Err(fault) = execution.forward(&mut journal).await {
            let fault = let_run_on(&execution, fault).await;
            return Err(stopped(session, &journal, fault).await);
        }
        session.close_journal(&mut warnings).await;
        warnings.extend(execution.into_found().warnings);
    }
    let deleted = snapshots.into_iter().map(|deletion| deletion.name).collect();
    let disks = disks.into_iter().map(|flattened| flattened.disk).collect();
    Ok(FlattenReport { deleted, disks, warnings, recovered: None })
}

/// A journal names a snapshot; what is said of this operation does not.
fn journal_name(current: Option<SnapshotName>) -> SnapshotName {
    current.unwrap_or_else(|| SnapshotName::new("flatten").expect("it is a word"))
}

/// Ends a flattening that failed: the layers read as before and it is over, or recovery goes on with it.
async fn stopped(session: &Session<'_>, journal: &Journal, fault: Fault) -> Error {
    let still = stands_still(journal, &fault);
    let moves = fault.is(|does| matches!(does, Does::Merge(_) | Does::Stream(_)));
    let Fault { begun, error, .. } = fault;
    let domain = &session.domain.name;
    let message = format!("the disks of domain {domain} are not flattened");
    let is_over = begun.is_empty() || moves && error.effect() == Effect::None;
    if !is_over {
        return pending(format!("{message} to the end{still}"), Effect::Unknown).with_source(error);
    }
    let (effect, so_far) = if begun.is_empty() {
        (Effect::None, "")
    } else {
        // Of some disks it was done.
        (Effect::Unknown, " to the end; what was done before stays, and flattening again goes on")
    };
    match session.set_journal(None).await {
        Ok(()) => {
            let kind = if error.kind() == Kind::Busy { Kind::Busy } else { Kind::Failed };
            let message = format!("{message}{so_far}: {error}");
            error.ended_as(kind, effect).reworded(message)
        }
        Err(e) => pending(format!("{message}, and the journal cannot be removed"), effect).with_source(e),
    }
}
