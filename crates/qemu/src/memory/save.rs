//! Saving the memory of a guest that is on: a migration into a socket of ours, and from there into a file.
//!
//! The ways differ in when the guest stands still:
//!
//! * in the *background*: from `stop` until the migration has sent the first page. Before that QEMU tracks the guest's
//!   writes, and saves each page as it was then.
//! * at the *switchover*: the migration goes on while the guest runs, and QEMU stops it when little is left; it waits there,
//!   and goes on with that rest and the devices when it is told to.
//! * *stopped*: from `stop` until all is sent.
//!
//! The disks' snapshot falls in that time. In the last two ways QEMU has given its disks away at the end, as after a
//! migration to elsewhere, and takes them back with `cont`; only a guest that ran can be brought back so.
//!
//! A save is a value: [`begin`] gives [`Stopped`], which [`Stopped::run_on`] makes [`Finishing`], which [`Finishing::finish`] ends. What
//! fails gives [`Failed`], and what is dropped leaves no more than a crash does: [`super::abandon::abandon`] puts everything back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use xlsnap_memory_file::MemoryFile;
use xlsnap_orchestrator::{Effect, MemorySave, PortError, PortErrorKind, Progress, SavedMemory};
use xlsnap_qmp_transport::commands::{
    Cont, MigrateContinue, MigrationInfo, MigrationStatus, RunState, StatusInfo, Stop,
};
use xlsnap_qmp_transport::{Qmp, QmpExt};
use xlsnap_types::model::MemoryWay;

use super::faults;
use super::input::{self, Qemu};
use super::leftover;
use super::migration::{self, LATER, SOON};
use super::pause::Pause;
use super::settings::{self, Settings};
use super::stream::Stream;
use crate::error::{self, of_memory_file};

/// After so many passes over a memory that is written as fast as it is saved, the guest is stopped for the rest.
const MAX_PASSES: u64 = 20;

/// A save whose guest stands still, for the disks to be taken.
#[derive(Debug)]
#[must_use = "the guest stands still until it is run on, or the save is abandoned"]
pub(crate) struct Stopped(Saving);

/// A save whose guest runs again, if it ran before, and whose file may not be whole yet.
#[derive(Debug)]
#[must_use = "the file has no name until it is finished, and stays aside until the save is abandoned"]
pub(crate) struct Finishing(Saving);

/// A save that has begun, for a caller that keeps it between two calls.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The guest stands still.
    Stopped(Stopped),
    /// The guest runs again, if it ran before.
    Finishing(Finishing),
}

impl Begun {
    /// For [`super::abandon::abandon`].
    pub(crate) fn into_stream(self) -> Stream {
        match self {
            Self::Stopped(Stopped(saving)) | Self::Finishing(Finishing(saving)) => saving.stream,
        }
    }
}

#[derive(Debug)]
struct Saving {
    save: MemorySave,
    /// What was changed in QEMU, and the file that tells other programs.
    settings: Settings,
    was: PathBuf,
    pause: Pause,
    stream: Stream,
}

/// Why a save did not come further.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The cause.
    pub(crate) cause: PortError,
    /// What has begun, for [`super::abandon::abandon`]; `None` of [`begin`] when nothing has.
    pub(crate) stream: Option<Stream>,
}

impl From<PortError> for Failed {
    fn from(cause: PortError) -> Self {
        Self { cause, stream: None }
    }
}

/// The file of `save`, as far as a way through a file goes.
pub(crate) fn file_of(save: &MemorySave) -> Result<MemoryFile, PortError> {
    let refused = |message: &str| PortError::new(PortErrorKind::Refused, Effect::None, message);
    match (save.way(), &save.file()) {
        (MemoryWay::Background | MemoryWay::Switchover | MemoryWay::Stopped, Some(file)) => {
            MemoryFile::new(file).map_err(of_memory_file)
        }
        (MemoryWay::Internal, _) => Err(refused("memory inside the images is taken with them, at once")),
        (_, None) => Err(refused("the memory was given no file")),
        (way, _) => Err(refused(&format!("QEMU knows no way {} to save memory", way.word()))),
    }
}

