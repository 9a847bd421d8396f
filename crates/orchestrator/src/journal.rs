//! The journal: what an operation is about to do, durable before its first effect.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xlsnap_types::model::{DiskName, MemoryWay, Meta, SnapshotName, StateFlags};

use crate::{ImageTarget, MemorySave, Operation, RevertWay, SnapshotAction, SnapshotDeletion};

/// Why a journal cannot be used. Nothing is touched then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A later version of this program wrote it.
    #[error("the journal has format version {found}; this program knows versions up to {known}", known = Journal::VERSION)]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It is larger than any journal that this program writes.
    #[error("the journal has {bytes} bytes; at most {max} are read", max = Journal::MAX_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is no journal.
    #[error("the journal cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// It says what no journal of this program says.
    #[error("the journal contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// The journal entry of an operation: JSON with a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    id: Uuid,
    #[serde(flatten)]
    pub(crate) intent: Intent,
}

/// What an operation is about to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
pub(crate) enum Intent {
    Create {
        phase: CreatePhase,
        #[serde(flatten)]
        draft: Box<Draft>,
    },
    Delete {
        snapshots: Vec<SnapshotDeletion>,
    },
    Revert {
        name: SnapshotName,
        disks: Vec<ImageTarget>,
        #[serde(default)]
        way: RevertWay,
    },
}

/// How far a creation may have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CreatePhase {
    /// Overlay files are being made; no disk has been touched.
    Preparing,
    /// The snapshots may have been taken.
    Snapshotting,
    /// It failed, and is being undone. Without this phase, an undo that was cut short could look like a creation that
    /// succeeded: an overlay of a domain that is off wins.
    Undoing,
}

/// A snapshot that is being made: all of its record but what only the images know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Draft {
    pub(crate) name: SnapshotName,
    pub(crate) description: String,
    pub(crate) creation_time: u64,
    pub(crate) state: StateFlags,
    /// One for each disk of `meta`, in its order.
    pub(crate) actions: Vec<SnapshotAction>,
    /// The guest's memory, saved with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemorySave>,
    /// The guest's file systems may be frozen; how long its agent has for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quiesced: Option<Duration>,
    pub(crate) meta: Meta,
}

impl Journal {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;
    /// The most bytes that are read or written: thousands of disks.
    pub const MAX_BYTES: usize = 4 << 20;

    pub(crate) fn new(id: Uuid, intent: Intent) -> Self {
        Self { version: Self::VERSION, id, intent }
    }

    /// Reads an entry that a store kept.
    ///
    /// # Errors
    /// Everything that this version of the program would not have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, JournalError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        if bytes.len() > Self::MAX_BYTES {
            return Err(JournalError::TooLarge { bytes: bytes.len() });
        }
        let Header { version } = serde_json::from_slice(bytes).map_err(JournalError::Malformed)?;
        if version > Self::VERSION {
            return Err(JournalError::Newer { found: version });
        }
        let journal: Self = serde_json::from_slice(bytes).map_err(JournalError::Malformed)?;
        if version == 0 {
            return Err(JournalError::Contradiction("its version is 0"));
        }
        journal.check().map_err(JournalError::Contradiction)?;
        Ok(journal)
    }

    /// The entry as bytes for a store.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and maps with string keys serialise")
    }

    /// The operation that wrote it.
    pub fn operation(&self) -> Operation {
        match &self.intent {
            Intent::Create { .. } => Operation::Create,
            Intent::Delete { .. } => Operation::Delete,
            Intent::Revert { .. } => Operation::Revert,
        }
    }

    /// The operation's own id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The snapshot it is about; of several the one that was asked for.
    pub fn name(&self) -> &SnapshotName {
        match &self.intent {
            Intent::Create { draft, .. } => &draft.name,
            Intent::Delete { snapshots } => {
                &snapshots.last().expect("a deletion without a snapshot is not read").name
            }
            Intent::Revert { name, .. } => name,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        match &self.intent {
            Intent::Create { draft, .. } => draft.check(),
            Intent::Delete { snapshots } if snapshots.is_empty() => Err("it deletes no snapshot"),
            Intent::Delete { snapshots } => {
                snapshots.iter().try_for_each(|s| each_once(s.disks.iter().map(|target| &target.disk)))
            }
            Intent::Revert { disks, .. } if disks.is_empty() => Err("it reverts no disk"),
            Intent::Revert { disks, .. } => each_once(disks.iter().map(|target| &target.disk)),
        }
    }
}

impl Draft {
    /// What recovery relies on: above all, that every file it may remove is one that the record says we made.
    fn check(&self) -> Result<(), &'static str> {
        if self.actions.is_empty() || self.actions.len() != self.meta.disks.len() {
            return Err("it does not do one thing for each disk");
        }
        each_once(self.meta.disks.iter().map(|meta| &meta.disk))?;
        if let Some(save) = &self.memory {
            self.check_memory(save)?;
        }
        for (action, meta) in self.actions.iter().zip(&self.meta.disks) {
            if action.disk() != &meta.disk {
                return Err("its disks are in another order than what is done to them");
            }
            match action {
                SnapshotAction::Internal { tag, .. } if tag != self.name.as_str() => {
                    return Err("a disk's snapshot has another name");
                }
                SnapshotAction::Internal { .. } if meta.made.is_some() => {
                    return Err("an internal snapshot made a file");
                }
                SnapshotAction::External(overlay)
                    if meta.made.as_ref() != Some(&overlay.file)
                        || meta.image != overlay.base
                        || overlay.file == overlay.base
                        || !overlay.file.starts_with('/') =>
                {
                    return Err("an overlay is not the file that was to be made");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Draft {
    /// A file that may be removed is absolute, and no disk's.
    fn check_memory(&self, save: &MemorySave) -> Result<(), &'static str> {
        match &save.file {
            None if save.way != MemoryWay::Internal => {
                Err("memory is saved outside the images, and to no file")
            }
            Some(_) if save.way == MemoryWay::Internal => {
                Err("memory is saved inside the images, and to a file")
            }
            Some(file) if !file.starts_with('/') => Err("the memory's file is not absolute"),
            Some(file)
                if self
                    .meta
                    .disks
                    .iter()
                    .any(|meta| meta.image == *file || meta.made.as_ref() == Some(file)) =>
            {
                Err("the memory's file is a disk's")
            }
            _ if save.token.len() > 24 || !save.token.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                Err("the memory's token is not a word")
            }
            _ => Ok(()),
        }
    }
}

fn each_once<'a>(disks: impl Iterator<Item = &'a DiskName>) -> Result<(), &'static str> {
    let mut seen = BTreeSet::new();
    if disks.into_iter().all(|disk| seen.insert(disk)) { Ok(()) } else { Err("it names a disk twice") }
}
