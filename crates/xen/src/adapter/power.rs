//! Ending the domain and starting it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Abilities, Effect, Guest, GuestState, InsideMemory, PortError, PortErrorKind, Power, Progress,
};
use xlsnap_qemu::process::Identity;
use xlsnap_types::model::{Hypervisor, MemoryMeta};
use xlsnap_xenstore::Watchpoint;

use crate::Configuration;
use crate::domains::{Domain, children, path, qemu_pid, text};
use crate::error::{of_io, of_xenstore, of_xl};
use crate::{Domid, xl};

use super::XlDomain;

/// The kinds of backends that a domain's disks have in dom0.
const BACKENDS: [&str; 3] = ["qdisk", "vbd", "vbd3"];
/// How often is looked whether a process has ended; nothing tells of it.
const PAUSE: Duration = Duration::from_millis(50);

const NO_RELEASE: &str = "QEMU has the disks of a domain of Xen as long as the domain is there";
const NO_LOAD: &str = "the memory of a domain of Xen is never inside its images";

#[async_trait]
impl Power for XlDomain {
    async fn abilities(&self) -> Result<Abilities, PortError> {
        // dom0 is always there: whoever can ask for it can do the rest.
        let obstacle = self.context.toolstack.state(Domid::DOM0).await.err().map(|error| {
            let why = match error.kind() {
                xl::Kind::NoProgram => "xl cannot be started here",
                xl::Kind::NoXen => "xl cannot talk to Xen; run as root in dom0",
                _ => "xl does not work here",
            };
            format!("{why} ({error})")
        });
        Ok(Abilities {
            no_restart: match &obstacle {
                Some(why) => Some(why.clone()),
                None => self.xl_cfg().await.err(),
            },
            no_restore: obstacle,
            no_release: Some(NO_RELEASE.to_owned()),
            no_load: Some(NO_LOAD.to_owned()),
            hypervisor: Hypervisor::default(),
        })
    }

    async fn destroy(&self) -> Result<(), PortError> {
        // A guest that reboots has another domid the next time; two of them in a row is somebody else's doing.
        for _ in 0..2 {
            let Some(domain) = self.running().await? else { return Ok(()) };
            self.destroy_one(&domain).await?;
        }
        match self.running().await? {
            None => Ok(()),
            Some(domain) => {
                let message =
                    format!("{} was started again while it was destroyed", self.called(domain.domid));
                Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message))
            }
        }
    }

    async fn start(&self, run: bool) -> Result<(), PortError> {
        self.must_be_off().await?;
        let configuration = self.xl_cfg().await.map_err(|why| {
            let message = format!("domain {} cannot be started: {why}", self.name);
            PortError::new(PortErrorKind::Refused, Effect::None, message)
        })?;
        let file = Temporary::write(&self.context.places.records, &configuration)?;
        let created = self.context.toolstack.create(&file.0).await;
        drop(file);
        self.begun(created, &format!("domain {} cannot be started", self.name), run).await
    }

    async fn restore(
        &self,
        memory: &MemoryMeta,
        run: bool,
        progress: &dyn Progress,
    ) -> Result<(), PortError> {
        let Some(file) = &memory.file else {
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, NO_LOAD));
        };
        self.must_be_off().await?;
        let told = |done, total| progress.bytes(done, total);
        let restored = self.context.toolstack.restore(Path::new(file), &told).await;
        self.begun(restored, &format!("domain {} cannot be restored from {file}", self.name), run).await
    }

    async fn load(
        &self,
        _inside: &InsideMemory,
        _run: bool,
        _progress: &dyn Progress,
    ) -> Result<(), PortError> {
        Err(PortError::new(PortErrorKind::Refused, Effect::None, format!("domain {}: {NO_LOAD}", self.name)))
    }

    async fn release(&self) -> Result<(), PortError> {
        Err(PortError::new(
            PortErrorKind::Refused,
            Effect::None,
            format!("domain {}: {NO_RELEASE}", self.name),
        ))
    }

    async fn take_back(&self, _reset: bool, _run: bool) -> Result<(), PortError> {
        Err(PortError::new(
            PortErrorKind::Refused,
            Effect::None,
            format!("domain {}: {NO_RELEASE}", self.name),
        ))
    }
}

impl XlDomain {
    /// The configuration to start it from, or why there is none, as a clause.
    async fn xl_cfg(&self) -> Result<String, String> {
        let kept = match self.to_keep().await {
            Ok(Some(now)) => Some(now),
            Ok(None) => self.kept.clone(),
            Err(error) => return Err(error.to_string()),
        };
        let configuration =
            kept.and_then(|kept| kept.configuration).ok_or("its configuration was not kept")?;
        Configuration::parse(&configuration)?.to_xl_cfg(&self.name, self.uuid)
    }

