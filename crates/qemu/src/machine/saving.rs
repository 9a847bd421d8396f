//! Its memory, and the files of it.

use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Effect, FoundMemory, InsideMemory, Memory, MemoryFiles, MemoryHeader, MemoryInside, MemorySave,
    MemorySign, MemorySurvey, PortError, PortErrorKind, Progress, Run, SavedMemory, SnapshotAction,
    StoppedGuest, UnfinishedMemory,
};
use xlsnap_qmp_transport::Qmp;
use xlsnap_qmp_transport::commands::SnapshotSave;
use xlsnap_types::model::{DiskName, MemoryMeta, SnapshotName};

use super::Machine;
use super::state::On;
use crate::memory::pause::Pause;
use crate::memory::save::Begun;
use crate::memory::{abandon, inside, migration, save, survey};

#[async_trait]
impl Memory for Machine {
    async fn survey(&self, file: Option<&str>) -> Result<MemorySurvey, PortError> {
        let mut found = match self.living()? {
            None => survey::no_way("the domain is off"),
            Some(on) if on.released().is_some() => survey::no_way("QEMU has let go of its disks"),
            Some(on) => {
                let no_inside = self.no_inside(&on).await?;
                let known = survey::Known {
                    pid: on.pid(),
                    listener: on.peer().listener(),
                    saves_inside: on.features().await?.has_command("snapshot-save"),
                    no_inside: no_inside.as_deref(),
                };
                survey::of(on.qmp(), &known).await?
            }
        };
        if let Some(file) = file {
            survey::look_at_place(&mut found, file).await;
        }
        Ok(found)
    }

    /// As the port says. Between the guest's stop and the return nothing is asked or made that could be before.
    async fn begin<'a>(
        &'a self,
        save: &MemorySave,
        progress: &'a dyn Progress,
    ) -> Result<Box<dyn StoppedGuest<'a> + 'a>, PortError> {
        let on = self.must_live()?;
        let mut slot = self.saving.lock().await;
        if slot.is_some() {
            let message = "a save of its memory is under way";
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
        }
        match save::begin(on.qemu(), &self.sockets, save, progress).await {
            Ok(stopped) => {
                *slot = Some(Begun::Stopped(stopped));
                Ok(Box::new(Saved { machine: self, save: save.clone(), progress }))
            }
            // Nothing had begun.
            Err(save::Failed { cause, stream: None }) => Err(cause),
            Err(failed) => Err(self.put_back(&on, save, failed).await),
        }
    }

    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError> {
        let mut slot = self.saving.lock().await;
        let file = save::file_of(save)?;
        let stream = slot.take().map(Begun::into_stream);
        let Some(on) = self.living()? else {
            return abandon::abandon(None, &self.sockets, &file, save, stream).await;
        };
        match abandon::abandon(Some(on.qemu()), &self.sockets, &file, save, stream).await {
            // It is off: what is left are files.
            Err(error) if error.kind == PortErrorKind::Unreachable && self.has_died(&on).await => {
                abandon::abandon(None, &self.sockets, &file, save, None).await
            }
            other => other,
        }
    }
}

/// A save that has begun. What it holds of the machine is in the machine's slot, for the one that abandons it.
struct Saved<'a> {
    machine: &'a Machine,
    save: MemorySave,
    progress: &'a dyn Progress,
}

#[async_trait]
impl<'a> StoppedGuest<'a> for Saved<'a> {
    async fn run_on(self: Box<Self>) -> Result<(Duration, Box<dyn UnfinishedMemory + 'a>), PortError> {
        let Self { machine, save, progress } = &*self;
        let on = machine.must_live()?;
        let mut slot = machine.saving.lock().await;
        let stopped = match slot.take() {
            Some(Begun::Stopped(stopped)) => stopped,
            other => {
                *slot = other;
                return Err(machine.refused("no save of its memory waits for the guest to run on"));
            }
        };
        match stopped.run_on(on.qmp(), *progress).await {
            Ok((pause, finishing)) => {
                *slot = Some(Begun::Finishing(finishing));
                drop(slot);
                Ok((pause, self))
            }
            Err(failed) => {
                let error = machine.put_back(&on, save, failed).await;
                // The guest has run on, and may have written.
                Err(if save.was.runs() { error.after_effect() } else { error })
            }
        }
    }
}

#[async_trait]
impl UnfinishedMemory for Saved<'_> {
    async fn finish(self: Box<Self>) -> Result<SavedMemory, PortError> {
        let Self { machine, save, progress } = *self;
        let on = machine.must_live()?;
        let mut slot = machine.saving.lock().await;
        let finishing = match slot.take() {
            Some(Begun::Finishing(finishing)) => finishing,
            other => {
                *slot = other;
                return Err(machine.refused("no save of its memory waits to be finished"));
            }
        };
        match finishing.finish(on.qmp(), progress).await {
            Ok(saved) => Ok(saved),
            Err(failed) => Err(machine.put_back(&on, &save, failed).await),
        }
    }
}

