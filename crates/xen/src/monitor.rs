//! A domain's monitor, connected when it is asked something and left again.
//!
//! libxl asks the same sockets, each of which serves one client at a time; an `xl save` of an HVM guest fails after 10 s while another
//! one holds the first (measured, Xen 4.17). So nothing is held from one use to the next.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, broadcast};
use xlsnap_qmp_transport::{self as qmp, Client, Effect, Error, EventStream, Kind, Qmp};

use crate::Domid;

/// The monitor of one running domain.
pub(crate) struct Monitor {
    sockets: [PathBuf; 2],
    /// Which of them is asked first: the one that answered last.
    first: Arc<AtomicUsize>,
    options: qmp::Options,
    client: Mutex<Option<Arc<Client>>>,
    version: StdMutex<(u32, u32, u32)>,
    events: broadcast::Sender<qmp::Event>,
}

impl Monitor {
    /// The socket that is asked first, at first: libxl waits for its own in vain while a long job is followed.
    pub(crate) const STATISTICS: usize = 1;

    /// The monitor of the domain `domid`, by the sockets that libxl makes in `directory`. `patience` is how long each has for its
    /// greeting; one that another client holds never greets. `first` remembers which one answered last.
    pub(crate) fn new(directory: &Path, domid: Domid, patience: Duration, first: Arc<AtomicUsize>) -> Self {
        let mut options = qmp::Options::default();
        options.greeting_timeout = patience;
        let sockets = ["libxl", "libxenstat"].map(|user| directory.join(format!("qmp-{user}-{domid}")));
        Self {
            sockets,
            first,
            options,
            client: Mutex::default(),
            version: StdMutex::default(),
            events: broadcast::Sender::new(1),
        }
    }

    /// Connects, unless it is connected.
    pub(crate) async fn enter(&self) -> Result<Arc<Client>, Error> {
        let mut held = self.client.lock().await;
        if let Some(client) = &*held {
            return Ok(Arc::clone(client));
        }
        let mut failure = None;
        let first = self.first.load(Ordering::Relaxed) % self.sockets.len();
        for at in [first, 1 - first] {
            let socket = &self.sockets[at];
            match Client::connect_unix(socket, self.options.clone()).await {
                Ok(client) => {
                    self.first.store(at, Ordering::Relaxed);
                    *self.version.lock().unwrap_or_else(PoisonError::into_inner) = client.version();
                    let client = Arc::new(client);
                    *held = Some(Arc::clone(&client));
                    return Ok(client);
                }
                Err(error) => {
                    tracing::debug!(socket = %socket.display(), %error, "this monitor is not to be had");
                    // A monitor that is busy says more than one that is not there.
                    if failure.as_ref().is_none_or(|told: &Error| told.kind() == Kind::Connect) {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.expect("libxl makes two sockets"))
    }

    /// The socket that libxl itself uses, if another client holds it now.
    pub(crate) async fn libxls_is_held(&self) -> Option<(&Path, Error)> {
        let socket = &self.sockets[0];
        match Client::connect_unix(socket, self.options.clone()).await {
            Ok(client) => {
                client.close().await;
                None
            }
            Err(error) if matches!(error.kind(), Kind::Busy | Kind::TimedOut) => Some((socket, error)),
            Err(_) => None,
        }
    }

    /// Leaves it to others.
    pub(crate) async fn leave(&self) {
        if let Some(client) = self.client.lock().await.take().and_then(Arc::into_inner) {
            client.close().await;
        }
    }

    /// Whether an error of [`Monitor::enter`] says that no QEMU is behind the sockets.
    pub(crate) async fn is_abandoned(&self) -> bool {
        for socket in &self.sockets {
            match Client::connect_unix(socket, self.options.clone()).await {
                Ok(client) => {
                    client.close().await;
                    return false;
                }
                Err(error) if error.kind() == Kind::Connect && error.no_listener(socket) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

#[async_trait]
impl Qmp for Monitor {
    async fn execute_raw(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        let client = self.enter().await.map_err(|error| error.with_effect(Effect::None))?;
        let result = client.execute_raw(command, arguments).await;
        if let Err(error) = &result
            && matches!(error.kind(), Kind::Disconnected | Kind::Protocol | Kind::TooLarge)
        {
            // The next one connects anew.
            drop(client);
            *self.client.lock().await = None;
        }
        result
    }

    /// None ever comes: a monitor that is left between two uses would miss some.
    fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    fn version(&self) -> (u32, u32, u32) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
