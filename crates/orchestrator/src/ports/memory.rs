//! The guest's memory: saved beside the disks or inside them, and the files that it is saved in.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use xlsnap_types::model::{AbsoluteFile, Compression, DiskName, MemoryMeta, MemoryWay, SnapshotName};

use super::{Progress, Run, SnapshotAction};
use crate::{Can, PortError};

/// What planning must know before a guest's memory is saved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemorySurvey {
    /// The ways that the backend has now, the one with the least pause first.
    pub ways: Vec<MemoryWay>,
    /// The ways that it does not have now, each with why, as a clause ("the host's kernel cannot track writes").
    pub lacking: Vec<(MemoryWay, String)>,
    /// Why the way with the least pause is lacking where one line mends it, with that line, as a sentence.
    pub mendable: Option<String>,
    /// How many bytes the memory takes at most, as far as it can be told; 0 if it can't.
    pub needed: u64,
    /// How many bytes are free where the file is to be; `None` where that can't be told.
    pub free: Option<u64>,
    /// Whether a file can be made there.
    pub place: Can,
    /// Whether something is at the file's name already.
    pub taken: bool,
}

/// Where a guest's memory goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "to")]
pub enum SaveTo {
    /// Inside the disks' images.
    Inside,
    /// To a file.
    File {
        /// The file.
        file: AbsoluteFile,
        /// How; never [`MemoryWay::Internal`].
        way: MemoryWay,
        /// How the file is packed.
        #[serde(default)]
        compression: Compression,
    },
}

/// A guest's memory that is to be saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySave {
    /// Where it goes, and how.
    #[serde(flatten)]
    pub to: SaveTo,
    /// What the guest did before, and so does again, whatever happens.
    pub was: Run,
    /// A word that no other operation has, at most 24 ASCII letters and digits: a backend names its own things by it.
    pub token: String,
}

impl MemorySave {
    /// The file; `None` inside the images.
    pub fn file(&self) -> Option<&str> {
        match &self.to {
            SaveTo::Inside => None,
            SaveTo::File { file, .. } => Some(file.as_str()),
        }
    }

    /// How it is saved.
    pub fn way(&self) -> MemoryWay {
        match &self.to {
            SaveTo::Inside => MemoryWay::Internal,
            SaveTo::File { way, .. } => *way,
        }
    }

    /// How the file is packed.
    pub fn compression(&self) -> Compression {
        match &self.to {
            SaveTo::Inside => Compression::None,
            SaveTo::File { compression, .. } => *compression,
        }
    }
}

/// A memory file that is complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMemory {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its checksum, as [`xlsnap_types::model::SavedIn::File`] has it.
    pub checksum: Option<String>,
}

/// Saving the memory of a guest that is on to a file.
///
/// # Cancel safety
/// The future of any method may be dropped; [`Memory::abandon`] then ends what it had begun.
#[async_trait]
pub trait Memory: Send + Sync {
    /// What can be done now, and what would be in the way of `file`. Changes nothing that stays.
    async fn survey(&self, file: Option<&str>) -> Result<MemorySurvey, PortError>;

    /// Brings the guest to a stop at the instant that the saved memory is of, having saved before what can be. On return the
    /// guest stands still, and the disks can be taken. On an error with [`crate::Effect::None`] all is as it was.
    async fn begin<'a>(
        &'a self,
        save: &MemorySave,
        progress: &'a dyn Progress,
    ) -> Result<Box<dyn StoppedGuest<'a> + 'a>, PortError>;

    /// Ends a save that has failed, was cancelled or was left by a crash: nothing of it goes on, its file is gone, and a
    /// guest that ran before runs. Again is no error, nor is a save that never began or a guest that is off by now. The disks
    /// are left as they are.
    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError>;
}

/// A guest that stands still while its disks are taken.
///
/// # Cancel safety
/// As [`Memory`].
#[async_trait]
#[must_use = "dropping it leaves the guest stopped until the save is abandoned"]
pub trait StoppedGuest<'a>: Send {
    /// Lets a guest that ran before run on as soon as the way allows; how long it stood still. The file may have to be
    /// finished still.
    async fn run_on(self: Box<Self>) -> Result<(Duration, Box<dyn UnfinishedMemory + 'a>), PortError>;
}