#[async_trait]
impl InsideMemory for Machine {
    async fn take_inside(
        &self,
        save: &MemorySave,
        actions: &[SnapshotAction],
        progress: &dyn Progress,
    ) -> Result<Duration, PortError> {
        // QEMU does nothing else meanwhile, so it cannot be asked how far it is.
        progress.bytes(0, None);
        let on = self.must_live()?;
        let (tag, disks) = self.internal(actions)?;
        // Where only some have one of that name, QEMU would make a second (7.2 and 10.0).
        if !self.has_none(&on, tag, &disks).await? {
            let message = format!("a snapshot {tag:?} is in one of the disks already");
            return Err(PortError::new(PortErrorKind::AlreadyExists, Effect::None, message));
        }
        let nodes = on.live.nodes_for_internal(disks.iter().copied()).await?;
        let status = migration::run_state(on.qmp()).await?;
        if status.running != save.was.runs() {
            let message = format!("the guest has changed its state meanwhile ({})", status.status.word());
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
        }
        let id = inside::job_id(&save.token);
        let mut pause = Pause::new(on.client.events());
        let command = SnapshotSave {
            job_id: id.clone(),
            tag: tag.to_owned(),
            vmstate: nodes[0].clone(),
            devices: nodes,
        };
        let ended = inside::run(&on.client, &id, command).await;
        on.live.forget();
        let ran_on = if save.was.runs() { abandon::let_run_again(on.qmp()).await } else { Ok(()) };
        if let Err(said) = ended? {
            let mut error = inside::failed(format!("QEMU did not save the memory as {tag:?}"), &said);
            if error.effect != Effect::None && self.has_none(&on, tag, &disks).await.unwrap_or(false) {
                error.effect = Effect::None;
            }
            return Err(if ran_on.is_ok() { error } else { error.after_effect() });
        }
        ran_on.map_err(PortError::after_effect)?;
        Ok(if save.was.runs() { pause.length() } else { Duration::ZERO })
    }

    async fn abandon_inside(&self, save: &MemorySave) -> Result<(), PortError> {
        let Some(on) = self.living()? else { return Ok(()) };
        match self.end_inside(&on, save).await {
            Err(error) if error.kind == PortErrorKind::Unreachable && self.has_died(&on).await => Ok(()),
            other => other,
        }
    }

    async fn load(&self, inside: &MemoryInside, run: Run, progress: &dyn Progress) -> Result<(), PortError> {
        progress.bytes(0, None);
        let on = self.must_live()?;
        self.load_into(&on, inside, run).await
    }
}

impl Machine {
    /// Puts everything back after a failure, and says whether it was.
    async fn put_back(&self, on: &On, save: &MemorySave, failed: save::Failed) -> PortError {
        let save::Failed { mut cause, stream } = failed;
        let undone = match save::file_of(save) {
            Ok(file) => abandon::abandon(Some(on.qemu()), &self.sockets, &file, save, stream).await,
            Err(error) => Err(error),
        };
        match undone {
            Ok(()) => cause.effect = Effect::None,
            Err(error) => {
                tracing::warn!(%error, "what was set up to save the memory of domain {} is not put back", self.name);
                cause.effect = Effect::Unknown;
            }
        }
        cause
    }

    /// Why no disk takes a snapshot with the memory inside, as a clause.
    async fn no_inside(&self, on: &On) -> Result<Option<String>, PortError> {
        let found = on.live.look_again().await?;
        let mut none = "it has no disk that takes the memory".to_owned();
        for disk in
            found.disks.iter().map(|found| &found.disk).filter(|disk| !disk.read_only && !disk.removable)
        {
            match disk.internal.why() {
                None => return Ok(None),
                Some(why) => none = format!("disk {}: {why}", disk.name),
            }
        }
        Ok(Some(none))
    }

    /// The snapshot's name and its disks; the first takes the memory.
    fn internal<'a>(&self, actions: &'a [SnapshotAction]) -> Result<(&'a str, Vec<&'a DiskName>), PortError> {
        let mut found: Option<&str> = None;
        let mut disks = Vec::with_capacity(actions.len());
        for action in actions {
            match action {
                SnapshotAction::Internal { disk, tag, .. } if found.is_none_or(|found| found == tag) => {
                    found = Some(tag);
                    disks.push(disk);
                }
                SnapshotAction::Internal { disk, .. } => {
                    return Err(self.refused(&format!("disk {disk} would get another name than the others")));
                }
                SnapshotAction::External(overlay) => {
                    return Err(self.refused(&format!(
                        "disk {}: memory inside the images goes with internal snapshots only",
                        overlay.disk
                    )));
                }
            }
        }
        let tag = found.ok_or_else(|| self.refused("there is no disk to take the memory"))?;
        Ok((tag, disks))
    }

    /// Whether none of the disks holds such a snapshot now.
    async fn has_none(&self, on: &On, tag: &str, disks: &[&DiskName]) -> Result<bool, PortError> {
        let found = on.live.look_again().await?;
        let theirs = found.disks.iter().filter(|found| disks.contains(&&found.disk.name));
        Ok(theirs.flat_map(|found| &found.disk.snapshots).all(|snapshot| snapshot.name != tag))
    }

    async fn end_inside(&self, on: &On, save: &MemorySave) -> Result<(), PortError> {
        inside::settle(&on.client, &inside::job_id(&save.token)).await?;
        on.live.forget();
        if save.was.runs() { abandon::let_run_again(on.qmp()).await } else { Ok(()) }
    }
}

#[async_trait]
impl MemoryFiles for Machine {
    fn place(&self, name: &SnapshotName) -> String {
        self.saves.place(name)
    }

    async fn list(&self) -> Result<Vec<String>, PortError> {
        self.saves.list().await
    }

    async fn size(&self, file: &str) -> Result<Option<u64>, PortError> {
        self.saves.size(file).await
    }

    async fn verify(&self, memory: &MemoryMeta, progress: &dyn Progress) -> Result<MemoryHeader, PortError> {
        self.saves.verify(memory, progress).await
    }

    async fn recognize(
        &self,
        memory: &MemoryMeta,
        token: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<MemorySign, PortError> {
        self.saves.recognize(memory, token, progress).await
    }

    async fn examine(&self, file: &str, progress: &dyn Progress) -> Result<FoundMemory, PortError> {
        self.saves.examine(file, progress).await
    }

    async fn remove(&self, file: &str) -> Result<(), PortError> {
        self.saves.remove(file).await
    }
}
