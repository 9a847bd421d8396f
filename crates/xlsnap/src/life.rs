//! `domain start|stop|status|run`: the process of a domain.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, DomainLock, Owner};
use xlsnap_orchestrator::{Clock, Effect, Error, Kind, PortError, PortErrorKind};
use xlsnap_qemu::process::{
    Launch, NoMonitor, Process, RunRecord, StartOptions, StartSpec, Started, StopOptions, StopWay,
};
use xlsnap_qmp_transport::commands::{QueryStatus, RunState};
use xlsnap_qmp_transport::{self as qmp, QmpExt};
use xlsnap_types::model::DomainName;

use crate::failures::{from_store, refused};
use crate::{Domain, Host, PendingRecovery, Selector};

/// Whether a domain's machine is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerState {
    /// It has no process.
    Off,
    /// Its monitor answers, and says this. [`RunState::Unknown`] of a storage daemon, which has no guest.
    On(RunState),
    /// It has a process whose monitor is of no use; why, as a clause.
    Silent(String),
}

/// How a domain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainStatus {
    /// Its name.
    pub domain: DomainName,
    /// Its uuid.
    pub uuid: Uuid,
    /// Whether it is on.
    pub state: PowerState,
    /// Its process.
    pub pid: Option<u32>,
    /// When that was started, in seconds since 1970-01-01 UTC; `None` when another program started it.
    pub since: Option<u64>,
    /// Its monitor's socket.
    pub socket: PathBuf,
    /// The guest agent's socket.
    pub agent: Option<PathBuf>,
    /// What its QEMU printed, if it was started here.
    pub log: PathBuf,
    /// An operation on it that was interrupted.
    pub pending: Option<PendingRecovery>,
}

/// A domain that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainStarted {
    /// Its name.
    pub domain: DomainName,
    /// Its uuid.
    pub uuid: Uuid,
    /// Its process.
    pub pid: u32,
    /// When that was started, in seconds since 1970-01-01 UTC.
    pub since: u64,
    /// QEMU's version.
    pub qemu: String,
    /// Its monitor's socket.
    pub socket: PathBuf,
    /// What QEMU prints.
    pub log: PathBuf,
}

