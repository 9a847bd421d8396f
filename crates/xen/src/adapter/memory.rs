//! Saving the memory: while the guest runs where Xen can, else by `xl save -p`. Both leave the guest standing still, so that the disks can
//! be taken at the same instant.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use async_trait::async_trait;
use xlsnap_memory_file::{MemoryFile, MissingDirectory, Place};
use xlsnap_orchestrator::{
    Can, Effect, Memory, MemorySave, MemorySurvey, PortError, PortErrorKind, Progress, SaveTo, StoppedGuest,
};
use xlsnap_qemu::of_memory_file;
use xlsnap_qmp_transport::{QmpExt, commands::Cont};
use xlsnap_types::model::{Compression, MemoryWay, StateFlags};

use crate::domains::{self, Domain, GuestKind};
use crate::error::of_xl;
use crate::toolstack::{Suspended, Told};
use crate::vbd::{self, Vbd};

use super::XlDomain;
use super::save::Stopped;

/// What a save file has beside the pages: headers, processors, the emulated machine.
const OVERHEAD: u64 = 4 << 20;
/// How often a page is saved at most while the guest runs: libxl stops it after five rounds (`SPP_MAX_ITERATIONS` of Xen).
const ROUNDS: u64 = 6;

impl XlDomain {
    /// Why xl cannot save the domain's memory now, as a clause.
    async fn no_save(&self, domain: &Domain, state: StateFlags) -> Result<Option<String>, PortError> {
        if state.shutdown || state.dying {
            return Ok(Some("it has shut down".to_owned()));
        }
        if !state.paused {
            return Ok(None);
        }
        // A guest that has Xen's drivers is asked to stand still, and a paused one never answers: xl waits for 60 s and fails.
        let disks = vbd::list(&*self.context.store, domain.domid).await?;
        let answers = domain.kind != GuestKind::Hvm || disks.iter().any(|disk| disk.state >= Vbd::CONNECTED);
        Ok(answers.then(|| {
            "it is paused, and xl saves such a guest only while it runs; unpause it first".to_owned()
        }))
    }

    /// The most bytes that the saved memory takes; 0 if that is not known.
    async fn needed(&self, domain: &Domain) -> Result<u64, PortError> {
        let store = &*self.context.store;
        let Some(memory) = domains::memory(store, domain.domid, "static-max").await? else { return Ok(0) };
        let video = domains::memory(store, domain.domid, "videoram").await?.unwrap_or(0);
        let pages = memory.saturating_add(video);
        // Each page of 4 KiB has 8 bytes of its own.
        Ok(pages.saturating_add(pages / 512).saturating_add(OVERHEAD))
    }

    /// The file of a save.
    fn file_of(&self, save: &MemorySave) -> Result<MemoryFile, PortError> {
        match &save.to {
            SaveTo::File { file, way: MemoryWay::Toolstack, compression: Compression::None } => {
                MemoryFile::new(file.as_str()).map_err(of_memory_file)
            }
            _ => {
                let message = format!(
                    "domain {}: xl saves memory into a file, as it is, and in no other way",
                    self.name
                );
                Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
            }
        }
    }

    /// Puts everything back after a save that failed; the error then says what is known of the effect.
    async fn give_up(&self, save: &MemorySave, mut cause: PortError) -> PortError {
        match self.undo(save).await {
            Ok(()) => {
                cause.effect = Effect::None;
                cause
            }
            Err(undoing) => {
                let message = format!("{cause}; and it could not be put back: {undoing}");
                PortError::new(cause.kind, Effect::Unknown, message).with_source(cause)
            }
        }
    }

    /// Ends a save, whichever process began it: its xl is known by the name of the file that it writes, and the file by a mark in it.
    async fn undo(&self, save: &MemorySave) -> Result<(), PortError> {
        let file = self.file_of(save)?;
        let part = file.staged_path(&save.token).map_err(of_memory_file)?;
        let ended = self.context.toolstack.end_save(&part).await;
        ended.map_err(|error| of_xl(format!("the save of domain {} cannot be ended", self.name), error))?;
        self.put_back(save.was).await?;
        file.discard(&save.token).await.map_err(of_memory_file)
    }

