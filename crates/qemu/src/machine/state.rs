//! Whether the domain is on, and what has its disks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::time::sleep;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qemu_img::QemuImg;
use xlsnap_qmp_transport::{Client, Features, Qmp};

use super::Machine;
use crate::memory::input::Qemu;
use crate::process::{Identity, Peer};
use crate::{Description, DiskSpec, Images, Live, error};

/// Whether it is on.
pub(super) enum State {
    Off,
    On(Arc<On>),
    /// Nothing is known any more.
    Closed,
}

/// A QEMU, or a storage daemon, that has the domain's disks.
pub(super) struct On {
    pub(super) client: Arc<Client>,
    pub(super) live: Live,
    peer: Peer,
    features: OnceCell<Features>,
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
        let peer = Peer::of(&client);
        let live = match peer.process() {
            // People start QEMU with relative file names.
            Some(process) => live.in_directory_of(&process),
            None => live,
        };
        Self { client, live, peer, features: OnceCell::new(), released: Mutex::default() }
    }

    /// The process that serves its monitor.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Its process; `None` when the kernel does not tell.
    pub(super) fn process(&self) -> Option<Identity> {
        self.peer.process()
    }

    /// Its process's number, as [`Self::process`].
    pub(super) fn pid(&self) -> Option<u32> {
        self.process().map(|process| process.pid)
    }

    /// For what is done with its memory.
    pub(super) fn qemu(&self) -> Qemu<'_> {
        Qemu { qmp: self.qmp(), process: self.pid() }
    }

    pub(super) fn qmp(&self) -> &dyn Qmp {
        &*self.client
    }

    /// Closes the monitor in order, unless it is still in use.
    pub(super) async fn close(self: Arc<Self>) {
        let Some(Self { client, live, .. }) = Arc::into_inner(self) else { return };
        drop(live);
        if let Some(client) = Arc::into_inner(client) {
            client.close().await;
        }
    }

    /// The commands that it has.
    pub(super) async fn features(&self) -> Result<&Features, PortError> {
        let unknown = |e| error::of_query("QEMU could not be asked for its commands".into(), e);
        self.features.get_or_try_init(|| Features::query(self.qmp())).await.map_err(unknown)
    }

    pub(super) fn released(&self) -> Option<Arc<Images>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_released(&self, images: Option<Images>) {
        *self.released.lock().unwrap_or_else(PoisonError::into_inner) = images.map(Arc::new);
        self.live.forget();
    }

    fn has_ended(&self) -> bool {
        self.process().is_some_and(|process| process.lives().is_ok_and(|lives| !lives))
    }
}

/// What answers for the disks now.
pub(super) enum Holder {
    Live(Arc<On>),
    Images(Arc<Images>),
}

impl Machine {
    pub(super) fn holder(&self) -> Result<Holder, PortError> {
        Ok(match self.on()? {
            None => Holder::Images(Arc::new(self.images(self.specs()))),
            Some(on) => match on.released() {
                Some(images) => Holder::Images(images),
                None => Holder::Live(on),
            },
        })
    }

    /// Its QEMU; `None` while it is off.
    pub(super) fn on(&self) -> Result<Option<Arc<On>>, PortError> {
        match &*self.lock() {
            State::Off => Ok(None),
            State::On(on) => Ok(Some(on.clone())),
            State::Closed => {
                let message = format!("the monitor of domain {} was closed", self.name);
                Err(PortError::new(PortErrorKind::Unreachable, Effect::None, message))
            }
        }
    }

    /// The same; one whose process has ended since is off from now on.
    pub(super) fn living(&self) -> Result<Option<Arc<On>>, PortError> {
        let on = self.on()?;
        if on.as_ref().is_some_and(|on| on.has_ended()) {
            *self.lock() = State::Off;
            return Ok(None);
        }
        Ok(on)
    }

    /// Its QEMU, for something that is done only while it is on.
    pub(super) fn must_live(&self) -> Result<Arc<On>, PortError> {
        self.living()?.ok_or_else(|| self.refused("it is off"))
    }

    /// Whether its QEMU, which does not answer any more, has ended: a process takes a moment to.
    pub(super) async fn has_died(&self, on: &On) -> bool {
        let deadline = Instant::now() + Duration::from_secs(2);
        while on.process().is_some() && Instant::now() < deadline {
            if on.has_ended() {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    pub(super) fn images(&self, disks: Vec<DiskSpec>) -> Images {
        Images::new(disks, self.qemu_img.clone(), self.description.clone())
    }

    pub(super) fn refused(&self, why: &str) -> PortError {
        PortError::new(PortErrorKind::Refused, Effect::None, format!("domain {}: {why}", self.name))
    }
}
