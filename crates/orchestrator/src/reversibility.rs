//! Whether a snapshot can be reverted to and deleted: what a creation promises, and what `show` says.

use futures_util::future::try_join3;
use serde::Serialize;
use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_types::model::{MemoryMeta, MemoryWay, SnapshotName};

use crate::error::from_port;
use crate::operation::{abilities, guest, inventory, layers_of_record, naming_with};
use crate::plan::{self, LayerFacts, Marks, RevertFacts, relocating};
use crate::session::chain;
use crate::{Abilities, Can, DomainRef, Error, GuestState, Inventory, Kind, Ports, RevertRequest, RevertWay};

/// Whether something can be done with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Undo {
    /// It can.
    Possible {
        /// By what: a clause for people.
        how: String,
    },
    /// It can't.
    Impossible {
        /// Why: a clause that names the disks.
        why: String,
        /// What can be done instead.
        instead: String,
    },
}

impl Undo {
    /// Whether it can.
    pub fn is_possible(&self) -> bool {
        matches!(self, Self::Possible { .. })
    }
}

/// What can be done with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reversibility {
    /// Going back to it.
    pub revert: Undo,
    /// Deleting it with its data.
    pub delete: Undo,
    /// What it is told by.
    pub basis: Basis,
}

/// What it is told by whether a snapshot can be reverted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The domain was looked at: its disks, its process and the snapshot are what a revert would find.
    Now,
    /// The record alone: whether the disks and the process allow it is not known.
    Record {
        /// Why the domain was not looked at, as a clause.
        why: String,
    },
}

/// What is known of the domain beyond its disks.
#[derive(Debug)]
pub(crate) struct Now {
    guest: GuestState,
    abilities: Abilities,
    pause: Can,
}

impl Now {
    pub(crate) fn new(ports: &Ports<'_>, guest: GuestState, abilities: Abilities) -> Self {
        Self { guest, abilities, pause: ports.pause.can() }
    }
}

impl Reversibility {
    /// Derives it from a record alone: what its parts allow, wherever its images are. `why` is why the domain was not looked at, as
    /// a clause.
    pub fn of(record: &Record, why: impl Into<String>) -> Self {
        let basis = Basis::Record { why: why.into() };
        let metas = || record.meta.iter().flat_map(|meta| &meta.disks);
        let is_known = |device: Option<&str>| metas().any(|meta| Some(meta.disk.as_str()) == device);
        let external = || record.snapshot.disks.iter().filter(|disk| disk.is_external());
        let of_others: Vec<&str> = external()
            .filter(|disk| !is_known(disk.device.as_deref()))
            .map(|disk| disk.device.as_deref().unwrap_or("(unnamed)"))
            .collect();
        let ours = record.meta.as_ref().and_then(|meta| meta.memory.as_ref());
        let why = if !of_others.is_empty() {
            format!(
                "its part of {} is external, and another program made it: the record does not say which image holds the state",
                of_others.join(", ")
            )
        } else if record.snapshot.has_memory() && ours.is_none() {
            "it holds the guest's memory in a file that another program made".to_owned()
        } else {
            return Self {
                revert: Undo::Possible { how: how(ours).to_owned() },
                delete: Undo::Possible {
                    how: if external().next().is_some() {
                        "delete removes its data; files that no snapshot needs any more are merged".to_owned()
                    } else {
                        "delete removes its data, while the domain runs or is off".to_owned()
                    },
                },
                basis,
            };
        };
        Self {
            revert: Undo::Impossible {
                why: why.clone(),
                instead: "shut the domain down and start it from copies of the images that hold the state"
                    .to_owned(),
            },
            delete: Undo::Impossible {
                why,
                instead: "delete only the record (delete --metadata-only): every image and file stays"
                    .to_owned(),
            },
            basis,
        }
    }

