//! Making a snapshot of all disks.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join3;
use tracing::Instrument;
use uuid::Uuid;
use xlsnap_types::model::{Consistency, DiskMeta, Meta, SnapshotName, StateFlags};

use super::back::go_back;
use super::layers::layers_of_tops;
use super::{abilities, finish, guest, inventory, refuse_pending};
use crate::error::{from_port, from_store};
use crate::execute::Execution;
use crate::journal::{Draft, Journal};
use crate::plan::{self, CreateFacts, LayerFacts, MemoryFacts, NameFacts, Naming, creation_stages};
use crate::reversibility::Now;
use crate::session::{Session, chain, pending};
use crate::step::Does;
use crate::{
    Abilities, Can, CreatePlan, CreateReport, CreateRequest, DiskPlan, DomainRef, Effect, Error, GuestState,
    Inventory, Kind, LayerNote, MemoryPlace, MemoryRequest, MemorySave, NameSwap, Operation, Overlay, Ports,
    Reversibility, SaveTo, SnapshotAction, Stage,
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
    Ok(Creation::plan(ports, domain, request, id).instrument(span).await?.plan)
}

/// Makes a snapshot of all chosen disks at one instant: opens a [`Session`] for [`Session::create`].
///
/// # Errors
/// [`Kind::Busy`] when another process holds the domain's lock; else as [`Session::create`].
///
/// # Cancel safety
/// As [`Session::create`].
pub async fn create(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CreateRequest,
    id: Uuid,
) -> Result<CreateReport, Error> {
    Session::open(ports.store, ports.clock, domain, "create").await?.create(ports, request, id).await
}

impl Session<'_> {
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
        &self,
        ports: &Ports<'_>,
        request: &CreateRequest,
        id: Uuid,
    ) -> Result<CreateReport, Error> {
        let span = tracing::info_span!("create", domain = %self.domain.name, %id);
        let work = async {
            let recovered = finish(self, ports).await?;
            let made =
                async { Creation::plan(ports, self.domain, request, id).await?.carry_out(self, ports).await };
            match made.await {
                Ok(report) => Ok(CreateReport { recovered, ..report }),
                Err(error) => Err(error.with_recovered(recovered)),
            }
        };
        work.instrument(span).await
    }
}

/// A snapshot that is to be made.
pub(super) struct Creation {
    pub(super) plan: CreatePlan,
    id: Uuid,
    guest: GuestState,
    /// What can be done with the domain's process; `None` where saving its memory changes that.
    abilities: Option<Result<Abilities, Error>>,
    /// The layers when it is made; `None` where they were not looked at.
    layers: Option<LayerFacts>,
}

