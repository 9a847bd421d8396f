//! The adapter, and which port's method is done where.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::try_join;
use tokio::sync::OnceCell;
use xlsnap_orchestrator::{
    Bitmap, Can, Disks, Effect, Guest, GuestState, ImageFile, Inventory, Overlay, Overlays, PortError,
    PortErrorKind, SnapshotAction, SnapshotId,
};
use xlsnap_qemu_img::QemuImg;
use xlsnap_qmp_transport::Qmp;
use xlsnap_types::model::{DiskName, Hypervisor};

use crate::inventory::matching::Found;
use crate::process::Identity;
use crate::{Description, DiskSpec, overlay, spec};

use super::guest::GuestElsewhere;
use super::look::Looked;
use super::names::Foreseen;

/// The disks and the guest of a domain that qemu-system or qemu-storage-daemon has open.
///
/// It remembers where each disk was when it last looked ([`Disks::inventory`]), so that a snapshot costs no second look.
///
/// # Cancel safety
/// Dropping a future of [`Disks::snapshot`] or [`Disks::delete`] abandons QEMU's answer, not the command: look again.
/// Nodes that were opened for overlays stay until [`Overlays::discard`] closes them. [`Overlays::make`] may leave
/// its file, which [`Overlays::discard`] knows. The other methods only look.
pub struct Live {
    pub(super) qmp: Arc<dyn Qmp>,
    pub(super) qemu_img: Arc<dyn QemuImg>,
    specs: Mutex<Vec<DiskSpec>>,
    description: Arc<dyn Description>,
    pub(super) directory: Option<PathBuf>,
    /// The process that has the disks open, if that is known.
    pub(super) process: Option<u32>,
    /// The guest, where it is not QEMU's own.
    pub(super) guest: Option<Arc<dyn GuestElsewhere>>,
    /// The machine's type; `None` inside when there is no machine. It does not change while QEMU lives.
    pub(super) machine: OnceCell<Option<String>>,
    /// What runs the guest.
    pub(super) hypervisor: OnceCell<Hypervisor>,
    /// Whether a merge holds the guest that ran.
    pub(super) holds_guest: AtomicBool,
    /// The chains of files that were made ready to take the names of images, by these names.
    pub(super) foreseen: Mutex<HashMap<String, Foreseen>>,
    /// `None` until the first look, and after what changes it.
    known: Mutex<Option<Arc<Looked>>>,
}

impl Live {
    /// The domain behind `qmp`, with the disks that `specs` describe; without any, with all disks that QEMU has, under
    /// QEMU's names for them.
    pub fn new(
        qmp: Arc<dyn Qmp>,
        qemu_img: Arc<dyn QemuImg>,
        specs: Vec<DiskSpec>,
        description: Arc<dyn Description>,
    ) -> Self {
        Self {
            qmp,
            qemu_img,
            specs: Mutex::new(specs),
            description,
            directory: None,
            process: None,
            guest: None,
            machine: OnceCell::new(),
            hypervisor: OnceCell::new(),
            holds_guest: AtomicBool::new(false),
            foreseen: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The same for a QEMU that runs in `directory`: where its relative file names start. Without it they stay relative, and
    /// match no described image.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The same for the QEMU that is this process: what it has open is looked at too, and its directory, as far as either may
    /// be. Which process it is [`Peer`](crate::process::Peer) tells.
    #[must_use]
    pub fn in_directory_of(mut self, process: &Identity) -> Self {
        let directory = std::fs::read_link(format!("/proc/{}/cwd", process.pid));
        // The pid may be another process's by now.
        if !process.lives().unwrap_or(false) {
            return self;
        }
        self.process = Some(process.pid);
        match directory {
            Ok(directory) => self.in_directory(directory),
            Err(_) => self,
        }
    }

    /// The same for the QEMU of a domain of Xen's. Only `guest` tells whether the guest runs, and stops it: QEMU goes on saying that it runs
    /// when it is paused. A node that takes the place of one that the description names gets the name of that: Xen's half of QEMU closes its
    /// nodes by name.
    #[must_use]
    pub fn of_xen(mut self, guest: Arc<dyn GuestElsewhere>) -> Self {
        self.guest = Some(guest);
        self
    }

    /// The disks as they are described, with what was adopted since.
    pub(super) fn specs(&self) -> Vec<DiskSpec> {
        self.specs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The disks as they were at the last look; looks if there was none.
    pub(crate) async fn known(&self) -> Result<Arc<Looked>, PortError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(known) => Ok(known),
            None => self.look_again().await,
        }
    }

    /// The disks as they are.
    pub(crate) async fn look_again(&self) -> Result<Arc<Looked>, PortError> {
        self.forget();
        let found = Arc::new(self.look().await?);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&found));
        Ok(found)
    }

    /// The nodes of disks that take a snapshot inside now, in this order.
    pub(crate) async fn nodes_for_internal(
        &self,
        disks: impl IntoIterator<Item = &DiskName>,
    ) -> Result<Vec<String>, PortError> {
        let found = self.known().await?;
        let node = |name| {
            let found = find(&found.disks, name)?;
            match (found.disk.internal.why(), &found.medium) {
                (None, Some(medium)) => Ok(medium.node.clone()),
                (why, _) => {
                    let why = why.unwrap_or("its drive is empty");
                    let message = format!("disk {name}: no snapshot can be made inside it: {why}");
                    Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
                }
            }
        };
        disks.into_iter().map(node).collect()
    }

    /// Forgets where disks are: something may have changed it.
    pub(crate) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("specs", &self.specs()).finish_non_exhaustive()
    }
}

/// The disk called `name` among `found`.
pub(super) fn find<'a>(found: &'a [Found], name: &DiskName) -> Result<&'a Found, PortError> {
    found.iter().find(|found| found.disk.name == *name).ok_or_else(|| {
        let message = format!("disk {name}: the domain has no such disk");
        PortError::new(PortErrorKind::NotFound, Effect::None, message)
    })
}

#[async_trait]
impl Disks for Live {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        let (found, hypervisor) = try_join(self.look_again(), self.hypervisor()).await?;
        Ok(Inventory {
            disks: found.disks.iter().map(|found| found.disk.clone()).collect(),
            hypervisor,
            undescribed: found.undescribed.clone(),
        })
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        self.take(actions).await
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.delete_internal(disk, snapshot).await
    }

    async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError> {
        self.remove_bitmap(disk, &bitmap.name).await
    }

    async fn revert(&self, disk: &DiskName, _snapshot: &SnapshotId) -> Result<(), PortError> {
        let message = format!(
            "disk {disk}: QEMU has it open, and a disk is reverted while no process has it; end QEMU first"
        );
        Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
    }
}

#[async_trait]
impl Overlays for Live {
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
        overlay::make(&*self.qemu_img, overlay).await
    }

    async fn discard(&self, overlay: &Overlay) -> Result<(), PortError> {
        self.discard_overlay(overlay).await
    }

    async fn described(&self) -> Result<Vec<(DiskName, ImageFile)>, PortError> {
        Ok(spec::images(self.specs()))
    }

    async fn adopt(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        self.description.set_images(images).await?;
        spec::set_images(&mut self.specs.lock().unwrap_or_else(PoisonError::into_inner), images);
        Ok(())
    }
}

#[async_trait]
impl Guest for Live {
    async fn state(&self) -> Result<GuestState, PortError> {
        self.guest_state().await
    }
}
