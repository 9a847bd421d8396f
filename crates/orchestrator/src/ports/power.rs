//! Ending a domain's process and starting it, and making it let go of its disks.

use async_trait::async_trait;
use xlsnap_types::model::{Hypervisor, MemoryMeta};

use super::{InsideMemory, Progress};
use crate::PortError;

/// What can be done with a domain's process now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Why it cannot be ended and started again, as a clause; `None` when it can.
    pub no_restart: Option<String>,
    /// Why it cannot be started from a memory file; `None` when it can.
    pub no_restore: Option<String>,
    /// Why it cannot let go of its disks while it lives, as a clause; `None` when it can.
    pub no_release: Option<String>,
    /// Why it cannot load memory that is inside its images; `None` when it can.
    pub no_load: Option<String>,
    /// What would run the domain after a start, as far as it is known.
    pub hypervisor: Hypervisor,
}

/// The domain's process, as far as a revert needs it.
///
/// # Cancel safety
/// A future that is dropped leaves the act done, not done or under way. Each may be called again.
#[async_trait]
pub trait Power: Send + Sync {
    /// What can be done now.
    async fn abilities(&self) -> Result<Abilities, PortError>;

    /// Ends it at once, without asking the guest, and waits until nobody has the disks. One that is off is ended.
    async fn destroy(&self) -> Result<(), PortError>;

    /// Starts the domain from its disks; its guest boots, or waits with `run` false.
    async fn start(&self, run: bool) -> Result<(), PortError>;

    /// Starts the domain with the memory of a file; its guest goes on where it was, or waits with `run` false. On an error
    /// the domain is off.
    async fn restore(&self, memory: &MemoryMeta, run: bool, progress: &dyn Progress)
    -> Result<(), PortError>;

    /// Brings memory and disks back from inside the images, without ending the process; one that is off is started for it.
    /// On an error with [`crate::Effect::None`] the guest goes on as it did.
    async fn load(&self, inside: &InsideMemory, run: bool, progress: &dyn Progress) -> Result<(), PortError>;

    /// Stops the guest and makes the process let go of all its disks, so that the images can be written from outside. Again
    /// is no error. On an error with [`crate::Effect::None`] the guest is as it was.
    async fn release(&self) -> Result<(), PortError>;

    /// Gives the process its disks back; with `reset` the guest is reset, because its memory does not fit its disks any
    /// more; with `run` it runs.
    async fn take_back(&self, reset: bool, run: bool) -> Result<(), PortError>;
}
