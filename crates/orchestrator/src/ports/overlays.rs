//! The files of external snapshots.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::{Can, ImageFile, PortError};

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

/// Making overlays, and naming them in the domain's description.
///
/// # Cancel safety
/// As [`crate::Disks`].
#[async_trait]
pub trait Overlays: Send + Sync {
    /// Whether something is at `file`, whatever it is: planning refuses to make an overlay there.
    async fn exists(&self, file: &str) -> Result<bool, PortError>;

    /// The overlays in the directories of these files that stand on one of them by their headers, each with that one; these
    /// files themselves are not among them. A directory that is gone has none.
    async fn beside(&self, files: &[String]) -> Result<Vec<(String, String)>, PortError>;

    /// Whether the place `file` may hold what is written over the image `base`: not where it is lost at a reboot and the base is
    /// not, say.
    async fn place(&self, base: &str, file: &str) -> Result<Can, PortError>;

    /// Makes the overlay's file, empty, with the access of its base and for no other user. A file that is there is never
    /// overwritten: [`crate::PortErrorKind::AlreadyExists`]. A place that [`Overlays::place`] refuses is refused.
    async fn make(&self, overlay: &Overlay) -> Result<(), PortError>;

    /// Removes an overlay that takes no disk's writes, and what the backend made for it. One that is gone is removed.
    async fn discard(&self, overlay: &Overlay) -> Result<(), PortError>;

    /// The image that the domain's description names for each disk, whether that is there or not. An empty drive is not among them.
    async fn described(&self) -> Result<Vec<(DiskName, ImageFile)>, PortError>;

    /// Makes the domain's description name these files as the disks' images from its next start on: all, or none. Again is no error.
    async fn adopt(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError>;

    /// Whether [`Overlays::adopt`] can name another file than the description names now.
    fn adopts(&self) -> Can {
        Can::Yes
    }
}
