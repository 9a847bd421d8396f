//! The disks of a domain that is off: image files, and qemu-img on them.
//!
//! A domain is off here because its caller says so. QEMU's image locks guard that: an image that is open in another
//! process makes the whole domain busy. Xen's PV disks take no such lock, so a caller on Xen has to know better.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use xlsnap_orchestrator::{
    Bitmap, Can, Disks, Effect, Guest, GuestState, ImageFile, Inventory, Overlay, Overlays, PortError,
    PortErrorKind, SnapshotAction, SnapshotId,
};
use xlsnap_qemu_img::{Image, QemuImg, SnapshotRef};
use xlsnap_types::model::{DiskName, Hypervisor, ImageFormat};

use crate::{Description, DiskSpec, overlay, spec};

pub(crate) mod commands;
mod failure;
mod health;
pub(crate) mod inventory;
mod layers;
mod names;

use failure::{During, failed};

/// How many qemu-img run at a time: on eight disks that is about twice as fast as one after another.
const AT_A_TIME: usize = 8;

/// The disks of a domain that is off: image files, and qemu-img on them.
///
/// The domain is off because its caller says so. QEMU's image locks guard that: an image that another process writes makes
/// the whole domain busy.
///
/// # Cancel safety
/// Looking may be cancelled at any time. Of anything else the effect is then unknown, and qemu-img goes on to its end.
pub struct Images {
    disks: Mutex<Vec<DiskSpec>>,
    qemu_img: Arc<dyn QemuImg>,
    description: Arc<dyn Description>,
}

impl Images {
    /// The domain with these disks. Which image a disk has from its next start on goes to `description`.
    pub fn new(disks: Vec<DiskSpec>, qemu_img: Arc<dyn QemuImg>, description: Arc<dyn Description>) -> Self {
        Self { disks: Mutex::new(disks), qemu_img, description }
    }

    fn specs(&self) -> Vec<DiskSpec> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn qemu_img(&self) -> &dyn QemuImg {
        &*self.qemu_img
    }

    fn spec(&self, disk: &DiskName) -> Result<DiskSpec, PortError> {
        let found = self.specs().into_iter().find(|spec| spec.name == *disk);
        found.ok_or_else(|| {
            PortError::new(PortErrorKind::NotFound, Effect::None, format!("the domain has no disk {disk}"))
        })
    }

    /// The disk, to be written to.
    fn writable(&self, disk: &DiskName) -> Result<DiskSpec, PortError> {
        let spec = self.spec(disk)?;
        if spec.read_only || spec.file.is_empty() {
            let why = if spec.read_only { "is read-only" } else { "has no image in it" };
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, format!("disk {disk} {why}")));
        }
        Ok(spec)
    }

    async fn act(&self, action: &SnapshotAction) -> Result<(), PortError> {
        match action {
            SnapshotAction::Internal { disk, tag, .. } => {
                let spec = self.writable(disk)?;
                let made = self.qemu_img.snapshot_create(&image_of(&spec), tag).await;
                made.map_err(|error| failed(&During::Create { disk, tag, file: &spec.file }, error))
            }
            // No process writes, so nothing has to happen at an instant: it is the disk's image as soon as it is adopted.
            SnapshotAction::External(overlay) => {
                let spec = self.writable(&overlay.disk)?;
                self.check_overlay(overlay, &spec).await
            }
        }
    }

    /// Whether the overlay may become the disk's image: it is there, and on top of the disk's image of now.
    async fn check_overlay(&self, overlay: &Overlay, spec: &DiskSpec) -> Result<(), PortError> {
        let Overlay { disk, file, .. } = overlay;
        let info = self.qemu_img.info(&image(file, &overlay.format)).await;
        let info = info.map_err(|error| failed(&During::LookAtOverlay { disk, file }, error))?;
        let (kind, why) = match info.backing {
            _ if info.in_use => (PortErrorKind::Busy, "is open in another process".to_owned()),
            Some(backing) if same_file(&backing.name, &spec.file) => return Ok(()),
            Some(backing) => {
                (PortErrorKind::Refused, format!("is on {:?} and not on {}", backing.name, spec.file))
            }
            None => (PortErrorKind::Refused, "is on no other image".to_owned()),
        };
        Err(PortError::new(kind, Effect::None, format!("disk {disk}: the overlay {file} {why}")))
    }
}

#[async_trait]
impl Guest for Images {
    async fn state(&self) -> Result<GuestState, PortError> {
        Ok(GuestState::Off)
    }
}

