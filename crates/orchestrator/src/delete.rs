//! Deleting snapshots.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tracing::Instrument;
use uuid::Uuid;
use xlsnap_conf_store::{Kind as StoreKind, Record};
use xlsnap_types::model::{Meta, SnapshotName};

use crate::error::{from_port, from_store};
use crate::journal::{Intent, Journal};
use crate::plan::{self, DeleteFacts};
use crate::session::{Session, inventory, places, refuse_pending};
use crate::{
    DeletePlan, DeleteReport, DeleteRequest, DomainRef, Effect, Error, ImageTarget, Inventory, Kind,
    Operation, Outcome, PortError, PortErrorKind, Ports, Recovered, SnapshotDeletion, SnapshotId,
};

/// Plans a deletion, with no effect: a dry run. It asks the store and the disks.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such snapshot; [`Kind::Refused`] names the disk that stands in the way and says what
/// to do; [`Kind::RecoveryPending`] when an operation was interrupted, so that the plan would not last.
///
/// # Cancel safety
/// It only reads.
pub async fn plan_delete(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &DeleteRequest,
    id: Uuid,
) -> Result<DeletePlan, Error> {
    refuse_pending(ports, domain).await?;
    prepare(ports, domain, request)
        .instrument(tracing::info_span!("plan_delete", domain = %domain.name, %id))
        .await
}

/// Deletes a snapshot, and with [`DeleteRequest::children`] its descendants first. The commit point of each is the removal
/// of its record, after its data is gone from every image; one that is gone already counts as done. The children that stay
/// get its parent.
///
/// All disks are tried. What fails then is left for [`crate::recover`] or a repeat of the deletion, unless nothing was
/// deleted at all.
///
/// # Errors
/// As [`plan_delete`]; [`Kind::Failed`] or [`Kind::Busy`] when everything is as it was; [`Kind::RecoveryPending`] when part
/// of it was done.
///
/// # Cancel safety
/// Dropping it leaves what a crash would: [`crate::recover`], or the next operation, completes it.
pub async fn delete(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &DeleteRequest,
    id: Uuid,
) -> Result<DeleteReport, Error> {
    let work = async {
        let (mut session, recovered) = Session::open_recovered(ports, domain, "delete").await?;
        match delete_in(&mut session, request, id).await {
            Ok(report) => Ok(DeleteReport { recovered, ..report }),
            // The repeat of a deletion that was cut short: recovery has just finished it.
            Err(error) if error.kind() == Kind::NotFound && finished(recovered.as_ref(), request) => {
                let deleted = vec![request.name.clone()];
                Ok(DeleteReport { deleted, warnings: Vec::new(), recovered })
            }
            Err(error) => Err(error.with_recovered(recovered)),
        }
    };
    work.instrument(tracing::info_span!("delete", domain = %domain.name, %id)).await
}

fn finished(recovered: Option<&Recovered>, request: &DeleteRequest) -> bool {
    recovered.is_some_and(|r| {
        r.operation == Operation::Delete && r.outcome == Outcome::Completed && r.name == request.name
    })
}

async fn prepare(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &DeleteRequest,
) -> Result<DeletePlan, Error> {
    let unreadable = |e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name));
    let mut parents = BTreeMap::new();
    let mut spoilt = Vec::new();
    let mut visit = |entry: xlsnap_conf_store::Entry| {
        let Ok(name) = SnapshotName::new(entry.name) else { return };
        match entry.record {
            Ok(record) => drop(parents.insert(name, record.meta.and_then(|meta| meta.parent))),
            Err(e) => spoilt.push((name, e)),
        }
    };
    ports.store.list(domain.uuid, &mut visit).await.map_err(unreadable)?;
    if !parents.contains_key(&request.name) {
        let Some(at) = spoilt.iter().position(|(name, _)| *name == request.name) else {
            return Err(plan::no_such(domain, &request.name));
        };
        if !request.metadata_only {
            let message =
                format!("the record of snapshot {} of domain {} cannot be read", request.name, domain.name);
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_source(spoilt.swap_remove(at).1)
                .with_advice("repair the record, or delete it alone (metadata only)"));
        }
    }
    let mut records: BTreeMap<SnapshotName, Record> = BTreeMap::new();
    let mut inventory = Inventory::default();
    for name in plan::doomed(&parents, request) {
        match ports.store.load(domain.uuid, &name).await {
            Ok(record) => drop(records.insert(name, record)),
            // Its record is to go because it cannot be read.
            Err(_) if request.metadata_only => {}
            Err(e) => {
                return Err(from_store(
                    e,
                    format!("snapshot {name} of domain {} cannot be read", domain.name),
                ));
            }
        }
    }
    if !request.metadata_only {
        inventory = self::inventory(ports, domain).await?;
    }
    let current =
        ports.store.domain_record(domain.uuid).await.map_err(unreadable)?.and_then(|record| record.current);
    let facts = DeleteFacts {
        domain,
        inventory: &inventory,
        parents: &parents,
        records: &records,
        current: current.as_ref(),
    };
    plan::delete(&facts, request)
}

