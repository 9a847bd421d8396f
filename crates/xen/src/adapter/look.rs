//! A look at the disks.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;

use xlsnap_orchestrator::{Can, Disk, Disks, Effect, FileIdentity, Inventory, PortError, PortErrorKind};
use xlsnap_qemu::process::Identity;
use xlsnap_qemu::{DiskSpec, Images, Live};
use xlsnap_qmp_transport::commands::{BlockDevice, QomGetString, QueryBlock};
use xlsnap_qmp_transport::{Kind, Qmp, QmpExt};
use xlsnap_types::model::{DiskName, Hypervisor, XenDisk};
use xlsnap_xenstore::Nodes;

use crate::GuestKind;
use crate::domains::{Domain, qemu_pid};
use crate::error::of_monitor;
use crate::matching::{self, Place};
use crate::monitor::Monitor;
use crate::usage::must_be_unused_beside;
use crate::vbd::{self, Backend, Vbd};

use super::XlDomain;
use super::domain::ToolstacksOwn;

/// Why no other image is named in what starts a domain of Xen's.
pub(super) const NO_ADOPT: &str =
    "xl starts the domain from its own configuration, which goes on naming the image that it names now";

/// The error where xl's configuration would have to name another image.
pub(super) fn not_adopted(disk: &DiskName, file: &str) -> PortError {
    let message = format!("{file} cannot be made the image of disk {disk}: {NO_ADOPT}");
    PortError::new(PortErrorKind::Refused, Effect::None, message)
}

/// Why another image cannot take the place of one that an HVM guest has.
const OPEN_TWICE: &str = "QEMU has the image of an HVM guest's emulated disk open twice, with a cache each";
const EMULATED: &str = "it is an HVM guest's emulated disk, for which this was not tried";

const ENDED: &str = "the domain's QEMU has ended, so that no process serves it; destroy the domain";

/// More block devices than any QEMU of Xen's has.
const MAX_DEVICES: usize = 4096;

/// The disks of a domain while it runs, as the last look found them.
pub(super) struct LiveDisks {
    pub(super) domain: Domain,
    vbds: Vec<Vbd>,
    monitor: Arc<Monitor>,
    holder: Holder,
}

/// What has the disks of a domain that is there.
pub(super) enum Holder {
    /// Its QEMU, with those that can be taken.
    Qemu(Box<Live>),
    /// Its QEMU has ended: these images have no user.
    Ended(Images),
    /// QEMU has none that can be taken.
    NoDisks,
}

impl LiveDisks {
    /// The disks in QEMU; where QEMU has ended, the images, once it is certain that nothing else uses them. [`LiveDisks::leave`] comes after.
    pub(super) async fn port(&self, store: &dyn Nodes) -> Result<&dyn Disks, PortError> {
        match &self.holder {
            Holder::Qemu(live) => Ok(&**live),
            Holder::Ended(images) => {
                let files = self.vbds.iter().filter(|vbd| is_qemus(vbd)).map(|vbd| vbd.image.clone());
                must_be_unused_beside(store, &files.collect::<Vec<_>>(), Some(self.domain.domid)).await?;
                Ok(images)
            }
            Holder::NoDisks => {
                let message = format!("no disk of domain {} can be taken: QEMU has none", self.domain.name);
                Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
            }
        }
    }

    /// Its QEMU.
    pub(super) fn live(&self) -> Result<&Live, PortError> {
        match &self.holder {
            Holder::Qemu(live) => Ok(live),
            Holder::Ended(_) => Err(self.without(ENDED)),
            Holder::NoDisks => Err(self.without("QEMU has none that can be taken")),
        }
    }

    fn without(&self, why: &str) -> PortError {
        let message = format!("the disks of domain {} are not to be had: {why}", self.domain.name);
        PortError::new(PortErrorKind::Refused, Effect::None, message)
    }

    /// What is done with the disks; then the monitor is left to other clients.
    pub(super) async fn leaving<T>(&self, done: impl Future<Output = T>) -> T {
        let done = done.await;
        self.leave().await;
        done
    }

    /// Leaves the monitor to other clients.
    pub(super) async fn leave(&self) {
        self.monitor.leave().await;
    }

