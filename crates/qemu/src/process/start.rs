//! Starting a domain's process.

use std::os::unix::fs::FileTypeExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport as qmp;

use super::found::connect;
use super::log::Log;
use super::{Found, Identity, Process, Run, argv};

/// How a process is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOptions {
    /// Whether the guest waits for `cont` (`-S`).
    pub paused: bool,
    /// Whether it waits for the state of another QEMU, to be sent where `migrate-incoming` says (`-incoming defer`).
    pub incoming: bool,
    /// How long the monitor has until it greets. 30 s by default.
    pub wait: Duration,
    /// Where it runs.
    pub place: Place,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { paused: false, incoming: false, wait: Duration::from_secs(30), place: Place::Apart }
    }
}

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a session of its own, so that it outlives ours and its terminal; what it prints goes to the log.
    Apart,
    /// On our terminal, with our standard input and output.
    Here,
}

/// A process that was started, and greets.
#[derive(Debug)]
pub struct Started {
    /// Which.
    pub run: Run,
    /// Its monitor.
    pub monitor: qmp::Client,
    child: Child,
    _log: Log,
}

impl Started {
    /// Waits until it ends; its monitor is closed before, for others. The log's lock is held until then.
    ///
    /// # Errors
    /// When it cannot be waited for.
    ///
    /// # Cancel safety
    /// The process goes on.
    pub async fn wait(self) -> std::io::Result<ExitStatus> {
        let Self { monitor, mut child, _log, .. } = self;
        monitor.close().await;
        child.wait().await
    }

    /// Leaves the process alone, and keeps its monitor.
    pub(crate) fn into_monitor(self) -> qmp::Client {
        self.monitor
    }
}

impl Process {
    /// Starts the process, writes down which it is, and waits until its monitor greets.
    ///
    /// The directory that it runs in is `/`: a relative name in the description would mean something else each time.
    ///
    /// # Errors
    /// [`PortErrorKind::AlreadyExists`] when the domain runs already, [`PortErrorKind::Busy`] when somebody is just starting it
    /// or holds its monitor, [`PortErrorKind::Refused`] when the description has nothing to start it from. When QEMU ends
    /// instead of greeting, or takes too long and is killed, the error has the end of what it printed.
    ///
    /// # Cancel safety
    /// A process that was started goes on, and is found again.
    pub async fn start(&self, options: &StartOptions) -> Result<Started, PortError> {
        let is_device =
            |file: &str| std::fs::metadata(file).is_ok_and(|metadata| metadata.file_type().is_block_device());
        let line = argv(&self.domain, options, &is_device)?;
        // QEMU takes a socket's path away from whoever listens there, so it has to be nobody.
        if let Some(found) = self.find().await? {
            return Err(self.runs(&found));
        }
        let log = Log::open(&self.domain)?;
        let mut child = self.spawn(&line, options.place, &log)?;
        tracing::debug!(domain = %self.domain.name, pid = child.id(), ?line, "started");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let process = match child.id().map(Identity::of) {
            Some(Ok(Some(process))) => process,
            // It has ended, or this kernel has no /proc: then it could not be known again.
            _ => return Err(self.gave_up(child, &log, "ended at once").await),
        };
        let run = Run { process, since };
        if let Err(e) = self.record.store(&run) {
            // One that is not written down would be a stranger to the next program.
            let _ = child.kill().await;
            return Err(e);
        }
        match self.greeted(&mut child, options.wait).await {
            Ok(monitor) => Ok(Started { run, monitor, child, _log: log }),
            Err(why) => Err(self.gave_up(child, &log, why).await),
        }
    }

    fn runs(&self, found: &Found) -> PortError {
        let pid = found.process.map(|process| format!(" (process {})", process.pid)).unwrap_or_default();
        let message = format!("domain {} runs already{pid}", self.domain.name);
        PortError::new(PortErrorKind::AlreadyExists, Effect::None, message)
    }

    fn spawn(&self, line: &[String], place: Place, log: &Log) -> Result<Child, PortError> {
        let cannot = |e: std::io::Error| {
            let message = format!("domain {}: {} cannot be run", self.domain.name, line[0]);
            PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e)
        };
        let mut command = match place {
            Place::Here => {
                let mut command = Command::new(&line[0]);
                command.args(&line[1..]);
                command
            }
            Place::Apart => {
                // setsid(1) becomes the program itself, with the pid that we know: a child is no leader of a group yet.
                let mut command = Command::new("setsid");
                let out = log.file.try_clone().map_err(cannot)?;
                let err = log.file.try_clone().map_err(cannot)?;
                command.arg("--").args(line).stdin(Stdio::null()).stdout(out).stderr(err);
                command
            }
        };
        command.current_dir("/").kill_on_drop(false).spawn().map_err(cannot)
    }

    /// Waits for the greeting of our own child; an error says what it did instead.
    async fn greeted(&self, child: &mut Child, wait: Duration) -> Result<qmp::Client, &'static str> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("did not open its monitor in time, and was ended");
            }
            tokio::select! {
                biased;
                _ = child.wait() => return Err("ended at once"),
                answer = connect(&self.domain.qmp, left) => match answer {
                    Ok(client) if client.peer_pid() == child.id() => return Ok(client),
                    Ok(_) => return Err("is not who answers at its socket, and was ended"),
                    Err(e) if e.nobody_listens(&self.domain.qmp) => {}
                    Err(e) => tracing::debug!(domain = %self.domain.name, error = %e, "no greeting yet"),
                },
            }
            // A child that ends wakes the wait.
            if timeout(Duration::from_millis(10).min(left), child.wait()).await.is_ok() {
                return Err("ended at once");
            }
        }
    }

    /// Ends a process that was just started and is of no use; `why` is what it did, as a clause.
    pub(crate) async fn give_up(&self, started: Started, why: &str) -> PortError {
        let Started { monitor, child, _log: log, .. } = started;
        drop(monitor);
        self.gave_up(child, &log, why).await
    }

    /// Sees to it that the child has ended, and says what became of it.
    async fn gave_up(&self, mut child: Child, log: &Log, why: &str) -> PortError {
        let _ = child.start_kill();
        let status = child.wait().await.map(|status| format!(" ({status})")).unwrap_or_default();
        // What stays behind is a process that has ended, and is known as such.
        let _ = self.record.clear();
        let mut message = format!("domain {}: QEMU {why}{status}", self.domain.name);
        let tail = log.tail();
        if !tail.is_empty() {
            message = format!("{message}; it said:\n{tail}");
        }
        PortError::new(PortErrorKind::Failed, Effect::None, message)
    }
}

/// Waits until a process has ended, for `wait` at most; whether it has.
pub(super) async fn ended(process: &Identity, wait: Duration) -> std::io::Result<bool> {
    let deadline = Instant::now().checked_add(wait);
    loop {
        if !process.lives()? {
            return Ok(true);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(false);
        }
        sleep(Duration::from_millis(5)).await;
    }
}
