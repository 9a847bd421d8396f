//! Deleting snapshots.

use std::collections::{BTreeMap, BTreeSet};

use tracing::Instrument;
use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Entry, Record};
use xlsnap_types::model::{Owner, SnapshotName};

use super::layers::{is_elsewhere, is_for_now, layers_of_tops, try_again};
use super::{abilities, finish, inventory, refuse_pending};
use crate::error::from_store;
use crate::execute::{Execution, Fault};
use crate::journal::Journal;
use crate::orphan::memory_files;
use crate::plan::{self, DeleteFacts, LayerFacts, Parents, no_such};
use crate::session::{Session, chain, pending};
use crate::step::{Adoption, Does, LayerNote, Stage};
use crate::{
    Abilities, Can, DeletePlan, DeleteReport, DeleteRequest, DomainRef, Effect, Error, Inventory, Kind,
    LayerFile, Merge, Operation, Outcome, Ports, Recovered, Run,
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
    plan(ports, domain, request, id)
        .instrument(tracing::info_span!("plan_delete", domain = %domain.name, %id))
        .await
}

/// Deletes a snapshot: opens a [`Session`] for [`Session::delete`].
///
/// # Errors
/// [`Kind::Busy`] when another process holds the domain's lock; else as [`Session::delete`].
///
/// # Cancel safety
/// As [`Session::delete`].
pub async fn delete(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &DeleteRequest,
    id: Uuid,
) -> Result<DeleteReport, Error> {
    Session::open(ports.store, ports.clock, domain, "delete").await?.delete(ports, request, id).await
}

impl Session<'_> {
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
        &self,
        ports: &Ports<'_>,
        request: &DeleteRequest,
        id: Uuid,
    ) -> Result<DeleteReport, Error> {
        let work = async {
            let recovered = finish(self, ports).await?;
            match delete_in(self, ports, request, id).await {
                Ok(report) => Ok(DeleteReport { recovered, ..report }),
                // The repeat of a deletion that was cut short: recovery has just finished it.
                Err(error) if error.kind() == Kind::NotFound && finished(recovered.as_ref(), request) => {
                    let deleted = vec![request.name.clone()];
                    Ok(DeleteReport { deleted, warnings: Vec::new(), recovered })
                }
                Err(error) => Err(error.with_recovered(recovered)),
            }
        };
        work.instrument(tracing::info_span!("delete", domain = %self.domain.name, %id)).await
    }
}

fn finished(recovered: Option<&Recovered>, request: &DeleteRequest) -> bool {
    recovered.is_some_and(|r| {
        r.operation == Operation::Delete && r.outcome == Outcome::Completed && r.name == request.name
    })
}

/// The tree of a domain's snapshots, from one listing.
pub(super) struct Tree {
    pub(super) parents: Parents,
    /// The memory files that records name, each with the snapshot.
    memory: Vec<(SnapshotName, String)>,
    spoilt: Vec<(SnapshotName, xlsnap_conf_store::Error)>,
}

impl Tree {
    pub(super) async fn read(store: &dyn ConfStore, domain: &DomainRef) -> Result<Self, Error> {
        let mut tree = Self { parents: BTreeMap::new(), memory: Vec::new(), spoilt: Vec::new() };
        let mut visit = |entry: Entry| {
            let Ok(name) = SnapshotName::new(entry.name) else { return };
            match entry.record {
                Ok(record) => {
                    tree.memory.extend(memory_files(&record).map(|file| (name.clone(), file)));
                    tree.parents.insert(name, record.meta.and_then(|meta| meta.parent));
                }
                Err(e) => tree.spoilt.push((name, e)),
            }
        };
        let listed = store.list(domain.uuid, &mut visit).await;
        listed
            .map_err(|e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name)))?;
        Ok(tree)
    }

    /// Refuses where a record may be read again later, but for this one: where it stands in the tree is known then.
    pub(super) fn refuse_not_now(
        mut self,
        domain: &DomainRef,
        but: Option<&SnapshotName>,
    ) -> Result<Self, Error> {
        let is_for_now = |(name, error): &(SnapshotName, _)| is_for_now(error) && Some(name) != but;
        let Some(at) = self.spoilt.iter().position(is_for_now) else { return Ok(self) };
        let (name, error) = self.spoilt.swap_remove(at);
        let message = format!("the record of snapshot {name} of domain {} cannot be read now", domain.name);
        Err(from_store(error, message).with_advice(try_again(domain, &name)))
    }
}

