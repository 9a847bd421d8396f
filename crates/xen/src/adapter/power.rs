//! Ending the domain and starting it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use xlsnap_orchestrator::{Abilities, Can, Effect, PortError, PortErrorKind, Power, Progress, Run};
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

pub(super) const NO_RELEASE: &str = "QEMU has the disks of a domain of Xen's as long as the domain is there";
pub(super) const NO_LOAD: &str = "the memory of a domain of Xen's is never inside its images";

pub(super) const NO_RESET: &str =
    "a domain of Xen's is not reset in its place: a revert destroys it and starts it again";

#[async_trait]
impl Power for XlDomain {
    async fn abilities(&self) -> Result<Abilities, PortError> {
        // dom0 is always there: a program that can ask for it can do the rest.
        let xl = match self.context.toolstack.state(Domid::DOM0).await {
            Ok(_) => Can::Yes,
            Err(error) => {
                let why = match error.kind() {
                    xl::Kind::NoProgram => "xl cannot be started here",
                    xl::Kind::NoXen => "xl cannot talk to Xen; run as root in dom0",
                    _ => return Err(of_xl("xl could not be asked for dom0", error)),
                };
                Can::no(format!("{why} ({error})"))
            }
        };
        Ok(Abilities {
            restart: match &xl {
                Can::Yes => Can::unless(self.xl_cfg().await.err()),
                no => no.clone(),
            },
            restore: xl,
            release: Can::no(NO_RELEASE),
            load: Can::no(NO_LOAD),
            reset: Can::no(NO_RESET),
            hypervisor: Hypervisor::default(),
        })
    }

    async fn end(&self) -> Result<(), PortError> {
        // A guest that reboots has another domid the next time; a second new domid is another program's doing.
        let Some(domain) = self.running().await? else { return Ok(()) };
        self.destroy(&domain).await?;
        let Some(again) = self.running().await.map_err(PortError::after_effect)? else { return Ok(()) };
        self.destroy(&again).await.map_err(PortError::after_effect)?;
        match self.running().await.map_err(PortError::after_effect)? {
            None => Ok(()),
            Some(domain) => {
                let message = format!(
                    "{} was started again while it was destroyed; end the program that starts it, then do it again",
                    self.called(domain.domid)
                );
                Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message))
            }
        }
    }

    async fn start(&self, run: Run) -> Result<(), PortError> {
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

    async fn restore(&self, memory: &MemoryMeta, run: Run, progress: &dyn Progress) -> Result<(), PortError> {
        self.must_be_off().await?;
        let Some(file) = memory.file() else {
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, NO_LOAD));
        };
        let told = |done, total| progress.bytes(done, total);
        let restored = self.context.toolstack.restore(Path::new(file), &told).await;
        self.begun(restored, &format!("domain {} cannot be restored from {file}", self.name), run).await
    }
}

impl XlDomain {
    /// The configuration to start it from, or why there is none, as a clause.
    async fn xl_cfg(&self) -> Result<String, String> {
        let kept = match self.to_keep().await {
            Ok(Some(now)) => Some(now),
            Ok(None) => self.kept(),
            Err(error) => return Err(error.to_string()),
        };
        let configuration =
            kept.and_then(|kept| kept.configuration).ok_or("its configuration was not kept")?;
        Configuration::parse(&configuration)?.to_xl_cfg(&self.name, self.uuid)
    }

    /// Refuses when the domain is there: what an error without an effect says is that it is off.
    async fn must_be_off(&self) -> Result<(), PortError> {
        let Some(domain) = self.running().await? else { return Ok(()) };
        let message = format!("{} is on already: another program started it", self.called(domain.domid));
        Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message))
    }

    async fn destroy(&self, domain: &Domain) -> Result<(), PortError> {
        let called = self.called(domain.domid);
        // What it is now is what it is started as again.
        match self.to_keep().await {
            Ok(now) => now.into_iter().for_each(|now| self.keep(now)),
            Err(error) => {
                tracing::warn!(%error, "what domain {} is now cannot be read", self.name);
            }
        }
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
        self.wait_until_gone(domain, qemu, watch).await.map_err(PortError::after_effect)
    }

    /// Waits until neither the domain, nor its QEMU, nor a backend has the disks.
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

    /// Looks what came of making the domain, and lets its guest run if it is to. Where xl failed, the domain is off afterwards.
    async fn begun(&self, made: Result<(), xl::Error>, what: &str, run: Run) -> Result<(), PortError> {
        if let Err(cause) = made {
            let mut error = of_xl(what, cause);
            return Err(match self.end().await {
                Ok(()) => {
                    error.effect = Effect::None;
                    error
                }
                Err(undoing) => {
                    let message = format!("{error}; and what there is of it cannot be destroyed: {undoing}");
                    PortError::new(error.kind, Effect::Unknown, message).with_source(error)
                }
            });
        }
        let Some((domain, _)) = self.running_with_state().await.map_err(PortError::after_effect)? else {
            let message = format!("{what}: xl said that it did, and there is no such domain");
            return Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message));
        };
        tracing::info!(domain = %self.name, domid = %domain.domid, "the domain has a new domid");
        // xl made it, and left it paused.
        if !run.runs() {
            return Ok(());
        }
        self.put_back(run).await.map_err(PortError::after_effect)
    }
}

/// A file for xl to read, which is gone afterwards.
struct Temporary(PathBuf);

impl Temporary {
    fn write(directory: &Path, text: &str) -> Result<Self, PortError> {
        let file = directory.join(format!(".xlsnap-new-{}.cfg", std::process::id()));
        let failed = |error| of_io(format!("{} cannot be written", file.display()), error, Effect::None);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
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
