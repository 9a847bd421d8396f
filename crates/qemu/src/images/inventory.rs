//! What an image says of its disk.

use std::path::Path;

use xlsnap_orchestrator::{Bitmap, Can, Disk, Effect, FileIdentity, ImageSnapshot, PortError, PortErrorKind};
use xlsnap_qemu_img::{FileId, ImageInfo, InternalSnapshot, Kind, QemuImg};
use xlsnap_types::model::ImageFormat;

use super::failure::{During, failed};
use super::image_of;
use crate::{DiskSpec, revertible};

/// The disk as it is now.
pub(super) async fn disk(qemu_img: &dyn QemuImg, spec: DiskSpec) -> Result<Disk, PortError> {
    if spec.file.is_empty() {
        return Ok(without_image(spec, "the drive is empty"));
    }
    let info = match qemu_img.info(&image_of(&spec)).await {
        Ok(info) => info,
        // The image of a CD-ROM is no part of a snapshot, and often thrown away after an installation.
        Err(error) if error.kind() == Kind::NotFound && spec.removable => {
            return Ok(without_image(spec, "its image is gone"));
        }
        Err(error) => return Err(failed(&During::Look { disk: &spec.name, file: &spec.file }, error)),
    };
    if info.in_use && !spec.read_only {
        // Another process runs the domain after all, or works on its disk: then nothing here holds for long.
        let message = format!(
            "disk {}: {} has its image {} open",
            spec.name,
            revertible::holders(&spec.file),
            spec.file
        );
        return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
    }
    Ok(Disk {
        internal: Can::unless(no_internal(&spec.format, &info)),
        external: Can::unless(no_external(&info)),
        revert: Can::unless(no_revert(&spec, &info)),
        identity: identity(&spec.file),
        encrypted: info.encrypted,
        bitmaps: info.bitmaps.into_iter().map(|name| Bitmap { name, persistent: true }).collect(),
        overlays: spec.overlays,
        name: spec.name,
        image: spec.file,
        format: spec.format,
        virtual_size: info.virtual_size,
        read_only: spec.read_only,
        removable: spec.removable,
        snapshots: info.snapshots.into_iter().map(image_snapshot).collect(),
        swap: Can::no("no process has it open"),
        jobs: Can::Yes,
        adopt: Can::Yes,
    })
}

fn without_image(spec: DiskSpec, why: &str) -> Disk {
    Disk {
        overlays: spec.overlays,
        read_only: spec.read_only,
        removable: spec.removable,
        internal: Can::no(why),
        external: Can::no(why),
        revert: Can::no(why),
        ..Disk::new(spec.name, spec.file, spec.format, 0)
    }
}

fn no_internal(format: &ImageFormat, info: &ImageInfo) -> Option<String> {
    if *format != ImageFormat::Qcow2 {
        Some(format!("its format is {format}"))
    } else if info.external_data_file {
        Some("its image keeps the data in another file".to_owned())
    } else {
        not_now(info)
    }
}

fn no_external(info: &ImageInfo) -> Option<String> {
    not_now(info).or_else(|| info.encrypted.then(|| revertible::OVERLAY_IN_CLEAR.to_owned()))
}

fn not_now(info: &ImageInfo) -> Option<String> {
    if info.in_use {
        Some("another process has its image open".to_owned())
    } else if info.corrupt {
        Some("its image is marked as damaged".to_owned())
    } else {
        None
    }
}

/// Why qemu-img could not bring the image back to a snapshot inside it.
fn no_revert(spec: &DiskSpec, info: &ImageInfo) -> Option<String> {
    let cannot = no_internal(&spec.format, info);
    if spec.read_only {
        return cannot;
    }
    cannot
        .or_else(|| revertible::no_key(info.encrypted, spec.key_file.as_deref()))
        .or_else(|| revertible::not_writable(&spec.file))
        .or_else(|| revertible::locked(&spec.file))
}

/// Which file it is, whatever its name.
pub(crate) fn identity(file: &str) -> Option<FileIdentity> {
    let FileId { device, inode } = FileId::of(Path::new(file)).ok()?;
    Some(FileIdentity { device, inode })
}

pub(crate) fn image_snapshot(found: InternalSnapshot) -> ImageSnapshot {
    let InternalSnapshot { id, name, date, vm_state_size } = found;
    ImageSnapshot { id, name, date, vm_state_size }
}
