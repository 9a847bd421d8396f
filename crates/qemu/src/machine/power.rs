//! Its process: ended, started, started with a memory.

use async_trait::async_trait;
use futures_util::future::{join, try_join3};
use xlsnap_orchestrator::{
    Abilities, Can, Effect, MemoryInside, Pause, PortError, PortErrorKind, Power, Progress, Release, Run,
};
use xlsnap_qmp_transport::commands::{BlockdevSetActive, SnapshotLoad, Stop, SystemReset};
use xlsnap_qmp_transport::{Client, QmpExt};
use xlsnap_types::model::{Hypervisor, MemoryMeta};

use super::Machine;
use super::state::{On, State};
use crate::error;
use crate::memory::{abandon, inside, leftover, migration, restore};
use crate::process::{Found, Process, StartOptions, StopOptions};

#[async_trait]
impl Power for Machine {
    async fn abilities(&self) -> Result<Abilities, PortError> {
        let on = self.living()?;
        let foreign = self.no_restart(on.as_deref())?;
        let hypervisor = self.hypervisor(on.as_deref(), foreign.is_none());
        // Asked at once, since each answer is a turn of QEMU's main loop.
        let (hypervisor, on) = match &on {
            None => (hypervisor.await?, None),
            Some(on) => {
                let (hypervisor, no_release, no_load) =
                    try_join3(hypervisor, self.no_release(on), no_load(on)).await?;
                (hypervisor, Some((no_release, no_load)))
            }
        };
        let no_restart = match foreign {
            Some(why) => Some(why),
            None => self.missing(on.is_some()).await?,
        };
        let (no_release, no_load) = on.unwrap_or_else(|| (Some("it is off".to_owned()), no_restart.clone()));
        let restart = Can::unless(no_restart);
        Ok(Abilities {
            restore: restart.clone(),
            restart,
            release: Can::unless(no_release),
            load: Can::unless(no_load),
            reset: Can::Yes,
            hypervisor,
        })
    }

    async fn end(&self) -> Result<(), PortError> {
        let on = self.living()?;
        let Some(process) = self.process() else {
            return match on {
                None => Ok(()),
                Some(_) => Err(self.refused("its process is not known")),
            };
        };
        if let Some(on) = on
            && let Some(why) = self.no_restart(Some(&on))?
        {
            return Err(self.refused(&format!("it is not ended: {why}")));
        }
        // Its monitor serves one client, and the one that ends it is another.
        let before = std::mem::replace(&mut *self.lock(), State::Closed);
        if let State::On(on) = before {
            on.close().await;
        }
        let ended = process.stop(&StopOptions::at_once()).await;
        match &ended {
            Ok(stopped) => {
                tracing::debug!(domain = %self.name, ?stopped, "its process has ended");
                *self.lock() = State::Off;
            }
            // What is to go back wants to know how it is.
            Err(_) => match process.find().await {
                Ok(None) => *self.lock() = State::Off,
                Ok(Some(Found { monitor: Ok(monitor), .. })) => self.connected(monitor),
                Ok(Some(_)) | Err(_) => {}
            },
        }
        ended.map(drop)
    }

    async fn start(&self, run: Run) -> Result<(), PortError> {
        let process = self.startable()?;
        let options = StartOptions { paused: !run.runs(), ..StartOptions::default() };
        let started = process.start(&options).await?;
        self.connected(started.into_monitor());
        Ok(())
    }

    async fn restore(&self, memory: &MemoryMeta, run: Run, progress: &dyn Progress) -> Result<(), PortError> {
        let process = self.startable()?;
        let options = StartOptions { paused: true, incoming: true, ..StartOptions::default() };
        let started = process.start(&options).await?;
        let socket = self.sockets.join(format!("{}.in", started.run.process.pid));
        let result = restore::restore(&started.monitor, &socket, memory, progress).await;
        leftover::remove(&socket);
        let result = match result {
            Ok(()) => ready(&started.monitor, run).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                self.connected(started.into_monitor());
                Ok(())
            }
            Err(cause) => {
                let ended = process.give_up(started, "did not take its memory, and was ended").await;
                // The domain is off, as it was.
                let kind = if cause.kind == PortErrorKind::Unreachable { ended.kind } else { cause.kind };
                Err(PortError::new(kind, Effect::None, ended.to_string()).with_source(cause))
            }
        }
    }
}

#[async_trait]
impl Release for Machine {
    async fn release(&self) -> Result<(), PortError> {
        let on = self.must_live()?;
        self.let_go(&on).await
    }

    async fn take_back(&self) -> Result<(), PortError> {
        let on = self.must_live()?;
        self.take_again(&on).await
    }
}

#[async_trait]
impl Pause for Machine {
    async fn stop(&self) -> Result<(), PortError> {
        let on = self.must_live()?;
        if !migration::run_state(on.qmp()).await?.running {
            return Ok(());
        }
        let failed = |e| error::of_qmp("the guest could not be stopped".into(), e);
        on.qmp().execute(Stop).await.map_err(failed).map(drop)
    }

    async fn resume(&self) -> Result<(), PortError> {
        let on = self.must_live()?;
        migration::let_run(on.qmp()).await
    }