    /// Looks at the domain, and tells it by what a revert itself looks at and refuses by. The contents of a memory file are not read.
    ///
    /// # Errors
    /// When the domain cannot be looked at now: [`Reversibility::of`] tells it by the record.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn look(ports: &Ports<'_>, domain: &DomainRef, record: &Record) -> Result<Self, Error> {
        let (guest, inventory, abilities) =
            try_join3(guest(ports, domain), inventory(ports, domain), abilities(ports, domain)).await?;
        let now = Now::new(ports, guest, abilities);
        Self::of_now(ports, domain, record, (&inventory, None), &now).await
    }

    /// The same, of what was looked at; the layers are looked at where they are not given.
    pub(crate) async fn of_now(
        ports: &Ports<'_>,
        domain: &DomainRef,
        record: &Record,
        (inventory, layers): (&Inventory, Option<LayerFacts>),
        now: &Now,
    ) -> Result<Self, Error> {
        let mut promise = Self { basis: Basis::Now, ..Self::of(record, "") };
        let name = record.snapshot.name.as_deref().and_then(|name| SnapshotName::new(name).ok());
        // What the record forbids stays forbidden, whatever the domain is.
        let Some(name) = name.filter(|_| promise.revert.is_possible()) else { return Ok(promise) };
        let layers = match layers {
            Some(known) => known,
            None => layers_of_record(ports, domain, inventory, record).await?,
        };
        let known = (now.guest, now.abilities.restart.clone());
        let facts = RevertFacts {
            naming: &naming_with(ports, &layers, known, inventory).await?,
            layers,
            domain,
            guest: now.guest,
            inventory,
            record,
            abilities: &now.abilities,
            pause: now.pause.clone(),
            current: None,
            safety: None,
            marks: Marks::Made,
            id: Uuid::nil(),
        };
        match plan::revert(&facts, &RevertRequest::new(name)) {
            Ok(plan) => {
                if let RevertWay::Restore { memory, .. } = &plan.way
                    && let Some(lost) = lost(ports, domain, memory).await?
                {
                    promise.revert = lost;
                }
            }
            Err(error) => promise.refuse(&error),
        }
        Ok(promise)
    }

    /// Derives it from a record alone, since a look at the domain failed.
    pub fn without_look(record: &Record, error: &Error) -> Self {
        Self::of(record, chain(error))
    }

    /// A revert would be refused with this error.
    pub fn refuse(&mut self, error: &Error) {
        let instead = match (error.advice(), error.kind()) {
            (Some(advice), _) => advice.to_owned(),
            (None, Kind::Busy) => "do it again".to_owned(),
            (None, _) => "see what check says".to_owned(),
        };
        self.revert = Undo::Impossible { why: chain(error), instead };
    }
}

/// Why a memory file cannot be restored, as far as its size tells.
async fn lost(ports: &Ports<'_>, domain: &DomainRef, memory: &MemoryMeta) -> Result<Option<Undo>, Error> {
    let file = memory.file().unwrap_or_default();
    let subject = format!("the memory file {file} of domain {} cannot be looked at", domain.name);
    let size = ports.memory_files.need(&subject)?.size(file).await.map_err(|e| from_port(e, subject))?;
    let alone = "revert --without-memory brings the disks back alone";
    let (why, instead) = match size {
        Some(size) if size == memory.bytes => return Ok(None),
        Some(size) => {
            (format!("its memory file {file} has {size} bytes, and had {}", memory.bytes), alone.to_owned())
        }
        None => (
            format!("its memory file {file} is gone"),
            format!("if it was moved or renamed: {}; else {alone}", relocating(domain, file)),
        ),
    };
    Ok(Some(Undo::Impossible { why, instead }))
}

/// How a snapshot whose parts are all ours is reverted to.
fn how(memory: Option<&MemoryMeta>) -> &'static str {
    match memory.map(|memory| memory.way()) {
        None => "a domain that is off stays off; the guest of one that runs is reset",
        Some(MemoryWay::Internal) => "disks and memory are loaded from inside the images",
        Some(_) => "the domain's process is ended if it has one, and the guest goes on where it was",
    }
}
