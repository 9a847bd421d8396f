//! qemu-img's errors as a port's: which disk, which file, what is known of the effect.

use std::fmt;

use xlsnap_orchestrator::{PortError, PortErrorKind, SnapshotId};
use xlsnap_qemu_img::{self as qemu_img, Image, Kind, QemuImg};
use xlsnap_types::model::DiskName;

use crate::error::of_qemu_img;

/// What was being done.
#[derive(Debug, Clone, Copy)]
pub(super) enum During<'a> {
    Look { disk: &'a DiskName, file: &'a str },
    Create { disk: &'a DiskName, tag: &'a str, file: &'a str },
    Delete { disk: &'a DiskName, snapshot: &'a SnapshotId, file: &'a str },
    Revert { disk: &'a DiskName, snapshot: &'a SnapshotId, file: &'a str },
    DropBitmap { disk: &'a DiskName, bitmap: &'a str, file: &'a str },
    LookAtOverlay { disk: &'a DiskName, file: &'a str },
}

impl fmt::Display for During<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look { disk, file } => write!(f, "disk {disk}: its image {file} can't be read"),
            Self::Create { disk, tag, file } => {
                write!(f, "disk {disk}: no snapshot {tag:?} was made in {file}")
            }
            Self::Delete { disk, snapshot, file } => {
                write!(f, "disk {disk}: the snapshot {:?} in {file} was not deleted", snapshot.name)
            }
            Self::Revert { disk, snapshot, file } => {
                write!(f, "disk {disk}: {file} was not reverted to its snapshot {:?}", snapshot.name)
            }
            Self::DropBitmap { disk, bitmap, file } => {
                write!(f, "disk {disk}: the dirty bitmap {bitmap:?} of {file} was not dropped")
            }
            Self::LookAtOverlay { disk, file } => write!(f, "disk {disk}: the overlay {file} can't be read"),
        }
    }
}

/// The error of what was being done.
pub(super) fn failed(during: &During<'_>, error: qemu_img::Error) -> PortError {
    let is_taken = error.kind() == Kind::Ambiguous && matches!(during, During::Create { .. });
    let mut error = of_qemu_img(during.to_string(), error);
    if is_taken {
        error.kind = PortErrorKind::AlreadyExists;
    }
    error
}

/// The same for a snapshot or a bitmap inside an image: "not found" has to mean that, which may count as deleted; an image
/// that is gone does not.
pub(super) async fn of_snapshot(
    qemu_img: &dyn QemuImg,
    image: &Image,
    during: &During<'_>,
    error: qemu_img::Error,
) -> PortError {
    let mut error = failed(during, error);
    if error.kind == PortErrorKind::NotFound && qemu_img.info(image).await.is_err() {
        error.kind = PortErrorKind::Failed;
    }
    error
}
