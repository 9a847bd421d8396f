//! Somebody inside the guest.

use std::time::Duration;

use async_trait::async_trait;

use crate::PortError;

/// Somebody inside the guest who can make its file systems hold still.
///
/// # Cancel safety
/// A future that is dropped leaves it unknown whether they hold still: thaw.
#[async_trait]
pub trait Agent: Send + Sync {
    /// Makes the file systems hold still, within `bound`; how many did. On an error with an unknown effect the caller thaws.
    async fn freeze(&self, bound: Duration) -> Result<u32, PortError>;
    /// Lets them go on. Again is no error.
    async fn thaw(&self, bound: Duration) -> Result<u32, PortError>;
}
