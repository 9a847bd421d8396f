//! The adapter's type.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_orchestrator::{ImageFile, Port, PortError, Ports};
use xlsnap_qemu::Description;
use xlsnap_qemu_img::QemuImg;
use xlsnap_types::model::{DiskName, XenRecord};
use xlsnap_xenstore::Xenstore;

use crate::domains::{self, Domain};
use crate::monitor::Monitor;
use crate::{Domid, Toolstack};

use super::look::{LiveDisks, not_adopted};
use super::power::{NO_LOAD, NO_RELEASE};

/// How long to wait.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Patience {
    /// For a monitor's greeting; one that another client holds never greets. 3 s by default.
    pub greeting: Duration,
    /// For what a domain leaves behind when it is destroyed: its entries, its QEMU. 1 minute by default.
    pub gone: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { greeting: Duration::from_secs(3), gone: Duration::from_secs(60) }
    }
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Where libxl makes the sockets of monitors: `/var/run/xen`.
    pub run: PathBuf,
    /// Where libxl keeps configurations: `/var/lib/xen`.
    pub userdata: PathBuf,
    /// The domain's own directory of records: memory is saved there, if not elsewhere. It may not be there yet.
    pub records: PathBuf,
}

impl Places {
    /// Xen's places, and the domain's own.
    pub fn new(records: impl Into<PathBuf>) -> Self {
        Self { run: "/var/run/xen".into(), userdata: "/var/lib/xen".into(), records: records.into() }
    }
}

/// What an [`XlDomain`] works with.
#[derive(Clone)]
pub struct Context {
    /// Xen's store.
    pub store: Arc<dyn Xenstore>,
    /// Xen's toolstack.
    pub toolstack: Arc<dyn Toolstack>,
    /// What works on images that no process has open.
    pub qemu_img: Arc<dyn QemuImg>,
    /// Where things are.
    pub places: Places,
    /// How long to wait.
    pub patience: Patience,
}

/// A domain of Xen's `xl`, running or off.
///
/// # Cancel safety
/// A future that looks may be dropped at any time. An act of QEMU's or of xl's goes on to its end by itself; look again.
pub struct XlDomain {
    pub(super) context: Context,
    pub(super) uuid: Uuid,
    /// What people call it.
    pub(super) name: String,
    /// What is known of it while it is off.
    kept: Mutex<Option<XenRecord>>,
    /// What the last look at its disks found while it ran.
    last_look: Mutex<Option<Arc<LiveDisks>>>,
    /// Whether a pause is certain to be that of an `xl save -p` of this value's, which nothing took away yet.
    pub(super) save_pauses: AtomicBool,
    /// Which of the domain's monitors answered last.
    monitor: Arc<AtomicUsize>,
}

impl XlDomain {
    /// These ports with all that the domain has beside its disks and its guest, and why it lacks the others.
    pub fn offer<'a>(&'a self, ports: Ports<'a>) -> Ports<'a> {
        Ports {
            commands: Port::Has(self),
            overlays: Port::Has(self),
            layers: Port::Has(self),
            names: Port::Has(self),
            pause: Port::Has(self),
            memory: Port::Has(self),
            inside: Port::Lacks(NO_LOAD),
            memory_files: Port::Has(self),
            power: Port::Has(self),
            release: Port::Lacks(NO_RELEASE),
            health: Port::Has(self),
            ..ports
        }
    }

    /// The domain `uuid`, which people call `name`. `kept` is what was kept of it when it was last found running; without it
    /// nothing but its records is known while it is off.
    pub fn new(context: Context, uuid: Uuid, name: impl Into<String>, kept: Option<XenRecord>) -> Self {
        Self {
            context,
            uuid,
            name: name.into(),
            kept: Mutex::new(kept),
            last_look: Mutex::default(),
            save_pauses: AtomicBool::default(),
            monitor: Arc::new(AtomicUsize::new(Monitor::STATISTICS)),
        }
    }

    /// The domain as it runs now; `None` while it is off.
    ///
    /// # Errors
    /// [`xlsnap_orchestrator::PortErrorKind::Unreachable`] when xenstored cannot be asked;
    /// [`xlsnap_orchestrator::PortErrorKind::Refused`] when two domains have its uuid.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn running(&self) -> Result<Option<Domain>, PortError> {
        domains::by_uuid(&*self.context.store, self.uuid).await
    }

    pub(super) fn last_look(&self) -> Option<Arc<LiveDisks>> {
        self.last_look.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn remember(&self, found: Option<Arc<LiveDisks>>) {
        *self.last_look.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// What is known of the domain while it is off.
    pub(super) fn kept(&self) -> Option<XenRecord> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what the domain is now, for when it is off. A configuration that cannot be read now does not hide an earlier one.
    pub(super) fn keep(&self, mut now: XenRecord) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        now.configuration = now.configuration.or_else(|| kept.take()?.configuration);
        *kept = Some(now);
    }

    /// The domain's monitor, as long as it has this domid.
    pub(super) fn monitor(&self, domid: Domid) -> Monitor {
        let Context { places, patience, .. } = &self.context;
        Monitor::new(&places.run, domid, patience.greeting, Arc::clone(&self.monitor))
    }

    /// "domain pv1 (domid 3)".
    pub(super) fn called(&self, domid: Domid) -> String {
        format!("domain {} (domid {domid})", self.name)
    }
}

impl std::fmt::Debug for XlDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XlDomain").field("uuid", &self.uuid).field("name", &self.name).finish_non_exhaustive()
    }
}

/// xl starts a domain from a configuration of its own, in which no other program can change an image.
#[derive(Debug)]
pub(super) struct ToolstacksOwn;

#[async_trait]
impl Description for ToolstacksOwn {
    async fn set_images(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        match images {
            [] => Ok(()),
            [(disk, image), ..] => Err(not_adopted(disk, &image.file)),
        }
    }
}
