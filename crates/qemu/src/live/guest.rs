//! Whether there is a guest, and whether it runs; stopping it for a moment.

use xlsnap_orchestrator::{Guest, GuestState, Pause, PortError, Run};
use xlsnap_qmp_transport::commands::{Cont, QueryStatus, RunState, StatusInfo, Stop};
use xlsnap_qmp_transport::{Kind, QmpExt};
use xlsnap_types::model::StateFlags;

use crate::error;

use super::Live;

/// A guest that is not QEMU's own to stop: Xen's toolstack tells of it, pauses it and lets it run.
pub trait GuestElsewhere: Guest + Pause {}

impl<T: Guest + Pause> GuestElsewhere for T {}

impl Live {
    /// Stops a guest that runs.
    pub(super) async fn stop_guest(&self) -> Result<(), PortError> {
        match &self.guest {
            Some(guest) => guest.stop().await,
            None => {
                let failed = |e| error::of_qmp("the guest was not stopped".into(), e);
                self.qmp.execute(Stop).await.map_err(failed).map(drop)
            }
        }
    }

    /// Lets a guest run that was stopped here.
    pub(super) async fn let_guest_run(&self) -> Result<(), PortError> {
        match &self.guest {
            Some(guest) => guest.resume().await,
            None => {
                let failed = |e| error::of_qmp("the guest was not let run".into(), e);
                self.qmp.execute(Cont).await.map_err(failed).map(drop)
            }
        }
    }

    /// Whether the guest runs; a storage daemon has none.
    pub(crate) async fn runs(&self) -> Result<bool, PortError> {
        Ok(self.guest_state().await?.run().is_some_and(Run::runs))
    }

    pub(super) async fn guest_state(&self) -> Result<GuestState, PortError> {
        if let Some(guest) = &self.guest {
            return guest.state().await;
        }
        match self.qmp.execute(QueryStatus).await {
            Ok(status) => Ok(GuestState::On(flags(&status))),
            // A storage daemon has no such command, because it has no guest.
            Err(error) if error.kind() == Kind::Rejected && error.class() == Some("CommandNotFound") => {
                Ok(GuestState::Serving)
            }
            Err(error) => {
                Err(error::of_query("QEMU could not be asked whether the guest runs".into(), error))
            }
        }
    }
}

/// QEMU's state in libxl's flags: whatever is neither running nor shut down is paused, by whomever.
fn flags(status: &StatusInfo) -> StateFlags {
    let none = StateFlags::default();
    match status.status {
        _ if status.running => StateFlags { running: true, ..none },
        RunState::Shutdown => StateFlags { shutdown: true, ..none },
        _ => StateFlags { paused: true, ..none },
    }
}