    /// Whether the domain's QEMU has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.holder, Holder::Ended(_))
    }
}

impl XlDomain {
    /// The disks of a domain that runs.
    pub(super) async fn look_live(&self, domain: Domain) -> Result<Inventory, PortError> {
        self.remember(None);
        let context = &self.context;
        let vbds = vbd::list(&*context.store, domain.domid).await?;
        let monitor = Arc::new(self.monitor(domain.domid));
        let looked = self.look_in_qemu(&domain, &vbds, &monitor).await;
        monitor.leave().await;
        let (holder, taken, places) = looked?;
        // Of these QEMU does not know what Xen gives the guest.
        let hypervisor = Hypervisor { memory_bytes: None, devices: Vec::new(), ..taken.hypervisor.clone() };
        let mut taken = taken.disks;
        let disks = vbds.iter().map(|vbd| match taken.iter().position(|disk| disk.name == vbd.name) {
            Some(at) => Disk { adopt: Can::no(NO_ADOPT), ..taken.swap_remove(at) },
            None => {
                let place = places.iter().find(|(name, _)| *name == vbd.name);
                untaken(vbd, place.map(|(_, why)| why.as_str()))
            }
        });
        let inventory = Inventory { disks: disks.collect(), hypervisor, ..Inventory::default() };
        self.remember(Some(Arc::new(LiveDisks { domain, vbds, monitor, holder })));
        Ok(inventory)
    }

    /// What the last look found, if nothing has changed since; looks otherwise.
    pub(super) async fn live_disks(&self, domain: Domain) -> Result<Arc<LiveDisks>, PortError> {
        if let Some(disks) = self.last_look().filter(|disks| disks.domain == domain)
            && vbd::list(&*self.context.store, domain.domid).await? == disks.vbds
        {
            return Ok(disks);
        }
        self.look_live(domain).await?;
        Ok(self.last_look().expect("a look at a domain that runs is remembered"))
    }

    /// What QEMU says of the disks that it may take, and why it has others not.
    async fn look_in_qemu(
        &self,
        domain: &Domain,
        vbds: &[Vbd],
        monitor: &Arc<Monitor>,
    ) -> Result<(Holder, Inventory, Vec<(DiskName, String)>), PortError> {
        let writable = vbds.iter().filter(|vbd| !vbd.read_only && !vbd.cdrom);
        let (qdisks, others): (Vec<&Vbd>, Vec<&Vbd>) = writable.partition(|vbd| is_qemus(vbd));
        let mut nowhere = Vec::new();
        let mut specs = Vec::new();
        let devices = if qdisks.is_empty() {
            Vec::new()
        } else {
            match monitor.enter().await {
                Ok(client) => client.execute(QueryBlock).await.map_err(|error| {
                    of_monitor(
                        format!("the disks of {} cannot be asked for", self.called(domain.domid)),
                        error,
                    )
                })?,
                Err(error) if error.kind() == Kind::Connect && monitor.is_abandoned().await => {
                    return self.look_without_qemu(&qdisks, &others).await;
                }
                Err(error) => return Err(self.no_monitor(domain, error)),
            }
        };
        if devices.len() > MAX_DEVICES {
            let message = format!("QEMU's answer is not believed: it has {} block devices", devices.len());
            return Err(PortError::new(PortErrorKind::Unreachable, Effect::None, message));
        }
        let halves = if qdisks.is_empty() { Vec::new() } else { halves(monitor, &qdisks, &devices).await };
        for vbd in qdisks.iter().chain(&others) {
            let is_half = |device: &BlockDevice| {
                halves
                    .iter()
                    .any(|(path, disk)| device.qdev.as_ref() == Some(path) && *disk == vbd.name.as_str())
            };
            match matching::place(vbd, domain.kind, &devices, &matching::same_file, &is_half) {
                Place::Node(node) => specs.push(spec(vbd, Some(node))),
                Place::Nowhere(why) => nowhere.push((vbd.name.clone(), why)),
            }
        }
        if specs.is_empty() {
            let (major, minor, micro) = monitor.version();
            let known = (major, minor, micro) != (0, 0, 0);
            let qemu = known.then(|| format!("{major}.{minor}.{micro}"));
            let hypervisor = Hypervisor { qemu, ..Hypervisor::default() };
            return Ok((Holder::NoDisks, Inventory { hypervisor, ..Inventory::default() }, nowhere));
        }
        let qmp: Arc<dyn Qmp> = monitor.clone();
        let mut live = Live::new(qmp, self.context.qemu_img.clone(), specs, Arc::new(ToolstacksOwn))
            .of_xen(Arc::new(self.guest_of(domain.domid)));
        let pid = qemu_pid(&*self.context.store, domain.domid).await?;
        if let Some(process) = pid.map(Identity::of).transpose().ok().flatten().flatten() {
            live = live.in_directory_of(&process);
        }
        let mut inventory = live.inventory().await?;
        if domain.kind == GuestKind::Hvm {
            for disk in &mut inventory.disks {
                no_swap_of_hvm(disk, &devices);
            }
        }
        Ok((Holder::Qemu(Box::new(live)), inventory, nowhere))
    }