    async fn must_be_off(&self) -> Result<(), PortError> {
        let Some(domain) = self.running().await? else { return Ok(()) };
        let message = format!("{} runs already", self.called(domain.domid));
        Err(PortError::new(PortErrorKind::Busy, Effect::None, message))
    }

    async fn destroy_one(&self, domain: &Domain) -> Result<(), PortError> {
        let called = self.called(domain.domid);
        // Before it is gone from xenstore.
        let pid = qemu_pid(&*self.context.store, domain.domid).await?;
        let qemu = pid.map(Identity::of).transpose().ok().flatten().flatten();
        let watch = self.context.store.watch(&Watchpoint::DomainsVanish).await.map_err(of_xenstore)?;
        match self.context.toolstack.destroy(domain.domid).await {
            Ok(()) => {}
            // It ended by itself.
            Err(error) if error.kind() == xl::Kind::NoSuchDomain => {}
            Err(error) => return Err(of_xl(format!("{called} cannot be destroyed"), error)),
        }
        self.remember(None);
        self.wait_until_gone(domain, qemu, watch).await
    }

    /// Waits until nobody has the disks: neither the domain, nor its QEMU, nor a backend.
    async fn wait_until_gone(
        &self,
        domain: &Domain,
        qemu: Option<Identity>,
        mut watch: xlsnap_xenstore::Watch,
    ) -> Result<(), PortError> {
        let deadline = Instant::now() + self.context.patience.gone;
        loop {
            let Some(left) = self.left_of(domain.domid, qemu).await? else { return Ok(()) };
            if Instant::now() >= deadline {
                let message = format!("{} was destroyed, but {left}", self.called(domain.domid));
                return Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message));
            }
            // Whichever comes first; a lost watch leaves the pause.
            tokio::select! {
                _ = watch.next() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What is still there of a domain, as a clause.
    async fn left_of(&self, domid: Domid, qemu: Option<Identity>) -> Result<Option<String>, PortError> {
        let store = &*self.context.store;
        if text(store, &path(&format!("/local/domain/{domid}/vm"))).await?.is_some() {
            return Ok(Some("xenstore still has it".to_owned()));
        }
        for kind in BACKENDS {
            if !children(store, &path(&format!("/local/domain/0/backend/{kind}/{domid}"))).await?.is_empty() {
                return Ok(Some(format!("its disks still have a backend ({kind})")));
            }
        }
        match qemu {
            Some(qemu) if qemu.lives().unwrap_or(true) => {
                Ok(Some(format!("its QEMU (process {}) still lives", qemu.pid)))
            }
            _ => Ok(None),
        }
    }

    /// Looks what came of making the domain. After a failure it is off.
    async fn begun(&self, made: Result<(), xl::Error>, what: &str, run: bool) -> Result<(), PortError> {
        if let Err(cause) = made {
            let error = of_xl(what, cause);
            return Err(match self.destroy().await {
                Ok(()) => error,
                Err(undoing) => {
                    let message = format!("{error}; and what there is of it cannot be destroyed: {undoing}");
                    PortError::new(error.kind, Effect::Unknown, message).with_source(error)
                }
            });
        }
        let Some((domain, state)) = self.running_with_state().await? else {
            let message = format!("{what}: xl said that it did, and there is no such domain");
            return Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message));
        };
        tracing::info!(domain = %self.name, domid = %domain.domid, "the domain has a new domid");
        if run && state.paused {
            let called = self.called(domain.domid);
            let unpaused = self.context.toolstack.unpause(domain.domid).await;
            unpaused.map_err(|error| {
                of_xl(format!("{called} is there, paused, and cannot be unpaused"), error)
            })?;
            if let GuestState::On(state) = Guest::state(self).await?
                && state.paused
            {
                let message = format!("{called} is there, and stays paused; unpause it");
                return Err(PortError::new(PortErrorKind::Failed, Effect::Done, message));
            }
        }
        Ok(())
    }
}

/// A file for xl to read, which is gone afterwards.
struct Temporary(PathBuf);

impl Temporary {
    fn write(directory: &Path, text: &str) -> Result<Self, PortError> {
        let file = directory.join(format!(".xlsnap-new-{}.cfg", std::process::id()));
        let failed = |error| of_io(format!("{} cannot be written", file.display()), error, Effect::None);
        // What a process of this number left when it crashed.
        let _ = fs::remove_file(&file);
        let mut opened =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).map_err(failed)?;
        let written = Self(file.clone());
        opened.write_all(text.as_bytes()).map_err(failed)?;
        Ok(written)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is removed by the next one, and says nothing that the record does not.
        let _ = fs::remove_file(&self.0);
    }
}
