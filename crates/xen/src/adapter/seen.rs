//! A look at the disks.

use std::sync::Arc;

use xlsnap_orchestrator::{Disk, Disks, Effect, Inventory, PortError, PortErrorKind};
use xlsnap_qemu::{DiskSpec, Images, Live};
use xlsnap_qmp_transport::commands::QueryBlock;
use xlsnap_qmp_transport::{Kind, Qmp, QmpExt};
use xlsnap_types::model::{DiskName, Hypervisor, XenDisk};

use crate::domains::Domain;
use crate::error::of_monitor;
use crate::matching::{self, Place};
use crate::monitor::Monitor;
use crate::vbd::{self, Backend, Vbd};

use super::XlDomain;
use super::domain::ToolstacksOwn;

/// Why no overlay is put on a disk of Xen's.
pub(super) const NO_EXTERNAL: &str =
    "xl starts the domain from its own configuration, which would go on naming the image below the overlay";

/// More block devices than any QEMU of Xen's has.
const MAX_DEVICES: usize = 4096;

/// The disks of a domain while it runs, as they were when somebody looked.
pub(super) struct Seen {
    pub(super) domain: Domain,
    vbds: Vec<Vbd>,
    monitor: Arc<Monitor>,
    /// The disks that QEMU has and can take; `None` when there is none, or no QEMU.
    live: Option<Live>,
}

impl Seen {
    /// Lets `act` work on the disks in QEMU, and leaves the monitor to others.
    pub(super) async fn act<T>(
        &self,
        act: impl AsyncFnOnce(&Live) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let Some(live) = &self.live else {
            let message = format!("no disk of domain {} can be taken: QEMU has none", self.domain.name);
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        };
        let done = act(live).await;
        self.monitor.leave().await;
        done
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
        let (live, taken, places) = looked?;
        let hypervisor = taken.hypervisor.clone();
        let mut taken = taken.disks;
        let disks = vbds.iter().map(|vbd| match taken.iter().position(|disk| disk.name == vbd.name) {
            Some(at) => Disk { no_external: Some(NO_EXTERNAL.to_owned()), ..taken.swap_remove(at) },
            None => {
                let place = places.iter().find(|(name, _)| *name == vbd.name);
                untaken(vbd, place.map(|(_, why)| why.as_str()))
            }
        });
        let inventory = Inventory { disks: disks.collect(), hypervisor };
        self.remember(Some(Arc::new(Seen { domain, vbds, monitor, live })));
        Ok(inventory)
    }

    /// What was seen when somebody last looked, if nothing has changed since; looks otherwise.
    pub(super) async fn seen_now(&self, domain: Domain) -> Result<Arc<Seen>, PortError> {
        if let Some(seen) = self.seen().filter(|seen| seen.domain == domain)
            && vbd::list(&*self.context.store, domain.domid).await? == seen.vbds
        {
            return Ok(seen);
        }
        self.look_live(domain).await?;
        Ok(self.seen().expect("whoever looks remembers what was seen"))
    }

    /// What QEMU says of the disks that it may take, and why it has others not.
    async fn look_in_qemu(
        &self,
        domain: &Domain,
        vbds: &[Vbd],
        monitor: &Arc<Monitor>,
    ) -> Result<(Option<Live>, Inventory, Vec<(DiskName, String)>), PortError> {
        let mut wanted: Vec<&Vbd> = vbds.iter().filter(|vbd| !vbd.read_only && !vbd.cdrom).collect();
        let (qdisks, others): (Vec<&Vbd>, Vec<&Vbd>) =
            wanted.drain(..).partition(|vbd| vbd.backend == Backend::Qdisk);
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
        for vbd in qdisks.iter().chain(&others) {
            match matching::place(vbd, domain.kind, &devices, &matching::same_file) {
                Place::Node(node) => specs.push(spec(vbd, Some(node))),
                Place::Nowhere(why) => nowhere.push((vbd.name.clone(), why)),
            }
        }
        if specs.is_empty() {
            let (major, minor, micro) = monitor.version();
            let known = (major, minor, micro) != (0, 0, 0);
            let qemu = known.then(|| format!("{major}.{minor}.{micro}"));
            let hypervisor = Hypervisor { qemu, machine: None };
            return Ok((None, Inventory { disks: Vec::new(), hypervisor }, nowhere));
        }
        let qmp: Arc<dyn Qmp> = monitor.clone();
        let live = Live::new(qmp, self.context.qemu_img.clone(), specs, Arc::new(ToolstacksOwn));
        let inventory = live.inventory().await?;
        Ok((Some(live), inventory, nowhere))
    }

