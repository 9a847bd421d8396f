//! What the jobs that move data between layers have in common.

use std::fs::File;

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};

use crate::on_thread::on_thread;

/// Brings the layer that got the data to the disk. `about` says what was not done.
pub(super) fn durable(about: &str, into: &str) -> Result<(), PortError> {
    File::open(into).and_then(|file| file.sync_all()).map_err(|source| {
        let message = format!("{about}: {into} can't be brought to the disk");
        PortError::new(PortErrorKind::Failed, Effect::Unknown, message).with_source(source)
    })
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
