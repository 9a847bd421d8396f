//! Handing a memory file to a QEMU that waits for it.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::sleep;
use xlsnap_memory_file::Opened;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind, Progress};
use xlsnap_qmp_transport::commands::{
    AddFd, AddedFd, MigrateIncoming, MigrateSetCapabilities, MigrationStatus, QueryMigrateCapabilities,
    RemoveFd,
};
use xlsnap_qmp_transport::{Client, Kind, Qmp, QmpExt};
use xlsnap_types::model::{MemoryMeta, MemoryWay};

use super::files::recorded_memory;
use super::migration::{self, LATER};
use super::patient::Patient;
use super::settings;
use super::socket::check_length;
use crate::error::{self, of_memory_file};

/// QEMU reads an open file that it was given since this version: measured on 10.0 and 11.1. 7.2 does not, and in between nobody looked.
const READS_FILES: (u32, u32, u32) = (10, 0, 0);

/// Restores the memory of `memory` in a QEMU that was started for it, whose guest waits. On return the guest stands still, where
/// it was when it was saved.
///
/// QEMU reads the open file by itself where it can, and gets it over `socket` else. Either way the checksum is taken of what QEMU got: a
/// file that is changed after it was verified is found out before the guest runs.
///
/// # Errors
/// After one, the QEMU is of no use.
pub(crate) async fn restore(
    monitor: &Client,
    socket: &Path,
    memory: &MemoryMeta,
    progress: &dyn Progress,
) -> Result<(), PortError> {
    let (file, recorded) = recorded_memory(memory)?;
    let opened = file.open(&recorded).await.map_err(of_memory_file)?;
    plain_stream(monitor).await?;
    let report = |done| progress.bytes(done, Some(recorded.bytes));
    match given(monitor, &opened).await? {
        Some(set) => read(monitor, &opened, set, report).await,
        None => feed(monitor, opened, socket, report).await,
    }
}

/// The set in which QEMU has the open file; `None` where it is to get it otherwise.
async fn given(qmp: &dyn Qmp, opened: &Opened) -> Result<Option<AddedFd>, PortError> {
    if qmp.version() < READS_FILES {
        return Ok(None);
    }
    let Some(file) = opened.descriptor().map_err(of_memory_file)? else { return Ok(None) };
    match qmp.execute_with(AddFd { opaque: "xlsnap-memory".to_owned() }, file).await {
        Ok(set) => Ok(Some(set)),
        Err(error) if error.kind() == Kind::Rejected => {
            tracing::debug!(%error, "QEMU is given the memory over a socket");
            Ok(None)
        }
        Err(error) => Err(error::of_qmp("QEMU was not given the memory file".into(), error)),
    }
}

/// QEMU reads the file, and does nothing else meanwhile: its monitor answers when it has.
async fn read(
    monitor: &Client,
    opened: &Opened,
    AddedFd { fdset_id, .. }: AddedFd,
    report: impl FnMut(u64),
) -> Result<(), PortError> {
    begin(monitor, format!("file:/dev/fdset/{fdset_id}")).await?;
    let monitor = Patient(monitor);
    // Why QEMU did not take what is no memory is of no matter.
    opened.follow(ended(&monitor, Duration::MAX), report).await.map_err(of_memory_file)??;
    if let Err(error) = monitor.execute(RemoveFd { fdset_id }).await {
        tracing::warn!(%error, "QEMU keeps the memory file open");
    }
    Ok(())
}

/// QEMU listens at `socket`, and gets the file from there.
async fn feed(
    qmp: &dyn Qmp,
    opened: Opened,
    socket: &Path,
    report: impl FnMut(u64),
) -> Result<(), PortError> {
    check_length(socket)?;
    begin(qmp, format!("unix:{}", socket.display())).await?;
    let broken = |e: std::io::Error| {
        let message = "the memory could not be handed to QEMU";
        PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e)
    };
    let stream = UnixStream::connect(socket).await.map_err(broken)?.into_std().map_err(broken)?;
    let _ = std::fs::remove_file(socket);
    stream.set_nonblocking(false).map_err(broken)?;
    match opened.feed(stream, report).await {
        Ok(()) => {}
        // QEMU knows why it took no more.
        Err(error) if error.kind() == xlsnap_memory_file::Kind::Stream => {
            return match ended(qmp, Duration::from_secs(10)).await {
                Err(error) => Err(error),
                Ok(()) => Err(of_memory_file(error)),
            };
        }
        Err(error) => return Err(of_memory_file(error)),
    }
    ended(qmp, Duration::MAX).await
}

/// Has QEMU begin to take the memory from there.
async fn begin(qmp: &dyn Qmp, uri: String) -> Result<(), PortError> {
    let failed = |e| error::of_qmp("QEMU did not begin to take the memory".into(), e);
    match qmp.execute(MigrateIncoming { uri: uri.clone(), exit_on_error: Some(false) }).await {
        // QEMU 7.2 always ends when it fails, and its log says why.
        Err(e) if e.kind() == Kind::Rejected && e.to_string().contains("exit-on-error") => {
            qmp.execute(MigrateIncoming { uri, exit_on_error: None }).await.map_err(failed).map(drop)
        }
        answer => answer.map_err(failed).map(drop),
    }
}

/// Every capability off that would make QEMU expect another stream: its configuration may turn some on.
async fn plain_stream(qmp: &dyn Qmp) -> Result<(), PortError> {
    let unknown = |e| error::of_query("QEMU could not be asked how its migration is set up".into(), e);
    let now = qmp.execute(QueryMigrateCapabilities).await.map_err(unknown)?;
    let (capabilities, _) = settings::changes(&now, MemoryWay::Stopped);
    if capabilities.is_empty() {
        return Ok(());
    }
    let failed = |e| error::of_qmp("QEMU's migration could not be set up".into(), e);
    qmp.execute(MigrateSetCapabilities { capabilities }).await.map_err(failed).map(drop)
}

/// Waits until the memory is in.
async fn ended(qmp: &dyn Qmp, wait: Duration) -> Result<(), PortError> {
    let deadline = std::time::Instant::now().checked_add(wait);
    loop {
        let info = migration::info(qmp).await?;
        match info.status {
            Some(MigrationStatus::Completed) => return Ok(()),
            Some(MigrationStatus::Failed) => {
                let why = info.error_desc.as_deref().unwrap_or("it does not say why");
                let message = format!("QEMU cannot take the memory: {why}");
                return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
            }
            _ if deadline.is_some_and(|deadline| std::time::Instant::now() > deadline) => return Ok(()),
            _ => sleep(LATER).await,
        }
    }
}