async fn plan(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &DeleteRequest,
    id: Uuid,
) -> Result<DeletePlan, Error> {
    let unreadable = |e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name));
    let mut tree = Tree::read(ports.store, domain).await?;
    // A record that goes alone is the way out of it.
    if !request.metadata_only {
        tree = tree.refuse_not_now(domain, Some(&request.name))?;
    }
    let Tree { parents, memory, mut spoilt } = tree;
    if !parents.contains_key(&request.name) {
        let Some(at) = spoilt.iter().position(|(name, _)| *name == request.name) else {
            return Err(no_such(domain, &request.name));
        };
        if !request.metadata_only {
            let message =
                format!("the record of snapshot {} of domain {} cannot be read", request.name, domain.name);
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_source(spoilt.swap_remove(at).1)
                .with_advice("repair the record, or delete it alone (delete --metadata-only)"));
        }
    }
    let mut records: BTreeMap<SnapshotName, Record> = BTreeMap::new();
    let mut inventory = Inventory::default();
    for name in plan::order(&parents, request) {
        match ports.store.load(domain.uuid, &name).await {
            Ok(record) => drop(records.insert(name, record)),
            // Its record is to go because it cannot be read.
            Err(_) if request.metadata_only => {}
            Err(e) => {
                let message = format!("snapshot {name} of domain {} cannot be read", domain.name);
                return Err(from_store(e, message));
            }
        }
    }
    let mut layers = LayerFacts::default();
    let (mut restart, mut release) = (Can::Yes, Can::Yes);
    let of_domain = ports.store.domain_record(domain.uuid).await.map_err(unreadable)?.unwrap_or_default();
    if !request.metadata_only {
        inventory = self::inventory(ports, domain).await?;
        let external =
            records.values().any(|record| record.snapshot.disks.iter().any(|disk| disk.is_external()));
        let elsewhere = records.values().any(|record| is_elsewhere(record, &inventory));
        // An internal snapshot may be all that keeps a layer from being merged, and one may be below what its disk writes to now.
        if external || elsewhere || !of_domain.layers.is_empty() || !request.into_base.is_empty() {
            layers = layers_of_tops(ports, domain, &inventory).await?;
            layers.lend(domain, &request.into_base)?;
            Abilities { restart, release, .. } = abilities(ports, domain).await?;
        }
    }
    let current = of_domain.current;
    let mut plan = loop {
        let facts = DeleteFacts {
            domain,
            inventory: &inventory,
            parents: &parents,
            records: &records,
            current: current.as_ref(),
            layers: &layers,
            restart: &restart,
            release: &release,
            id,
        };
        let plan = plan::delete(&facts, request)?;
        if !layers.close_full(ports, &plan.stages).await? {
            break plan;
        }
    };
    refuse_shared_memory(domain, &plan, &memory)?;
    layers.refuse_other_names(ports, domain, &plan.stages).await?;
    layers.limit(ports, &mut plan.stages, &mut plan.warnings).await?;
    layers.advise(&mut plan.warnings);
    if plan.snapshots.iter().any(|deletion| deletion.memory.is_some()) {
        let subject = format!("the memory file of snapshot {} of domain {}", request.name, domain.name);
        ports.memory_files.need(&format!("{subject} cannot be removed"))?;
    }
    Ok(plan)
}

/// Refuses to remove a memory file that the record of a snapshot names which stays.
fn refuse_shared_memory(
    domain: &DomainRef,
    plan: &DeletePlan,
    memory: &[(SnapshotName, String)],
) -> Result<(), Error> {
    let stays = |name: &SnapshotName| plan.snapshots.iter().all(|deletion| deletion.name != *name);
    for deletion in &plan.snapshots {
        let Some(file) = &deletion.memory else { continue };
        let Some((other, _)) = memory.iter().find(|(name, of)| of == file && stays(name)) else { continue };
        let message = format!(
            "the memory file {file} of snapshot {} of domain {} is that of snapshot {other} too",
            deletion.name, domain.name
        );
        return Err(Error::new(Kind::Refused, Effect::None, message).with_advice(format!(
            "where it was moved, say so first: xlsnap check {} --relocate {file}=NEW",
            domain.name
        )));
    }
    Ok(())
}

