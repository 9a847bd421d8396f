//! Saving the memory: `xl save -p`, which leaves the guest paused, so that the disks can be taken at the same instant.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Effect, Memory, MemorySave, MemorySurvey, PortError, PortErrorKind, Progress, SavedMemory, SnapshotAction,
};
use xlsnap_types::model::{MemoryWay, StateFlags};

use crate::domains::{self, Domain, GuestKind};
use crate::error::{of_io, of_xl};
use crate::save_file::Header;
use crate::vbd::{self, Vbd};

use super::XlDomain;
use super::{files, mark};

/// What a save file has beside the pages: headers, processors, the emulated machine.
const OVERHEAD: u64 = 4 << 20;
/// How often a pause is taken away from a guest that ran: ours, and one of somebody who was in the way.
const UNPAUSES: usize = 2;
/// How often it is looked whether a guest goes on after a save that failed, and how long between.
const RESUMES: usize = 50;
const MOMENT: Duration = Duration::from_millis(200);

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

    /// Where a save writes, and how its file is called afterwards.
    fn places(&self, save: &MemorySave) -> Result<(PathBuf, PathBuf), PortError> {
        let file = save.file.as_deref().map(Path::new).filter(|file| file.is_absolute());
        match file {
            Some(file) if save.way == MemoryWay::Toolstack => {
                Ok((mark::part_of(file, &save.token), file.to_owned()))
            }
            _ => {
                let message =
                    format!("domain {}: xl saves memory into a file, and in no other way", self.name);
                Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
            }
        }
    }

    /// Lets a guest that ran before run again, if it is paused. `ours` says that a pause of ours is certain: of a guest that was
    /// paused before, too, that one is taken away, because pauses count.
    async fn put_back(&self, was_running: bool, ours: bool) -> Result<(), PortError> {
        let mut pauses = if was_running { UNPAUSES } else { usize::from(ours) };
        let mut patience = RESUMES;
        loop {
            let Some((domain, state)) = self.running_with_state().await? else { return Ok(()) };
            let called = self.called(domain.domid);
            if was_running && state.shutdown && !state.dying {
                // xl lets a guest go on after a save that failed, which takes it a moment.
                if patience > 0 {
                    patience -= 1;
                    tokio::time::sleep(MOMENT).await;
                    continue;
                }
                let message = format!(
                    "{called} has shut down, or is suspended because xl was ended in the middle of a save, which no command of \
                     xl undoes; destroy it, or revert it to a snapshot"
                );
                return Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message));
            }
            if !state.paused || (pauses == 0 && !was_running) {
                return Ok(());
            }
            if pauses == 0 {
                let message = format!("{called} is paused by somebody else, again and again; unpause it");
                return Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message));
            }
            pauses -= 1;
            let unpaused = self.context.toolstack.unpause(domain.domid).await;
            unpaused.map_err(|error| of_xl(format!("{called} cannot be unpaused; unpause it"), error))?;
        }
    }

    /// Puts everything back after a save that failed; the error then says what is known of the effect.
    async fn give_up(&self, save: &MemorySave, mut cause: PortError) -> PortError {
        match self.abandon(save).await {
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

    /// What cannot be after `xl save -p`: the guest runs, or is another one.
    async fn stands_still(&self, before: &Domain) -> Result<(), PortError> {
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
        if let Some(file) = file.map(Path::new) {
            survey.taken = fs::symlink_metadata(file).is_ok();
            let directory = file.parent().unwrap_or(Path::new("/"));
            match rustix::fs::statvfs(nearest(directory)) {
                Ok(found) => survey.free = found.f_bavail.checked_mul(found.f_frsize),
                Err(errno) => tracing::debug!(%errno, "free space cannot be told"),
            }
            survey.no_place = self.no_place(file, directory);
        }
        Ok(survey)
    }

    async fn begin(&self, save: &MemorySave, progress: &dyn Progress) -> Result<(), PortError> {
        let (part, file) = self.places(save)?;
        let (domain, state) = self.running_with_state().await?.ok_or_else(|| {
            let message = format!("domain {} does not run any more", self.name);
            PortError::new(PortErrorKind::NotFound, Effect::None, message)
        })?;
        let called = self.called(domain.domid);
        if state.paused == save.was_running {
            let now = if state.paused { "paused" } else { "unpaused" };
            let message = format!("{called} was {now} meanwhile; try again");
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
        }
        if domain.kind == GuestKind::Hvm
            && let Some((socket, error)) = self.monitor(domain.domid).libxls_is_held().await
        {
            let message = format!(
                "another client holds the monitor {} of {called}, and xl cannot save such a guest without it; end that client, or try \
                 again",
                socket.display()
            );
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message).with_source(error));
        }
        if let Some(directory) = file.parent().filter(|directory| **directory == *self.context.places.records)
        {
            use std::os::unix::fs::DirBuilderExt;
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| {
                of_io(format!("{} cannot be made", directory.display()), error, Effect::None)
            })?;
        }
        mark::make(&part, &save.token).map_err(|error| {
            of_io(format!("the memory file {} cannot be made", part.display()), error, Effect::None)
        })?;
        // Nobody may hold a monitor of the domain now: xl asks QEMU too.
        let told = |done, total| progress.bytes(done, total);
        let before = Instant::now();
        let saved = self.context.toolstack.save(domain.domid, &part, &told).await;
        let failed = match saved {
            Ok(saved) => match self.stands_still(&domain).await {
                Ok(()) => {
                    self.note_stopped(&save.token, saved.since.max(before));
                    return Ok(());
                }
                Err(cause) => {
                    self.note_stopped(&save.token, before);
                    cause
                }
            },
            Err(cause) => of_xl(format!("the memory of {called} cannot be saved"), cause),
        };
        Err(self.give_up(save, failed).await)
    }

    async fn resume(&self, save: &MemorySave, _progress: &dyn Progress) -> Result<Duration, PortError> {
        let since = self.take_stopped(&save.token);
        self.put_back(save.was_running, since.is_some()).await?;
        Ok(since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    async fn finish(&self, save: &MemorySave, progress: &dyn Progress) -> Result<SavedMemory, PortError> {
        let (part, file) = self.places(save)?;
        let failed = |error, what: &str| {
            of_io(format!("the memory file {} {what}", file.display()), error, Effect::Unknown)
        };
        let header = fs::File::open(&part).and_then(Header::read);
        let header = header.map_err(|error| failed(error, "is not what xl writes"))?;
        if header.configuration.uuid() != Some(self.uuid) {
            let message = format!("the memory file {} is that of another domain", part.display());
            return Err(PortError::new(PortErrorKind::Corrupt, Effect::Unknown, message));
        }
        let sum = files::sum(&part, progress).await.map_err(|error| failed(error, "cannot be read"))?;
        mark::publish(&part, &file).map_err(|error| failed(error, "cannot be given its name"))?;
        Ok(SavedMemory { bytes: sum.bytes, checksum: Some(sum.checksum) })
    }

    async fn take_inside(
        &self,
        _save: &MemorySave,
        _actions: &[SnapshotAction],
        _progress: &dyn Progress,
    ) -> Result<Duration, PortError> {
        let message = format!(
            "domain {}: QEMU has no memory of a domain of Xen, so that none can be put into images",
            self.name
        );
        Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
    }

    /// Works for a save that another process began, too: its xl is known by the name of the file that it writes, and the file by a
    /// mark in it.
    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError> {
        let (part, file) = self.places(save)?;
        let ended = self.context.toolstack.end_save(&part).await;
        ended.map_err(|error| of_xl(format!("the save of domain {} cannot be ended", self.name), error))?;
        let ours = self.take_stopped(&save.token).is_some();
        self.put_back(save.was_running, ours).await?;
        let failed = |error| {
            of_io(format!("the memory file {} cannot be removed", file.display()), error, Effect::Unknown)
        };
        if !mark::remove(&part).map_err(failed)? && self.is_of_this_save(&file, save).map_err(failed)? {
            // It had its name already.
            mark::remove(&file).map_err(failed)?;
        }
        Ok(())
    }
}

impl XlDomain {
    /// Whether a file is the one that this save made, after it got its name.
    fn is_of_this_save(&self, file: &Path, save: &MemorySave) -> std::io::Result<bool> {
        if fs::symlink_metadata(file).is_err() {
            return Ok(false);
        }
        Ok(match mark::is_marked(file, &save.token)? {
            Some(ours) => ours,
            // Planning has seen that nothing was there, and the file is a save of this domain.
            None => fs::File::open(file)
                .and_then(Header::read)
                .is_ok_and(|header| header.configuration.uuid() == Some(self.uuid)),
        })
    }

    /// Why no file can be made there, as a clause.
    fn no_place(&self, file: &Path, directory: &Path) -> Option<String> {
        if !file.is_absolute() || file.file_name().is_none() {
            return Some(format!("{} is no absolute path of a file", file.display()));
        }
        // Ours is made when it is needed.
        if directory == self.context.places.records {
            return None;
        }
        match fs::metadata(directory) {
            Ok(found) if !found.is_dir() => Some(format!("{} is no directory", directory.display())),
            Ok(_) => rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)
                .err()
                .map(|errno| format!("its directory {} cannot be written: {errno}", directory.display())),
            Err(error) => Some(format!("its directory {} is not there: {error}", directory.display())),
        }
    }
}

/// The nearest directory above that is there.
fn nearest(directory: &Path) -> &Path {
    directory.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"))
}
