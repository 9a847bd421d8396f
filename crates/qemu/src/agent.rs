//! The agent inside a domain's guest.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use xlsnap_guest_agent::{Client, Error};
use xlsnap_orchestrator::{Agent, PortError};

use crate::error;

/// The agent behind a Unix socket, the host's end of the guest's port `org.qemu.guest_agent.0`.
///
/// It connects for each request and leaves again: the socket serves one client, and what holds still does so without us. So a
/// freeze of one process is thawed by another, after a crash too.
#[derive(Debug, Clone)]
pub struct GuestAgent {
    socket: PathBuf,
}

impl GuestAgent {
    /// The agent at `socket`. Whether there is one, the first request tells.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Connects, and gives what is left of `bound`.
    async fn connect(&self, bound: Duration) -> Result<(Client, Duration), Error> {
        let start = Instant::now();
        let client = Client::connect_unix(&self.socket, bound).await?;
        Ok((client, bound.saturating_sub(start.elapsed())))
    }
}

#[async_trait]
impl Agent for GuestAgent {
    async fn freeze(&self, bound: Duration) -> Result<u32, PortError> {
        let frozen = match self.connect(bound).await {
            Ok((mut client, left)) => client.freeze(left).await,
            Err(error) => Err(error),
        };
        frozen.map_err(|error| {
            error::of_agent("the guest's agent did not freeze its file systems".into(), error)
        })
    }

    async fn thaw(&self, bound: Duration) -> Result<u32, PortError> {
        let thawed = match self.connect(bound).await {
            Ok((mut client, left)) => client.thaw(left).await,
            Err(error) => Err(error),
        };
        thawed
            .map_err(|error| error::of_agent("the guest's agent did not thaw its file systems".into(), error))
    }
}
