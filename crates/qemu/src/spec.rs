//! What a description says of a domain's disks, and where a change of it goes.

use std::path::PathBuf;

use async_trait::async_trait;
use xlsnap_orchestrator::{Disk, ImageFile, PortError};
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

impl DiskSpec {
    /// A hard disk that the guest can write to, of which nothing more is known.
    pub fn new(name: DiskName, file: impl Into<String>, format: ImageFormat) -> Self {
        Self {
            name,
            file: file.into(),
            format,
            read_only: false,
            removable: false,
            node: None,
            key_file: None,
            overlays: None,
        }
    }
}

/// The image of each disk that has one.
pub(crate) fn images(specs: Vec<DiskSpec>) -> Vec<(DiskName, ImageFile)> {
    let with_image = specs.into_iter().filter(|spec| !spec.file.is_empty());
    with_image.map(|DiskSpec { name, file, format, .. }| (name, ImageFile { file, format })).collect()
}

/// The same disks, with other images.
pub(crate) fn set_images(specs: &mut [DiskSpec], images: &[(DiskName, ImageFile)]) {
    for (disk, image) in images {
        for spec in specs.iter_mut().filter(|spec| spec.name == *disk) {
            spec.file.clone_from(&image.file);
            spec.format.clone_from(&image.format);
        }
    }
}

/// What a backend tells of a disk, as its description would have it. Its key and its node only a description knows.
impl From<Disk> for DiskSpec {
    fn from(disk: Disk) -> Self {
        Self {
            read_only: disk.read_only,
            removable: disk.removable,
            ..Self::new(disk.name, disk.image, disk.format)
        }
    }
}

/// The domain's description, which says what it starts from the next time.
#[async_trait]
pub trait Description: Send + Sync {
    /// Makes these the disks' images, durably: all, or none. Again is no error.
    ///
    /// # Errors
    /// [`PortError`] with [`xlsnap_orchestrator::PortErrorKind::NotFound`] when the description has no such disk.
    ///
    /// # Cancel safety
    /// Dropped, it has made the change or not.
    async fn set_images(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError>;
}
