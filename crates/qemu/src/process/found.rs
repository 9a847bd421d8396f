//! Looking for the process that a domain has.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport as qmp;

use super::{Begun, Identity, Launch, Peer, Run, RunRecord, StartSpec, Written, log, mark};
use crate::DiskSpec;

/// How long a process may be about to become its program, on a machine that is very busy.
const BECOMING: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(5);

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
    /// When it was started, in seconds since 1970; `None` of one that was not started here.
    pub since: Option<u64>,
    /// Its monitor, or why it cannot be used.
    pub monitor: Result<qmp::Client, NoMonitor>,
}

/// Why a process that lives has no monitor for us.
#[derive(Debug)]
pub enum NoMonitor {
    /// Nothing listens at its socket.
    NoListener,
    /// It does not greet, because it serves another client, or is stopped.
    Silent(qmp::Error),
    /// What answers there is another process, or no monitor.
    Other(String),
}

/// What was started here and lives.
struct Ours {
    first: Run,
    /// Further processes of a start that was only begun.
    others: Vec<Identity>,
    begun: bool,
}

impl Ours {
    fn of_begun(begun: Begun) -> Option<Self> {
        let mut processes = mark::processes(begun.start).into_iter();
        let first = Run { process: processes.next()?, since: begun.since };
        Some(Self { first, others: processes.collect(), begun: true })
    }

    /// The one of them that serves the monitor.
    fn of(&self, peer: &Peer) -> Option<Identity> {
        std::iter::once(&self.first.process).chain(&self.others).find(|ours| peer.is(ours)).copied()
    }

    /// Whether it is no more than what a start that was cut short left running beside another QEMU.
    fn is_left_behind(&self, answer: &Answer) -> bool {
        self.begun && matches!(answer, Answer::Monitor(client) if self.of(&Peer::of(client)).is_none())
    }
}

enum Answer {
    Monitor(qmp::Client),
    NoListener,
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

    /// Whether the process that serves a monitor was started for the domain here.
    ///
    /// # Errors
    /// When what is written down cannot be read, or `/proc` cannot.
    pub(crate) fn is_ours(&self, peer: &Peer) -> Result<bool, PortError> {
        Ok(self.ours()?.is_some_and(|ours| ours.of(peer).is_some()))
    }

    /// What was started for the domain here and lives.
    fn ours(&self) -> Result<Option<Ours>, PortError> {
        Ok(match self.record.load()? {
            Some(Written::Started(run)) if self.lives(&run.process)? => {
                Some(Ours { first: run, others: Vec::new(), begun: false })
            }
            Some(Written::Begun(begun)) => Ours::of_begun(begun),
            _ => None,
        })
    }

    /// The process that the domain has now; `None` when it is off.
    ///
    /// # Errors
    /// When what is written down of it cannot be read; [`PortErrorKind::Busy`] when what listens at the socket does not greet,
    /// and no process is written down.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn find(&self) -> Result<Option<Found>, PortError> {
        self.settle().await?;
        let ours = self.ours()?;
        let answer = self.ask().await;
        let Some(ours) = ours.filter(|ours| !ours.is_left_behind(&answer)) else {
            return match answer {
                Answer::NoListener => Ok(None),
                Answer::Monitor(client) => {
                    let process = Peer::of(&client).process();
                    Ok(Some(Found { process, since: None, monitor: Ok(client) }))
                }
                Answer::Silent(e) | Answer::Other(e) => {
                    let message = format!("the monitor of domain {} cannot be used", self.domain.name);
                    Err(PortError::new(PortErrorKind::Busy, Effect::None, message).with_source(e))
                }
            };
        };
        let mut process = ours.first.process;
        let monitor = match answer {
            Answer::Monitor(client) => {
                let peer = Peer::of(&client);
                match ours.of(&peer) {
                    Some(server) => {
                        process = server;
                        Ok(client)
                    }
                    None => Err(NoMonitor::Other(match peer.process() {
                        Some(other) => format!("process {} answers at the socket", other.pid),
                        None => "another process answers at the socket".to_owned(),
                    })),
                }
            }
            Answer::NoListener => Err(NoMonitor::NoListener),
            Answer::Silent(e) => Err(NoMonitor::Silent(e)),
            Answer::Other(e) => Err(NoMonitor::Other(e.to_string())),
        };
        Ok(Some(Found { process: Some(process), since: Some(ours.first.since), monitor }))
    }

    /// Waits until the process of a start that was cut off is known, or is not there: one that is about to become its program has no mark
    /// for a moment, and has the log.
    async fn settle(&self) -> Result<(), PortError> {
        let Some(Written::Begun(begun)) = self.record.load()? else { return Ok(()) };
        let begin = Instant::now();
        let is_hidden = || mark::processes(begun.start).is_empty() && log::is_held(&self.domain.log);
        while is_hidden() && begin.elapsed() < BECOMING {
            sleep(SOON).await;
        }
        Ok(())
    }

    /// The processes of a start that did not come to its end, the oldest first.
    pub(super) fn unfinished(&self) -> Result<Vec<Identity>, PortError> {
        Ok(match self.record.load()? {
            Some(Written::Begun(begun)) => mark::processes(begun.start),
            _ => Vec::new(),
        })
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
            Err(e) if e.no_listener(&self.domain.qmp) => Answer::NoListener,
            Err(e) => match e.kind() {
                qmp::Kind::Busy | qmp::Kind::TimedOut => Answer::Silent(e),
                // It ends just now, as a monitor that another client leaves does not.
                qmp::Kind::Disconnected => match connect(&self.domain.qmp, self.greeting_wait).await {
                    Ok(client) => Answer::Monitor(client),
                    Err(again) if again.no_listener(&self.domain.qmp) => Answer::NoListener,
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
