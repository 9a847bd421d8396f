//! What other domains say of files.

use async_trait::async_trait;

use crate::PortError;

/// What other domains say of files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claimed {
    /// Those that another domain uses, and how, as a clause ("domain db stands on it").
    pub files: Vec<(String, String)>,
    /// Why another domain may use any of the others too.
    pub doubt: Option<Doubt>,
}

/// Something of another domain cannot be read, so that it may need any file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// A clause about a file: "domain db may need it, whose file cannot be read".
    pub why: String,
    /// What to do about it.
    pub advice: String,
}

/// Which files other domains use: as an image, or below one.
///
/// # Cancel safety
/// It only looks.
#[async_trait]
pub trait Claims: Send + Sync {
    /// What they say of these files.
    async fn of(&self, files: &[String]) -> Result<Claimed, PortError>;
}
