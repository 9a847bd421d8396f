//! Orphans: what no record names gets a record, or is deleted.

use tracing::Instrument;
use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_types::model::SnapshotName;

use super::back::go_back;
use super::delete::stopped;
use super::disks::named as journal_name;
use super::{abilities, finish, inventory, layers_of_tops, refuse_pending};
use crate::error::{from_port, from_store};
use crate::execute::Execution;
use crate::journal::Journal;
use crate::orphan::Named;
use crate::plan::{self, OrphanFacts, orphan_stages};
use crate::session::{Session, pending};
use crate::step::Does;
use crate::{
    AdoptPlan, AdoptReport, AdoptRequest, DomainRef, Doubt, Effect, Error, FoundMemory, Kind, LayerFile,
    Operation, OrphanDeletion, OrphanReport, OrphanRequest, Outcome, Port, PortErrorKind, Ports, Recovered,
    Reversibility, Stage,
};

/// Plans the adoption of an orphan, with no effect: a dry run. A memory file of its name is read as a whole.
///
/// # Errors
/// [`Kind::NotFound`] when no image holds such a snapshot without a record; [`Kind::Refused`] when a record has its name, or what the
/// images hold is not one snapshot; [`Kind::RecoveryPending`] when an operation was interrupted, so that the plan would not last.
///
/// # Cancel safety
/// It only looks.
pub async fn plan_adopt(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &AdoptRequest,
    id: Uuid,
) -> Result<AdoptPlan, Error> {
    refuse_pending(ports, domain).await?;
    let span = tracing::info_span!("plan_adopt", domain = %domain.name, %id);
    adoption(ports, domain, request, id).instrument(span).await
}

/// Plans the deletion of an orphan, with no effect: a dry run.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such orphan; [`Kind::Refused`] names the disk that stands in the way;
/// [`Kind::RecoveryPending`] when an operation was interrupted, so that the plan would not last.
///
/// # Cancel safety
/// It only looks.
pub async fn plan_delete_orphan(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &OrphanRequest,
    id: Uuid,
) -> Result<OrphanDeletion, Error> {
    refuse_pending(ports, domain).await?;
    let span = tracing::info_span!("plan_delete_orphan", domain = %domain.name, %id);
    deletion(ports, domain, request).instrument(span).await
}