    /// The domain's QEMU has ended, and the domain has not: what its images hold can still be seen.
    async fn look_without_qemu(
        &self,
        qdisks: &[&Vbd],
        others: &[&Vbd],
    ) -> Result<(Option<Live>, Inventory, Vec<(DiskName, String)>), PortError> {
        const ENDED: &str = "the domain's QEMU has ended, so that nobody serves it; destroy the domain";
        let specs = qdisks.iter().map(|vbd| spec(vbd, None)).collect();
        let images = Images::new(specs, self.context.qemu_img.clone(), Arc::new(ToolstacksOwn));
        let mut inventory = images.inventory().await?;
        for disk in &mut inventory.disks {
            disk.no_internal = Some(ENDED.to_owned());
        }
        let nowhere = others.iter().map(|vbd| {
            let Backend::Other(backend) = &vbd.backend else { return (vbd.name.clone(), ENDED.to_owned()) };
            (vbd.name.clone(), not_qemus(backend))
        });
        Ok((None, inventory, nowhere.collect()))
    }

    fn no_monitor(&self, domain: &Domain, error: xlsnap_qmp_transport::Error) -> PortError {
        let why = match error.kind() {
            Kind::Busy | Kind::TimedOut => "are both held by other clients; end one of those, or try again",
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
        crate::usage::nobody_uses(&*self.context.store, &files(kept)).await?;
        let mut taken = images.inventory().await?.disks;
        let disks = kept.iter().map(|disk| match taken.iter().position(|of| of.name == disk.disk) {
            Some(at) => Disk { no_external: Some(NO_EXTERNAL.to_owned()), ..taken.swap_remove(at) },
            None => untaken_off(disk),
        });
        Ok(Inventory { disks: disks.collect(), hypervisor: Hypervisor::default() })
    }

    /// The images that can be worked on while it is off, and all disks.
    pub(super) fn images(&self) -> Result<(Images, &[XenDisk]), PortError> {
        let Some(kept) = &self.kept else {
            let message = format!(
                "domain {} is off, and nothing was kept of it but its records, so its disks are not known; start it",
                self.name
            );
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        };
        let specs = kept.disks.iter().filter(|disk| is_taken(disk)).map(|disk| DiskSpec {
            name: disk.disk.clone(),
            file: disk.image.clone(),
            format: disk.format.clone(),
            read_only: false,
            removable: false,
            node: None,
        });
        let images = Images::new(specs.collect(), self.context.qemu_img.clone(), Arc::new(ToolstacksOwn));
        Ok((images, &kept.disks))
    }
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

fn spec(vbd: &Vbd, node: Option<String>) -> DiskSpec {
    DiskSpec {
        name: vbd.name.clone(),
        file: vbd.image.clone(),
        format: vbd.format.clone(),
        read_only: false,
        removable: false,
        node,
    }
}

/// A disk that no snapshot is taken of.
fn untaken(vbd: &Vbd, why: Option<&str>) -> Disk {
    let why = Some(why.unwrap_or("the guest cannot write to it").to_owned());
    Disk {
        name: vbd.name.clone(),
        image: vbd.image.clone(),
        format: vbd.format.clone(),
        virtual_size: vbd.size,
        read_only: vbd.read_only,
        removable: vbd.cdrom,
        no_internal: why.clone(),
        no_external: why,
        snapshots: Vec::new(),
    }
}

fn untaken_off(disk: &XenDisk) -> Disk {
    let why = disk.backend.as_deref().map_or_else(|| "the guest cannot write to it".to_owned(), not_qemus);
    Disk {
        name: disk.disk.clone(),
        image: disk.image.clone(),
        format: disk.format.clone(),
        virtual_size: 0,
        read_only: disk.read_only,
        removable: disk.removable,
        no_internal: Some(why.clone()),
        no_external: Some(why),
        snapshots: Vec::new(),
    }
}

fn not_qemus(backend: &str) -> String {
    format!("its backend is {backend}, and only QEMU's (qdisk) takes snapshots")
}