    /// The domain's QEMU has ended, and the domain has not: what its images hold can still be looked at.
    async fn look_without_qemu(
        &self,
        qdisks: &[&Vbd],
        others: &[&Vbd],
    ) -> Result<(Holder, Inventory, Vec<(DiskName, String)>), PortError> {
        let specs = qdisks.iter().map(|vbd| spec(vbd, None)).collect();
        let images = self.images_of(specs);
        let mut inventory = images.inventory().await?;
        for disk in &mut inventory.disks {
            disk.internal = Can::no(ENDED);
            disk.external = Can::no(ENDED);
        }
        let nowhere = others.iter().map(|vbd| {
            let Backend::Other(backend) = &vbd.backend else { return (vbd.name.clone(), ENDED.to_owned()) };
            (vbd.name.clone(), not_qemus(backend))
        });
        Ok((Holder::Ended(images), inventory, nowhere.collect()))
    }

    fn no_monitor(&self, domain: &Domain, error: xlsnap_qmp_transport::Error) -> PortError {
        let why = match error.kind() {
            Kind::Busy | Kind::TimedOut => {
                "are both held by other clients; end one of those, then do it again"
            }
            _ => "cannot be used",
        };
        let message = format!(
            "the monitors of {} ({}) {why}",
            self.called(domain.domid),
            self.context.places.run.display()
        );
        of_monitor(message, error)
    }

    /// The disks of a domain that is off.
    pub(super) async fn look_off(&self) -> Result<Inventory, PortError> {
        self.remember(None);
        let (images, kept) = self.images()?;
        crate::usage::must_be_unused(&*self.context.store, &files(&kept)).await?;
        let mut taken = images.inventory().await?.disks;
        let disks = kept.iter().map(|disk| match taken.iter().position(|of| of.name == disk.disk) {
            Some(at) => Disk { adopt: Can::no(NO_ADOPT), ..taken.swap_remove(at) },
            None => untaken_off(disk),
        });
        Ok(Inventory { disks: disks.collect(), ..Inventory::default() })
    }

    /// The images that can be worked on while it is off, and all disks.
    pub(super) fn images(&self) -> Result<(Images, Vec<XenDisk>), PortError> {
        let Some(kept) = self.kept() else {
            let message = format!(
                "domain {} is off, and nothing was kept of it but its records, so its disks are not known; start it first",
                self.name
            );
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        };
        let specs = kept.disks.iter().filter(|disk| is_taken(disk)).map(spec_kept);
        let images = self.images_of(specs.collect());
        Ok((images, kept.disks))
    }

    /// These disks as files.
    pub(super) fn images_of(&self, specs: Vec<DiskSpec>) -> Images {
        Images::new(specs, self.context.qemu_img.clone(), Arc::new(ToolstacksOwn))
    }
}

