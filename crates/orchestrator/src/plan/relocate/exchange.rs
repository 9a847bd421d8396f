//! Files that exchanged their names, or took the one that another had before: then a name means two files.

use xlsnap_types::model::LayerRecord;

use super::sameness::is_same;
use super::{Moved, RelocateFacts, beside, plain};
use crate::plan::refused;
use crate::{Error, Layer};

impl Moved {
    /// Whether one file had this name, and another has it now.
    pub(super) fn is_exchanged(&self, name: &str) -> bool {
        let name = plain(name);
        self.0.keys().any(|before| plain(before) == name) && self.0.values().any(|now| plain(now) == name)
    }
}

impl RelocateFacts<'_> {
    /// The file that a layer stands on whose header names two files: as the ledger says. `None` where that does not tell.
    pub(super) fn base_of_two(&self, layer: &Layer) -> Option<&str> {
        let seen = layer.base.file()?;
        let before = self.moved.before(&layer.file).unwrap_or(&layer.file);
        let recorded = self.entry(before)?.base.as_deref()?;
        let now = self.moved.now(recorded);
        let there = beside(before, &layer.file, seen);
        let is_recorded = |file: &str| plain(file) == plain(recorded);
        // A relative name is seen from another directory; and a user may have changed the header already.
        let is_it =
            is_recorded(seen) || there.as_deref().is_some_and(is_recorded) || plain(seen) == plain(now);
        is_it.then_some(now)
    }

    /// Refuses where nothing tells which of two files a layer stands on.
    pub(super) fn refuse_unclear(&self) -> Result<(), Error> {
        for (file, (disk, layer)) in self.found {
            let Some(seen) = layer.base.file().filter(|seen| self.moved.is_exchanged(seen)) else { continue };
            if self.base_of_two(layer).is_none() {
                let message = format!(
                    "which of the files that exchanged their names {file} (disk {disk} of domain {}) stands on is not known: its header names {seen}, and the ledger says nothing of it",
                    self.domain.name
                );
                return Err(refused(message).with_advice(NAMES_OF_THEIR_OWN));
            }
        }
        Ok(())
    }

    /// Whether a file is `from` and no other that was moved: by its inode, or by length and time of the last write.
    pub(super) fn is_proved(&self, from: &str, layer: &Layer) -> bool {
        let Some(entry) = self.entry(from) else { return false };
        let alone = |is_it: &dyn Fn(&LayerRecord) -> bool| {
            let mut others = self.ledger.iter().filter(|other| self.moved.0.contains_key(&other.file));
            is_it(entry) && !others.any(|other| other.file != from && is_it(other))
        };
        // Files of two file systems may have one inode.
        alone(&|entry| is_same(entry, layer))
            || layer.stamp.is_some() && alone(&|entry| entry.stamp == layer.stamp)
    }
}

/// What is to be done where nothing proves which file is which.
pub(super) const NAMES_OF_THEIR_OWN: &str =
    "give each of these files a name that none of them had, and name these";