impl Creation {
    /// Looks and plans.
    pub(super) async fn plan(
        ports: &Ports<'_>,
        domain: &DomainRef,
        request: &CreateRequest,
        id: Uuid,
    ) -> Result<Self, Error> {
        let unreadable =
            |e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name));
        let names: BTreeSet<SnapshotName> =
            ports.store.names(domain.uuid).await.map_err(unreadable)?.into_iter().collect();
        let of_domain = ports.store.domain_record(domain.uuid).await.map_err(unreadable)?.unwrap_or_default();
        let parent = of_domain.current.filter(|parent| names.contains(parent));
        let is_same = request.memory.is_none();
        let abilities = async { Ok(if is_same { Some(abilities(ports, domain).await) } else { None }) };
        let (guest, inventory, abilities) =
            try_join3(guest(ports, domain), inventory(ports, domain), abilities).await?;
        let mut layers = LayerFacts::default();
        if request.takes_externally() && ports.layers.get().is_some() {
            layers = layers_of_tops(ports, domain, &inventory).await?;
            layers.refuse_not_now(domain)?;
        }
        let naming = match request.takes_externally() {
            true => {
                let restart = match &abilities {
                    Some(Ok(known)) => known.restart.clone(),
                    _ => self::abilities(ports, domain).await?.restart,
                };
                naming(ports, (guest, restart), &inventory).await?
            }
            false => NameFacts::unasked(guest),
        };
        let now = ports.clock.epoch_seconds();
        let mut plan = loop {
            let facts = CreateFacts {
                domain: &domain.name,
                inventory: &inventory,
                names: &names,
                layers: &layers,
                naming: &naming,
                id,
                now,
            };
            let plan = plan::create(&facts, request)?;
            let given = |disk: &DiskPlan| request.overlay_of(&disk.disk).is_some();
            let chosen = plan.disks.iter().filter(|disk| !given(disk)).filter_map(DiskPlan::overlay);
            if !layers.take_names(ports, chosen.map(|overlay| overlay.file.as_str())).await? {
                break plan;
            }
        };
        refuse_overlays(ports, domain, &plan).await?;
        if let Some(wanted) = &request.memory {
            let (save, told) = memory(ports, domain, guest, &plan, wanted, id).await?;
            plan.warnings.extend(told);
            plan.memory = Some(save);
            plan.warnings.extend(plan::left_out(&plan, &inventory));
        }
        plan.quiesce = plan::quiesce(&domain.name, guest, ports.agent, request, &mut plan.warnings)?;
        let drafting = Drafting { plan: &plan, inventory: &inventory, guest, request, id, now };
        let draft = drafting.draft(parent);
        let (notes, followed) = new_layers(domain, &layers, &mut plan)?;
        let naming = Naming { swaps: plan.names.clone(), was: guest.run(), followed };
        plan.stages = creation_stages(domain.uuid, draft, naming, notes);
        let layers = (!layers.tree.nodes().is_empty()).then(|| supposed(domain, layers, &plan, inventory));
        Ok(Self { plan, id, guest, abilities, layers })
    }

    /// The effects, after their journal entry.
    pub(super) async fn carry_out(
        self,
        session: &Session<'_>,
        ports: &Ports<'_>,
    ) -> Result<CreateReport, Error> {
        let Self { plan, id, guest, abilities, layers } = self;
        let domain = session.domain;
        let mut journal = Journal::new(id, Operation::Create, plan.name.clone(), plan.stages);
        session.intend(&journal).await?;
        let execution = Execution::new(session, ports, id);
        let mut warnings = plan.warnings;
        match execution.forward(&mut journal).await {
            Ok(()) if execution.found().is_frozen => {
                // The journal stays for that, and says so; where it cannot, the guest's file systems are told as they are.
                journal.at = journal.stage_with(|does| matches!(does, Does::Thaw { .. })).unwrap_or_default();
                let _ = session.set_journal(Some(&journal)).await;
                warnings.push(
                    "recover, or the next operation, tries once more to thaw the guest's file systems"
                        .to_owned(),
                );
            }
            Ok(()) => session.close_journal(&mut warnings).await,
            // The snapshot is made; the journal stays, so that the next operation notes it.
            Err(fault)
                if fault.is(|does| {
                    matches!(
                        does,
                        Does::SetCurrent { .. }
                            | Does::SetPart { .. }
                            | Does::SetImage { .. }
                            | Does::NoteLayers { .. }
                    )
                }) =>
            {
                warnings.push(format!(
                    "the snapshot was made, but {}; recover, or the next operation, finishes it",
                    chain(&fault.error)
                ));
            }
            Err(fault) => {
                let head = format!("snapshot {} of domain {} was not made", plan.name, domain.name);
                let storing = fault.is(|does| matches!(does, Does::StoreRecord(_)));
                let adopting = fault.is(|does| match does {
                    Does::Adopt(_) => true,
                    // All were taken, and only cannot be looked at.
                    Does::Look(_) => fault.error.effect() == Effect::Done,
                    _ => false,
                });
                // Files that took the names of images may be written to from here on.
                let resuming = fault.is(|does| *does == Does::ResumeGuest) && !plan.names.is_empty();
                if resuming && fault.error.effect() != Effect::None {
                    execution.thaw_frozen(&fault.begun).await;
                    let message = format!("{head} yet; whether the guest goes on is not known");
                    return Err(pending(message, Effect::Unknown).with_source(fault.error));
                }
                if storing && fault.error.effect() != Effect::None {
                    let message = format!("{head}, or its record is there and cannot be read");
                    return Err(pending(message, Effect::Unknown).with_source(fault.error));
                }
                let external =
                    plan.disks.iter().any(|disk| matches!(disk.action, SnapshotAction::External(_)));
                // Of memory only the record would tell whether it is whole.
                if (storing || adopting) && external && plan.memory.is_none() && guest != GuestState::Off {
                    let message = format!("{head}; the guest writes to the overlays already");
                    return Err(pending(message, Effect::Done).with_source(fault.error));
                }
                return Err(go_back(&execution, &mut journal, fault, &head).await);
            }
        }
        let abilities = match abilities {
            Some(known) => known,
            None => self::abilities(ports, domain).await,
        };
        let now = abilities.map(|abilities| Now::new(ports, guest, abilities));
        let found = execution.into_found();
        let record = found.record.expect("a creation that went through its list stored its record");
        warnings.extend(found.warnings);
        let reversibility = match (now, &found.looked) {
            (Ok(now), Some(looked)) => {
                Reversibility::of_now(ports, domain, &record, (looked, layers), &now).await
            }
            (Err(error), _) => Err(error),
            (Ok(_), None) => Reversibility::look(ports, domain, &record).await,
        };
        let reversibility = reversibility.unwrap_or_else(|e| Reversibility::without_look(&record, &e));
        Ok(CreateReport {
            record,
            passed_over: plan.passed_over,
            reversibility,
            took: found.took,
            pause: found.pause,
            warnings,
            recovered: None,
        })
    }
}

