//! Handing a memory file to a QEMU that waits for it.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::sleep;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind, Progress};
use xlsnap_qmp_transport::commands::{
    MigrateIncoming, MigrateSetCapabilities, MigrationStatus, QueryMigrateCapabilities,
};
use xlsnap_qmp_transport::{Kind, Qmp, QmpExt};
use xlsnap_types::model::{MemoryMeta, MemoryWay};

use super::files::recorded_memory;
use super::migration::{self, LATER};
use super::settings;
use super::socket::check_length;
use crate::error::{self, of_memory_file};

/// Restores the memory of `memory` in a QEMU that was started for it, whose guest waits. On return the guest stands still, where
/// it was when it was saved.
///
/// The checksum is taken again of what QEMU got: a file that is changed after it was verified is found out before the guest runs.
///
/// # Errors
/// After one, the QEMU is of no use.
pub(crate) async fn restore(
    qmp: &dyn Qmp,
    socket: &Path,
    memory: &MemoryMeta,
    progress: &dyn Progress,
) -> Result<(), PortError> {
    let (file, recorded) = recorded_memory(memory)?;
    let opened = file.open(&recorded).await.map_err(of_memory_file)?;
    check_length(socket)?;
    plain_stream(qmp).await?;
    let uri = format!("unix:{}", socket.display());
    let failed = |e| error::of_qmp("QEMU did not begin to take the memory".into(), e);
    if let Err(e) = qmp.execute(MigrateIncoming { uri: uri.clone(), exit_on_error: Some(false) }).await {
        if e.kind() != Kind::Rejected || !e.to_string().contains("exit-on-error") {
            return Err(failed(e));
        }
        // QEMU 7.2 always ends when it fails, and its log says why.
        qmp.execute(MigrateIncoming { uri, exit_on_error: None }).await.map_err(failed)?;
    }
    let broken = |e: std::io::Error| {
        let message = "the memory could not be handed to QEMU";
        PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e)
    };
    let stream = UnixStream::connect(socket).await.map_err(broken)?.into_std().map_err(broken)?;
    let _ = std::fs::remove_file(socket);
    stream.set_nonblocking(false).map_err(broken)?;
    let report = |done| progress.bytes(done, Some(recorded.bytes));
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