    /// Has xl save the memory. On an error, everything is put back.
    async fn save_stopped<'a>(
        &'a self,
        save: &MemorySave,
        progress: &'a dyn Progress,
    ) -> Result<Stopped<'a>, PortError> {
        let file = self.file_of(save)?;
        let domain = self.savable(save).await?;
        let called = self.called(domain.domid);
        if self.is_own(file.directory()) {
            file.make_directory().map_err(of_memory_file)?;
        }
        let live = self.saves_live(&domain, save).await?;
        let staged = file.stage(&save.token).map_err(of_memory_file)?;
        // No client of ours may hold a monitor of the domain now: xl asks QEMU too.
        let told = |done, total| progress.bytes(done, total);
        if live {
            match self.save_live(&domain, &staged.path(), &told).await {
                Ok((since, suspended)) => {
                    let (save, suspended) = (save.clone(), Some(suspended));
                    return Ok(Stopped { domain: self, save, progress, staged, since, suspended });
                }
                // What sends may be at it still.
                Err(cause) if cause.kind == PortErrorKind::Unreachable => {
                    return Err(self.give_up(save, cause).await);
                }
                Err(cause) => {
                    tracing::warn!(
                        error = %cause,
                        "the memory of {called} is not saved while its guest runs, and so while it stands still"
                    );
                    // xl may be on its way out still, and lets the guest go on at the end of that.
                    let ended = self.context.toolstack.end_save(&staged.path()).await;
                    let ended =
                        ended.map_err(|error| of_xl(format!("the sending of {called} does not end"), error));
                    let back = match ended {
                        Ok(_) => self.put_back(save.was).await,
                        Err(cause) => Err(cause),
                    };
                    if let Err(cause) = back {
                        return Err(self.give_up(save, cause).await);
                    }
                }
            }
        }
        let before = Instant::now();
        let saved = self.context.toolstack.save(domain.domid, &staged.path(), &told).await;
        match saved {
            Ok(saved) => {
                self.save_pauses.store(true, Ordering::Relaxed);
                match self.must_stand_still(&domain).await {
                    Ok(()) => {
                        let since = saved.since.max(before);
                        let save = save.clone();
                        Ok(Stopped { domain: self, save, progress, staged, since, suspended: None })
                    }
                    Err(cause) => Err(self.give_up(save, cause).await),
                }
            }
            Err(cause) => {
                let cause = of_xl(format!("the memory of {called} cannot be saved"), cause);
                Err(self.give_up(save, cause).await)
            }
        }
    }

    /// Whether the memory is saved while the guest runs: where Xen can, the guest does, and there is room for pages that are saved again.
    pub(super) async fn saves_live(&self, domain: &Domain, save: &MemorySave) -> Result<bool, PortError> {
        let can = self.context.toolstack.saves_live(domain.kind).await.unwrap_or(false);
        if !can || !save.was.runs() {
            return Ok(false);
        }
        let free = self.place_of(save.file().unwrap_or_default()).await.map_err(of_memory_file)?.free;
        let most = self.needed(domain).await?.saturating_mul(ROUNDS);
        Ok(free.is_some_and(|free| free >= most))
    }

    /// Has xl send the memory while the guest runs. On an error the guest may stand still for a moment yet.
    async fn save_live(
        &self,
        domain: &Domain,
        part: &Path,
        told: Told<'_>,
    ) -> Result<(Instant, Box<dyn Suspended>), PortError> {
        let called = self.called(domain.domid);
        let saved = self.context.toolstack.save_live(domain.domid, part, told).await;
        let (since, suspended) =
            saved.map_err(|cause| of_xl(format!("the memory of {called} cannot be sent"), cause))?;
        match self.running_with_state().await? {
            Some((now, state)) if now.domid == domain.domid && state.shutdown && !state.dying => {
                match domain.kind {
                    GuestKind::Hvm => self.take_images_back(domain).await?,
                    // Its disks may be given other files, from which it must not go on before it is let, whatever becomes of us or of xl.
                    GuestKind::Pv | GuestKind::Pvh => self.keep_still(domain).await?,
                }
                Ok((since, suspended))
            }
            found => {
                let found = found.map(|(_, state)| state);
                let message = format!(
                    "{called} does not stand still when its memory is sent ({found:?}), so that its disks would be of another instant"
                );
                Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message))
            }
        }
    }

    /// Adds a pause to a guest that is suspended, so that it stands still too when xl lets it go on.
    async fn keep_still(&self, domain: &Domain) -> Result<(), PortError> {
        let paused = self.context.toolstack.pause(domain.domid).await;
        paused.map_err(|error| of_xl(format!("{} cannot be paused", self.called(domain.domid)), error))
    }

    /// Makes the emulated machine take its images again, which it lets go of for the one that a migration makes elsewhere (QEMU's
    /// `xen-save-devices-state`). Its processors are suspended, so that nothing of it goes on.
    async fn take_images_back(&self, domain: &Domain) -> Result<(), PortError> {
        let monitor = self.monitor(domain.domid);
        let done = monitor.execute(Cont).await;
        monitor.leave().await;
        done.map(drop).map_err(|error| {
            let called = self.called(domain.domid);
            let message =
                format!("the QEMU of {called} does not take its images back after its memory was sent");
            PortError::new(PortErrorKind::Failed, Effect::Unknown, message).with_source(error)
        })
    }

    /// The domain, which can be saved now as it was planned.
    async fn savable(&self, save: &MemorySave) -> Result<Domain, PortError> {
        let (domain, state) = self.running_with_state().await?.ok_or_else(|| {
            let message = format!("domain {} does not run any more", self.name);
            PortError::new(PortErrorKind::NotFound, Effect::None, message)
        })?;
        let called = self.called(domain.domid);
        if state.paused == save.was.runs() {
            let now = if state.paused { "paused" } else { "unpaused" };
            let message = format!("{called} was {now} meanwhile; try again");
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
        }
        if domain.kind == GuestKind::Hvm
            && let Some((socket, error)) = self.monitor(domain.domid).libxls_is_held().await
        {
            let message = format!(
                "another client holds the monitor {} of {called}, and xl cannot save such a guest without it; end that client, then \
                 do it again",
                socket.display()
            );
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message).with_source(error));
        }
        Ok(domain)
    }

    /// What would be in the way of a file at `file`.
    async fn place_of(&self, file: &str) -> Result<Place, xlsnap_memory_file::Error> {
        let file = MemoryFile::new(file)?;
        // The domain's own directory is made when it is needed.
        let missing =
            if self.is_own(file.directory()) { MissingDirectory::Make } else { MissingDirectory::Refuse };
        file.place(missing).await
    }

    fn is_own(&self, directory: &Path) -> bool {
        directory == self.context.places.records
    }

    /// What cannot be after `xl save -p`: the guest runs, or is another one.
    async fn must_stand_still(&self, before: &Domain) -> Result<(), PortError> {
        let wrong = |why: String| PortError::new(PortErrorKind::Failed, Effect::Unknown, why);
        match self.running_with_state().await? {
            Some((now, state)) if now.domid == before.domid && state.paused && !state.shutdown => Ok(()),
            Some((now, _)) if now.domid != before.domid => {
                Err(wrong(format!("domain {} was started anew while it was saved", self.name)))
            }
            Some((now, state)) => Err(wrong(format!(
                "{} does not stand still after `xl save -p` ({state:?}), so that its disks would be of another instant",
                self.called(now.domid)
            ))),
            None => Err(wrong(format!("{} has ended after it was saved", self.called(before.domid)))),
        }
    }
}

