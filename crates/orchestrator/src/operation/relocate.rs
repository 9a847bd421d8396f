//! Following files of chains, and memory files, that the user moved or renamed.

mod places;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tracing::Instrument;
use uuid::Uuid;
use xlsnap_conf_store::{Entry, Kind as StoreKind, Record};
use xlsnap_types::model::{DiskName, ImageFormat, LayerRecord, SnapshotName};

use super::{finish, guest, inventory, refuse_pending};
use crate::error::{from_port, from_store};
use crate::execute::Execution;
use crate::journal::Journal;
use crate::plan::{self, Moved, RelocateFacts};
use crate::session::{Session, pending};
use crate::step::ImageFile;
use crate::{
    Below, DomainRef, Effect, Error, GuestState, Kind, Layer, LayerFile, Operation, Outcome, Ports,
    RelocatePlan, RelocateReport, RelocateRequest,
};

/// The most files of a domain that are looked at.
const MOST: usize = 4_096;

/// Plans what follows files that were moved, with no effect: a dry run.
///
/// # Errors
/// [`Kind::NotFound`] when nothing of the domain's names such a file; [`Kind::Refused`] when one is there still under its old name, is not
/// there under the new one, or is another file; [`Kind::Busy`] while a process has one open; [`Kind::RecoveryPending`] when an
/// operation was interrupted, so that the plan would not last.
///
/// # Cancel safety
/// It only looks.
pub async fn plan_relocate(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &RelocateRequest,
) -> Result<RelocatePlan, Error> {
    refuse_pending(ports, domain).await?;
    plan(ports, domain, request).instrument(tracing::info_span!("plan_relocate", domain = %domain.name)).await
}

impl Session<'_> {
    /// Makes everything that names files of the domain's chains name them as they are called now, after the user moved or
    /// renamed them: the headers of the images above them (a relative name stays relative), the records, the ledger and the
    /// domain's description. Each is first compared with what is known of the file. No file is moved, and no data written.
    ///
    /// # Errors
    /// As [`plan_relocate`]; [`Kind::Failed`] when everything is as it was; [`Kind::RecoveryPending`] when part of it was done:
    /// recovery goes on with it.
    ///
    /// # Cancel safety
    /// Dropping it leaves what a crash would: [`crate::recover`], or the next operation, completes it.
    pub async fn relocate(
        &self,
        ports: &Ports<'_>,
        request: &RelocateRequest,
        id: Uuid,
    ) -> Result<RelocateReport, Error> {
        let work = async {
            let recovered = finish(self, ports).await?;
            match relocate_in(self, ports, request, id).await {
                Ok(report) => Ok(RelocateReport { recovered, ..report }),
                // The repeat of one that was cut short: recovery has just finished it.
                Err(error)
                    if error.kind() == Kind::NotFound
                        && recovered.as_ref().is_some_and(|recovered| {
                            recovered.operation == Operation::Relocate
                                && recovered.outcome == Outcome::Completed
                        }) =>
                {
                    let (files, memory, warnings) = (Vec::new(), Vec::new(), Vec::new());
                    Ok(RelocateReport { files, memory, warnings, recovered })
                }
                Err(error) => Err(error.with_recovered(recovered)),
            }
        };
        work.instrument(tracing::info_span!("relocate", domain = %self.domain.name, %id)).await
    }
}

async fn relocate_in(
    session: &Session<'_>,
    ports: &Ports<'_>,
    request: &RelocateRequest,
    id: Uuid,
) -> Result<RelocateReport, Error> {
    let RelocatePlan { files, memory, mut warnings, stages } = plan(ports, session.domain, request).await?;
    let name = SnapshotName::new("relocate").expect("it is a word");
    let mut journal = Journal::new(id, Operation::Relocate, name, stages);
    session.intend(&journal).await?;
    let execution = Execution::new(session, ports, id);
    if let Err(fault) = execution.forward(&mut journal).await {
        let message = format!("the files of domain {} are not followed", session.domain.name);
        if !fault.begun.is_empty() {
            return Err(pending(format!("{message} to the end"), Effect::Unknown).with_source(fault.error));
        }
        return Err(match session.set_journal(None).await {
            Ok(()) => {
                let message = format!("{message}: {}", fault.error);
                let kind = if fault.error.kind() == Kind::Busy { Kind::Busy } else { Kind::Failed };
                fault.error.ended_as(kind, Effect::None).reworded(message)
            }
            Err(e) => {
                pending(format!("{message}, and the journal cannot be removed"), Effect::None).with_source(e)
            }
        });
    }
    session.close_journal(&mut warnings).await;
    warnings.extend(execution.into_found().warnings);
    Ok(RelocateReport { files, memory, warnings, recovered: None })
}

/// What the store has of the domain.
struct Stored {
    records: BTreeMap<SnapshotName, Record>,
    ledger: Vec<LayerRecord>,
    /// The records that cannot be read.
    spoilt: Vec<String>,
}

impl Stored {
    async fn read(ports: &Ports<'_>, domain: &DomainRef) -> Result<Self, Error> {
        let unreadable =
            |e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name));
        let (mut records, mut spoilt, mut unread) = (BTreeMap::new(), Vec::new(), None);
        let mut visit = |entry: Entry| match (SnapshotName::new(&entry.name), entry.record) {
            (Ok(name), Ok(record)) => drop(records.insert(name, record)),
            // One that can be read again would name files that are other ones by then.
            (_, Err(e)) if e.kind() != StoreKind::Malformed => unread = Some((entry.name, e)),
            _ => spoilt.push(entry.name),
        };
        ports.store.list(domain.uuid, &mut visit).await.map_err(unreadable)?;
        if let Some((name, e)) = unread {
            let message =
                format!("the record of snapshot {name} of domain {} cannot be read now", domain.name);
            return Err(
                from_store(e, message).with_advice("try again when it can be, so that it follows too")
            );
        }
        let of_domain = ports.store.domain_record(domain.uuid).await.map_err(unreadable)?;
        Ok(Self { records, spoilt, ledger: of_domain.map(|record| record.layers).unwrap_or_default() })
    }
}

