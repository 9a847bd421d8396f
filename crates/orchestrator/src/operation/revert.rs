//! Going back to a snapshot.

use futures_util::future::{Either, select};
use tracing::Instrument;
use uuid::Uuid;
use xlsnap_types::model::{ImageFormat, MemoryMeta, MemoryWay};

use super::back::go_back;
use super::create::{Creation, naming_with};
use super::layers::layers_of_record;
use super::{abilities, finish, guest, inventory, refuse_pending};
use crate::error::{from_port, from_store};
use crate::execute::{Execution, interrupted};
use crate::journal::Journal;
use crate::plan::{self, Marks, RevertFacts, no_such};
use crate::session::Session;
use crate::{
    CreateReport, CreateRequest, DiskChoice, DomainRef, Effect, Error, GuestState, MemoryPlace,
    MemoryRequest, NameSwap, Operation, Overlay, PortError, PortErrorKind, Ports, RevertPlan, RevertReport,
    RevertRequest, RevertWay, Run,
};

/// Plans a revert, with no effect: a dry run. It asks the store, the guest and the disks, and verifies all that the revert
/// needs.
///
/// # Errors
/// [`crate::Kind::NotFound`] when there is no such snapshot; [`crate::Kind::Refused`] names the disk that stands in the way and
/// says what to do; [`crate::Kind::RecoveryPending`] when an operation was interrupted, so that the plan would not last.
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
        let mut reverting = Reverting::plan(ports, domain, request, id, &Verified::default()).await?;
        if let Some(safety) = reverting.safety(ports, request).await? {
            let safety = Creation::plan(ports, domain, &safety, id).await?.plan;
            let names = |overlay: &Overlay| safety.names_of(&overlay.disk).cloned();
            let overlays = safety.overlays().map(|overlay| (overlay.clone(), names(overlay))).collect();
            let verified = Verified { contents: true, overlays, ..Verified::default() };
            reverting = Reverting::plan(ports, domain, request, id, &verified).await?;
            reverting.plan.safety = Some(safety);
        }
        Ok(reverting.plan)
    };
    work.instrument(span).await
}

/// Makes the domain what it was in a snapshot: opens a [`Session`] for [`Session::revert`].
///
/// # Errors
/// [`crate::Kind::Busy`] when another process holds the domain's lock; else as [`Session::revert`].
///
/// # Cancel safety
/// As [`Session::revert`].
pub async fn revert(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &RevertRequest,
    id: Uuid,
) -> Result<RevertReport, Error> {
    Session::open(ports.store, ports.clock, domain, "revert").await?.revert(ports, request, id).await
}

impl Session<'_> {
    /// Makes the domain what it was in a snapshot: its disks, and its guest's memory where that is part of it. The commit point
    /// is a word in the journal, after everything was looked at.
    ///
    /// A domain that is off stays off when its disks alone come back. One that runs has its disks reverted under it and its
    /// guest reset, or is ended and started again ([`RevertWay`]); one whose memory comes back is ended and goes on where it was.
    ///
    /// Record, guest, each image, the sizes, the whole memory file, and all that a start of the domain needs are verified before
    /// the first effect; then what is on each disk is marked. When a step fails, every disk goes back to its mark, and the
    /// domain is as it was: a guest whose process was only released goes on without a reset. With
    /// [`RevertRequest::safety`] a snapshot of now is made first; it stays when the revert fails.
    ///
    /// # Errors
    /// As [`plan_revert`]; [`crate::Kind::Failed`] or [`crate::Kind::Busy`] when everything is as it was;
    /// [`crate::Kind::RecoveryPending`] when going back failed too.
    ///
    /// # Cancel safety
    /// Dropping it leaves what a crash would: [`crate::recover`], or the next operation, completes or undoes it.
    pub async fn revert(
        &self,
        ports: &Ports<'_>,
        request: &RevertRequest,
        id: Uuid,
    ) -> Result<RevertReport, Error> {
        let span = tracing::info_span!("revert", domain = %self.domain.name, %id);
        let work = async {
            let recovered = finish(self, ports).await?;
            match revert_in(self, ports, request, id).await {
                Ok(report) => Ok(RevertReport { recovered, ..report }),
                Err(error) => Err(error.with_recovered(recovered)),
            }
        };
        work.instrument(span).await
    }
}