/// A memory file that is being written.
///
/// # Cancel safety
/// As [`Memory`].
#[async_trait]
#[must_use = "dropping it leaves a part of the file until the save is abandoned"]
pub trait UnfinishedMemory: Send {
    /// Waits until the file is whole, makes it durable, and gives it its name. A file that is there is never overwritten:
    /// [`crate::PortErrorKind::AlreadyExists`].
    async fn finish(self: Box<Self>) -> Result<SavedMemory, PortError>;
}

/// Memory inside the images of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryInside {
    /// The snapshots' name in the images.
    pub tag: String,
    /// The disk whose image holds the machine's state.
    pub state: DiskName,
    /// The disks that go back with it.
    pub disks: Vec<DiskName>,
}

/// Saving a guest's memory inside the images, and loading it from there.
///
/// # Cancel safety
/// The future of any method may be dropped; [`InsideMemory::abandon_inside`] then ends what it had begun.
#[async_trait]
pub trait InsideMemory: Send + Sync {
    /// Takes internal snapshots of the actions' disks with the memory inside, all at one instant; how long the guest stood
    /// still.
    async fn take_inside(
        &self,
        save: &MemorySave,
        actions: &[SnapshotAction],
        progress: &dyn Progress,
    ) -> Result<Duration, PortError>;

    /// As [`Memory::abandon`], for [`SaveTo::Inside`].
    async fn abandon_inside(&self, save: &MemorySave) -> Result<(), PortError>;

    /// Brings memory and disks back from inside the images, without ending the process. On an error with
    /// [`crate::Effect::None`] the guest is as it was.
    async fn load(&self, inside: &MemoryInside, run: Run, progress: &dyn Progress) -> Result<(), PortError>;
}

/// What a memory file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryHeader {
    /// The machine type that the state is of; `None` where the format does not tell.
    pub machine: Option<String>,
    /// The domain's name in it; `None` where the format does not tell.
    pub domain: Option<String>,
}

/// A memory file that no record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMemory {
    /// What a record says of it.
    pub memory: MemoryMeta,
    /// What its beginning says.
    pub header: MemoryHeader,
    /// When it was written to last, in seconds since 1970-01-01 UTC.
    pub written: u64,
}

/// What tells that a memory file is the one that was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySign {
    /// The mark of the operation that made it: it was renamed, or copied with all that belongs to it.
    Mark,
    /// Its checksum: it was copied, without the mark.
    Checksum,
    /// Its size and its beginning alone: no checksum was recorded.
    Size,
}

/// The files that memory is saved in; they are there whether the domain runs or not.
///
/// # Cancel safety
/// Looking may be dropped. A removal is then done or not.
#[async_trait]
pub trait MemoryFiles: Send + Sync {
    /// The default file for the memory of a snapshot of this name. Work on the name alone.
    fn place(&self, name: &SnapshotName) -> String;

    /// The memory files in the place of the default files, whole or being written.
    async fn list(&self) -> Result<Vec<String>, PortError>;

    /// The size of a memory file in bytes; `None` when it is not there.
    async fn size(&self, file: &str) -> Result<Option<u64>, PortError>;

    /// Reads the whole file of `memory`, compares size and checksum, and gives what its beginning says.
    /// [`crate::PortErrorKind::Corrupt`] when it is not what was recorded.
    async fn verify(&self, memory: &MemoryMeta, progress: &dyn Progress) -> Result<MemoryHeader, PortError>;

    /// What tells that the file of `memory` is the one that was saved: a regular file of the recorded size that begins as its kind of
    /// memory file does (on Xen: one of this domain), with the mark of a save whose token begins with `token`; without that mark it is read as a whole.
    /// [`crate::PortErrorKind::Corrupt`] when it is another one.
    async fn recognize(
        &self,
        memory: &MemoryMeta,
        token: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<MemorySign, PortError>;

    /// Reads a whole memory file that xlsnap made and no record names. [`crate::PortErrorKind::NotFound`] when it is not there;
    /// [`crate::PortErrorKind::Corrupt`] when it is not whole, not of this domain, or another program's.
    async fn examine(&self, file: &str, progress: &dyn Progress) -> Result<FoundMemory, PortError>;

    /// Removes a memory file. One that is gone is removed.
    async fn remove(&self, file: &str) -> Result<(), PortError>;
}
