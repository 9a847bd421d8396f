//! Ending a save that has failed, was cancelled, or was left by a crash.

use std::path::Path;

use xlsnap_memory_file::MemoryFile;
use xlsnap_orchestrator::{MemorySave, PortError, PortErrorKind};
use xlsnap_qmp_transport::commands::{Cont, Getfd, MigrateCancel, RunState};
use xlsnap_qmp_transport::{Command, Qmp};
use xlsnap_types::model::MemoryWay;

use super::input::{self, Qemu};
use super::settings::{self, Settings};
use super::stream::Stream;
use super::{leftover, migration, socket};
use crate::error::of_memory_file;

/// Ends a save, in the program that began it or in another: see [`xlsnap_orchestrator::Memory::abandon`]. `file` is the file of `save`,
/// `qemu` is `None` when the guest is off, and `stream` is the stream of the save as far as this program has it.
///
/// Everything is tried in QEMU; the first error is told. What shows that the save had begun, and how QEMU was set up, stays then for who
/// tries again.
pub(crate) async fn abandon(
    qemu: Option<Qemu<'_>>,
    sockets: &Path,
    file: &MemoryFile,
    save: &MemorySave,
    stream: Option<Stream>,
) -> Result<(), PortError> {
    let was = settings::file_of(sockets, &save.token);
    let mut result = Ok(());
    let mut try_all = |done: Result<(), PortError>| {
        if result.is_ok() {
            result = done;
        }
    };
    if let Some(Qemu { qmp, process }) = qemu {
        let (written, unread) = some_or_error(Settings::load(&was));
        let (staged, unseen) = some_or_error(file.is_staged(&save.token).map_err(of_memory_file).map(Some));
        try_all(unread.or(unseen).map_or(Ok(()), Err));
        // A migration that nothing here tells of is another program's, and the guest stands still for that, if it does.
        let begun = stream.is_some() || written.is_some() || staged == Some(true);
        if begun {
            try_all(migration::cancel(qmp).await);
        }
        if let Some(settings) = written {
            match settings.put_back(qmp).await {
                // What QEMU refuses it refuses again: another one may have the domain by now.
                Err(error)
                    if error.kind != PortErrorKind::Unreachable && error.kind != PortErrorKind::Busy =>
                {
                    tracing::warn!(%error, "how QEMU's migration was set up is not put back");
                }
                done => try_all(done),
            }
        }
        if let (true, MemoryWay::Background, Some(process)) = (begun, save.way(), process) {
            // Before the guest goes on, for which QEMU opens what its devices are woken by. The next save does without, or is refused.
            if let Err(error) = input::fill_soon(qmp, process, &save.token).await {
                tracing::warn!(%error, "QEMU (pid {process}) stays without a standard input");
            }
        }
        if save.was.runs() {
            try_all(if begun { let_run_again(qmp).await } else { let_run_unless_migrated(qmp).await });
        }
    }
    if let Some(stream) = stream {
        stream.end().await;
    }
    result?;
    file.discard(&save.token).await.map_err(of_memory_file)?;
    leftover::remove(&was);
    leftover::remove(&socket::path_of(sockets, &save.token));
    Ok(())
}

fn some_or_error<T>(found: Result<Option<T>, PortError>) -> (Option<T>, Option<PortError>) {
    match found {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error)),
    }
}

/// The commands by which [`abandon`] would end a save that another program began, as things are now.
///
/// # Cancel safety
/// It only looks.
pub(crate) async fn commands(
    Qemu { qmp, process }: Qemu<'_>,
    sockets: &Path,
    file: &MemoryFile,
    save: &MemorySave,
) -> Result<Vec<&'static str>, PortError> {
    let written = Settings::load(&settings::file_of(sockets, &save.token))?;
    let begun = written.is_some() || file.is_staged(&save.token).map_err(of_memory_file)?;
    let is_over = migration::is_over(&migration::info(qmp).await?);
    let mut commands = Vec::new();
    if begun && !is_over {
        commands.push(MigrateCancel::NAME);
    }
    if let Some(settings) = written {
        commands.extend(settings.commands());
    }
    if begun && save.way() == MemoryWay::Background && process.is_some_and(input::is_closed) {
        commands.push(Getfd::NAME);
    }
    // A guest that QEMU itself has stopped for the end of a migration goes on when that is cancelled.
    let stopped_by_qemu = migration::run_state(qmp).await?.status == RunState::FinishMigrate && !is_over;
    if save.was.runs() && (begun || is_over) && !stopped_by_qemu && is_held_up(qmp).await? {
        commands.push(Cont::NAME);
    }
    Ok(commands)
}

async fn let_run_unless_migrated(qmp: &dyn Qmp) -> Result<(), PortError> {
    if migration::is_over(&migration::info(qmp).await?) { let_run_again(qmp).await } else { Ok(()) }
}

/// Lets a guest run that a save holds up: not one that has stopped for another reason since.
pub(crate) async fn let_run_again(qmp: &dyn Qmp) -> Result<(), PortError> {
    if is_held_up(qmp).await? { migration::let_run(qmp).await } else { Ok(()) }
}

/// Whether the guest stands still as a save leaves it.
pub(crate) async fn is_held_up(qmp: &dyn Qmp) -> Result<bool, PortError> {
    let state = migration::run_state(qmp).await?.status;
    Ok(matches!(
        state,
        RunState::Paused
            | RunState::FinishMigrate
            | RunState::Postmigrate
            | RunState::SaveVm
            | RunState::RestoreVm
    ))
}