async fn delete_in(
    session: &mut Session<'_>,
    request: &DeleteRequest,
    id: Uuid,
) -> Result<DeleteReport, Error> {
    let plan = prepare(&session.ports, session.domain, request).await?;
    let journal = Journal::new(id, Intent::Delete { snapshots: plan.snapshots.clone() });
    session.intend(&journal).await?;
    session.steps.expect(plan.snapshots.len());
    let mut warnings = plan.warnings;
    for (at, deletion) in plan.snapshots.iter().enumerate() {
        let failure = match delete_data(session, deletion, &deletion.disks).await {
            Data::Gone => delete_record(session, deletion, &mut warnings).await.err().map(|e| (e, true)),
            Data::Left { error, touched } => Some((error, touched)),
        };
        let Some((cause, touched)) = failure else { continue };
        if at == 0 && !touched {
            return Err(session.give_up(cause).await);
        }
        let message =
            format!("snapshot {} of domain {} is deleted in part", deletion.name, session.domain.name);
        return Err(session.pending(message, Effect::Unknown).with_source(cause));
    }
    session.close_journal(&mut warnings).await;
    let deleted = plan.snapshots.into_iter().map(|deletion| deletion.name).collect();
    Ok(DeleteReport { deleted, warnings, recovered: None })
}

/// Goes on with a deletion that was interrupted.
pub(crate) async fn delete_journaled(
    session: &mut Session<'_>,
    snapshots: &[SnapshotDeletion],
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    session.steps.expect(snapshots.len());
    for deletion in snapshots {
        let mut disks = deletion.disks.clone();
        if !disks.is_empty() {
            let inventory = session.inventory().await?;
            if let Some(target) = disks.iter().find(|target| inventory.disk(&target.disk).is_none()) {
                let message = format!(
                    "disk {} is no longer a disk of domain {}, and {} may hold the snapshot {}",
                    target.disk, session.domain.name, target.image, deletion.name
                );
                return Err(Error::new(Kind::Refused, Effect::None, message)
                    .with_advice("give the domain its disk back, then run recover"));
            }
            disks.retain(|target| is_there(target, &inventory));
        }
        let deletion =
            &SnapshotDeletion { memory: memory_of_record(session, deletion).await?, ..deletion.clone() };
        if let Data::Left { error, .. } = delete_data(session, deletion, &disks).await {
            return Err(error);
        }
        delete_record(session, deletion, warnings).await?;
    }
    Ok(())
}

/// The memory file of the journal, if the record still names it too. It goes before the record, so that it is gone with it.
async fn memory_of_record(
    session: &Session<'_>,
    deletion: &SnapshotDeletion,
) -> Result<Option<String>, Error> {
    if deletion.memory.is_none() {
        return Ok(None);
    }
    match session.ports.store.load(session.domain.uuid, &deletion.name).await {
        Ok(record) if record.snapshot.memory == deletion.memory => Ok(deletion.memory.clone()),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == StoreKind::NotFound => Ok(None),
        Err(e) => Err(from_store(e, format!("the record of snapshot {} cannot be read", deletion.name))),
    }
}

fn is_there(target: &ImageTarget, inventory: &Inventory) -> bool {
    inventory
        .disk(&target.disk)
        .is_some_and(|disk| disk.named(&target.snapshot.name).any(|s| s == target.snapshot))
}