async fn revert_in(
    session: &Session<'_>,
    ports: &Ports<'_>,
    request: &RevertRequest,
    id: Uuid,
) -> Result<RevertReport, Error> {
    let domain = session.domain;
    let mut verified = Verified::default();
    let mut reverting = Reverting::plan(ports, domain, request, id, &verified).await?;
    let mut safety: Option<CreateReport> = None;
    if let Some(create) = reverting.safety(ports, request).await? {
        let made = Creation::plan(ports, domain, &create, Uuid::from_u128(!id.as_u128())).await?;
        let made = made.carry_out(session, ports).await?;
        let ran = reverting.guest.run().is_some_and(Run::runs);
        verified = Verified {
            contents: true,
            marks: Marks::Made,
            safety: made
                .record
                .meta
                .as_ref()
                .and_then(|meta| meta.memory.clone())
                // A guest that ran went on after it was taken, and so did its disks: that memory belongs to none of them any more.
                .filter(|memory| memory.file().is_some() && !ran),
            overlays: Vec::new(),
        };
        safety = Some(made);
        // The disks have changed since they were looked at.
        let again = Reverting::plan(ports, domain, request, id, &verified).await;
        reverting = again.map_err(|e| after_safety(e, request))?;
    }
    let makes_files = !reverting.plan.tops.is_empty();
    match reverting.carry_out(session, ports, request, &mut safety).await {
        // A full file system is what many reverts are for. Nothing was changed; all was looked at; so it goes without marks. With new files
        // for some disks it does not: these go back where the others cannot.
        Err(error) if lacks_room(&error) && !makes_files => {
            verified.contents = true;
            verified.marks = Marks::NoRoom;
            let again = Reverting::plan(ports, domain, request, id, &verified).await;
            let again = again.map_err(|e| after_safety(e, request))?;
            again.carry_out(session, ports, request, &mut safety).await
        }
        done => done,
    }
}

/// Whether a revert ended, with nothing changed, because there is no room for its marks.
fn lacks_room(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<PortError>());
    error.effect() == Effect::None && cause.is_some_and(|cause| cause.kind == PortErrorKind::NoSpace)
}

/// What is known before a revert is planned.
#[derive(Default)]
struct Verified {
    /// The contents of the memory file were verified just now.
    contents: bool,
    /// The memory of a safety snapshot that was made just now.
    safety: Option<MemoryMeta>,
    marks: Marks,
    /// The overlays of a safety snapshot that is planned and not made.
    overlays: Vec<(Overlay, Option<NameSwap>)>,
}

/// A revert that is to be carried out.
struct Reverting {
    plan: RevertPlan,
    id: Uuid,
    guest: GuestState,
}