/// A domain that was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainStopped {
    /// Its name.
    pub domain: DomainName,
    /// Its uuid.
    pub uuid: Uuid,
    /// What ended it.
    pub way: StopWay,
    /// The process that it had.
    pub pid: Option<u32>,
    /// Why milder ways were not tried, or did not work.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Host {
    /// Starts a domain's QEMU and waits until its monitor greets.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it runs already, when its file does not say how it is started, when a disk of it is the base of
    /// another disk's image, or while an interrupted operation waits for recovery, whose disks must not run; [`Kind::Busy`] when another process works on the domain. When QEMU ends
    /// instead of greeting, the error has the end of its log.
    ///
    /// # Cancel safety
    /// A QEMU that was started goes on, and is known.
    pub async fn domain_start(
        &self,
        selector: &Selector,
        options: &StartOptions,
    ) -> Result<DomainStarted, Error> {
        let domain = self.described(selector)?;
        let (report, started) = self.start(&domain, options).await?;
        started.monitor.close().await;
        Ok(report)
    }

    /// Starts a domain's QEMU, calls `begun` when its monitor greets, and waits until it ends.
    ///
    /// # Errors
    /// As [`Host::domain_start`]. How QEMU ended is no error.
    ///
    /// # Cancel safety
    /// A QEMU that was started goes on, and is known.
    pub async fn domain_run(
        &self,
        selector: &Selector,
        options: &StartOptions,
        begun: impl FnOnce(&DomainStarted),
    ) -> Result<ExitStatus, Error> {
        let domain = self.described(selector)?;
        let (report, started) = self.start(&domain, options).await?;
        begun(&report);
        let status = started.wait().await.map_err(|e| {
            let message = format!("domain {} cannot be waited for", domain.name);
            Error::new(Kind::Failed, Effect::Unknown, message).with_source(e)
        })?;
        // No other process may have started it again meanwhile; what is left behind of one that has ended is known as such.
        tracing::debug!(domain = %domain.name, %status, "ended");
        Ok(status)
    }

    /// Ends a domain's QEMU: asks the guest to shut down, then tells QEMU to end, then kills it. A domain that is off stays so.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another process works on the domain; [`Kind::Refused`] for a domain that is only files;
    /// [`Kind::Failed`] when it still lives after everything that the options allow.
    ///
    /// # Cancel safety
    /// What was asked of the guest or of QEMU goes on.
    pub async fn domain_stop(
        &self,
        selector: &Selector,
        options: &StopOptions,
    ) -> Result<DomainStopped, Error> {
        let domain = self.described(selector)?;
        let process = self.process(&domain)?;
        let (_lock, _) = self.own(&domain, "domain stop").await?;
        let stopped = process.stop(options).await;
        let stopped =
            stopped.map_err(|e| of_process(format!("domain {} cannot be stopped", domain.name), e))?;
        Ok(DomainStopped {
            domain: domain.name,
            uuid: domain.uuid,
            way: stopped.way,
            pid: stopped.pid,
            notes: stopped.notes,
            took: stopped.took,
        })
    }

    /// How a domain is. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when no file describes it; [`Kind::Refused`] for a domain that is only files; [`Kind::Busy`] when
    /// a process listens at its socket and does not greet, and none was started for it here.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn domain_status(&self, selector: &Selector) -> Result<DomainStatus, Error> {
        let domain = self.described(selector)?;
        let process = self.process(&domain)?;
        let found = process.find().await;
        let found =
            found.map_err(|e| of_process(format!("how domain {} is cannot be told", domain.name), e))?;
        let (pid, since) = found
            .as_ref()
            .map_or((None, None), |found| (found.process.map(|process| process.pid), found.since));
        let state = match found.map(|found| found.monitor) {
            None => PowerState::Off,
            Some(Ok(monitor)) => {
                let state = match monitor.execute(QueryStatus).await {
                    Ok(status) => PowerState::On(status.status),
                    Err(e) if e.kind() == qmp::Kind::Rejected => PowerState::On(RunState::Unknown),
                    Err(e) => PowerState::Silent(e.to_string()),
                };
                monitor.close().await;
                state
            }
            Some(Err(NoMonitor::NoListener)) => {
                PowerState::Silent("no process listens at its socket".to_owned())
            }
            Some(Err(NoMonitor::Silent(e))) => PowerState::Silent(e.to_string()),
            Some(Err(NoMonitor::Other(why))) => PowerState::Silent(why),
        };
        let pending = self.pending(domain.uuid, domain.name.as_str()).await?;
        Ok(DomainStatus {
            pending,
            state,
            pid,
            since,
            socket: domain.qmp.clone().unwrap_or_default(),
            log: self.files.log_of(&domain.name),
            agent: domain.agent,
            domain: domain.name,
            uuid: domain.uuid,
        })
    }

    /// Refuses while a process that was started for the domain lives.
    pub(crate) fn has_no_process(&self, domain: &Domain) -> Result<(), Error> {
        let written = self.files.run_file(&domain.name).load();
        let unknown = |e| of_process(format!("whether domain {} runs cannot be known", domain.name), e);
        let Some(written) = written.map_err(unknown)? else { return Ok(()) };
        let process = written.living().map_err(|e| {
            refused(format!("whether domain {} runs cannot be known", domain.name)).with_source(e)
        })?;
        match process {
            None => Ok(()),
            Some(process) => {
                let message = format!("domain {} runs (process {})", domain.name, process.pid);
                Err(refused(message).with_advice("stop it first"))
            }
        }
    }

    async fn start(
        &self,
        domain: &Domain,
        options: &StartOptions,
    ) -> Result<(DomainStarted, Started), Error> {
        if domain.start.is_none() {
            return Err(refused(format!(
                "the file of domain {} does not say how it is started",
                domain.name
            ))
            .with_advice("add a [start] table to it; docs/formats.md says what may stand in it"));
        }
        // Without the socket's directory QEMU would end at once; a directory of the user's is the user's to make.
        self.files.make_run_directory()?;
        let (_lock, domain) = self.own(domain, "domain start").await?;
        let process = self.process(&domain)?;
        let journal = self.store.journal(domain.uuid).await;
        let left = journal
            .map_err(|e| from_store(e, format!("the journal of domain {} cannot be read", domain.name)))?;
        if left.is_some() {
            return Err(refused(format!(
                "an interrupted operation on domain {} waits for recovery, so its disks may be half changed",
                domain.name
            ))
            .with_advice("recover it first"));
        }
        self.refuse_shared_start(&domain).await?;
        let started = process.start(options).await;
        let started =
            started.map_err(|e| of_process(format!("domain {} cannot be started", domain.name), e))?;
        let (major, minor, micro) = qmp::Qmp::version(&started.monitor);
        let report = DomainStarted {
            domain: domain.name.clone(),
            uuid: domain.uuid,
            pid: started.run.process.pid,
            since: started.run.since,
            qemu: format!("{major}.{minor}.{micro}"),
            socket: domain.qmp.clone().unwrap_or_default(),
            log: self.files.log_of(&domain.name),
        };
        Ok((report, started))
    }

    /// The process that a domain may have.
    pub(crate) fn process(&self, domain: &Domain) -> Result<Process, Error> {
        let Some(qmp) = domain.qmp.clone() else {
            return Err(refused(format!("domain {} is only files: it has no process", domain.name))
                .with_advice(
                    "give its file a [start] table, or the socket of the QEMU that you start (qmp)",
                ));
        };
        let launch = Launch {
            name: domain.name.clone(),
            uuid: domain.uuid,
            start: domain.start.clone(),
            disks: domain.disks.clone(),
            qmp,
            // The socket of a whole command line is that line's to make.
            agent: domain.agent.clone().filter(|_| matches!(domain.start, Some(StartSpec::Machine(_)))),
            log: self.files.log_of(&domain.name),
            sockets: Some(self.files.run_directory().to_owned()),
        };
        let record = Arc::new(self.files.run_file(&domain.name));
        Ok(Process::new(launch, record, self.options.greeting_wait))
    }

    /// Takes the domain's lock, and gives the domain as its file is from then on: another operation may have given a disk
    /// another image just before.
    async fn own(&self, domain: &Domain, operation: &str) -> Result<(Box<dyn DomainLock>, Domain), Error> {
        let owner = Owner {
            pid: std::process::id(),
            operation: operation.to_owned(),
            since: self.clock.epoch_seconds(),
        };
        let lock = self.store.lock(domain.uuid, &owner, self.options.lock_wait).await;
        let lock = lock.map_err(|e| from_store(e, format!("domain {} cannot be worked on", domain.name)))?;
        match self.files.load(&domain.name)? {
            Some(now) if now.uuid == domain.uuid => Ok((lock, now)),
            _ => {
                let message = format!("the file of domain {} was changed meanwhile", domain.name);
                Err(Error::new(Kind::Busy, Effect::None, message).with_advice("try again"))
            }
        }
    }
}

fn of_process(message: String, error: PortError) -> Error {
    let advice = match error.kind {
        PortErrorKind::AlreadyExists => Some("stop it first, if it has to start anew"),
        PortErrorKind::Busy => {
            Some("end the other client of the monitor, or wait until the process has ended")
        }
        _ => None,
    };
    let failure = Error::new(error.kind.into(), error.effect, message).with_source(error);
    match advice {
        Some(advice) => failure.with_advice(advice),
        None => failure,
    }
}
