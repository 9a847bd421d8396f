//! Memory files that were moved: what is known of them, and what follows.

use std::collections::BTreeMap;

use xlsnap_conf_store::Record;
use xlsnap_types::model::{MemoryMeta, SnapshotName};

use super::exchange::NAMES_OF_THEIR_OWN;
use super::{RelocateFacts, plain};
use crate::plan::create::token_start;
use crate::plan::refused;
use crate::step::Does;
use crate::{Error, MemorySign};

/// A memory file that a record names.
#[derive(Debug, Clone)]
pub(crate) struct NamedMemory<'r> {
    pub(crate) snapshot: &'r SnapshotName,
    pub(crate) memory: &'r MemoryMeta,
    pub(crate) file: &'r str,
    /// How the token of its save begins.
    pub(crate) token: Option<String>,
}

/// The memory files that both parts of a record name. Of another program's we know nothing that would tell one from another.
pub(crate) fn memories(records: &BTreeMap<SnapshotName, Record>) -> Vec<NamedMemory<'_>> {
    let named = records.iter().filter_map(|(snapshot, record)| {
        let meta = record.meta.as_ref()?;
        let memory = meta.memory.as_ref()?;
        let file = memory.file().filter(|file| record.snapshot.memory.as_deref() == Some(*file))?;
        Some(NamedMemory { snapshot, memory, file, token: meta.operation.map(token_start) })
    });
    named.collect()
}

/// A memory file that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MovedMemory {
    pub(crate) snapshot: SnapshotName,
    pub(crate) from: String,
    pub(crate) to: String,
    /// What tells that it is the one.
    pub(crate) sign: MemorySign,
}

impl RelocateFacts<'_> {
    /// What changes in the records for memory files, and a sentence for each of which little tells that it is the one.
    pub(super) fn memory(&self) -> Result<(Vec<Does>, Vec<String>), Error> {
        let (mut changes, mut warnings) = (Vec::new(), Vec::new());
        for MovedMemory { snapshot, from, to, sign } in self.memory {
            self.refuse_taken(snapshot, to)?;
            let was_another = self.memory.iter().any(|moved| plain(&moved.from) == plain(to));
            if *sign == MemorySign::Size && was_another {
                let message = format!(
                    "{to} was the name of another file, and nothing proves that {from} (the memory of snapshot {snapshot} of domain {}) has it now: no checksum of it was recorded",
                    self.domain.name
                );
                return Err(refused(message).with_advice(NAMES_OF_THEIR_OWN));
            }
            if *sign == MemorySign::Size {
                warnings.push(format!(
                    "that {to} is the memory file of snapshot {snapshot} is told by its size and its beginning alone: no checksum of it was recorded"
                ));
            }
            changes.push(Does::SetMemory { snapshot: snapshot.clone(), from: from.clone(), to: to.clone() });
        }
        Ok((changes, warnings))
    }

    /// Refuses a file that another record names as its memory, and goes on naming so.
    fn refuse_taken(&self, snapshot: &SnapshotName, to: &str) -> Result<(), Error> {
        let now = |named: &NamedMemory<'_>| {
            let moved = self.memory.iter().find(|moved| moved.snapshot == *named.snapshot);
            moved.map_or_else(|| named.file.to_owned(), |moved| moved.to.clone())
        };
        let all = memories(self.records);
        let Some(other) =
            all.iter().find(|named| named.snapshot != snapshot && plain(&now(named)) == plain(to))
        else {
            return Ok(());
        };
        let message = format!(
            "{to} cannot be the memory file of snapshot {snapshot} of domain {}: it is that of snapshot {}",
            self.domain.name, other.snapshot
        );
        Err(refused(message).with_advice("name the file of each"))
    }
}
