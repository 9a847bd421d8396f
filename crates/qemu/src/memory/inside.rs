//! Memory inside the images: QEMU's jobs for it.
//!
//! While such a job works, QEMU does nothing else: its monitor answers when it is done. So nothing here has a time-out.

use std::time::Duration;

use tokio::time::sleep;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport::commands::{JobDismiss, JobInfo, JobStatus, QueryJobs};
use xlsnap_qmp_transport::{Client, Command, Error, Kind, QmpExt};

use super::patient::Patient;
use crate::error;

/// How soon it is looked again. The job of a QEMU that answers is done, or about to be.
const SOON: Duration = Duration::from_millis(2);

/// The id of the job that belongs to `token`.
pub(crate) fn job_id(token: &str) -> String {
    format!("xls-{token}")
}

/// Runs a job to its end; what QEMU says when it failed.
///
/// # Errors
/// When it could not be begun, or it is not known how it ended.
///
/// # Cancel safety
/// Dropped, the job goes on, and [`settle`] waits for it.
pub(crate) async fn run<C: Command>(
    client: &Client,
    id: &str,
    command: C,
) -> Result<Result<(), String>, PortError> {
    if let Err(e) = patiently(client, command).await {
        let message = format!("QEMU did not begin the job {}", C::NAME);
        return Err(error::of_qmp(message, e));
    }
    let ended = follow(client, id).await?;
    Ok(ended.map_or(Ok(()), |job| job.error.map_or(Ok(()), Err)))
}

/// Waits until the job of this id has ended, if there is one, and lets it go.
///
/// # Cancel safety
/// Again is no error.
pub(crate) async fn settle(client: &Client, id: &str) -> Result<(), PortError> {
    follow(client, id).await.map(drop)
}

/// Whether there is a job of this id, for [`settle`] to wait for and let go.
pub(crate) async fn is_there(client: &Client, id: &str) -> Result<bool, PortError> {
    let unknown = |e| error::of_query("QEMU could not be asked for its jobs".into(), e);
    let jobs = patiently(client, QueryJobs).await.map_err(unknown)?;
    Ok(jobs.iter().any(|job| job.id == id))
}

/// Waits until the job has ended, and lets it go: how it ended. `None` when there is none.
async fn follow(client: &Client, id: &str) -> Result<Option<JobInfo>, PortError> {
    let unknown = |e| {
        let mut error = error::of_qmp(format!("how QEMU's job {id} goes cannot be known"), e);
        error.effect = Effect::Unknown;
        error
    };
    loop {
        let jobs = patiently(client, QueryJobs).await.map_err(unknown)?;
        let Some(job) = jobs.into_iter().find(|job| job.id == id) else { return Ok(None) };
        if job.status == JobStatus::Concluded {
            patiently(client, JobDismiss { id: id.to_owned() }).await.map_err(unknown)?;
            return Ok(Some(job));
        }
        sleep(SOON).await;
    }
}

/// Executes a command without a time-out.
async fn patiently<C: Command>(client: &Client, command: C) -> Result<C::Ok, Error> {
    Patient(client).execute(command).await
}

/// What a job's error means, and whether it says that nothing was done.
pub(crate) fn failed(what: String, said: &str) -> PortError {
    /// How `snapshot-save` and `snapshot-load` refuse before they do anything (QEMU 7.2 and 10.0).
    const BEFORE: [(&str, PortErrorKind); 6] = [
        ("already exists in one or more devices", PortErrorKind::AlreadyExists),
        ("does not exist in one or more devices", PortErrorKind::NotFound),
        ("This is a disk-only snapshot", PortErrorKind::Refused),
        ("is writable but does not support snapshots", PortErrorKind::Refused),
        ("block device '", PortErrorKind::NotFound),
        ("There's a migration process in progress", PortErrorKind::Busy),
    ];
    let before = BEFORE.iter().find(|(text, _)| said.contains(text));
    let (kind, effect) = match before {
        Some((_, kind)) => (*kind, Effect::None),
        None if said.contains("No space left on device") => (PortErrorKind::NoSpace, Effect::Unknown),
        None => (PortErrorKind::Failed, Effect::Unknown),
    };
    let source = Error::new(Kind::Rejected, xlsnap_qmp_transport::Effect::Unknown, said.to_owned());
    PortError::new(kind, effect, what).with_source(source)
}
