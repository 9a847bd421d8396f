//! The guest's memory: saved beside the disks, and the files that it is saved in.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use xlsnap_types::model::{Compression, DiskName, MemoryMeta, MemoryWay, SnapshotName};

use super::{Progress, SnapshotAction};
use crate::PortError;

/// What planning must know before a guest's memory is saved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemorySurvey {
    /// The ways that the backend has now, the one with the least pause first.
    pub ways: Vec<MemoryWay>,
    /// The ways that it does not have now, each with why, as a clause ("the host's kernel cannot track writes").
    pub lacking: Vec<(MemoryWay, String)>,
    /// How many bytes the memory takes at most, as far as it can be told; 0 if it can't.
    pub needed: u64,
    /// How many bytes are free where the file is to be; `None` where that can't be told.
    pub free: Option<u64>,
    /// Why no file can be made there, as a clause ("its directory /srv/x is not there").
    pub no_place: Option<String>,
    /// Whether something is at the file's name already.
    pub taken: bool,
}

/// A guest's memory that is to be saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySave {
    /// How.
    pub way: MemoryWay,
    /// The file, absolute; `None` for [`MemoryWay::Internal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How the file is packed.
    #[serde(default)]
    pub compression: Compression,
    /// Whether the guest ran before, and so is to run again, whatever happens.
    pub was_running: bool,
    /// A word that no other operation has, at most 24 ASCII letters and digits: a backend names its own things by it.
    pub token: String,
}

/// A memory file that is complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMemory {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its checksum, as [`MemoryMeta::checksum`].
    pub checksum: Option<String>,
}

/// Saving the memory of a guest that is on.
///
/// The calls come in the order `survey`, `begin`, the disks' snapshot, `resume`, `finish`; or `take_inside` alone. Where
/// one fails, or after a crash, `abandon` puts everything back.
///
/// # Cancel safety
/// The future of any method may be dropped; [`Memory::abandon`] then ends what it had begun.
#[async_trait]
pub trait Memory: Send + Sync {
    /// What can be done now, and what would be in the way of `file`. Changes nothing that stays.
    async fn survey(&self, file: Option<&str>) -> Result<MemorySurvey, PortError>;

    /// Brings the guest to a stop at the instant that the saved memory is of, having saved before what can be. On return the
    /// guest stands still, and the disks can be taken. On an error with [`crate::Effect::None`] all is as it was.
    async fn begin(&self, save: &MemorySave, progress: &dyn Progress) -> Result<(), PortError>;

    /// Lets a guest that ran before run on as soon as the way allows; how long it stood still. The file may have to be
    /// finished still.
    async fn resume(&self, save: &MemorySave, progress: &dyn Progress) -> Result<Duration, PortError>;

    /// Waits until the file is whole, makes it durable, and gives it its name. A file that is there is never overwritten:
    /// [`crate::PortErrorKind::AlreadyExists`].
    async fn finish(&self, save: &MemorySave, progress: &dyn Progress) -> Result<SavedMemory, PortError>;

    /// Takes internal snapshots of the actions' disks with the memory inside, all at one instant
    /// ([`MemoryWay::Internal`]); how long the guest stood still.
    async fn take_inside(
        &self,
        save: &MemorySave,
        actions: &[SnapshotAction],
        progress: &dyn Progress,
    ) -> Result<Duration, PortError>;

    /// Ends a save that has failed, was cancelled or was left by a crash: nothing of it goes on, its file is gone, and a
    /// guest that ran before runs. Again is no error, nor is a save that never began or a guest that is off by now. The disks
    /// are left as they are.
    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError>;
}

/// What a memory file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryHeader {
    /// The machine type that the state is of; `None` where the format does not tell.
    pub machine: Option<String>,
    /// The domain's name in it; `None` where the format does not tell.
    pub domain: Option<String>,
}

/// The files that memory is saved in; they are there whether the domain runs or not.
///
/// # Cancel safety
/// Looking may be dropped. A removal is then done or not.
#[async_trait]
pub trait MemoryFiles: Send + Sync {
    /// The default file for the memory of a snapshot of this name. Work on the name alone.
    fn place(&self, name: &SnapshotName) -> String;

    /// The size of a memory file in bytes; `None` when it is not there.
    async fn size(&self, file: &str) -> Result<Option<u64>, PortError>;

    /// Reads the whole file of `memory`, compares size and checksum, and gives what its beginning says.
    /// [`crate::PortErrorKind::Corrupt`] when it is not what was recorded.
    async fn verify(&self, memory: &MemoryMeta, progress: &dyn Progress) -> Result<MemoryHeader, PortError>;

    /// Removes a memory file. One that is gone is removed.
    async fn remove(&self, file: &str) -> Result<(), PortError>;
}

/// Memory inside the images of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsideMemory {
    /// The snapshots' name in the images.
    pub tag: String,
    /// The disk whose image holds the machine's state.
    pub state: DiskName,
    /// The disks that go back with it.
    pub disks: Vec<DiskName>,
}
