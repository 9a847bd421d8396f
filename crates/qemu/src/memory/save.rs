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

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::time::sleep;
use xlsnap_orchestrator::{Effect, MemorySave, PortError, PortErrorKind, Progress, SavedMemory};
use xlsnap_qmp_transport::commands::{
    Cont, Migrate, MigrateContinue, MigrationInfo, MigrationStatus, RunState, StatusInfo, Stop,
};
use xlsnap_qmp_transport::{Qmp, QmpExt};
use xlsnap_types::model::{Compression, MemoryWay};

use super::files::{cannot, kind_of};
use super::migration::{self, LATER, SOON};
use super::pause::Pause;
use super::place::Place;
use super::receive::{Broken, Receiving, Written};
use super::settings::{self, Settings};
use super::survey;
use crate::error;

/// A Unix socket's address holds 108 bytes, with the NUL that ends it (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// After so many passes over a memory that is written as fast as it is saved, the guest is stopped for the rest.
const MAX_PASSES: u64 = 20;

/// A save that has begun.
#[derive(Debug)]
pub(crate) struct Saving {
    compression: Compression,
    place: Place,
    /// Until the stream comes.
    file: Option<File>,
    listening: Option<Listening>,
    receiving: Option<Receiving>,
    written: Option<Written>,
    settings: Option<Settings>,
    pause: Pause,
}

/// The socket that QEMU connects to.
#[derive(Debug)]
struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What `save` is about, as far as a way through a file goes.
fn place_of(save: &MemorySave) -> Result<Place, PortError> {
    let refused = |message: &str| PortError::new(PortErrorKind::Refused, Effect::None, message);
    match (save.way, &save.file) {
        (MemoryWay::Background | MemoryWay::Switchover | MemoryWay::Stopped, Some(file)) => {
            Place::new(file, &save.token)
        }
        (MemoryWay::Internal, _) => Err(refused("memory inside the images is taken with them, at once")),
        (_, None) => Err(refused("the memory was given no file")),
        (way, _) => Err(refused(&format!("QEMU knows no way {} to save memory", way.word()))),
    }
}

/// Begins `save`: on return the guest stands still. What was done is in `slot`, also when it fails or is dropped.
pub(crate) async fn begin(
    qmp: &dyn Qmp,
    sockets: &Path,
    save: &MemorySave,
    slot: &mut Option<Saving>,
    progress: &dyn Progress,
) -> Result<(), PortError> {
    let place = place_of(save)?;
    if let Some(why) = survey::fault(qmp, save.way).await? {
        let message = format!("the memory is not saved this way ({}): {why}", save.way.word());
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
    }
    let events = qmp.events();
    check_state(save, &migration::run_state(qmp).await?)?;
    if !migration::is_over(&migration::info(qmp).await?) {
        let message = "a migration of QEMU's is under way";
        return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
    }
    // Everything that may fail comes before the guest is stopped.
    let listening = listen(sockets, &save.token)?;
    let file = place.create().map_err(|e| cannot(&shown(&place), "made", e))?;
    let saving = slot.insert(Saving {
        compression: save.compression,
        place,
        file: Some(file),
        listening: Some(listening),
        receiving: None,
        written: None,
        settings: None,
        pause: Pause::new(events),
    });
    let was = settings::file_of(sockets, &save.token);
    saving.settings = Some(Settings::apply(qmp, save.way, &was).await?);
    saving.pause.begins();
    if save.way == MemoryWay::Switchover {
        return saving.run_up(qmp, sockets, &save.token, progress).await;
    }
    if save.was_running {
        stop(qmp).await?;
    }
    Ok(())
}