async fn delete_in(
    session: &Session<'_>,
    ports: &Ports<'_>,
    request: &DeleteRequest,
    id: Uuid,
) -> Result<DeleteReport, Error> {
    let DeletePlan { snapshots, mut warnings, stages } = plan(ports, session.domain, request, id).await?;
    let mut journal = Journal::new(id, Operation::Delete, request.name.clone(), stages);
    session.intend(&journal).await?;
    let execution = Execution::new(session, ports, id);
    if let Err(fault) = execution.forward(&mut journal).await {
        let fault = let_run_on(&execution, fault).await;
        if fault.is(|does| matches!(does, Does::Detach(_) | Does::Rename { .. }))
            && fault.error.effect() == Effect::None
            && ports.overlays.get().is_some_and(|overlays| overlays.adopts().is_yes())
            && let Some([naming, rest]) = without_name(&journal, &fault)
        {
            // The data is where it belongs, under another name. What starts the domain names that first: what a guest writes to a file to
            // which nothing leads would be lost.
            for stages in [&naming, &rest] {
                execution.backward(stages).await.map_err(|e| {
                    let still = stands_still(&journal, &fault);
                    pending(format!("{}; and {e}{still}", chain(&fault.error)), Effect::Unknown)
                        .with_source(e)
                })?;
            }
            let told = format!(
                "{}; {} keeps its name, and the disk writes to it from then on: what starts domain {} has to name it",
                chain(&fault.error),
                name_left(&naming),
                session.domain.name
            );
            warnings.push(told);
        } else if !fault.is(|does| matches!(does, Does::Merge(_) | Does::Stream(_)))
            || fault.error.effect() != Effect::None
        {
            return Err(stopped(session, &journal, fault).await);
        } else {
            // The snapshot is deleted; the layers are as they were, and read as before.
            warnings.push(format!("{}; the next deletion tries it again", chain(&fault.error)));
        }
    }
    session.close_journal(&mut warnings).await;
    warnings.extend(execution.into_found().warnings);
    let deleted = snapshots.into_iter().map(|deletion| deletion.name).collect();
    Ok(DeleteReport { deleted, warnings, recovered: None })
}

/// What is done where a file that has a disk's data cannot take the name of the disk's image: the description names it as it is called,
/// and then the file that has the name goes, since what it holds gets old, and the guest goes on.
fn without_name(journal: &Journal, fault: &Fault) -> Option<[Vec<Stage>; 2]> {
    let rest = &journal.stages[fault.at..];
    let (domain, file, over) = rest.iter().flat_map(Stage::steps).find_map(|step| match &step.does {
        Does::Rename { file, over } => Some((step.domain, file.clone(), over.clone())),
        _ => None,
    })?;
    let detached = fault
        .begun
        .iter()
        .any(|stage| stage.any(|does| matches!(does, Does::Detach(from) if from.disk == file.disk)));
    let LayerFile { disk, file: name, format, .. } = file.clone();
    let resumes = rest.iter().find(|stage| stage.any(|does| *does == Does::ResumeGuest));
    let one = |does| Stage::one(domain, does);
    let mut naming = Vec::new();
    naming.extend(detached.then(|| one(Does::SwapTop { to: file.clone(), from: file.clone() })));
    naming.push(one(Does::Adopt(Adoption { disk, file: name, format, was: None })));
    let note = LayerNote {
        file: LayerFile { identity: None, ..file },
        // The ledger has it, and says whose it is.
        owner: Owner::Domain,
        base: None,
        looked: false,
        frozen: false,
        named: None,
    };
    let mut rest = vec![
        one(Does::NoteLayers { add: vec![note], remove: vec![over.file.clone()] }),
        one(Does::Unlink(over)),
    ];
    rest.extend(resumes.cloned());
    Some([naming, rest])
}

/// What is to be known of a guest that a merge has stopped and nothing let go on, as the end of a sentence.
pub(super) fn stands_still(journal: &Journal, fault: &Fault) -> &'static str {
    let stops = |stage: &Stage| stage.any(|does| matches!(does, Does::Merge(Merge { active: true, .. })));
    let resumes = |stage: &Stage| stage.any(|does| *does == Does::ResumeGuest);
    let is_held = fault.begun.iter().rposition(stops) > fault.begun.iter().rposition(resumes);
    match is_held && journal.stages[fault.at..].iter().any(resumes) {
        true => "; its guest stands still until it is recovered",
        false => "",
    }
}

