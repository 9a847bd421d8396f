//! What a description says of a domain's disks, and where a change of it goes.

use std::path::PathBuf;

use async_trait::async_trait;
use xlsnap_orchestrator::PortError;
use xlsnap_types::model::{DiskName, ImageFormat};

/// One disk of a domain, as its description has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// What people call the disk.
    pub name: DiskName,
    /// The image that takes its writes: a file or a host's block device, absolute. Never read as a protocol. Empty for an
    /// empty drive.
    pub file: String,
    /// The image's format. It is never probed: a guest writes what it likes into a raw image's first sector.
    pub format: ImageFormat,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Whether it is a CD-ROM or a floppy.
    pub removable: bool,
    /// QEMU's node name or drive id of it, when it can't be told from the image.
    pub node: Option<String>,
    /// The file whose whole content is the passphrase of its encrypted image, absolute: qemu-img reads it, and nothing else.
    pub key_file: Option<PathBuf>,
    /// The directory in which its overlays are made when a snapshot names no file, absolute; `None` for the image's own.
    pub overlays: Option<String>,
}

/// The domain's description, which says what it starts from the next time.
#[async_trait]
pub trait Description: Send + Sync {
    /// Makes `file` of `format` the disk's image, durably. Again is no error.
    ///
    /// # Errors
    /// [`PortError`] with [`xlsnap_orchestrator::PortErrorKind::NotFound`] when the description has no such disk.
    ///
    /// # Cancel safety
    /// Dropped, it has made the change or not.
    async fn set_image(&self, disk: &DiskName, file: &str, format: &ImageFormat) -> Result<(), PortError>;
}