impl Session<'_> {
    /// Makes a record of a snapshot that stands in images and that no record names: one of `qemu-img snapshot -c` or of QEMU's
    /// `savevm`, or one whose record was lost. No image is changed. A machine's state inside an image, or the memory file of the
    /// snapshot's name that no record names, is part of it. Its record is a root, and the domain's current snapshot stays what it was.
    ///
    /// # Errors
    /// As [`plan_adopt`]; [`Kind::Failed`] when everything is as it was; [`Kind::RecoveryPending`] when it is not known whether the
    /// record is there.
    ///
    /// # Cancel safety
    /// Dropping it leaves what a crash would: [`crate::recover`], or the next operation, completes or undoes it.
    pub async fn adopt(
        &self,
        ports: &Ports<'_>,
        request: &AdoptRequest,
        id: Uuid,
    ) -> Result<AdoptReport, Error> {
        let span = tracing::info_span!("adopt", domain = %self.domain.name, %id);
        let work = async {
            let recovered = finish(self, ports).await?;
            let adopted = if is_done(recovered.as_ref(), Operation::Adopt, &request.name) {
                // The repeat of an adoption that was cut short: recovery has just finished it.
                let unread =
                    |e| from_store(e, format!("the record of snapshot {} cannot be read", request.name));
                let record = self.store.load(self.domain.uuid, &request.name).await;
                record.map(|record| (record, Vec::new())).map_err(unread)
            } else {
                self.adopt_now(ports, request, id).await
            };
            match adopted {
                Ok((record, warnings)) => {
                    let reversibility = self.reversibility(ports, &record).await;
                    Ok(AdoptReport { record, reversibility, warnings, recovered })
                }
                Err(error) => Err(error.with_recovered(recovered)),
            }
        };
        work.instrument(span).await
    }

    async fn adopt_now(
        &self,
        ports: &Ports<'_>,
        request: &AdoptRequest,
        id: Uuid,
    ) -> Result<(Record, Vec<String>), Error> {
        let AdoptPlan { name, mut warnings, stages, .. } = adoption(ports, self.domain, request, id).await?;
        let mut journal = Journal::new(id, Operation::Adopt, name.clone(), stages);
        self.intend(&journal).await?;
        let execution = Execution::new(self, ports, id);
        if let Err(fault) = execution.forward(&mut journal).await {
            let head = format!("snapshot {name} of domain {} was not adopted", self.domain.name);
            if fault.error.effect() != Effect::None {
                let message = format!("{head}, or its record is there and cannot be read");
                return Err(pending(message, Effect::Unknown).with_source(fault.error));
            }
            return Err(go_back(&execution, &mut journal, fault, &head).await);
        }
        self.close_journal(&mut warnings).await;
        let found = execution.into_found();
        warnings.extend(found.warnings);
        Ok((found.record.expect("an adoption that went through its list stored its record"), warnings))
    }

    /// It is adopted, whether more can be told of it or not.
    async fn reversibility(&self, ports: &Ports<'_>, record: &Record) -> Reversibility {
        let looked = Reversibility::look(ports, self.domain, record).await;
        looked.unwrap_or_else(|e| Reversibility::without_look(record, &e))
    }

    /// Deletes what no record names: a snapshot inside images, a memory file in the domain's own directory, or an
    /// overlay on one of the domain's layers.
    ///
    /// All disks are tried. What fails then is left for [`crate::recover`], unless nothing was deleted at all.
    ///
    /// # Errors
    /// As [`plan_delete_orphan`]; [`Kind::Failed`] or [`Kind::Busy`] when everything is as it was; [`Kind::RecoveryPending`] when part
    /// of it was done.
    ///
    /// # Cancel safety
    /// Dropping it leaves what a crash would: [`crate::recover`], or the next operation, completes it.
    pub async fn delete_orphan(
        &self,
        ports: &Ports<'_>,
        request: &OrphanRequest,
        id: Uuid,
    ) -> Result<OrphanReport, Error> {
        let span = tracing::info_span!("delete_orphan", domain = %self.domain.name, %id);
        let work = async {
            let recovered = finish(self, ports).await?;
            match self.delete_orphan_now(ports, request, id).await {
                Ok(report) => Ok(OrphanReport { recovered, ..report }),
                // The repeat of a deletion that was cut short: recovery has just finished it.
                Err(error)
                    if error.kind() == Kind::NotFound
                        && is_done(
                            recovered.as_ref(),
                            Operation::Delete,
                            &journal_name(stem(&request.orphan)),
                        ) =>
                {
                    let orphan = request.orphan.clone();
                    Ok(OrphanReport {
                        orphan,
                        disks: Vec::new(),
                        file: None,
                        warnings: Vec::new(),
                        recovered,
                    })
                }
                Err(error) => Err(error.with_recovered(recovered)),
            }
        };
        work.instrument(span).await
    }

    async fn delete_orphan_now(
        &self,
        ports: &Ports<'_>,
        request: &OrphanRequest,
        id: Uuid,
    ) -> Result<OrphanReport, Error> {
        let OrphanDeletion { orphan, disks, file, mut warnings, stages } =
            deletion(ports, self.domain, request).await?;
        let mut journal = Journal::new(id, Operation::Delete, journal_name(stem(&orphan)), stages);
        self.intend(&journal).await?;
        let execution = Execution::new(self, ports, id);
        if let Err(fault) = execution.forward(&mut journal).await {
            return Err(stopped(self, &journal, fault).await);
        }
        self.close_journal(&mut warnings).await;
        warnings.extend(execution.into_found().warnings);
        Ok(OrphanReport { orphan, disks, file, warnings, recovered: None })
    }
}

/// Whether recovery has just completed this operation on this snapshot.
fn is_done(recovered: Option<&Recovered>, operation: Operation, name: &SnapshotName) -> bool {
    recovered.is_some_and(|recovered| {
        recovered.operation == operation && recovered.outcome == Outcome::Completed && recovered.name == *name
    })
}

async fn adoption(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &AdoptRequest,
    id: Uuid,
) -> Result<AdoptPlan, Error> {
    let named = Named::read(ports.store, domain).await?;
    let inventory = inventory(ports, domain).await?;
    let layers = layers_of_tops(ports, domain, &inventory).await?;
    let facts = OrphanFacts { domain, inventory: &inventory, layers: &layers, named: &named };
    // What is refused without it is refused before a large file is read.
    plan::adopt(&facts, request, None, id)?;
    let mut foreign = None;
    let memory = match memory_of(ports, &named, &request.name).await? {
        Some(Ok(found)) => Some(found),
        Some(Err(warning)) => {
            foreign = Some(warning);
            None
        }
        None => None,
    };
    let mut plan = plan::adopt(&facts, request, memory, id)?;
    plan.warnings.extend(foreign);
    Ok(plan)
}