/// The file that a disk writes to under its own name.
fn name_left(stages: &[Stage]) -> String {
    let adopted = stages.iter().flat_map(Stage::steps).find_map(|step| match &step.does {
        Does::Adopt(adoption) => Some(adoption.file.clone()),
        _ => None,
    });
    adopted.unwrap_or_default()
}

/// Gives a process its disks back and lets its guest run that stood still for a deletion, after one of its steps failed. What only
/// held the guest is not begun any more then.
pub(super) async fn let_run_on(execution: &Execution<'_>, mut fault: Fault) -> Fault {
    let (mut released, mut stopped) = (false, None);
    for step in fault.begun.iter().flat_map(Stage::steps) {
        match step.does {
            Does::StopGuest { was } => stopped = Some(was),
            Does::Release => released = true,
            Does::TakeBack => released = false,
            Does::ResumeGuest => stopped = None,
            _ => {}
        }
    }
    // A guest whose process may lack its disks must not run.
    if fault.is(|does| matches!(does, Does::TakeBack | Does::ResumeGuest)) {
        return fault;
    }
    let resumes = stopped.is_some_and(Run::runs).then_some(Does::ResumeGuest);
    for does in released.then_some(Does::TakeBack).into_iter().chain(resumes) {
        let stage = Stage::one(execution.session.domain.uuid, does);
        if let Err(error) = execution.backward(&[stage]).await {
            let message =
                format!("{} (and what stood still for it does not go on: {})", fault.error, chain(&error));
            fault.error = fault.error.reworded(message);
            return fault;
        }
    }
    let holds = |does: &Does| {
        matches!(does, Does::StopGuest { .. } | Does::Release | Does::TakeBack | Does::ResumeGuest)
    };
    fault.begun.retain(|stage| !stage.any(holds));
    fault
}

/// Ends a deletion that failed: nothing was changed, or recovery goes on with it.
pub(super) async fn stopped(session: &Session<'_>, journal: &Journal, fault: Fault) -> Error {
    let still = stands_still(journal, &fault);
    let Fault { begun, error, does, .. } = fault;
    let name =
        does.as_ref().and_then(|does| name_of(does, journal)).unwrap_or_else(|| journal.name().clone());
    let domain = &session.domain.name;
    if begun.is_empty() {
        let message = format!("snapshot {name} of domain {domain} was not deleted: {error}");
        return match session.set_journal(None).await {
            Ok(()) => {
                let kind = error.kind();
                error.ended_as(kind, Effect::None).reworded(message)
            }
            Err(e) => {
                pending(format!("{message}; and the journal cannot be removed"), Effect::None).with_source(e)
            }
        };
    }
    pending(format!("snapshot {name} of domain {domain} is deleted in part{still}"), Effect::Unknown)
        .with_source(error)
}

/// The snapshot that a step of a deletion is about.
fn name_of(does: &Does, journal: &Journal) -> Option<SnapshotName> {
    Some(match does {
        Does::RemoveMemory { snapshot, .. } => snapshot.clone(),
        Does::DeleteRecord(name) => name.clone(),
        _ => {
            let at = journal.stage_with(|step| step == does)?;
            let mut after = journal.stages[at..].iter().flat_map(Stage::steps);
            return after.find_map(|step| match &step.does {
                Does::DeleteRecord(name) => Some(name.clone()),
                _ => None,
            });
        }
    })
}

/// The names whose records a journal deletes, in order.
pub(super) fn names(journal: &Journal) -> Vec<&SnapshotName> {
    let deleted = journal.does().filter_map(|does| match does {
        Does::DeleteRecord(name) => Some(name),
        _ => None,
    });
    deleted.collect()
}

/// The snapshots that stay and whose parent a journal deletes.
pub(super) fn moved(tree: &Tree, names: &[&SnapshotName]) -> Vec<plan::NewParent> {
    let gone: BTreeSet<&SnapshotName> = names.iter().copied().collect();
    plan::new_parents(&tree.parents, &gone)
}