/// Lets the guest run on as soon as the way allows; how long it stood still.
pub(crate) async fn resume(
    qmp: &dyn Qmp,
    sockets: &Path,
    save: &MemorySave,
    saving: &mut Saving,
    progress: &dyn Progress,
) -> Result<Duration, PortError> {
    // What was taken of the disks is of another instant if the guest has run in between.
    if save.was_running && saving.pause.is_over() {
        let message = "somebody else has let the guest run on meanwhile";
        return Err(PortError::new(PortErrorKind::Failed, Effect::None, message));
    }
    if save.way == MemoryWay::Switchover {
        let failed = |e| error::of_qmp("QEMU did not go on with the memory".into(), e);
        qmp.execute(MigrateContinue { state: MigrationStatus::PreSwitchover }).await.map_err(failed)?;
    } else {
        let state = migration::run_state(qmp).await?.status;
        if state != RunState::Paused {
            return Err(not_now(state));
        }
        saving.start(qmp, sockets, &save.token).await?;
    }
    let completed = |info: &MigrationInfo| info.status == Some(MigrationStatus::Completed);
    if save.way == MemoryWay::Background {
        saving.until(qmp, SOON, progress, |info| migration::has_pages(info) || completed(info)).await?;
        if save.was_running {
            let failed = |e| error::of_qmp("the guest could not be let run on".into(), e);
            qmp.execute(Cont).await.map_err(failed)?;
        }
    } else {
        saving.until(qmp, SOON, progress, completed).await?;
        if save.was_running {
            migration::let_run(qmp).await?;
        }
    }
    Ok(if save.was_running { saving.pause.length() } else { Duration::ZERO })
}

/// Waits for the rest, and gives the file its name.
pub(crate) async fn finish(
    qmp: &dyn Qmp,
    sockets: &Path,
    save: &MemorySave,
    saving: &mut Saving,
    progress: &dyn Progress,
) -> Result<SavedMemory, PortError> {
    let completed = |info: &MigrationInfo| info.status == Some(MigrationStatus::Completed);
    saving.until(qmp, LATER, progress, completed).await?;
    while saving.written.is_none() {
        saving.look_at_stream(LATER).await?;
    }
    if let Some(settings) = &saving.settings {
        match settings.put_back(qmp).await {
            Ok(()) => {
                let _ = std::fs::remove_file(settings::file_of(sockets, &save.token));
            }
            // The memory is whole, whatever becomes of QEMU.
            Err(error) => tracing::warn!(%error, "how QEMU's migration was set up is not put back"),
        }
    }
    let place = &saving.place;
    place.publish().map_err(|e| {
        let mut error = cannot(&shown(place), "given its name", e);
        if error.kind == PortErrorKind::AlreadyExists {
            let message = format!("something came to be at {} meanwhile, and stays", shown(place));
            error = PortError::new(PortErrorKind::AlreadyExists, Effect::None, message);
        }
        error
    })?;
    let Some(Written { bytes, checksum }) = saving.written.take() else {
        unreachable!("it was waited for above")
    };
    Ok(SavedMemory { bytes, checksum: Some(checksum) })
}

/// Ends a save, whoever has begun it: see [`xlsnap_orchestrator::Memory::abandon`]. `qmp` is `None` when the guest is off.
///
/// Everything is tried; the first error is told.
pub(crate) async fn abandon(
    qmp: Option<&dyn Qmp>,
    sockets: &Path,
    save: &MemorySave,
    saving: Option<Saving>,
) -> Result<(), PortError> {
    let place = place_of(save)?;
    let was = settings::file_of(sockets, &save.token);
    let mut result = Ok(());
    let mut try_all = |done: Result<(), PortError>| {
        if result.is_ok() {
            result = done;
        }
    };
    if let Some(qmp) = qmp {
        let written = Settings::load(&was);
        // A migration that nothing here tells of is somebody else's, and the guest stands still for that, if it does.
        let begun = saving.is_some() || written.is_some() || place.has_part();
        if begun {
            try_all(migration::cancel(qmp).await);
        }
        if let Some(settings) =
            written.as_ref().or(saving.as_ref().and_then(|saving| saving.settings.as_ref()))
        {
            try_all(settings.put_back(qmp).await);
        }
        if save.was_running {
            try_all(if begun { let_run_again(qmp).await } else { let_run_unless_migrated(qmp).await });
        }
    }
    if let Some(Saving { receiving: Some(receiving), .. }) = saving {
        receiving.end().await;
    }
    try_all(place.discard().map_err(|e| cannot(&shown(&place), "removed", e)));
    let _ = std::fs::remove_file(was);
    let _ = std::fs::remove_file(socket(sockets, &save.token));
    result
}

