//! Whether there is a guest, and whether it runs.

use xlsnap_orchestrator::{GuestState, PortError};
use xlsnap_qmp_transport::commands::{QueryStatus, RunState, StatusInfo};
use xlsnap_qmp_transport::{Kind, QmpExt};
use xlsnap_types::model::StateFlags;

use crate::error;

use super::Live;

impl Live {
    /// Whether the guest runs; a storage daemon has none.
    pub(crate) async fn runs(&self) -> Result<bool, PortError> {
        Ok(matches!(self.guest_state().await?, GuestState::On(StateFlags { running: true, .. })))
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
