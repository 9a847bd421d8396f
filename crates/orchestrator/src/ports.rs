//! The ports: what the orchestrator needs of the world, in words of the domain.

mod agent;
mod memory;
mod power;

pub use agent::Agent;
pub use memory::{InsideMemory, Memory, MemoryFiles, MemoryHeader, MemorySave, MemorySurvey, SavedMemory};
pub use power::{Abilities, Power};

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use xlsnap_conf_store::ConfStore;
use xlsnap_types::model::{DiskName, Hypervisor, ImageFormat, StateFlags};

use crate::PortError;

/// A snapshot inside an image, as it is found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSnapshot {
    /// The image's id for it; reused after a delete.
    pub id: String,
    /// Its name; may be empty, or stand twice in a foreign image.
    pub name: String,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub date: u64,
    /// The bytes of machine state in it; 0 for a disk-only one.
    pub vm_state_size: u64,
}

/// Which snapshot inside an image is meant: both must match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    /// Its name.
    pub name: String,
    /// Its id in the image.
    pub id: String,
}

/// A disk of the domain, with what planning must know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What people call it.
    pub name: DiskName,
    /// The image that takes its writes now, as people know it.
    pub image: String,
    /// Its format.
    pub format: ImageFormat,
    /// The size that the guest sees, in bytes.
    pub virtual_size: u64,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Whether it is a CD-ROM, a floppy or an empty drive.
    pub removable: bool,
    /// Why the backend can take no internal snapshot of it now, as a clause ("its format is raw"); `None` when it can.
    pub no_internal: Option<String>,
    /// Why the backend can take no external snapshot of it now; `None` when it can.
    pub no_external: Option<String>,
    /// The snapshots inside its image.
    pub snapshots: Vec<ImageSnapshot>,
}

/// All disks of a domain at one moment, in the domain's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// The disks.
    pub disks: Vec<Disk>,
    /// What runs the domain.
    pub hypervisor: Hypervisor,
}

/// A new file that is to take a disk's writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Overlay {
    /// The disk.
    pub disk: DiskName,
    /// The file, absolute.
    pub file: String,
    /// Its format.
    pub format: ImageFormat,
    /// The image below it: the one that holds the snapshot's state from then on.
    pub base: String,
    /// The base's format.
    pub base_format: ImageFormat,
    /// The size that the guest sees, in bytes.
    pub virtual_size: u64,
    /// A word that no other operation has, at most 24 ASCII letters and digits: a backend names its own objects by it.
    pub token: String,
}

/// What is done to one disk, at one instant with all the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotAction {
    /// A snapshot of this name inside the disk's image.
    Internal {
        /// The disk.
        disk: DiskName,
        /// The snapshot's name.
        tag: String,
    },
    /// The overlay, made before, takes the disk's writes from now on.
    External(Overlay),
}

/// The domain's disks.
///
/// Each method looks or acts once and says truly what it knows of the effect; none retries, undoes or decides.
///
/// # Cancel safety
/// A future that looks may be dropped at any time. One that acts is dropped only with the operation that it is part of: the
/// act may then be done, not done, or still go on, and the next operation takes it for what a crash left, and looks.
#[async_trait]
pub trait Disks: Send + Sync {
    /// All disks as they are now.
    async fn inventory(&self) -> Result<Inventory, PortError>;

    /// Whether something is at `file`, whatever it is: planning refuses to make an overlay there.
    async fn exists(&self, file: &str) -> Result<bool, PortError>;

    /// Makes the overlay's file, empty. A file that is there is never overwritten: [`crate::PortErrorKind::AlreadyExists`].
    async fn make_overlay(&self, overlay: &Overlay) -> Result<(), PortError>;

    /// Removes an overlay that takes no disk's writes, and what the backend made for it. One that is gone is removed.
    async fn discard_overlay(&self, overlay: &Overlay) -> Result<(), PortError>;

    /// Takes the snapshots: at one instant where somebody writes, and then all or none.
    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError>;

    /// Makes the domain's description name `file` as the disk's image from its next start on. Again is no error.
    async fn adopt(&self, disk: &DiskName, file: &str, format: &ImageFormat) -> Result<(), PortError>;

    /// Deletes a snapshot inside the disk's image. [`crate::PortErrorKind::NotFound`] when it is not there.
    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError>;

    /// Makes the disk's content that of the snapshot, while nobody has the disk. Again gives the same.
    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError>;
}

/// Whether somebody runs the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestState {
    /// Nobody has its disks.
    Off,
    /// A storage daemon has its disks; there is no guest.
    Serving,
    /// It runs, with these flags.
    On(StateFlags),
}

/// The domain's guest.
///
/// # Cancel safety
/// It only looks, so its futures may be dropped at any time.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Its state now.
    async fn state(&self) -> Result<GuestState, PortError>;
}

/// The time.
pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01 UTC.
    fn epoch_seconds(&self) -> u64;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Somebody who watches.
pub trait Progress: Send + Sync {
    /// Step `number` of `total` begins: `what` is a clause for people.
    fn step(&self, number: usize, total: usize, what: &str);
    /// The step goes on: it has moved `done` bytes, of `total` where that is known.
    fn bytes(&self, done: u64, total: Option<u64>);
}

/// Somebody who may want a long operation to end early.
#[async_trait]
pub trait Interrupt: Send + Sync {
    /// Returns as soon as it is wanted, and at once when it was; never otherwise.
    ///
    /// # Cancel safety
    /// It may be dropped and asked again.
    async fn requested(&self);
}

/// All ports of one domain.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// The guest.
    pub guest: &'a dyn Guest,
    /// The disks.
    pub disks: &'a dyn Disks,
    /// Records and journal.
    pub store: &'a dyn ConfStore,
    /// The time.
    pub clock: &'a dyn Clock,
    /// The watcher.
    pub progress: &'a dyn Progress,
    /// Who may end it early; `None` when nobody may.
    pub interrupt: Option<&'a dyn Interrupt>,
    /// Saving the guest's memory; `None` when the backend has no such thing.
    pub memory: Option<&'a dyn Memory>,
    /// The files that memory is saved in; `None` when the backend has none.
    pub memory_files: Option<&'a dyn MemoryFiles>,
    /// The domain's process; `None` when the backend cannot do anything with it.
    pub power: Option<&'a dyn Power>,
    /// Somebody inside the guest; `None` when nobody is known.
    pub agent: Option<&'a dyn Agent>,
}

impl<'a> Ports<'a> {
    /// The ports that every backend has, without those that only some have.
    pub fn new(
        guest: &'a dyn Guest,
        disks: &'a dyn Disks,
        store: &'a dyn ConfStore,
        clock: &'a dyn Clock,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            guest,
            disks,
            store,
            clock,
            progress,
            interrupt: None,
            memory: None,
            memory_files: None,
            power: None,
            agent: None,
        }
    }
}
