//! What an image says of its disk.

use xlsnap_orchestrator::{Disk, Effect, ImageSnapshot, PortError, PortErrorKind};
use xlsnap_qemu_img::{ImageInfo, InternalSnapshot, Kind, QemuImg};
use xlsnap_types::model::ImageFormat;

use super::failure::{During, failed};
use super::image_of;
use crate::DiskSpec;

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
        // Somebody runs the domain after all, or works on its disk: then nothing here holds for long.
        let message = format!("disk {}: its image {} is open in another process", spec.name, spec.file);
        return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
    }
    Ok(Disk {
        no_internal: no_internal(&spec.format, &info),
        no_external: no_external(&info),
        name: spec.name,
        image: spec.file,
        format: spec.format,
        virtual_size: info.virtual_size,
        read_only: spec.read_only,
        removable: spec.removable,
        snapshots: info.snapshots.into_iter().map(image_snapshot).collect(),
    })
}

fn without_image(spec: DiskSpec, why: &str) -> Disk {
    Disk {
        name: spec.name,
        image: spec.file,
        format: spec.format,
        virtual_size: 0,
        read_only: spec.read_only,
        removable: spec.removable,
        no_internal: Some(why.to_owned()),
        no_external: Some(why.to_owned()),
        snapshots: Vec::new(),
    }
}

fn no_internal(format: &ImageFormat, info: &ImageInfo) -> Option<String> {
    if *format != ImageFormat::Qcow2 {
        Some(format!("its format is {format}"))
    } else if info.external_data_file {
        Some("its image keeps the data in another file".to_owned())
    } else {
        no_external(info)
    }
}

fn no_external(info: &ImageInfo) -> Option<String> {
    if info.in_use {
        Some("another process has its image open".to_owned())
    } else if info.corrupt {
        Some("its image is marked as damaged".to_owned())
    } else {
        None
    }
}

fn image_snapshot(found: InternalSnapshot) -> ImageSnapshot {
    let InternalSnapshot { id, name, date, vm_state_size } = found;
    ImageSnapshot { id, name, date, vm_state_size }
}
