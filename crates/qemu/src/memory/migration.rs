//! Following a migration.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport::commands::{
    Cont, MigrateCancel, MigrationInfo, MigrationStatus, QueryMigrate, QueryStatus, RunState, StatusInfo,
};
use xlsnap_qmp_transport::{Qmp, QmpExt};

use crate::error;

/// How soon it is looked again while a guest stands still.
pub(crate) const SOON: Duration = Duration::from_millis(1);

/// How soon it is looked again while no caller waits for it.
pub(crate) const LATER: Duration = Duration::from_millis(20);

pub(crate) async fn info(qmp: &dyn Qmp) -> Result<MigrationInfo, PortError> {
    let unknown = |e| error::of_query("QEMU could not be asked how its migration goes".into(), e);
    qmp.execute(QueryMigrate).await.map_err(unknown)
}

pub(crate) async fn run_state(qmp: &dyn Qmp) -> Result<StatusInfo, PortError> {
    let unknown = |e| error::of_query("QEMU could not be asked whether the guest runs".into(), e);
    qmp.execute(QueryStatus).await.map_err(unknown)
}

/// Whether none goes on.
pub(crate) fn is_over(info: &MigrationInfo) -> bool {
    info.status.is_none_or(MigrationStatus::is_over)
}

/// Whether it has begun with the memory's content. A background snapshot tracks the guest's writes before it does.
pub(crate) fn has_pages(info: &MigrationInfo) -> bool {
    info.ram.is_some_and(|ram| ram.normal + ram.duplicate > 0)
}

/// The failure of one that is over and not completed, if it is that.
pub(crate) fn failure(info: &MigrationInfo) -> Option<PortError> {
    let what = match info.status {
        Some(MigrationStatus::Failed) => "failed",
        Some(MigrationStatus::Cancelled | MigrationStatus::Cancelling) => "was cancelled",
        Some(MigrationStatus::None) | None => "never began",
        _ => return None,
    };
    let why = info.error_desc.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let message = format!("QEMU's saving of the memory {what}{why}");
    Some(PortError::new(PortErrorKind::Failed, Effect::None, message))
}

/// Cancels the migration, if one goes on, and waits until none does.
///
/// # Cancel safety
/// Again is no error.
pub(crate) async fn cancel(qmp: &dyn Qmp) -> Result<(), PortError> {
    if is_over(&info(qmp).await?) {
        return Ok(());
    }
    let failed = |e| error::of_qmp("QEMU's migration could not be cancelled".into(), e);
    qmp.execute(MigrateCancel).await.map_err(failed)?;
    while !is_over(&info(qmp).await?) {
        sleep(SOON).await;
    }
    Ok(())
}

/// Lets the guest run, once no migration is about to end any more. QEMU refuses it in between; in 7.2 a guest that went on
/// there would be the end of QEMU.
pub(crate) async fn let_run(qmp: &dyn Qmp) -> Result<(), PortError> {
    /// What is left of a migration that is over takes no time.
    const WAIT: Duration = Duration::from_secs(30);
    let begin = Instant::now();
    loop {
        let state = run_state(qmp).await?;
        if state.running {
            return Ok(());
        }
        if state.status != RunState::FinishMigrate || begin.elapsed() > WAIT {
            break;
        }
        sleep(SOON).await;
    }
    let failed = |e| error::of_qmp("the guest could not be let run on".into(), e);
    qmp.execute(Cont).await.map_err(failed).map(drop)
}