async fn let_run_unless_migrated(qmp: &dyn Qmp) -> Result<(), PortError> {
    if migration::is_over(&migration::info(qmp).await?) { let_run_again(qmp).await } else { Ok(()) }
}

/// Lets a guest run that a save holds up: not one that has stopped for another reason since.
pub(crate) async fn let_run_again(qmp: &dyn Qmp) -> Result<(), PortError> {
    let state = migration::run_state(qmp).await?;
    match state.status {
        RunState::Paused
        | RunState::FinishMigrate
        | RunState::Postmigrate
        | RunState::SaveVm
        | RunState::RestoreVm => migration::let_run(qmp).await,
        _ => Ok(()),
    }
}

impl Saving {
    /// Has the migration started, and its stream come in.
    async fn start(&mut self, qmp: &dyn Qmp, sockets: &Path, token: &str) -> Result<(), PortError> {
        let uri = format!("unix:{}", socket(sockets, token).display());
        let failed = |e| error::of_qmp("QEMU did not begin to save the memory".into(), e);
        qmp.execute(Migrate { uri }).await.map_err(failed)?;
        let broken = |e: io::Error| {
            let message = "the stream of QEMU's memory could not be taken";
            PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e)
        };
        let (Some(listening), Some(file)) = (&self.listening, self.file.take()) else {
            return Err(broken(io::ErrorKind::NotConnected.into()));
        };
        let stream = loop {
            tokio::select! {
                accepted = listening.listener.accept() => break accepted.map_err(broken)?.0,
                () = sleep(LATER) => {
                    if let Some(failure) = migration::failure(&migration::info(qmp).await?) {
                        return Err(failure);
                    }
                }
            }
        };
        self.listening = None;
        let stream = stream.into_std().map_err(broken)?;
        stream.set_nonblocking(false).map_err(broken)?;
        self.receiving = Some(Receiving::start(stream, file, self.compression).map_err(broken)?);
        Ok(())
    }

    /// Saves while the guest runs, until QEMU has stopped it.
    async fn run_up(
        &mut self,
        qmp: &dyn Qmp,
        sockets: &Path,
        token: &str,
        progress: &dyn Progress,
    ) -> Result<(), PortError> {
        self.start(qmp, sockets, token).await?;
        let waits = |info: &MigrationInfo| info.status == Some(MigrationStatus::PreSwitchover);
        let passes = |info: &MigrationInfo| info.ram.map_or(0, |ram| ram.dirty_sync_count);
        let info = self.until(qmp, SOON, progress, |info| waits(info) || passes(info) > MAX_PASSES).await?;
        if !waits(&info) {
            tracing::debug!("the guest writes as fast as its memory is saved, and is stopped for the rest");
            stop(qmp).await?;
            self.until(qmp, SOON, progress, waits).await?;
        }
        Ok(())
    }

    /// Waits until the migration is so far, or has failed.
    async fn until(
        &mut self,
        qmp: &dyn Qmp,
        pace: Duration,
        progress: &dyn Progress,
        far_enough: impl Fn(&MigrationInfo) -> bool,
    ) -> Result<MigrationInfo, PortError> {
        loop {
            let info = migration::info(qmp).await?;
            if let Some(ram) = info.ram.filter(|ram| ram.total > 0) {
                progress.bytes(ram.total.saturating_sub(ram.remaining), Some(ram.total));
            }
            if far_enough(&info) {
                return Ok(info);
            }
            if let Some(failure) = migration::failure(&info) {
                return Err(self.cause(failure).await);
            }
            if migration::is_over(&info) {
                let message = "QEMU's saving of the memory has ended otherwise than it was told to";
                return Err(PortError::new(PortErrorKind::Failed, Effect::None, message));
            }
            if self.written.is_some() {
                // All that is missing is QEMU's word for it.
                sleep(pace).await;
            } else {
                self.look_at_stream(pace).await?;
            }
        }
    }

    /// Waits for the stream to end, for `wait` at most.
    async fn look_at_stream(&mut self, wait: Duration) -> Result<(), PortError> {
        let Some(receiving) = &mut self.receiving else {
            let message = "no stream of QEMU's memory has begun";
            return Err(PortError::new(PortErrorKind::Failed, Effect::None, message));
        };
        let Some(result) = receiving.within(wait).await else { return Ok(()) };
        self.receiving = None;
        match result {
            Ok(written) => {
                tracing::debug!(bytes = written.bytes, "the memory is with the disk");
                self.written = Some(written);
                Ok(())
            }
            Err(Broken::File(e)) => Err(unwritten(&self.place, e)),
            Err(Broken::Stream(e)) => {
                let message = "the stream of QEMU's memory broke";
                Err(PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e))
            }
        }
    }

    /// The cause of QEMU's failure: where the file could not be written, QEMU knows only of a stream that broke.
    async fn cause(&mut self, failure: PortError) -> PortError {
        let Some(receiving) = &mut self.receiving else { return failure };
        // QEMU has closed it, so it ends; only a disk that hangs could hold it up.
        let result = receiving.within(Duration::from_secs(5)).await;
        match result {
            Some(Err(Broken::File(e))) => {
                self.receiving = None;
                unwritten(&self.place, e)
            }
            Some(_) => {
                self.receiving = None;
                failure
            }
            None => failure,
        }
    }
}

