//! Looking for the process that a domain has.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport as qmp;

use super::{Identity, Launch, RunRecord, StartSpec};
use crate::DiskSpec;

/// The process that a domain has, or may get.
#[derive(Clone)]
pub struct Process {
    pub(super) domain: Launch,
    pub(super) record: Arc<dyn RunRecord>,
    /// How long a monitor has for its greeting.
    pub(super) greeting_wait: Duration,
}

/// A process that runs.
#[derive(Debug)]
pub struct Found {
    /// Which; `None` when a monitor answers whose process the kernel does not tell.
    pub process: Option<Identity>,
    /// When it was started, in seconds since 1970; `None` of one that somebody else started.
    pub since: Option<u64>,
    /// Its monitor, or why it cannot be used.
    pub monitor: Result<qmp::Client, NoMonitor>,
}

/// Why a process that lives has no monitor for us.
#[derive(Debug)]
pub enum NoMonitor {
    /// Nobody listens at its socket.
    Nobody,
    /// It does not greet, because it serves another client, or is stopped.
    Silent(qmp::Error),
    /// What answers there is another process, or no monitor.
    Other(String),
}

enum Answer {
    Monitor(qmp::Client),
    Nobody,
    Silent(qmp::Error),
    Other(qmp::Error),
}

impl Process {
    /// The process of `domain`, which `record` keeps; a monitor has `greeting_wait` for its greeting.
    pub fn new(domain: Launch, record: Arc<dyn RunRecord>, greeting_wait: Duration) -> Self {
        Self { domain, record, greeting_wait }
    }

    /// The disks that it is started with from now on.
    pub(crate) fn disks_mut(&mut self) -> &mut Vec<DiskSpec> {
        &mut self.domain.disks
    }

    /// What it is started from; `None` when its description does not say.
    pub(crate) fn start_spec(&self) -> Option<&StartSpec> {
        self.domain.start.as_ref()
    }

    /// The process that was started for the domain here and lives, as it was written down.
    pub(crate) fn written(&self) -> Result<Option<Identity>, PortError> {
        match self.record.load()? {
            Some(run) if self.lives(&run.process)? => Ok(Some(run.process)),
            _ => Ok(None),
        }
    }

    /// The process that the domain has now; `None` when it is off.
    ///
    /// # Errors
    /// When what is written down of it cannot be read; [`PortErrorKind::Busy`] when somebody listens at the socket who does not
    /// greet, and no process is written down.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn find(&self) -> Result<Option<Found>, PortError> {
        let written = match self.record.load()? {
            Some(run) if self.lives(&run.process)? => Some(run),
            _ => None,
        };
        let answer = self.ask().await;
        let Some(run) = written else {
            return match answer {
                Answer::Nobody => Ok(None),
                Answer::Monitor(client) => {
                    let process = match client.peer_pid() {
                        Some(pid) => Identity::of(pid).map_err(|e| self.unknown(e))?,
                        None => None,
                    };
                    Ok(Some(Found { process, since: None, monitor: Ok(client) }))
                }
                Answer::Silent(e) | Answer::Other(e) => {
                    let message = format!("the monitor of domain {} cannot be used", self.domain.name);
                    Err(PortError::new(PortErrorKind::Busy, Effect::None, message).with_source(e))
                }
            };
        };
        let monitor = match answer {
            Answer::Monitor(client) if client.peer_pid() == Some(run.process.pid) => Ok(client),
            Answer::Monitor(client) => Err(NoMonitor::Other(match client.peer_pid() {
                Some(pid) => format!("process {pid} answers at the socket"),
                None => "another process answers at the socket".to_owned(),
            })),
            Answer::Nobody => Err(NoMonitor::Nobody),
            Answer::Silent(e) => Err(NoMonitor::Silent(e)),
            Answer::Other(e) => Err(NoMonitor::Other(e.to_string())),
        };
        Ok(Some(Found { process: Some(run.process), since: Some(run.since), monitor }))
    }

    pub(super) fn lives(&self, process: &Identity) -> Result<bool, PortError> {
        process.lives().map_err(|e| self.unknown(e))
    }

    fn unknown(&self, e: io::Error) -> PortError {
        let message = format!("whether the process of domain {} lives cannot be known", self.domain.name);
        PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e)
    }

    async fn ask(&self) -> Answer {
        match connect(&self.domain.qmp, self.greeting_wait).await {
            Ok(client) => Answer::Monitor(client),
            Err(e) if e.nobody_listens(&self.domain.qmp) => Answer::Nobody,
            Err(e) => match e.kind() {
                qmp::Kind::Busy | qmp::Kind::TimedOut => Answer::Silent(e),
                // It ends just now, as a monitor that another client leaves does not.
                qmp::Kind::Disconnected => match connect(&self.domain.qmp, self.greeting_wait).await {
                    Ok(client) => Answer::Monitor(client),
                    Err(again) if again.nobody_listens(&self.domain.qmp) => Answer::Nobody,
                    Err(again) => Answer::Other(again),
                },
                _ => Answer::Other(e),
            },
        }
    }
}

pub(super) async fn connect(socket: &Path, greeting_wait: Duration) -> Result<qmp::Client, qmp::Error> {
    let mut options = qmp::Options::default();
    options.greeting_timeout = greeting_wait;
    qmp::Client::connect_unix(socket, options).await
}
