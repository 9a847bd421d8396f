//! Whether a snapshot can be reverted to and deleted, derived from its record alone.

use serde::Serialize;
use xlsnap_conf_store::Record;
use xlsnap_types::model::{MemoryMeta, MemoryWay};

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

/// What can be done with a snapshot once it is there. It is told at creation, and can be derived from the record later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reversibility {
    /// Going back to it.
    pub revert: Undo,
    /// Deleting it with its data.
    pub delete: Undo,
}

impl Reversibility {
    /// Derives it from a record.
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
                revert: Undo::Possible { how: revert(ours).to_owned() },
                delete: Undo::Possible { how: "delete, whether the domain runs or not".to_owned() },
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
                instead: "delete only the record (metadata only): every image and file stays".to_owned(),
            },
        }
    }
}

/// How a snapshot whose parts are all ours is reverted to.
fn revert(memory: Option<&MemoryMeta>) -> &'static str {
    match memory.map(|memory| memory.way) {
        None => "a domain that is off stays off; the guest of one that runs is reset",
        Some(MemoryWay::Internal) => "disks and memory are loaded from inside the images",
        Some(_) => "the domain is ended if it runs, and goes on where it was",
    }
}