/// What became of a snapshot's data.
enum Data {
    Gone,
    Left {
        error: Error,
        /// Whether some of it is gone, or may be.
        touched: bool,
    },
}

/// Deletes inside all images at once, and looks where that failed.
async fn delete_data(
    session: &mut Session<'_>,
    deletion: &SnapshotDeletion,
    targets: &[ImageTarget],
) -> Data {
    let disks = session.ports.disks;
    let deleting = join_all(targets.iter().map(|target| disks.delete(&target.disk, &target.snapshot)));
    let done = session.steps.run(&format!("delete {}", deletion.name), deleting).await;
    let mut failed: Vec<(&ImageTarget, PortError)> = Vec::new();
    for (target, result) in targets.iter().zip(done) {
        match result {
            Err(e) if e.kind != PortErrorKind::NotFound => failed.push((target, e)),
            _ => {}
        }
    }
    if failed.is_empty() {
        return delete_memory(session, deletion, !targets.is_empty()).await;
    }
    let looked = session.inventory().await;
    let touched = match &looked {
        Ok(inventory) => {
            failed.retain(|(target, _)| is_there(target, inventory));
            if failed.is_empty() {
                return delete_memory(session, deletion, true).await;
            }
            failed.len() < targets.len()
        }
        Err(_) => true,
    };
    let SnapshotId { name, .. } = &failed[0].0.snapshot;
    let places = places(&failed, |target| format!("{} (disk {})", target.image, target.disk));
    let message =
        format!("domain {}: snapshot {name} cannot be deleted from {}", session.domain.name, places);
    let (_, first) = failed.swap_remove(0);
    Data::Left { error: from_port(first, message), touched }
}

/// Removes the memory file, after the disks' part: without its disks nobody can use it.
async fn delete_memory(session: &Session<'_>, deletion: &SnapshotDeletion, touched: bool) -> Data {
    let Some(file) = &deletion.memory else { return Data::Gone };
    let about = format!("the memory file {file} of snapshot {} cannot be removed", deletion.name);
    let Some(files) = session.ports.memory_files else {
        let error = Error::new(Kind::Refused, Effect::None, about)
            .with_advice("delete it with the backend that made it");
        return Data::Left { error, touched };
    };
    match files.remove(file).await {
        Ok(()) => Data::Gone,
        Err(e) => {
            let touched = touched || e.effect != Effect::None;
            Data::Left { error: from_port(e, about), touched }
        }
    }
}

/// What follows when the data is gone: the tree is mended, then the record goes.
async fn delete_record(
    session: &mut Session<'_>,
    deletion: &SnapshotDeletion,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let domain = session.domain;
    let store = session.ports.store;
    let about = |e| {
        from_store(e, format!("the record of snapshot {} of domain {} is left", deletion.name, domain.name))
    };
    let mut children = Vec::new();
    let mut visit = |entry: xlsnap_conf_store::Entry| {
        if let Ok(record) = entry.record
            && record.meta.as_ref().is_some_and(|meta| meta.parent.as_ref() == Some(&deletion.name))
        {
            children.push(record);
        }
    };
    store.list(domain.uuid, &mut visit).await.map_err(about)?;
    for mut child in children {
        let Some(meta) = &mut child.meta else { continue };
        if meta.format_version > Meta::FORMAT_VERSION {
            warnings.push(format!(
                "snapshot {} keeps the deleted {} as its parent: a newer version wrote its record",
                child.snapshot.name.as_deref().unwrap_or_default(),
                deletion.name
            ));
            continue;
        }
        meta.parent.clone_from(&deletion.parent);
        session.lock.store(&child, true).await.map_err(about)?;
    }
    let current = store.domain_record(domain.uuid).await.map_err(about)?.and_then(|record| record.current);
    if current.as_ref() == Some(&deletion.name) {
        session.set_current(deletion.parent.as_ref()).await.map_err(about)?;
    }
    match session.lock.delete(&deletion.name).await {
        Err(e) if e.kind() != StoreKind::NotFound => {
            let names = store.names(domain.uuid).await.map_err(about)?;
            if names.contains(&deletion.name) { Err(about(e)) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}