async fn plan(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &RelocateRequest,
) -> Result<RelocatePlan, Error> {
    let about = format!("files of domain {} cannot be followed", domain.name);
    let overlays = ports.overlays.need(&about)?;
    let described = overlays.described().await;
    let described = described.map_err(|e| from_port(e, about.clone()))?;
    let stored = Stored::read(ports, domain).await?;
    // One that is off may lack an image, and then nothing tells more of its disks.
    let open = match guest(ports, domain).await? {
        GuestState::Off => None,
        _ => {
            let disks = inventory(ports, domain).await?.disks;
            Some(disks.into_iter().map(|disk| disk.image).filter(|image| !image.is_empty()).collect())
        }
    };
    let known = plan::named(&described, &stored.records, &stored.ledger);
    let places = places::Places {
        ports,
        domain,
        request,
        known: &known,
        records: &stored.records,
        ledger: &stored.ledger,
    };
    let (moved, memory) = places.look().await?;
    let top = described.iter().find_map(|(disk, image)| Some((disk, &image.file, moved.0.get(&image.file)?)));
    if let (Some((disk, file, to)), Some(why)) = (top, overlays.adopts().why()) {
        let message =
            format!("{to} cannot be made the image of disk {disk} of domain {}: {why}", domain.name);
        return Err(Error::new(Kind::Refused, Effect::None, message)
            .with_advice(format!("move it back to {file}; files below it may be elsewhere")));
    }
    let mut warnings = refuse_claimed(ports, domain, &moved, &described).await?;
    let tops = open.iter().flatten().map(|file: &String| file.as_str());
    let found = survey(ports, domain, &moved, &known, tops).await?;
    let facts = RelocateFacts {
        domain,
        described: &described,
        records: &stored.records,
        ledger: &stored.ledger,
        moved: &moved,
        memory: &memory,
        found: &found,
        open: open.as_ref(),
    };
    let mut plan = plan::relocate(&facts, request)?;
    let spoilt = stored.spoilt.iter().map(|name| {
        format!("the record of snapshot {name} cannot be read, and stays as it is: it may name the files as they were called")
    });
    warnings.extend(spoilt);
    warnings.append(&mut plan.warnings);
    Ok(RelocatePlan { warnings, ..plan })
}

/// Refuses a file that another domain uses as the image of a disk. A sentence for each old name that other domains have still.
async fn refuse_claimed(
    ports: &Ports<'_>,
    domain: &DomainRef,
    moved: &Moved,
    described: &[(DiskName, ImageFile)],
) -> Result<Vec<String>, Error> {
    let Some(claims) = ports.claims.get() else { return Ok(Vec::new()) };
    let unknown = |e| {
        from_port(e, format!("which other domains use the files of domain {} cannot be told", domain.name))
    };
    let tops: Vec<String> =
        described.iter().filter_map(|(_, image)| moved.0.get(&image.file)).cloned().collect();
    if let Some((file, why)) = claims.of(&tops).await.map_err(unknown)?.files.into_iter().next() {
        let message = format!("{file} cannot be the image of a disk of domain {}: {why}", domain.name);
        return Err(Error::new(Kind::Refused, Effect::None, message)
            .with_advice("name the file that was moved; a disk belongs to one domain"));
    }
    let old: Vec<String> = moved.0.keys().cloned().collect();
    let claimed = claims.of(&old).await.map_err(unknown)?;
    let told = claimed.files.into_iter().map(|(file, why)| {
        format!("{file}: {why}; that domain does not follow it by this command (xlsnap check DOMAIN --relocate there too)")
    });
    Ok(told.collect())
}

/// Looks at all files that something names, by the names that they have now, and at what is below them.
async fn survey(
    ports: &Ports<'_>,
    domain: &DomainRef,
    moved: &Moved,
    known: &[LayerFile],
    tops: impl Iterator<Item = &str>,
) -> Result<BTreeMap<String, (DiskName, Layer)>, Error> {
    let layers = ports.layers.need(&format!("files of domain {} cannot be followed", domain.name))?;
    let mut waiting: VecDeque<LayerFile> = known
        .iter()
        .map(|known| LayerFile { file: moved.now(&known.file).to_owned(), ..known.clone() })
        .collect();
    // A process may know an image that no description names.
    let disk = known.first().map(|known| known.disk.clone());
    waiting.extend(tops.zip(disk.into_iter().cycle()).map(|(file, disk)| LayerFile {
        disk,
        file: moved.now(file).to_owned(),
        format: ImageFormat::Qcow2,
        identity: None,
    }));
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let mut found = BTreeMap::new();
    while let Some(file) = waiting.pop_front() {
        if asked.len() >= MOST || !asked.insert(file.file.clone()) {
            continue;
        }
        let looked = layers.look(&file).await.map_err(|e| {
            let what =
                format!("{} (disk {} of domain {}) cannot be looked at", file.file, file.disk, domain.name);
            from_port(e, what)
        })?;
        let Some(layer) = looked else { continue };
        if let Below::File { file: base, format } = &layer.base {
            let format = format.clone().unwrap_or(ImageFormat::Raw);
            let base = moved.now(base).to_owned();
            waiting.push_back(LayerFile { disk: file.disk.clone(), file: base, format, identity: None });
        }
        found.insert(file.file, (file.disk, layer));
    }
    Ok(found)
}