    async fn reset(&self) -> Result<(), PortError> {
        let on = self.must_live()?;
        let failed = |e| error::of_qmp("the guest could not be reset".into(), e);
        on.qmp().execute(SystemReset).await.map_err(failed).map(drop)
    }
}

/// A guest that has got its memory runs, or waits with its disks in reach.
async fn ready(monitor: &Client, run: Run) -> Result<(), PortError> {
    if run.runs() {
        return migration::let_run(monitor).await;
    }
    // QEMU 10.0 leaves that to `cont`, and 7.2 has done it.
    match monitor.execute(BlockdevSetActive { node_name: None, active: true }).await {
        Ok(_) => Ok(()),
        Err(e) if e.class() == Some("CommandNotFound") => Ok(()),
        Err(e) => Err(error::of_qmp("QEMU could not take its disks".into(), e)),
    }
}

/// Why memory inside the images cannot be loaded.
async fn no_load(on: &On) -> Result<Option<String>, PortError> {
    let has = on.features().await?.has_command("snapshot-load");
    Ok((!has).then(|| "it has no command for it (snapshot-load)".to_owned()))
}

impl Machine {
    /// Why its process cannot be ended and started again.
    fn no_restart(&self, on: Option<&On>) -> Result<Option<String>, PortError> {
        let Some(process) = self.process() else {
            return Ok(Some("the domain has no description that says how it is started".to_owned()));
        };
        if process.start_spec().is_none() {
            return Ok(Some("its description does not say how it is started ([start])".to_owned()));
        }
        if let Err(why) = process.command() {
            return Ok(Some(why.to_string()));
        }
        let Some(on) = on else { return Ok(None) };
        if process.is_ours(on.peer())? {
            return Ok(None);
        }
        let pid = on.process().map(|process| format!(" {}", process.pid)).unwrap_or_default();
        Ok(Some(format!(
            "its process{pid} was not started by xlsnap, and what started it may start it again"
        )))
    }

    fn startable(&self) -> Result<Process, PortError> {
        match (self.no_restart(None)?, self.process()) {
            (None, Some(process)) => Ok(process),
            (why, _) => Err(self.refused(&why.unwrap_or_default())),
        }
    }

    /// What would run it after a start; without one, what runs it.
    async fn hypervisor(&self, on: Option<&On>, startable: bool) -> Result<Hypervisor, PortError> {
        let mut known = match on {
            Some(on) => on.live.hypervisor().await?,
            None => Hypervisor::default(),
        };
        if let Some(process) = self.process().filter(|_| startable) {
            let (facts, program) = (process.start_facts()?, process.program()?);
            let machine = async { program.machine(facts.machine.as_deref()?).await };
            let (qemu, machine) = join(program.version(), machine).await;
            let machine = machine.or(known.machine);
            known = Hypervisor { qemu, machine, memory_bytes: facts.memory, devices: facts.devices };
        }
        Ok(known)
    }

    /// What a start of the domain needs and is not there, as a clause.
    async fn missing(&self, is_on: bool) -> Result<Option<String>, PortError> {
        /// More than these are not reasons one by one.
        const NAMED: usize = 4;
        let Some(process) = self.process() else { return Ok(None) };
        if let Some(why) = process.program()?.missing() {
            return Ok(Some(why));
        }
        let missing = process.missing_for_start(is_on).await?;
        let mut reasons: Vec<String> =
            missing.iter().take(NAMED).map(|missing| missing.why.clone()).collect();
        if missing.len() > NAMED {
            reasons.push(format!("and {} more", missing.len() - NAMED));
        }
        Ok((!reasons.is_empty()).then(|| reasons.join("; ")))
    }

    pub(super) async fn load_into(&self, on: &On, inside: &MemoryInside, run: Run) -> Result<(), PortError> {
        let disks = on.live.nodes_for_internal(&inside.disks).await?;
        let state = on.live.nodes_for_internal([&inside.state]).await?.remove(0);
        let was_running = migration::run_state(on.qmp()).await?.running;
        let id = inside::job_id("load");
        inside::settle(&on.client, &id).await?;
        let command =
            SnapshotLoad { job_id: id.clone(), tag: inside.tag.clone(), vmstate: state, devices: disks };
        let ended = inside::run(&on.client, &id, command).await;
        on.live.forget();
        if let Err(said) = ended? {
            let what = format!("QEMU did not load the memory of {:?}", inside.tag);
            let error = inside::failed(what, &said);
            // Refused before anything was read, the guest only stands still. Else its memory is none any more.
            if error.effect == Effect::None && was_running {
                abandon::let_run_again(on.qmp()).await.map_err(PortError::after_effect)?;
            }
            return Err(error);
        }
        // From here on it is loaded, whatever becomes of the guest.
        let goes_on = if run.runs() {
            migration::let_run(on.qmp()).await
        } else {
            let failed = |e| error::of_qmp("the guest could not be stopped".into(), e);
            on.qmp().execute(Stop).await.map_err(failed).map(drop)
        };
        goes_on.map_err(PortError::after_effect)
    }
}