/// Begins `save`: on return the guest stands still.
///
/// # Cancel safety
/// Dropped, it leaves what a crash leaves.
pub(crate) async fn begin(
    qemu: Qemu<'_>,
    sockets: &Path,
    save: &MemorySave,
    progress: &dyn Progress,
) -> Result<Stopped, Failed> {
    let Qemu { qmp, process } = qemu;
    let file = file_of(save)?;
    if let Some(why) = faults::fault(qmp, process, save.way()).await? {
        let message = format!("the memory is not saved this way ({}): {why}", save.way().word());
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, message).into());
    }
    let events = qmp.events();
    check_state(save, &migration::run_state(qmp).await?)?;
    if !migration::is_over(&migration::info(qmp).await?) {
        let message = "a migration of QEMU's is under way";
        return Err(PortError::new(PortErrorKind::Busy, Effect::None, message).into());
    }
    // Everything that may fail comes before the guest is stopped.
    if let (MemoryWay::Background, Some(process)) = (save.way(), process) {
        input::fill(qmp, process, &save.token).await?;
    }
    let stream = Stream::prepare(qmp, &file, sockets, save).await?;
    let was = settings::file_of(sockets, &save.token);
    let settings = match Settings::apply(qmp, save.way(), &was).await {
        Ok(settings) => settings,
        Err(cause) => return Err(Failed { cause, stream: Some(stream) }),
    };
    let mut saving = Saving { save: save.clone(), settings, was, pause: Pause::new(events), stream };
    match saving.stop(qmp, progress).await {
        Ok(()) => Ok(Stopped(saving)),
        Err(cause) => Err(saving.failed(cause)),
    }
}

impl Stopped {
    /// Lets the guest run on as soon as the way allows; how long it stood still.
    ///
    /// # Cancel safety
    /// Dropped, it leaves what a crash leaves.
    pub(crate) async fn run_on(
        self,
        qmp: &dyn Qmp,
        progress: &dyn Progress,
    ) -> Result<(Duration, Finishing), Failed> {
        let Self(mut saving) = self;
        match saving.run_on(qmp, progress).await {
            Ok(pause) => Ok((pause, Finishing(saving))),
            Err(cause) => Err(saving.failed(cause)),
        }
    }
}

impl Finishing {
    /// Waits for the rest, and gives the file its name.
    ///
    /// # Cancel safety
    /// Dropped, it leaves what a crash leaves.
    pub(crate) async fn finish(self, qmp: &dyn Qmp, progress: &dyn Progress) -> Result<SavedMemory, Failed> {
        let Self(mut saving) = self;
        match saving.finish(qmp, progress).await {
            Ok(saved) => Ok(saved),
            Err(cause) => Err(saving.failed(cause)),
        }
    }
}

fn is_completed(info: &MigrationInfo) -> bool {
    info.status == Some(MigrationStatus::Completed)
}

impl Saving {
    fn failed(self, cause: PortError) -> Failed {
        Failed { cause, stream: Some(self.stream) }
    }

    /// Brings the guest to a stop.
    async fn stop(&mut self, qmp: &dyn Qmp, progress: &dyn Progress) -> Result<(), PortError> {
        self.pause.begins();
        if self.save.way() == MemoryWay::Switchover {
            return self.run_up(qmp, progress).await;
        }
        if self.save.was.runs() { stop(qmp).await } else { Ok(()) }
    }