/// Asks how the memory can be saved, and plans it; with what would make the guest stand still for less.
async fn memory(
    ports: &Ports<'_>,
    domain: &DomainRef,
    guest: GuestState,
    plan: &CreatePlan,
    request: &MemoryRequest,
    id: Uuid,
) -> Result<(MemorySave, Option<String>), Error> {
    let was = plan::run_to_save(&domain.name, guest)?;
    let subject = format!("the memory of domain {} cannot be saved", domain.name);
    let file = match &request.place {
        MemoryPlace::Inside => None,
        MemoryPlace::File(file) => Some(file.clone()),
        MemoryPlace::Default => Some(ports.memory_files.need(&subject)?.place(&plan.name)),
    };
    let asked = ports.memory.need(&subject)?.survey(file.as_deref()).await;
    let survey = asked.map_err(|e| {
        from_port(e, format!("how the memory of domain {} can be saved cannot be told", domain.name))
    })?;
    let facts = MemoryFacts { domain: &domain.name, was, survey: &survey, file: file.as_deref(), id };
    let save = plan::memory(&facts, plan, request)?;
    let is_chosen = request.way.is_none() && was.runs() && save.to != SaveTo::Inside;
    Ok((save, survey.mendable.filter(|_| is_chosen)))
}

/// A file that is there has an owner: after a crash we would take it for the overlay that we meant to make. And a place may lose
/// what the base keeps.
async fn refuse_overlays(ports: &Ports<'_>, domain: &DomainRef, plan: &CreatePlan) -> Result<(), Error> {
    for disk in &plan.disks {
        let SnapshotAction::External(overlay) = &disk.action else { continue };
        let about = format!("disk {} of domain {}: the overlay {}", disk.disk, domain.name, overlay.file);
        let refused = |why: &str| Error::new(Kind::Refused, Effect::None, format!("{about} {why}"));
        let overlays = ports.overlays.need(&format!("{about} cannot be made"))?;
        let there = overlays.exists(&overlay.file).await;
        if there.map_err(|e| from_port(e, format!("{about} cannot be looked for")))? {
            return Err(refused("is there already")
                .with_advice("name another file for the overlay, or another snapshot"));
        }
        let place = overlays.place(&overlay.base, &overlay.file).await;
        let place = place.map_err(|e| from_port(e, format!("{about}: its place cannot be looked at")))?;
        if let Some(why) = place.why() {
            return Err(refused(&format!("cannot be there: {why}")).with_advice(format!(
                "name another file: --external {}=FILE, or set overlays = \"DIRECTORY\" for it in the domain's file",
                overlay.disk
            )));
        }
    }
    Ok(())
}

/// The depth of a chain beyond which a snapshot that makes it deeper is made with a warning, and that beyond which none is made.
/// QEMU 10.0 opens a chain of 100 layers in some 60 ms, and ends by a signal at 900.
const DEEP: usize = 30;
const TOO_DEEP: usize = 100;

