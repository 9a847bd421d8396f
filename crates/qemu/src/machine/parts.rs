//! The composite, and what it is made of.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use xlsnap_orchestrator::{Port, Ports};
use xlsnap_qemu_img::QemuImg;
use xlsnap_qmp_transport::Client;
use xlsnap_types::model::DomainName;

use super::state::{On, State};
use crate::memory::save::Begun;
use crate::process::Process;
use crate::{Description, DiskSpec, Saves};

/// What a [`Machine`] is made of.
pub struct MachineParts {
    /// What people call the domain: for messages.
    pub name: DomainName,
    /// Its disks, as its description has them; without any, all disks that its QEMU has while it runs.
    pub disks: Vec<DiskSpec>,
    /// Where a disk's new image is written down.
    pub description: Arc<dyn Description>,
    /// qemu-img.
    pub qemu_img: Arc<dyn QemuImg>,
    /// The process that it has or may get; `None` for a domain without a monitor's socket, and for one without
    /// a description. One whose description has no `[start]` ([`crate::process::Launch::start`]) is never ended here.
    pub process: Option<Process>,
    /// The monitor of the QEMU that has its disks; `None` while it is off.
    pub monitor: Option<Client>,
    /// The directory of its memory files, unless a request names another; absolute.
    pub memory: PathBuf,
    /// A directory for sockets and files that are thrown away, which no other user can write to, and QEMU can; absolute, and
    /// short: a socket's path has 107 bytes at most, of which at most 40 are the file's name.
    pub sockets: PathBuf,
}

/// A domain of QEMU, on or off: its disks, its guest, its memory, its process.
///
/// While its QEMU has the disks they are that process's, as [`crate::Live`]; while no process has, or QEMU has let go of them
/// ([`xlsnap_orchestrator::Release`]), they are files, as [`crate::Images`]. It is on from the beginning when there is a
/// monitor, and goes off and on by [`xlsnap_orchestrator::Power`].
///
/// # Cancel safety
/// As its ports say. What a dropped future leaves behind, another `Machine` for the same domain finds and puts right:
/// nothing that matters is known to this one alone.
pub struct Machine {
    pub(super) name: DomainName,
    pub(super) description: Arc<dyn Description>,
    pub(super) qemu_img: Arc<dyn QemuImg>,
    pub(super) saves: Saves,
    pub(super) sockets: PathBuf,
    /// As described, with what was adopted since.
    specs: Mutex<Vec<DiskSpec>>,
    process: Option<Mutex<Process>>,
    state: Mutex<State>,
    /// The save that goes on.
    pub(super) saving: tokio::sync::Mutex<Option<Begun>>,
}

impl Machine {
    /// These ports with all that the domain has beside its disks and its guest.
    pub fn offer<'a>(&'a self, ports: Ports<'a>) -> Ports<'a> {
        Ports {
            commands: Port::Has(self),
            overlays: Port::Has(self),
            layers: Port::Has(self),
            names: Port::Has(self),
            pause: Port::Has(self),
            memory: Port::Has(self),
            inside: Port::Has(self),
            memory_files: Port::Has(self),
            power: Port::Has(self),
            release: Port::Has(self),
            health: Port::Has(self),
            ..ports
        }
    }

    /// The domain that is made of these parts. Nothing is asked yet.
    pub fn new(parts: MachineParts) -> Self {
        let MachineParts { name, disks, description, qemu_img, process, monitor, memory, sockets } = parts;
        let machine = Self {
            name,
            description,
            qemu_img,
            saves: Saves::new(memory),
            sockets,
            saving: tokio::sync::Mutex::default(),
            specs: Mutex::new(disks),
            process: process.map(Mutex::new),
            state: Mutex::new(State::Off),
        };
        if let Some(monitor) = monitor {
            machine.connected(monitor);
        }
        machine
    }

    /// Closes the monitor, if there is one, so that its next client finds no reply of ours. Every later call of a port fails.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection at once.
    pub async fn close(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Closed);
        if let State::On(on) = state {
            on.close().await;
        }
    }

    /// QEMU's version, while it is on.
    pub fn qemu_version(&self) -> Option<(u32, u32, u32)> {
        match &*self.lock() {
            State::On(on) => Some(xlsnap_qmp_transport::Qmp::version(&*on.client)),
            _ => None,
        }
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is on from now on.
    pub(super) fn connected(&self, monitor: Client) {
        let on = On::new(monitor, self.qemu_img.clone(), self.specs(), self.description.clone());
        *self.lock() = State::On(Arc::new(on));
    }

    /// The disks as they are described.
    pub(super) fn specs(&self) -> Vec<DiskSpec> {
        self.specs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process, with the disks that it would be started with now.
    pub(super) fn process(&self) -> Option<Process> {
        self.process.as_ref().map(|process| process.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Changes the described disks, everywhere.
    pub(super) fn change_specs(&self, change: impl Fn(&mut Vec<DiskSpec>)) {
        change(&mut self.specs.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(process) = &self.process {
            change(process.lock().unwrap_or_else(PoisonError::into_inner).disks_mut());
        }
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("name", &self.name)
            .field("specs", &self.specs())
            .finish_non_exhaustive()
    }
}
