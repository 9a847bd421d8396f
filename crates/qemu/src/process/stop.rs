//! Ending a domain's process: asked, told, killed.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport::QmpExt;
use xlsnap_qmp_transport::client::Client;
use xlsnap_qmp_transport::commands::{QueryStatus, Quit, RunState, SystemPowerdown};

use super::start::ended;
use super::{Identity, NoMonitor, Process};

/// How patient each way of ending is. One of no time is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOptions {
    /// How long the guest has to shut down after its power button was pressed. 60 s by default.
    pub powerdown: Duration,
    /// How long QEMU has to end after it was told to. 10 s by default.
    pub quit: Duration,
    /// How long it has after SIGTERM, and again after SIGKILL. 5 s by default.
    pub kill: Duration,
}

impl Default for StopOptions {
    fn default() -> Self {
        Self {
            powerdown: Duration::from_secs(60),
            quit: Duration::from_secs(10),
            kill: Duration::from_secs(5),
        }
    }
}

impl StopOptions {
    /// Without asking the guest: as pulling the plug.
    pub fn at_once() -> Self {
        Self { powerdown: Duration::ZERO, ..Self::default() }
    }
}

/// What ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopWay {
    /// Nothing: it did not run.
    WasOff,
    /// The guest shut down.
    Powerdown,
    /// QEMU was told to end.
    Quit,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// A process that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// What ended it.
    pub way: StopWay,
    /// The pid that it had.
    pub pid: Option<u32>,
    /// Why the milder ways were not tried, or did not work; one sentence each.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Process {
    /// Ends the process: asks the guest to shut down, then tells QEMU to end, then kills it, each for its time.
    ///
    /// # Errors
    /// When it cannot be known which process it is, or nothing that was allowed ended it.
    ///
    /// # Cancel safety
    /// What was asked goes on; do it again to wait for it.
    pub async fn stop(&self, options: &StopOptions) -> Result<Stopped, PortError> {
        let begin = Instant::now();
        let Some(found) = self.find().await? else {
            let notes = self.forget().into_iter().collect();
            return Ok(Stopped { way: StopWay::WasOff, pid: None, notes, took: begin.elapsed() });
        };
        let Some(process) = found.process else {
            let message =
                format!("which process answers at the socket of domain {} cannot be known", self.domain.name);
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        };
        let mut notes = Vec::new();
        let mut way = None;
        let rest = if found.monitor.is_err() { self.unfinished()? } else { Vec::new() };
        match found.monitor {
            Ok(monitor) => {
                way = self.by_monitor(&process, &monitor, options, &mut notes).await?;
                monitor.close().await;
            }
            Err(NoMonitor::NoListener) => notes.push("nothing listens at its socket".to_owned()),
            Err(NoMonitor::Silent(e)) => notes.push(format!("its monitor does not greet: {e}")),
            Err(NoMonitor::Other(why)) => notes.push(format!("its monitor cannot be used: {why}")),
        }
        if way.is_none() && !options.kill.is_zero() {
            way = self.by_signal(&process, options.kill, &mut notes).await?;
        }
        let Some(way) = way else {
            let why = if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) };
            let message = format!("domain {} (process {}) has not ended{why}", self.domain.name, process.pid);
            return Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message));
        };
        // What a start that did not come to its end has started beside.
        for process in rest {
            self.signal(&process, Signal::KILL, "SIGKILL")?;
            self.ended(&process, options.kill).await?;
        }
        notes.extend(self.forget());
        Ok(Stopped { way, pid: Some(process.pid), notes, took: begin.elapsed() })
    }

    /// Removes what is written down of a process that has ended; why it stays. It does no harm: the process that it tells of is known to be gone.
    fn forget(&self) -> Option<String> {
        let error = self.record.clear().err()?;
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Some(format!("{error}{cause}"))
    }

    async fn by_monitor(
        &self,
        process: &Identity,
        monitor: &Client,
        options: &StopOptions,
        notes: &mut Vec<String>,
    ) -> Result<Option<StopWay>, PortError> {
        if !options.powerdown.is_zero() {
            // A guest that does not run hears nothing.
            match monitor.execute(QueryStatus).await {
                Ok(status) if status.running || status.status == RunState::Suspended => {
                    match monitor.execute(SystemPowerdown).await {
                        Ok(_) if self.ended(process, options.powerdown).await? => {
                            return Ok(Some(StopWay::Powerdown));
                        }
                        Ok(_) => {
                            notes.push(format!("the guest did not shut down in {:?}", options.powerdown));
                        }
                        Err(e) => notes.push(e.to_string()),
                    }
                }
                Ok(_) => notes.push("the guest is paused, so it was not asked to shut down".to_owned()),
                Err(e) => notes.push(e.to_string()),
            }
        }
        if !options.quit.is_zero() {
            // QEMU may close the connection before its answer is read; a refusal shows in its not ending.
            if let Err(e) = monitor.execute(Quit).await {
                tracing::debug!(domain = %self.domain.name, error = %e, "quit");
            }
            if self.ended(process, options.quit).await? {
                return Ok(Some(StopWay::Quit));
            }
            notes.push(format!("QEMU did not end in {:?} after it was told to", options.quit));
        }
        Ok(None)
    }

    async fn by_signal(
        &self,
        process: &Identity,
        wait: Duration,
        notes: &mut Vec<String>,
    ) -> Result<Option<StopWay>, PortError> {
        for (signal, name, way) in
            [(Signal::TERM, "SIGTERM", StopWay::Terminate), (Signal::KILL, "SIGKILL", StopWay::Kill)]
        {
            self.signal(process, signal, name)?;
            if self.ended(process, wait).await? {
                return Ok(Some(way));
            }
            notes.push(format!("it did not end in {wait:?} after {name}"));
        }
        Ok(None)
    }

    fn signal(&self, process: &Identity, signal: Signal, name: &str) -> Result<(), PortError> {
        let cannot = |e| {
            let message =
                format!("domain {}: {name} cannot be sent to its process {}", self.domain.name, process.pid);
            PortError::new(PortErrorKind::Failed, Effect::Unknown, message).with_source(e)
        };
        process.signal(signal).map_err(cannot).map(drop)
    }

    async fn ended(&self, process: &Identity, wait: Duration) -> Result<bool, PortError> {
        ended(process, wait).await.map_err(|e| {
            let message =
                format!("whether the process of domain {} has ended cannot be known", self.domain.name);
            PortError::new(PortErrorKind::Failed, Effect::Unknown, message).with_source(e)
        })
    }
}
