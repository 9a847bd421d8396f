//! What other domains say of files.

use async_trait::async_trait;

use crate::PortError;

/// Which files other domains use: as an image, or below one.
///
/// # Cancel safety
/// It only looks.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Of these files, those that another domain uses, and how, as a clause ("domain db stands on it").
    async fn of(&self, files: &[String]) -> Result<Vec<(String, String)>, PortError>;
}
