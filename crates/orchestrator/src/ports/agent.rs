//! The agent inside the guest.

use std::time::Duration;

use async_trait::async_trait;

use crate::PortError;

/// An agent inside the guest that freezes its file systems.
///
/// # Cancel safety
/// A future that is dropped leaves it unknown whether the file systems are frozen: thaw.
#[async_trait]
pub trait Agent: Send + Sync {
    /// Freezes the file systems, within `bound`; how many were frozen. On an error with an unknown effect the caller thaws.
    async fn freeze(&self, bound: Duration) -> Result<u32, PortError>;
    /// Thaws them. Again is no error.
    async fn thaw(&self, bound: Duration) -> Result<u32, PortError>;
}