impl Reverting {
    /// Looks and plans, without the safety snapshot.
    async fn plan(
        ports: &Ports<'_>,
        domain: &DomainRef,
        request: &RevertRequest,
        id: Uuid,
        verified: &Verified,
    ) -> Result<Self, Error> {
        let about = format!("snapshot {} of domain {}", request.name, domain.name);
        let record = match ports.store.load(domain.uuid, &request.name).await {
            Ok(record) => record,
            Err(e) if e.kind() == xlsnap_conf_store::Kind::NotFound => {
                return Err(no_such(domain, &request.name));
            }
            Err(e) => return Err(from_store(e, format!("the record of {about} cannot be read"))),
        };
        let current = ports.store.domain_record(domain.uuid).await;
        let current = current
            .map_err(|e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name)))?
            .and_then(|record| record.current);
        let guest = guest(ports, domain).await?;
        let mut inventory = inventory(ports, domain).await?;
        let abilities = abilities(ports, domain).await?;
        if record.snapshot.disks.iter().any(|disk| disk.is_external()) {
            ports.layers.need(&format!("{about} cannot be reverted to"))?;
        }
        let mut layers = layers_of_record(ports, domain, &inventory, &record).await?;
        layers.refuse_not_now(domain)?;
        if let Some(safety) = &request.safety {
            for (overlay, names) in &verified.overlays {
                layers.suppose(domain.uuid, safety, (overlay, names.as_ref()), &mut inventory);
            }
        }
        let known = (guest, abilities.restart.clone());
        let naming = naming_with(ports, &layers, known, &inventory).await?;
        let mut facts = RevertFacts {
            layers,
            naming: &naming,
            domain,
            guest,
            inventory: &inventory,
            record: &record,
            abilities: &abilities,
            pause: ports.pause.can(),
            current: current.as_ref(),
            safety: verified.safety.as_ref(),
            marks: verified.marks,
            id,
        };
        let plan = loop {
            let plan = plan::revert(&facts, request)?;
            if !facts.layers.find_taken(ports, &plan.stages).await? {
                break plan;
            }
        };
        facts.layers.refuse_places(ports, &about, &plan.stages).await?;
        if let RevertWay::Restore { memory, .. } = &plan.way
            && !verified.contents
        {
            let files = ports.memory_files.need(&format!("{about}: its memory file cannot be read"))?;
            let verifying = Box::pin(files.verify(memory, ports.progress));
            let verified = match ports.interrupt.get() {
                None => verifying.await,
                Some(interrupt) => match select(verifying, interrupt.requested()).await {
                    Either::Left((verified, _)) => verified,
                    Either::Right(((), _)) => return Err(interrupted(Effect::None)),
                },
            };
            let header = verified.map_err(|e| {
                let first = match memory.file().filter(|_| e.kind == PortErrorKind::NotFound) {
                    Some(file) => {
                        format!("if the file was moved or renamed: {}", plan::relocating(domain, file))
                    }
                    None => "see what check --deep says".to_owned(),
                };
                from_port(e, format!("{about}: the guest's memory cannot be restored"))
                    .with_advice(format!("{first}; revert --without-memory brings the disks back alone"))
            })?;
            plan::header(&facts, request, memory, &header)?;
        }
        Ok(Self { plan, id, guest })
    }

    /// The snapshot of now that is made first: with the memory of a guest that is on. A disk that gets a new overlay is taken
    /// externally: a snapshot inside the file that it leaves could not be gone back to.
    async fn safety(
        &self,
        ports: &Ports<'_>,
        request: &RevertRequest,
    ) -> Result<Option<CreateRequest>, Error> {
        let Some(name) = request.safety.clone() else { return Ok(None) };
        let description = format!("before the revert to {}", request.name);
        let memory = match self.guest {
            GuestState::On(flags) if !flags.shutdown && !flags.dying => safety_memory(ports).await,
            _ => None,
        };
        let external = || DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
        let tops = self.plan.tops.iter().map(|top| (top.disk().clone(), external()));
        // Memory inside an image and an external disk could not be loaded together.
        let inside = memory.as_ref().is_some_and(|memory| memory.place == MemoryPlace::Inside);
        let memory = memory.filter(|_| !inside || self.plan.tops.is_empty());
        Ok(Some(CreateRequest {
            name: Some(name),
            description,
            memory,
            disks: tops.collect(),
            ..CreateRequest::default()
        }))
    }

    /// The effects, after their journal entry.
    async fn carry_out(
        self,
        session: &Session<'_>,
        ports: &Ports<'_>,
        request: &RevertRequest,
        safety: &mut Option<CreateReport>,
    ) -> Result<RevertReport, Error> {
        let Self { plan, id, .. } = self;
        let RevertPlan { name, disks, way, untouched, mut warnings, stages, tops, safety: _ } = plan;
        let mut journal = Journal::new(id, Operation::Revert, name.clone(), stages);
        session.intend(&journal).await.map_err(|e| after_safety(e, request))?;
        let execution = Execution::new(session, ports, id);
        if let Err(fault) = execution.forward(&mut journal).await {
            let head = format!("domain {} did not go back to snapshot {name}", session.domain.name);
            let error = go_back(&execution, &mut journal, fault, &head).await;
            return Err(after_safety(error, request));
        }
        let found = execution.into_found();
        if !found.is_left {
            session.close_journal(&mut warnings).await;
        }
        warnings.extend(found.warnings);
        let inside = disks.into_iter().map(|target| target.disk);
        let disks = inside.chain(tops.iter().map(|top| top.disk().clone())).collect();
        Ok(RevertReport { name, disks, untouched, way, safety: safety.take(), warnings, recovered: None })
    }
}

/// How a guest's memory is kept beside a safety snapshot: in a file where that can be, else inside the images; `None` where
/// neither can be.
async fn safety_memory(ports: &Ports<'_>) -> Option<MemoryRequest> {
    let survey = ports.memory.get()?.survey(None).await.ok()?;
    let inside = MemoryWay::Internal;
    if survey.ways.iter().any(|way| *way != inside) && ports.memory_files.get().is_some() {
        return Some(MemoryRequest::default());
    }
    survey
        .ways
        .contains(&inside)
        .then(|| MemoryRequest { place: MemoryPlace::Inside, ..MemoryRequest::default() })
}

/// The safety snapshot is an effect that stays.
fn after_safety(error: Error, request: &RevertRequest) -> Error {
    let Some(safety) = &request.safety else { return error };
    let advice = match error.advice() {
        Some(advice) => format!("{advice}; the safety snapshot {safety} was made and stays"),
        None => format!(
            "the safety snapshot {safety} was made and stays; revert to it where the guest had to boot, or delete it if it is not needed"
        ),
    };
    error.with_advice(advice)
}
