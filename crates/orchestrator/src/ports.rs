//! The ports: what the orchestrator needs of a backend, in words of the domain. Each is small; what a backend lacks is a value
//! ([`Port::Lacks`], [`Can::No`]) that planning refuses by.

mod agent;
mod claims;
mod commands;
mod disks;
mod guest;
mod health;
mod layers;
mod memory;
mod names;
mod overlays;
mod power;

pub use agent::Agent;
pub use claims::{Claimed, Claims, Doubt};
pub use commands::{Command, Commands};
pub use disks::{
    Bitmap, Disk, Disks, FileIdentity, ImageSnapshot, Inventory, SnapshotAction, SnapshotId, Undescribed,
    UndescribedKind,
};
pub use guest::{Guest, GuestState, Pause, Run};
pub use health::{Health, ImageHealth};
pub use layers::{Below, CopyOut, Layer, LayerFile, LayerSnapshot, LayerStat, Layers, Merge, Stream};
pub use memory::{
    FoundMemory, InsideMemory, Memory, MemoryFiles, MemoryHeader, MemoryInside, MemorySave, MemorySign,
    MemorySurvey, SaveTo, SavedMemory, StoppedGuest, UnfinishedMemory,
};
pub use names::{NameSwap, Names};
pub use overlays::{Overlay, Overlays};
pub use power::{Abilities, Power, Release};

use std::time::Duration;

use async_trait::async_trait;
use xlsnap_conf_store::ConfStore;

use crate::Port;

/// The time.
pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01 UTC.
    fn epoch_seconds(&self) -> u64;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// What is told of an operation while it goes on.
pub trait Progress: Send + Sync {
    /// Step `number` of `total` begins: `what` is a clause for people.
    fn step(&self, number: usize, total: usize, what: &str);
    /// The step goes on: it has moved `done` bytes, of `total` where that is known.
    fn bytes(&self, done: u64, total: Option<u64>);
}

/// The wish that an operation ends early and everything is as it was.
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
    /// What is told of the operation.
    pub progress: &'a dyn Progress,
    /// The wish that it ends early.
    pub interrupt: Port<'a, dyn Interrupt>,
    /// The backend's own words for steps, for a dry run.
    pub commands: Port<'a, dyn Commands>,
    /// Overlays, for external snapshots.
    pub overlays: Port<'a, dyn Overlays>,
    /// The files of chains, for what becomes of external snapshots.
    pub layers: Port<'a, dyn Layers>,
    /// The names of image files.
    pub names: Port<'a, dyn Names>,
    /// What other domains say of the files.
    pub claims: Port<'a, dyn Claims>,
    /// Stopping the guest and letting it run.
    pub pause: Port<'a, dyn Pause>,
    /// Saving the guest's memory to a file.
    pub memory: Port<'a, dyn Memory>,
    /// Saving the guest's memory inside the images, and loading it.
    pub inside: Port<'a, dyn InsideMemory>,
    /// The files that memory is saved in.
    pub memory_files: Port<'a, dyn MemoryFiles>,
    /// Ending the domain's process and starting it.
    pub power: Port<'a, dyn Power>,
    /// Making a process that lives let go of its disks.
    pub release: Port<'a, dyn Release>,
    /// The agent inside the guest.
    pub agent: Port<'a, dyn Agent>,
    /// The tool that checks images.
    pub health: Port<'a, dyn Health>,
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
            interrupt: Port::Lacks("this operation cannot be interrupted"),
            commands: Port::Lacks("the backend does not tell its commands"),
            overlays: Port::Lacks("the backend makes no overlays"),
            layers: Port::Lacks("the backend does not look below an image"),
            names: Port::Lacks("the backend does not rename image files"),
            claims: Port::Lacks("no other domains are known"),
            pause: Port::Lacks("the backend cannot stop the guest"),
            memory: Port::Lacks("the backend cannot save a guest's memory to a file"),
            inside: Port::Lacks("the backend keeps no memory inside images"),
            memory_files: Port::Lacks("the backend has no memory files"),
            power: Port::Lacks("the backend cannot end or start the domain's process"),
            release: Port::Lacks("the backend cannot make a process let go of its disks"),
            agent: Port::Lacks("the domain has no guest agent that is known"),
            health: Port::Lacks("the backend cannot check images"),
        }
    }
}
