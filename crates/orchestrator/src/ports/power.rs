//! Ending a domain's process and starting it, and making it let go of its disks.

use async_trait::async_trait;
use xlsnap_types::model::{Hypervisor, MemoryMeta};

use super::{Progress, Run};
use crate::{Can, PortError};

/// What can be done with a domain's process now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Whether the domain can be started from its disks, and a process that it has can be ended for that. Everything that the
    /// start needs was looked for: each file, device and socket.
    pub restart: Can,
    /// Whether it can be started from a memory file.
    pub restore: Can,
    /// Whether its process can let go of its disks while it lives.
    pub release: Can,
    /// Whether its guest can be reset in the process that it has ([`super::Pause::reset`]).
    pub reset: Can,
    /// Whether memory that is inside its images can be loaded.
    pub load: Can,
    /// What would run the domain after a start, as far as it is known.
    pub hypervisor: Hypervisor,
}

/// The domain's process.
///
/// # Cancel safety
/// A future that is dropped leaves the act done, not done or under way. Each may be called again.
#[async_trait]
pub trait Power: Send + Sync {
    /// What can be done now.
    async fn abilities(&self) -> Result<Abilities, PortError>;

    /// Ends the process at once, without asking the guest, and waits until no process has the disks. A domain that is off stays
    /// off.
    async fn end(&self) -> Result<(), PortError>;

    /// Starts the domain from its disks. On an error with [`crate::Effect::None`] the domain is off.
    async fn start(&self, run: Run) -> Result<(), PortError>;

    /// Starts the domain with the memory of a file; its guest goes on where it was. On an error with
    /// [`crate::Effect::None`] the domain is off.
    async fn restore(&self, memory: &MemoryMeta, run: Run, progress: &dyn Progress) -> Result<(), PortError>;
}

/// Making a process let go of its disks while it lives, so that the images can be written from outside.
///
/// # Cancel safety
/// As [`Power`].
#[async_trait]
pub trait Release: Send + Sync {
    /// Makes the process of a guest that stands still let go of all its disks. Again is no error. On an error with
    /// [`crate::Effect::None`] the process has all its disks.
    async fn release(&self) -> Result<(), PortError>;

    /// Gives the process its disks back; its guest stands still. A process that has them is no error. On an error with
    /// [`crate::Effect::None`] it may be called again.
    async fn take_back(&self) -> Result<(), PortError>;
}