    /// Saves while the guest runs, until QEMU has stopped it.
    async fn run_up(&mut self, qmp: &dyn Qmp, progress: &dyn Progress) -> Result<(), PortError> {
        self.stream.start(qmp).await?;
        let waits = |info: &MigrationInfo| info.status == Some(MigrationStatus::PreSwitchover);
        let passes = |info: &MigrationInfo| info.ram.map_or(0, |ram| ram.dirty_sync_count);
        let far = |info: &MigrationInfo| waits(info) || passes(info) > MAX_PASSES;
        let info = self.stream.until(qmp, SOON, progress, far).await?;
        if !waits(&info) {
            tracing::debug!("the guest writes as fast as its memory is saved, and is stopped for the rest");
            stop(qmp).await?;
            self.stream.until(qmp, SOON, progress, waits).await?;
        }
        Ok(())
    }

    async fn run_on(&mut self, qmp: &dyn Qmp, progress: &dyn Progress) -> Result<Duration, PortError> {
        let was_running = self.save.was.runs();
        // What was taken of the disks is of another instant if the guest has run in between.
        if was_running && self.pause.is_over() {
            let message = "another client of QEMU's has let the guest run on meanwhile";
            return Err(PortError::new(PortErrorKind::Failed, Effect::None, message));
        }
        if self.save.way() == MemoryWay::Switchover {
            let failed = |e| error::of_qmp("QEMU did not go on with the memory".into(), e);
            let state = MigrationStatus::PreSwitchover;
            qmp.execute(MigrateContinue { state }).await.map_err(failed)?;
        } else {
            let state = migration::run_state(qmp).await?.status;
            if state != RunState::Paused {
                return Err(not_now(state));
            }
            self.stream.start(qmp).await?;
        }
        if self.save.way() == MemoryWay::Background {
            let far = |info: &MigrationInfo| migration::has_pages(info) || is_completed(info);
            self.stream.until(qmp, SOON, progress, far).await?;
            if was_running {
                let failed = |e| error::of_qmp("the guest could not be let run on".into(), e);
                qmp.execute(Cont).await.map_err(failed)?;
            }
        } else {
            self.stream.until(qmp, SOON, progress, is_completed).await?;
            if was_running {
                migration::let_run(qmp).await?;
            }
        }
        Ok(if was_running { self.pause.length() } else { Duration::ZERO })
    }

    async fn finish(&mut self, qmp: &dyn Qmp, progress: &dyn Progress) -> Result<SavedMemory, PortError> {
        self.stream.until(qmp, LATER, progress, is_completed).await?;
        let sealed = self.stream.whole().await?;
        match self.settings.put_back(qmp).await {
            Ok(()) => leftover::remove(&self.was),
            // Who tries again has to find what it was.
            Err(error) if error.kind == PortErrorKind::Unreachable => return Err(error),
            // The memory is whole, whatever becomes of QEMU.
            Err(error) => tracing::warn!(%error, "how QEMU's migration was set up is not put back"),
        }
        let saved = SavedMemory { bytes: sealed.bytes(), checksum: Some(sealed.checksum().to_string()) };
        sealed.publish().await.map_err(of_memory_file)?;
        Ok(saved)
    }
}

/// Whether the guest is as it was when the save was planned, and can be saved so.
fn check_state(save: &MemorySave, now: &StatusInfo) -> Result<(), PortError> {
    if now.running != save.was.runs() {
        let what = if now.running { "runs by now" } else { "has stopped meanwhile" };
        let message = format!("the guest {what} ({})", now.status.word());
        return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
    }
    // A background snapshot ends QEMU in any other state (7.2 and 10.0: "invalid runstate transition").
    if !now.running && now.status != RunState::Paused {
        return Err(not_now(now.status));
    }
    if !now.running && save.way() != MemoryWay::Background {
        let message = "QEMU would not bring a paused guest back as it is";
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
    }
    Ok(())
}

fn not_now(state: RunState) -> PortError {
    let message = format!("the guest's memory cannot be saved in its state ({})", state.word());
    PortError::new(PortErrorKind::Refused, Effect::None, message)
}

async fn stop(qmp: &dyn Qmp) -> Result<(), PortError> {
    let failed = |e| error::of_qmp("the guest could not be stopped".into(), e);
    qmp.execute(Stop).await.map_err(failed).map(drop)
}
