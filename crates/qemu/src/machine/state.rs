//! Whether the domain is on, and who has its disks.

use std::sync::{Arc, Mutex, PoisonError};

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qemu_img::QemuImg;
use xlsnap_qmp_transport::Client;

use super::Machine;
use crate::{Description, DiskSpec, Images, Live};

/// Whether it is on.
pub(super) enum State {
    Off,
    On(Arc<On>),
    Closed,
}

/// A QEMU, or a storage daemon, that has the domain's disks.
pub(super) struct On {
    pub(super) client: Arc<Client>,
    pub(super) live: Live,
    /// The images, while it has let go of them.
    released: Mutex<Option<Arc<Images>>>,
}

impl On {
    pub(super) fn new(
        client: Client,
        qemu_img: Arc<dyn QemuImg>,
        specs: Vec<DiskSpec>,
        description: Arc<dyn Description>,
    ) -> Self {
        let client = Arc::new(client);
        let live = Live::new(client.clone(), qemu_img, specs, description);
        // People start QEMU with relative file names.
        let live = match client.peer_pid() {
            Some(pid) => live.in_directory_of(pid),
            None => live,
        };
        Self { client, live, released: Mutex::default() }
    }

    /// Closes the monitor in order, unless somebody still uses it.
    pub(super) async fn close(self: Arc<Self>) {
        let Some(Self { client, live, .. }) = Arc::into_inner(self) else { return };
        drop(live);
        if let Some(client) = Arc::into_inner(client) {
            client.close().await;
        }
    }

    pub(super) fn released(&self) -> Option<Arc<Images>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who answers for the disks now.
pub(super) enum Holder {
    Live(Arc<On>),
    Images(Arc<Images>),
}

impl Machine {
    pub(super) fn holder(&self) -> Result<Holder, PortError> {
        match &*self.lock() {
            State::Off => Ok(Holder::Images(Arc::new(self.images(self.specs())))),
            State::On(on) => Ok(on.released().map_or_else(|| Holder::Live(on.clone()), Holder::Images)),
            State::Closed => Err(self.closed()),
        }
    }

    /// Its QEMU; `None` while it is off.
    pub(super) fn on(&self) -> Result<Option<Arc<On>>, PortError> {
        match &*self.lock() {
            State::Off => Ok(None),
            State::On(on) => Ok(Some(on.clone())),
            State::Closed => Err(self.closed()),
        }
    }

    pub(super) fn images(&self, disks: Vec<DiskSpec>) -> Images {
        Images::new(disks, self.qemu_img.clone(), self.description.clone())
    }

    fn closed(&self) -> PortError {
        let message = format!("the monitor of domain {} was closed", self.name);
        PortError::new(PortErrorKind::Unreachable, Effect::None, message)
    }
}