/// Whether the guest is as it was when the save was planned, and can be saved so.
fn check_state(save: &MemorySave, now: &StatusInfo) -> Result<(), PortError> {
    if now.running != save.was_running {
        let what = if now.running { "runs by now" } else { "has stopped meanwhile" };
        let message = format!("the guest {what} ({})", now.status.word());
        return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
    }
    // A background snapshot ends QEMU in any other state (7.2 and 10.0: "invalid runstate transition").
    if !now.running && now.status != RunState::Paused {
        return Err(not_now(now.status));
    }
    if !now.running && save.way != MemoryWay::Background {
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

fn socket(directory: &Path, token: &str) -> PathBuf {
    directory.join(format!("{token}.mem"))
}

/// The socket that QEMU is to connect to.
fn listen(directory: &Path, token: &str) -> Result<Listening, PortError> {
    let path = socket(directory, token);
    check_length(&path)?;
    let listener = UnixListener::bind(&path).map_err(|e| no_socket(&path, e))?;
    Ok(Listening { listener, path })
}

/// A socket's path has a limit that a file's has not.
pub(crate) fn check_length(path: &Path) -> Result<(), PortError> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH || path.to_str().is_none_or(|path| path.contains(',')) {
        let message = format!(
            "the path of the socket {} cannot be used: it has {length} bytes, of {MAX_SOCKET_PATH} at most, \
             and no commas",
            path.display()
        );
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
    }
    Ok(())
}

pub(super) fn no_socket(path: &Path, error: io::Error) -> PortError {
    let message = format!("{} cannot be made", path.display());
    PortError::new(kind_of(&error), Effect::None, message).with_source(error)
}

fn unwritten(place: &Place, error: io::Error) -> PortError {
    cannot(&shown(place), "written", error)
}

fn shown(place: &Place) -> String {
    place.file().display().to_string()
}