#[async_trait]
impl Disks for Images {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        let look = |spec| inventory::disk(&*self.qemu_img, spec);
        let disks = stream::iter(self.specs()).map(look).buffered(AT_A_TIME).try_collect().await?;
        Ok(Inventory { disks, hypervisor: Hypervisor::default(), undescribed: Vec::new() })
    }

    /// Not all or none: a failure after the first disk leaves what was made, and the effect unknown. No process writes, so
    /// it is no matter that the disks are not taken at one instant.
    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        let acts: Vec<_> = actions.iter().map(|action| self.act(action)).collect();
        // All are waited for: one that is left alone would go on behind the caller's back.
        let results: Vec<_> = stream::iter(acts).buffered(AT_A_TIME).collect().await;
        let touched = actions.iter().zip(&results).any(|(action, result)| match result {
            Ok(()) => matches!(action, SnapshotAction::Internal { .. }),
            Err(error) => error.effect != Effect::None,
        });
        let Err(mut error) = results.into_iter().collect::<Result<(), _>>() else { return Ok(()) };
        error.effect = if touched { Effect::Unknown } else { Effect::None };
        Err(error)
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        let spec = self.writable(disk)?;
        let (image, meant) = (image_of(&spec), meant(snapshot));
        let Err(error) = self.qemu_img.snapshot_delete(&image, &meant).await else { return Ok(()) };
        let during = During::Delete { disk, snapshot, file: &spec.file };
        Err(failure::of_snapshot(&*self.qemu_img, &image, &during, error).await)
    }

    async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError> {
        let spec = self.writable(disk)?;
        let image = image_of(&spec);
        let Err(error) = self.qemu_img.bitmap_remove(&image, &bitmap.name).await else { return Ok(()) };
        let during = During::DropBitmap { disk, bitmap: &bitmap.name, file: &spec.file };
        match failure::of_snapshot(&*self.qemu_img, &image, &during, error).await {
            gone if gone.kind == PortErrorKind::NotFound => Ok(()),
            error => Err(error),
        }
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        let spec = self.writable(disk)?;
        let (image, meant) = (image_of(&spec), meant(snapshot));
        let Err(error) = self.qemu_img.snapshot_apply(&image, &meant).await else { return Ok(()) };
        let during = During::Revert { disk, snapshot, file: &spec.file };
        Err(failure::of_snapshot(&*self.qemu_img, &image, &during, error).await)
    }
}

#[async_trait]
impl Overlays for Images {
    async fn exists(&self, file: &str) -> Result<bool, PortError> {
        overlay::exists(file)
    }

    async fn beside(&self, files: &[String]) -> Result<Vec<(String, String)>, PortError> {
        overlay::beside(files).await
    }

    async fn place(&self, base: &str, file: &str) -> Result<Can, PortError> {
        overlay::no_place(base, file).map(Can::unless)
    }

    async fn make(&self, overlay: &Overlay) -> Result<(), PortError> {
        self.spec(&overlay.disk)?;
        overlay::make(&*self.qemu_img, overlay).await
    }

    async fn discard(&self, overlay: &Overlay) -> Result<(), PortError> {
        if let Some(user) = self.specs().into_iter().find(|spec| same_file(&spec.file, &overlay.file)) {
            let message = format!("{} takes the writes of disk {}", overlay.file, user.name);
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
        }
        overlay::remove(&*self.qemu_img, overlay).await
    }

    async fn described(&self) -> Result<Vec<(DiskName, ImageFile)>, PortError> {
        Ok(spec::images(self.specs()))
    }

    async fn adopt(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        for (disk, _) in images {
            self.spec(disk)?;
        }
        self.description.set_images(images).await?;
        spec::set_images(&mut self.disks.lock().unwrap_or_else(PoisonError::into_inner), images);
        Ok(())
    }
}

fn image_of(spec: &DiskSpec) -> Image {
    image(&spec.file, &spec.format).with_key_file(spec.key_file.clone())
}

pub(crate) fn image(file: &str, format: &ImageFormat) -> Image {
    Image::new(file, format.driver())
}

fn meant(snapshot: &SnapshotId) -> SnapshotRef {
    SnapshotRef { name: snapshot.name.clone(), id: Some(snapshot.id.clone()) }
}

/// Whether both names lead to one file, or are one name.
fn same_file(a: &str, b: &str) -> bool {
    let real = |file: &str| Path::new(file).canonicalize();
    !a.is_empty() && (a == b || matches!((real(a), real(b)), (Ok(a), Ok(b)) if a == b))
}
