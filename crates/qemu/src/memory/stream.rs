//! The stream of a guest's memory, from QEMU's migration into a file aside.

use std::io;
use std::mem;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use xlsnap_memory_file::{Kind, MemoryFile, Packing, Receiving, Sealed, Staged};
use xlsnap_orchestrator::{Effect, MemorySave, PortError, PortErrorKind, Progress};
use xlsnap_qmp_transport::commands::{Migrate, MigrationInfo};
use xlsnap_qmp_transport::{Qmp, QmpExt};

use super::files::packing;
use super::migration::{self, LATER};
use super::socket::{Listening, Outlet};
use crate::error::{self, of_memory_file};

/// The stream of one save.
#[derive(Debug)]
pub(crate) struct Stream {
    packing: Packing,
    state: State,
}

#[derive(Debug)]
enum State {
    /// QEMU has not been told yet.
    Awaited(Staged, Outlet),
    /// It comes, and is written.
    Coming(Receiving),
    /// It has ended, and the file is with the disk.
    Whole(Sealed),
    /// It has failed.
    Broken,
}

impl Stream {
    /// Makes the socket and the file aside.
    pub(super) async fn prepare(
        qmp: &dyn Qmp,
        file: &MemoryFile,
        sockets: &Path,
        save: &MemorySave,
    ) -> Result<Self, PortError> {
        let packing = packing(save.compression())?;
        let outlet = Outlet::open(qmp, sockets, &save.token).await?;
        let staged = file.stage(&save.token).map_err(of_memory_file)?;
        Ok(Self { packing, state: State::Awaited(staged, outlet) })
    }

    /// Has the migration started, and its stream come in.
    pub(super) async fn start(&mut self, qmp: &dyn Qmp) -> Result<(), PortError> {
        let broken = |e: io::Error| {
            let message = "the stream of QEMU's memory could not be taken";
            PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e)
        };
        let State::Awaited(staged, outlet) = mem::replace(&mut self.state, State::Broken) else {
            return Err(broken(io::ErrorKind::NotConnected.into()));
        };
        let failed = |e| error::of_qmp("QEMU did not begin to save the memory".into(), e);
        qmp.execute(Migrate { uri: outlet.uri() }).await.map_err(failed)?;
        let stream = match outlet {
            Outlet::Passed(stream) => stream,
            Outlet::Listening(listening) => {
                let stream = accepted(&listening, qmp).await?.map_err(broken)?.into_std().map_err(broken)?;
                stream.set_nonblocking(false).map_err(broken)?;
                stream
            }
        };
        self.state = State::Coming(staged.receive(stream, self.packing).map_err(of_memory_file)?);
        Ok(())
    }

    /// Waits until the migration is so far, or has failed.
    pub(super) async fn until(
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
            self.look(pace).await?;
        }
    }

    /// Waits until the whole is with the disk. Not to be called again.
    pub(super) async fn whole(&mut self) -> Result<Sealed, PortError> {
        loop {
            match mem::replace(&mut self.state, State::Broken) {
                State::Whole(sealed) => return Ok(sealed),
                other => self.state = other,
            }
            self.look(LATER).await?;
        }
    }

    /// Waits for the stream to end, for `wait` at most.
    async fn look(&mut self, wait: Duration) -> Result<(), PortError> {
        let receiving = match &mut self.state {
            State::Coming(receiving) => receiving,
            // All that is missing is QEMU's word for it.
            State::Whole(_) => {
                sleep(wait).await;
                return Ok(());
            }
            State::Awaited(..) | State::Broken => {
                let message = "no stream of QEMU's memory has begun";
                return Err(PortError::new(PortErrorKind::Failed, Effect::None, message));
            }
        };
        let Some(result) = receiving.within(wait).await else { return Ok(()) };
        self.state = State::Broken;
        let sealed = result.map_err(of_memory_file)?;
        tracing::debug!(bytes = sealed.bytes(), "the memory is with the disk");
        self.state = State::Whole(sealed);
        Ok(())
    }

    /// The cause of QEMU's failure: where the file could not be written, QEMU knows only of a stream that broke.
    async fn cause(&mut self, failure: PortError) -> PortError {
        let State::Coming(receiving) = &mut self.state else { return failure };
        // QEMU has closed it, so it ends; only a disk that hangs could hold it up.
        let Some(result) = receiving.within(Duration::from_secs(5)).await else { return failure };
        self.state = State::Broken;
        match result {
            Err(error) if error.kind() != Kind::Stream => of_memory_file(error),
            _ => failure,
        }
    }

    /// Ends it, and waits until the file is closed. The file stays aside.
    pub(super) async fn end(self) {
        if let State::Coming(receiving) = self.state {
            receiving.end().await;
        }
    }
}

/// QEMU's connection, unless it has failed to make one.
async fn accepted(
    listening: &Listening,
    qmp: &dyn Qmp,
) -> Result<io::Result<tokio::net::UnixStream>, PortError> {
    loop {
        tokio::select! {
            accepted = listening.accept() => return Ok(accepted),
            () = sleep(LATER) => {
                if let Some(failure) = migration::failure(&migration::info(qmp).await?) {
                    return Err(failure);
                }
            }
        }
    }
}
