//! Its process: ended, started, started with a memory.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Abilities, Disks, Effect, InsideMemory, PortError, PortErrorKind, Power, Progress,
};
use xlsnap_qmp_transport::commands::{BlockdevSetActive, SnapshotLoad, Stop};
use xlsnap_qmp_transport::{Client, QmpExt};
use xlsnap_types::model::{Hypervisor, MemoryMeta};

use super::Machine;
use super::state::{On, State};
use crate::error;
use crate::memory::{inside, migration, restore, save};
use crate::process::{Process, StartOptions, StartSpec, StopOptions};

#[async_trait]
impl Power for Machine {
    async fn abilities(&self) -> Result<Abilities, PortError> {
        let on = self.living()?;
        let no_restart = self.no_restart(on.as_deref())?;
        let hypervisor = self.hypervisor(on.as_deref(), no_restart.is_none()).await?;
        let (no_release, no_load) = match &on {
            None => (Some("it is off".to_owned()), no_restart.clone()),
            Some(on) => (self.no_release(on).await?, no_load(on).await?),
        };
        Ok(Abilities { no_restore: no_restart.clone(), no_restart, no_release, no_load, hypervisor })
    }

    async fn destroy(&self) -> Result<(), PortError> {
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
        // Its monitor serves one client, and whoever ends it is another.
        let before = std::mem::replace(&mut *self.lock(), State::Closed);
        if let State::On(on) = before {
            on.close().await;
        }
        process.stop(&StopOptions::at_once()).await?;
        *self.lock() = State::Off;
        Ok(())
    }

    async fn start(&self, run: bool) -> Result<(), PortError> {
        let process = self.startable()?;
        let options = StartOptions { paused: !run, ..StartOptions::default() };
        let started = process.start(&options).await?;
        self.connected(started.into_monitor());
        Ok(())
    }

    async fn restore(
        &self,
        memory: &MemoryMeta,
        run: bool,
        progress: &dyn Progress,
    ) -> Result<(), PortError> {
        let process = self.startable()?;
        let options = StartOptions { paused: true, incoming: true, ..StartOptions::default() };
        let started = process.start(&options).await?;
        let socket = self.sockets.join(format!("{}.in", started.run.process.pid));
        let result = restore::restore(&started.monitor, &socket, memory, progress).await;
        let _ = std::fs::remove_file(&socket);
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

    async fn load(&self, inside: &InsideMemory, run: bool, progress: &dyn Progress) -> Result<(), PortError> {
        progress.bytes(0, None);
        let was_off = self.living()?.is_none();
        if was_off {
            self.start(false).await?;
        }
        let on = self.must_live()?;
        let result = self.load_into(&on, inside, run).await;
        drop(on);
        match result {
            Err(error) if was_off => {
                self.destroy().await?;
                Err(error)
            }
            other => other,
        }
    }

    async fn release(&self) -> Result<(), PortError> {
        let on = self.must_live()?;
        self.let_go(&on).await
    }

    async fn take_back(&self, reset: bool, run: bool) -> Result<(), PortError> {
        let on = self.must_live()?;
        self.take_again(&on, reset, run).await
    }
}

/// A guest that has got its memory runs, or waits with its disks in reach.
async fn ready(monitor: &Client, run: bool) -> Result<(), PortError> {
    if run {
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
            return Ok(Some("nobody has described how it is started".to_owned()));
        };
        if process.start_spec().is_none() {
            return Ok(Some("its description does not say how it is started ([start])".to_owned()));
        }
        let Some(on) = on else { return Ok(None) };
        let ours = process.written()?;
        if ours.is_some() && ours == on.process {
            return Ok(None);
        }
        Ok(Some("its process was started by somebody else, who may have it start anew".to_owned()))
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
            Some(on) => on.live.inventory().await?.hypervisor,
            None => Hypervisor::default(),
        };
        if startable {
            let process = self.process();
            let program = match process.as_ref().and_then(Process::start_spec) {
                Some(StartSpec::Argv(line)) => line.first().map(String::as_str),
                Some(StartSpec::Machine(spec)) => Some(spec.program.as_str()),
                None => None,
            };
            known.qemu = match program {
                Some(program) => version_of(program).await,
                None => None,
            };
        }
        Ok(known)
    }

    async fn load_into(&self, on: &On, inside: &InsideMemory, run: bool) -> Result<(), PortError> {
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
                save::let_run_again(on.qmp()).await?;
            }
            return Err(error);
        }
        if run {
            return migration::let_run(on.qmp()).await;
        }
        let failed = |e| error::of_qmp("the guest could not be stopped".into(), e);
        on.qmp().execute(Stop).await.map_err(failed).map(drop)
    }
}

/// The version of a QEMU program; `None` when it does not say, or is another.
async fn version_of(program: &str) -> Option<String> {
    const WAIT: Duration = Duration::from_secs(10);
    let mut command = tokio::process::Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).current_dir("/").kill_on_drop(true);
    let output = tokio::time::timeout(WAIT, command.output()).await.ok()?.ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout))
}

/// `QEMU emulator version 10.0.2 (Debian ...)`.
fn version_in(said: &str) -> Option<String> {
    let version = said.lines().next()?.strip_prefix("QEMU emulator version ")?;
    let version = version.split_ascii_whitespace().next()?;
    let is_number =
        |part: &str| !part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = version.split('.').collect();
    (parts.len() == 3 && parts.into_iter().all(is_number)).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn a_program_says_its_version() {
        let said = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds)\nCopyright";
        assert_eq!(version_in(said).as_deref(), Some("10.0.2"));
        assert_eq!(version_in("QEMU emulator version 7.2.22").as_deref(), Some("7.2.22"));
        let with = |version: &str| format!("QEMU emulator version {version}");
        for wrong in [String::new(), "sudo 1.9".to_owned(), with(""), with("10.0"), with("a.b.c")] {
            assert_eq!(version_in(&wrong), None, "{wrong:?}");
        }
    }
}