/// The memory file of the snapshot's name that no record names; a sentence about one that is there and not ours or not whole.
async fn memory_of(
    ports: &Ports<'_>,
    named: &Named,
    name: &SnapshotName,
) -> Result<Option<Result<FoundMemory, String>>, Error> {
    let Port::Has(files) = ports.memory_files else { return Ok(None) };
    let file = files.place(name);
    let unread = |e| from_port(e, format!("the memory file {file} cannot be read"));
    if !named.is_orphan_file(&file) || files.size(&file).await.map_err(unread)?.is_none() {
        return Ok(None);
    }
    match files.examine(&file, ports.progress).await {
        Ok(found) => Ok(Some(Ok(found))),
        Err(e) if e.kind == PortErrorKind::NotFound => Ok(None),
        Err(e) if e.kind == PortErrorKind::Corrupt => {
            Ok(Some(Err(format!("the memory file {file} is not part of the snapshot: {e}"))))
        }
        Err(e) => Err(unread(e)),
    }
}

async fn deletion(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &OrphanRequest,
) -> Result<OrphanDeletion, Error> {
    let named = Named::read(ports.store, domain).await?;
    let orphan = &request.orphan;
    let files = match ports.memory_files {
        Port::Has(files) => files.list().await.map_err(|e| {
            from_port(e, format!("the memory files of domain {} cannot be listed", domain.name))
        })?,
        Port::Lacks(_) => Vec::new(),
    };
    if files.contains(orphan) && named.is_orphan_file(orphan) {
        if let Some(unreadable) = named.unreadable() {
            let message = format!(
                "the memory file {orphan} of domain {} may be named by the record of snapshot {unreadable}, which cannot be read",
                domain.name
            );
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_advice("repair that record, or delete it alone (delete --metadata-only)"));
        }
        let stages = orphan_stages(domain.uuid, &[], Some((orphan, journal_name(stem(orphan)))));
        let file = Some(orphan.clone());
        return Ok(OrphanDeletion {
            orphan: orphan.clone(),
            disks: Vec::new(),
            file,
            warnings: Vec::new(),
            stages,
        });
    }
    let inventory = inventory(ports, domain).await?;
    let layers = layers_of_tops(ports, domain, &inventory).await?;
    if orphan.starts_with('/') && !files.contains(orphan) {
        let layer = plan::stray(domain, &layers.strays, orphan)?;
        if let Some(name) = layers.unread.first() {
            let message = format!(
                "the file {orphan} of domain {} may be named by the record of snapshot {name}, which cannot be read",
                domain.name
            );
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_advice(plan::about_unread(domain, name)));
        }
        if let Some(Doubt { why, advice }) = &layers.doubt {
            let message = format!("the file {orphan} of domain {} is not removed: {why}", domain.name);
            return Err(Error::new(Kind::Refused, Effect::None, message).with_advice(advice));
        }
        // As it is now: another file of that name is not removed in its place.
        let looked = ports.layers.need(&format!("{orphan} cannot be deleted"))?.look(&layer).await;
        let looked = looked.map_err(|e| from_port(e, format!("{orphan} cannot be looked at")))?;
        let layer = LayerFile { identity: looked.map(|found| found.identity), ..layer };
        let stages = vec![Stage::one(domain.uuid, Does::Unlink(layer))];
        return Ok(OrphanDeletion {
            orphan: orphan.clone(),
            disks: Vec::new(),
            file: Some(orphan.clone()),
            warnings: Vec::new(),
            stages,
        });
    }
    let facts = OrphanFacts { domain, inventory: &inventory, layers: &layers, named: &named };
    let release = abilities(ports, domain).await?.release;
    let mut plan = plan::delete_orphan(&facts, request, &release)?;
    plan.warnings.extend(SnapshotName::new(orphan.as_str()).ok().and_then(|name| {
        let file = ports.memory_files.get()?.place(&name);
        let left = files.contains(&file) && named.is_orphan_file(&file);
        left.then(|| {
            format!(
                "the memory file of that name stays; to delete it too: {}",
                crate::orphan::deleting(domain, &file)
            )
        })
    }));
    Ok(plan)
}

/// What a memory file is called without its directory and ending; another name is as it is.
fn stem(orphan: &str) -> &str {
    let name = orphan.rsplit('/').next().unwrap_or(orphan);
    if orphan.starts_with('/') { name.strip_suffix(".save").unwrap_or(name) } else { orphan }
}