/// The paths of Xen's halves of disks whose nodes have none of Xen's names, and the disks.
async fn halves(monitor: &Monitor, vbds: &[&Vbd], devices: &[BlockDevice]) -> Vec<(String, String)> {
    let mut halves = Vec::new();
    for device in devices.iter().filter(|device| device.device.is_empty()) {
        let Some(path) = &device.qdev else { continue };
        let node = device.inserted.as_ref().and_then(|node| node.node_name.as_deref()).unwrap_or_default();
        if vbds.iter().any(|vbd| matching::is_named_for(node, vbd)) {
            continue;
        }
        let asked = QomGetString { path: path.clone(), property: "vdev".to_owned() };
        // What is no disk of Xen's has no such property.
        if let Ok(disk) = monitor.execute(asked).await {
            halves.push((path.clone(), disk));
        }
    }
    halves
}

/// An emulated disk, and one that QEMU has open as Xen's too, is given no other image, and no data of it is moved.
fn no_swap_of_hvm(disk: &mut Disk, devices: &[BlockDevice]) {
    let has = |device: &&BlockDevice| {
        device.inserted.as_ref().is_some_and(|node| matching::same_file(&node.file, &disk.image))
    };
    let mut having = devices.iter().filter(has);
    let why = match (having.next(), having.next()) {
        (_, Some(_)) => OPEN_TWICE,
        (Some(device), None) if device.device.is_empty() => return,
        _ => EMULATED,
    };
    disk.swap = Can::no(why);
    disk.jobs = Can::no(why);
}

/// Whether QEMU serves a disk that the guest may write to.
fn is_qemus(vbd: &Vbd) -> bool {
    !vbd.read_only && !vbd.cdrom && vbd.backend == Backend::Qdisk
}

/// Whether a disk of a domain that is off is looked at, and may be written.
fn is_taken(disk: &XenDisk) -> bool {
    !disk.read_only && !disk.removable && disk.backend.is_none()
}

/// The images of the disks that may be written.
pub(super) fn files(disks: &[XenDisk]) -> Vec<String> {
    disks.iter().filter(|disk| is_taken(disk)).map(|disk| disk.image.clone()).collect()
}

/// What is kept of a disk.
pub(super) fn kept(vbd: &Vbd) -> XenDisk {
    XenDisk {
        disk: vbd.name.clone(),
        image: vbd.image.clone(),
        format: vbd.format.clone(),
        read_only: vbd.read_only,
        removable: vbd.cdrom,
        backend: match &vbd.backend {
            Backend::Qdisk => None,
            Backend::Other(kind) => Some(kind.clone()),
        },
    }
}

pub(super) fn spec_kept(disk: &XenDisk) -> DiskSpec {
    DiskSpec::new(disk.disk.clone(), disk.image.clone(), disk.format.clone())
}

pub(super) fn spec(vbd: &Vbd, node: Option<String>) -> DiskSpec {
    DiskSpec { node, ..DiskSpec::new(vbd.name.clone(), vbd.image.clone(), vbd.format.clone()) }
}

/// A disk that no snapshot is taken of.
fn untaken(vbd: &Vbd, why: Option<&str>) -> Disk {
    let why = Can::no(why.unwrap_or("the guest cannot write to it"));
    Disk {
        read_only: vbd.read_only,
        removable: vbd.cdrom,
        identity: identity(&vbd.image),
        internal: why.clone(),
        external: why.clone(),
        revert: why,
        ..Disk::new(vbd.name.clone(), &vbd.image, vbd.format.clone(), vbd.size)
    }
}

fn untaken_off(disk: &XenDisk) -> Disk {
    let why = disk.backend.as_deref().map_or_else(|| "the guest cannot write to it".to_owned(), not_qemus);
    let why = Can::no(why);
    Disk {
        read_only: disk.read_only,
        removable: disk.removable,
        identity: identity(&disk.image),
        internal: why.clone(),
        external: why.clone(),
        revert: why,
        ..Disk::new(disk.disk.clone(), &disk.image, disk.format.clone(), 0)
    }
}

/// Which file or device an image is; `None` where it cannot be looked at.
fn identity(image: &str) -> Option<FileIdentity> {
    let found = std::fs::metadata(image).ok()?;
    Some(if found.file_type().is_block_device() {
        FileIdentity { device: found.rdev(), inode: 0 }
    } else {
        FileIdentity { device: found.dev(), inode: found.ino() }
    })
}

fn not_qemus(backend: &str) -> String {
    format!("its backend is {backend}, and only QEMU's (qdisk) takes snapshots")
}
