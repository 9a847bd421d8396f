//! Starting a domain's process.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport as qmp;

use super::found::connect;
use super::log::Log;
use super::{
    Begun, Found, Identity, Missing, Need, Peer, Process, Program, Run, StartFacts, Thing, Written, argv,
    mark, missing, needs,
};

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
    /// [`PortErrorKind::AlreadyExists`] when the domain runs already, [`PortErrorKind::Busy`] when another process is just starting it
    /// or holds its monitor, [`PortErrorKind::Refused`] when the description has nothing to start it from. When QEMU ends
    /// instead of greeting, or takes too long and is killed, the error has the end of what it printed.
    ///
    /// # Cancel safety
    /// A process that was started goes on, and is found again.
    pub async fn start(&self, options: &StartOptions) -> Result<Started, PortError> {
        let line = self.line(options)?;
        // QEMU takes a socket's path away from the process that listens there, so there must be none.
        if let Some(found) = self.find().await? {
            return Err(self.runs(&found));
        }
        let log = Log::open(&self.domain)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let begun = Begun { start: Uuid::new_v4(), since };
        self.record.store(&Written::Begun(begun))?;
        let mut child = match self.spawn(&line, options.place, &log, begun.start) {
            Ok(child) => child,
            Err(e) => {
                let _ = self.record.clear();
                return Err(e);
            }
        };
        tracing::debug!(domain = %self.domain.name, pid = child.id(), ?line, "started");
        let (monitor, process) = match self.greeted(&mut child, begun.start, options.wait).await {
            Ok(greeted) => greeted,
            Err(why) => return Err(self.gave_up(child, None, &log, why).await),
        };
        let run = Run { process, since };
        match self.record.store(&Written::Started(run)) {
            Ok(()) => Ok(Started { run, monitor, child, _log: log }),
            Err(cause) => {
                drop(monitor);
                self.gave_up(child, Some(&process), &log, "was ended").await;
                Err(cause)
            }
        }
    }

    fn line(&self, options: &StartOptions) -> Result<Vec<String>, PortError> {
        let is_device =
            |file: &str| std::fs::metadata(file).is_ok_and(|metadata| metadata.file_type().is_block_device());
        argv(&self.domain, options, &is_device)
    }

    /// The first word of the command line that would be run now, as it is given.
    pub(crate) fn command(&self) -> Result<String, PortError> {
        Ok(self.line(&StartOptions::default())?.swap_remove(0))
    }

    /// The program that would be started now; the one that the command line's first word means.
    pub(crate) fn program(&self) -> Result<Program, PortError> {
        let line = self.line(&StartOptions::default())?;
        Ok(Program::find(&line[0], std::env::var_os("PATH").as_deref()))
    }

    /// What a start of the domain needs and is not there now. Only what is understood of its command line is looked for, and
    /// what cannot be told is taken to be there. `is_on` tells that the domain runs, and would be ended before.
    ///
    /// # Errors
    /// [`PortErrorKind::Refused`] when the description has nothing to start it from, as [`argv()`] says.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn missing_for_start(&self, is_on: bool) -> Result<Vec<Missing>, PortError> {
        let (line, program) = (self.line(&StartOptions::default())?, self.program()?);
        // What is made before a start may be missing.
        let is_made = |need: &Need| match &need.thing {
            Thing::Place(path) => {
                let made = self.domain.sockets.as_deref();
                made.is_some_and(|made| Path::new(path).parent() == Some(made))
            }
            _ => false,
        };
        let needs = needs(&line).into_iter().filter(|need| !is_made(need));
        Ok(missing::of(needs.collect(), &program, is_on))
    }

    /// What a start of the domain would give its guest, as far as its command line and its program tell.
    ///
    /// # Errors
    /// As [`Process::missing_for_start`].
    pub fn start_facts(&self) -> Result<StartFacts, PortError> {
        let (line, program) = (self.line(&StartOptions::default())?, self.program()?);
        Ok(StartFacts::of(&line).started_by(&program))
    }

    fn runs(&self, found: &Found) -> PortError {
        let pid = found.process.map(|process| format!(" (process {})", process.pid)).unwrap_or_default();
        let message = format!("domain {} runs already{pid}", self.domain.name);
        PortError::new(PortErrorKind::AlreadyExists, Effect::None, message)
    }

    fn spawn(&self, line: &[String], place: Place, log: &Log, start: Uuid) -> Result<Child, PortError> {
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
        command.env(mark::VARIABLE, start.to_string());
        command.current_dir("/").kill_on_drop(false).spawn().map_err(cannot)
    }

    /// Waits for the greeting of our own child, or of what it started in its session; an error says what it did instead.
    async fn greeted(
        &self,
        child: &mut Child,
        start: Uuid,
        wait: Duration,
    ) -> Result<(qmp::Client, Identity), &'static str> {
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
                    Ok(client) => return match server(&client, child, start) {
                        Some(process) => Ok((client, process)),
                        None => Err("is not what answers at its socket, and was ended"),
                    },
                    Err(e) if e.no_listener(&self.domain.qmp) => {}
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
        let Started { run, monitor, child, _log: log } = started;
        drop(monitor);
        self.gave_up(child, Some(&run.process), &log, why).await
    }

    /// Sees to it that the child has ended, and what it started with it, and says what became of it. `server` is the process that serves
    /// the monitor, as far as that is known: a wrapper may stay beside its QEMU.
    async fn gave_up(&self, mut child: Child, server: Option<&Identity>, log: &Log, why: &str) -> PortError {
        /// A process that was killed ends at once, unless its disk hangs.
        const ENDS: Duration = Duration::from_secs(5);
        let started = self.unfinished().unwrap_or_default();
        if let Some(server) = server.filter(|server| Some(server.pid) != child.id()) {
            let _ = server.signal(Signal::KILL);
            let _ = ended(server, ENDS).await;
        }
        let _ = child.start_kill();
        for process in started.into_iter().filter(|process| Some(process.pid) != child.id()) {
            let _ = process.signal(Signal::KILL);
        }
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

/// The process of this start that serves the monitor; `None` when another does.
fn server(client: &qmp::Client, child: &Child, start: Uuid) -> Option<Identity> {
    let peer = Peer::of(client);
    let child = Identity::of(child.id()?).ok().flatten();
    match peer.process() {
        // A wrapper that does not become QEMU has it as its child, in its session, and with its environment, as a rule.
        Some(server) => {
            let with_child =
                child.is_some_and(|child| server == child || server.session() == Some(child.pid));
            (with_child || mark::has(server.pid, start)).then_some(server)
        }
        None => child.filter(|child| peer.is(child)),
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
