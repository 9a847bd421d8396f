//! Whether a snapshot can be reverted to and deleted: what a creation promises, and what `show` says.

use serde::Serialize;
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, MemoryMeta, MemoryWay};

use crate::operation::abilities;
use crate::record::cannot_go_back;
use crate::{Abilities, DomainRef, GuestState, Inventory, Ports};

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

/// What can be done with a snapshot once it is there. A creation says it, and it can be derived from the record later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reversibility {
    /// Going back to it.
    pub revert: Undo,
    /// Deleting it with its data.
    pub delete: Undo,
}

/// What is known of the domain beyond its disks.
#[derive(Debug)]
pub struct Now {
    guest: GuestState,
    abilities: Abilities,
}

impl Now {
    /// Asks what can be done with the domain's process; `None` when the backend cannot tell.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn look(ports: &Ports<'_>, domain: &DomainRef, guest: GuestState) -> Option<Self> {
        Some(Self { guest, abilities: abilities(ports, domain).await.ok()? })
    }
}

impl Reversibility {
    /// Derives it from a record alone: what its parts allow, wherever its images are.
    pub fn of(record: &Record) -> Self {
        let external: Vec<&str> = record
            .snapshot
            .disks
            .iter()
            .filter(|disk| disk.is_external())
            .map(|disk| disk.device.as_deref().unwrap_or("(unnamed)"))
            .collect();
        let ours = record.meta.as_ref().and_then(|meta| meta.memory.as_ref());
        let why = if !external.is_empty() {
            format!(
                "its part of {} is external: the image below the overlay holds the state",
                external.join(", ")
            )
        } else if record.snapshot.has_memory() && ours.is_none() {
            "it holds the guest's memory in a file that another program made".to_owned()
        } else {
            return Self {
                revert: Undo::Possible { how: how(ours).to_owned() },
                delete: Undo::Possible {
                    how: "delete removes its data, while the domain runs or is off".to_owned(),
                },
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
        }
    }

    /// The same, compared with the disks and the process as they are now, by what a revert itself looks at.
    pub fn of_now(record: &Record, inventory: &Inventory, now: &Now) -> Self {
        let mut promise = Self::of(record);
        if !promise.revert.is_possible() {
            return promise;
        }
        let impossible = |(why, instead): (String, String)| Undo::Impossible { why, instead };
        for disk in &record.snapshot.disks {
            let name = disk.device.as_deref().and_then(|device| DiskName::new(device).ok());
            let found = name.and_then(|name| inventory.disk(&name));
            if let Some(found) = found
                && let Some((why, instead)) = cannot_go_back(found, false)
            {
                promise.revert =
                    impossible((format!("disk {} ({}): {why}", found.name, found.image), instead));
                return promise;
            }
        }
        let memory = record.meta.as_ref().and_then(|meta| meta.memory.as_ref());
        let without = "revert --without-memory brings the disks back alone".to_owned();
        let Abilities { restart, restore, release, load, .. } = &now.abilities;
        let why_not = match memory.map(|memory| memory.way) {
            Some(MemoryWay::Internal) => load.why().map(|why| (why, without)),
            Some(MemoryWay::Toolstack) => restore.why().map(|why| (why, without)),
            Some(_) => restart.why().or(restore.why()).map(|why| (why, without)),
            None if now.guest.is_on() && !release.is_yes() => {
                restart.why().map(|why| (why, "shut the domain down first, then revert".to_owned()))
            }
            None => None,
        };
        if let Some((why, instead)) = why_not {
            let what = if memory.is_some() {
                "the guest's memory cannot be restored"
            } else {
                "not while the domain runs"
            };
            promise.revert = impossible((format!("{what}: {why}"), instead));
        }
        promise
    }
}

/// How a snapshot whose parts are all ours is reverted to.
fn how(memory: Option<&MemoryMeta>) -> &'static str {
    match memory.map(|memory| memory.way) {
        None => "a domain that is off stays off; the guest of one that runs is reset",
        Some(MemoryWay::Internal) => "disks and memory are loaded from inside the images",
        Some(_) => "the domain's process is ended if it has one, and the guest goes on where it was",
    }
}
