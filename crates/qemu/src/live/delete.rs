//! Deletes a snapshot inside an open image.

use xlsnap_orchestrator::{Effect, ImageSnapshot, PortError, PortErrorKind, SnapshotId};
use xlsnap_qmp_transport::QmpExt;
use xlsnap_qmp_transport::commands::BlockdevSnapshotDeleteInternalSync;
use xlsnap_types::model::DiskName;

use crate::error;

use super::Live;
use super::adapter::find;

impl Live {
    /// Looks before it deletes: on an inactive node QEMU would abort, and with it the guest; on a read-only one the
    /// snapshot would vanish from QEMU's list and stay in the image (QEMU 7.2 and 10.0).
    pub(super) async fn delete_internal(
        &self,
        disk: &DiskName,
        snapshot: &SnapshotId,
    ) -> Result<(), PortError> {
        let SnapshotId { name, id } = snapshot;
        let found = self.look_again().await?;
        let found = find(&found, disk)?;
        let is_it = |s: &ImageSnapshot| s.name == *name && s.id == *id;
        let Some(medium) = found.medium.as_ref().filter(|_| found.disk.snapshots.iter().any(is_it)) else {
            let message = format!("disk {disk}: it has no snapshot {name:?} with the id {id}");
            return Err(PortError::new(PortErrorKind::NotFound, Effect::None, message));
        };
        if let Some(why) = &found.disk.no_internal {
            let kind = if medium.job.is_some() { PortErrorKind::Busy } else { PortErrorKind::Refused };
            let message = format!("disk {disk}: the snapshot {name:?} can't be deleted now: {why}");
            return Err(PortError::new(kind, Effect::None, message));
        }
        let command = BlockdevSnapshotDeleteInternalSync {
            device: medium.node.clone(),
            id: Some(id.clone()),
            name: Some(name.clone()),
        };
        self.qmp.execute(command).await.map(drop).map_err(|error| {
            error::of_qmp(format!("disk {disk}: QEMU did not delete the snapshot {name:?}"), error)
        })
    }
}
