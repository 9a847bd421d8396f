//! What the jobs that move data between layers have in common.

use std::fs::File;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport::{EventStream, Qmp};

use crate::on_thread::on_thread;

/// How soon a job is looked at again of which QEMU tells nothing, at first and at most.
pub(super) const SOON: Duration = Duration::from_millis(2);
const LATER: Duration = Duration::from_millis(100);

/// When a job is to be looked at again.
pub(super) struct Watch {
    events: EventStream,
    job: String,
    wait: Duration,
}

impl Watch {
    /// Of the job `id`, from now on.
    pub(super) fn new(qmp: &dyn Qmp, id: &str) -> Self {
        Self { events: qmp.events(), job: id.to_owned(), wait: SOON }
    }

    /// Waits until QEMU tells that the job has another status, and no longer than until it is time to tell how far it is.
    pub(super) async fn next(&mut self) {
        let Self { events, job, wait } = self;
        let changed = async {
            loop {
                match events.recv().await {
                    Ok(event)
                        if event.name == "JOB_STATUS_CHANGE"
                            && event.data.get("id").is_some_and(|id| *id == **job) =>
                    {
                        return;
                    }
                    // So many came that this one may be among those that were missed.
                    Err(RecvError::Lagged(_)) => return,
                    Ok(_) => {}
                    // The next command tells that QEMU is gone.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        // Without a change it is looked at all the same.
        let _ = timeout(*wait, changed).await;
        *wait = (*wait * 2).min(LATER);
    }
}

/// Brings the layer that got the data to the disk. `about` says what was not done.
pub(super) fn durable(about: &str, into: &str) -> Result<(), PortError> {
    let flushed = File::open(into).and_then(|file| file.sync_all());
    flushed.map_err(|source| not_durable(about, into).with_source(source))
}

/// The layer that got the data could not be brought to the disk.
pub(super) fn not_durable(about: &str, into: &str) -> PortError {
    let message = format!("{about}: {into} can't be brought to the disk");
    PortError::new(PortErrorKind::Failed, Effect::Unknown, message)
}

/// Brings most of what the files got to the disk while the guest runs: QEMU flushes all disks when the guest is stopped, which then takes
/// as long as what is left. Nothing depends on it, and a fault of the disk is told by the flush that counts.
pub(super) async fn flush_ahead(files: Vec<String>) {
    let flush = move || {
        let is_file = |file: &&String| std::fs::metadata(file).is_ok_and(|found| found.is_file());
        for file in files.iter().filter(is_file) {
            if let Err(error) = File::open(file).and_then(|open| open.sync_data()) {
                tracing::debug!(file, %error, "not flushed ahead");
            }
        }
    };
    // Where the system has no thread more the guest stands still for longer.
    on_thread("xlsnap-flush", flush).await;
}

/// A job that ended with these words of QEMU's.
pub(super) fn failed(about: &str, said: &str) -> PortError {
    let kind = if said.contains("No space left") { PortErrorKind::NoSpace } else { PortErrorKind::Failed };
    let said = said.trim().replace(char::is_control, " ");
    PortError::new(kind, Effect::Unknown, format!("{about}: {said}"))
}

/// What failed while a job may be at work: a question that was not answered had no effect, and the job has one.
pub(super) fn meanwhile(begun: bool, mut error: PortError) -> PortError {
    if begun && error.effect == Effect::None {
        error.effect = Effect::Unknown;
    }
    error
}
