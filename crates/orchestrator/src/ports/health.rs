//! Whether images are whole.

use async_trait::async_trait;
use xlsnap_types::model::DiskName;

use crate::PortError;

/// What the tool of an image says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageHealth {
    /// Clusters that belong to nothing: lost space, and no lost data.
    pub leaks: u64,
    /// Faults in what the image says of itself.
    pub corruptions: u64,
}

/// The tool that checks the images of a domain's disks while no process has them open.
///
/// # Cancel safety
/// Looking may be dropped. Mending goes on to its end, and may be done again.
#[async_trait]
pub trait Health: Send + Sync {
    /// Checks the image of a disk; `None` when it cannot be told now, since a process has it open or its format has no such check.
    async fn examine(&self, disk: &DiskName) -> Result<Option<ImageHealth>, PortError>;

    /// Has the image mended. [`crate::PortErrorKind::Busy`] while a process has it open.
    async fn mend(&self, disk: &DiskName) -> Result<(), PortError>;
}