/// What the ledger is to say of the layers of the new overlays, and the steps on records that follow names; the plan is refused where a
/// chain would be too deep.
fn new_layers(
    domain: &DomainRef,
    facts: &LayerFacts,
    plan: &mut CreatePlan,
) -> Result<(Vec<LayerNote>, Vec<Stage>), Error> {
    let overlays: Vec<Overlay> = plan.overlays().cloned().collect();
    if overlays.is_empty() || facts.tree.nodes().is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let (mut notes, mut followed) = (Vec::new(), Vec::new());
    let mut after = facts.clone();
    for overlay in &overlays {
        let depth = facts.tree.chain(&overlay.base).len() + 1;
        let about = format!("disk {} of domain {}", overlay.disk, domain.name);
        if depth > TOO_DEEP {
            let message =
                format!("{about}: its chain would be {depth} layers deep, and {TOO_DEEP} are the most");
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_advice("delete snapshots of the domain first: their layers are merged"));
        }
        if depth > DEEP {
            plan.warnings.push(format!(
                "{about}: its chain is {depth} layers deep then; a start of the domain opens each of them"
            ));
        }
        after.tree.add_overlay(overlay);
        match plan.names_of(&overlay.disk) {
            None => {
                notes.push(LayerNote::made(&overlay.disk, &overlay.file, &overlay.format, &overlay.base));
                notes.extend(facts.below(overlay));
            }
            Some(names) => {
                followed.extend(after.follow_names(domain.uuid, names));
                notes.push(LayerNote::made(&overlay.disk, names.kept(), &overlay.format, &overlay.file));
                notes.extend(after.moved(names, true));
                notes.extend(facts.below(overlay).into_iter().filter(|note| note.file.file != names.kept()));
            }
        }
    }
    Ok((notes, followed))
}

/// The layers when the plan is carried out.
fn supposed(
    domain: &DomainRef,
    mut layers: LayerFacts,
    plan: &CreatePlan,
    mut inventory: Inventory,
) -> LayerFacts {
    for overlay in plan.overlays() {
        let names = plan.names_of(&overlay.disk);
        layers.suppose(domain.uuid, &plan.name, (overlay, names), &mut inventory);
    }
    layers
}

/// What can be done with the names of the disks' images.
async fn naming(
    ports: &Ports<'_>,
    (guest, restart): (GuestState, Can),
    inventory: &Inventory,
) -> Result<NameFacts, Error> {
    let mut movable = BTreeMap::new();
    if let Some(names) = ports.names.get() {
        for disk in inventory.disks.iter().filter(|disk| !disk.read_only && !disk.image.is_empty()) {
            let can = names.movable(&disk.image).await;
            let can = can.map_err(|e| {
                from_port(e, format!("it cannot be told whether {} can be renamed", disk.image))
            })?;
            movable.insert(disk.name.clone(), can);
        }
    }
    Ok(NameFacts { port: ports.names.can(), restart, guest, pause: ports.pause.can(), movable })
}

/// The same, where a snapshot's parts are in layers; else nothing matters.
pub(crate) async fn naming_with(
    ports: &Ports<'_>,
    layers: &LayerFacts,
    (guest, restart): (GuestState, Can),
    inventory: &Inventory,
) -> Result<NameFacts, Error> {
    match layers.tree.nodes() {
        [] => Ok(NameFacts::unasked(guest)),
        _ => naming(ports, (guest, restart), inventory).await,
    }
}

/// What a draft is made of.
struct Drafting<'a> {
    plan: &'a CreatePlan,
    inventory: &'a Inventory,
    guest: GuestState,
    request: &'a CreateRequest,
    id: Uuid,
    now: u64,
}

impl Drafting<'_> {
    fn draft(&self, parent: Option<SnapshotName>) -> Draft {
        let Self { plan, inventory, guest, request, id, now } = self;
        let disks = plan.disks.iter().map(|plan| {
            let disk = inventory.disk(&plan.disk).expect("the plan is of this inventory");
            let names = self.plan.names_of(&plan.disk);
            DiskMeta {
                disk: disk.name.clone(),
                // Under the names that the files have when the record is stored.
                image: names.map_or(&disk.image, |names| &names.new.file).clone(),
                format: disk.format.clone(),
                id: None,
                virtual_size: disk.virtual_size,
                made: match &plan.action {
                    SnapshotAction::External(overlay) => {
                        Some(names.map_or(overlay.file.as_str(), NameSwap::kept).to_owned())
                    }
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
            creation_time: *now,
            state: match guest {
                GuestState::On(flags) => *flags,
                GuestState::Off | GuestState::Serving => StateFlags::default(),
            },
            actions: plan.disks.iter().map(|plan| plan.action.clone()).collect(),
            memory: plan.memory.clone(),
            quiesced: plan.quiesce,
            meta: Meta {
                operation: Some(*id),
                parent,
                disks: disks.collect(),
                passed_over: plan.passed_over.clone(),
                hypervisor: inventory.hypervisor.clone(),
                labels: request.labels.clone(),
                expires: request.expires,
                ..Meta::new(consistency)
            },
        }
    }
}