#[async_trait]
impl Memory for XlDomain {
    async fn survey(&self, file: Option<&str>) -> Result<MemorySurvey, PortError> {
        let mut survey = MemorySurvey::default();
        for way in [MemoryWay::Background, MemoryWay::Switchover, MemoryWay::Stopped] {
            survey.lacking.push((way, "it is a domain of Xen, whose memory is saved by xl".to_owned()));
        }
        let why = "QEMU has no memory of a domain of Xen: it would put an empty one into the images";
        survey.lacking.push((MemoryWay::Internal, why.to_owned()));
        match self.running_with_state().await? {
            None => survey.lacking.push((MemoryWay::Toolstack, "it is off".to_owned())),
            Some((domain, state)) => {
                match self.no_save(&domain, state).await? {
                    None => survey.ways.push(MemoryWay::Toolstack),
                    Some(why) => survey.lacking.push((MemoryWay::Toolstack, why)),
                }
                survey.needed = self.needed(&domain).await?;
            }
        }
        if let Some(file) = file {
            match self.place_of(file).await {
                Ok(place) => {
                    (survey.free, survey.taken) = (place.free, place.taken);
                    survey.place = Can::unless(place.obstacle);
                }
                Err(error) => survey.place = Can::no(error.to_string()),
            }
        }
        Ok(survey)
    }

    async fn begin<'a>(
        &'a self,
        save: &MemorySave,
        progress: &'a dyn Progress,
    ) -> Result<Box<dyn StoppedGuest<'a> + 'a>, PortError> {
        Ok(Box::new(self.save_stopped(save, progress).await?))
    }

    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError> {
        self.undo(save).await
    }
}
