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
        // "Not found" has to mean the snapshot, which may count as deleted; a disk that QEMU does not have does not.
        let found = self.look_again().await.map_err(other_than_the_snapshot)?;
        let found = find(&found.disks, disk)?;
        let failure = |kind, why: &str| {
            let message = format!("disk {disk}: the snapshot {name:?} (id {id}) {why}");
            PortError::new(kind, Effect::None, message)
        };
        let Some(medium) = &found.medium else {
            return Err(failure(PortErrorKind::Refused, "is out of reach: the drive is empty"));
        };
        let is_it = |s: &ImageSnapshot| s.name == *name && s.id == *id;
        if !found.disk.snapshots.iter().any(is_it) {
            return Err(failure(PortErrorKind::NotFound, "is not in its image"));
        }
        if let Some(why) = found.disk.internal.why() {
            let kind = if medium.job.is_some() { PortErrorKind::Busy } else { PortErrorKind::Refused };
            return Err(failure(kind, &format!("can't be deleted now: {why}")));
        }
        let command = BlockdevSnapshotDeleteInternalSync {
            device: medium.node.clone(),
            id: Some(id.clone()),
            name: Some(name.clone()),
        };
        let Err(error) = self.qmp.execute(command).await else {
            return Ok(());
        };
        let is_gone = error.to_string().contains("does not exist on device");
        let error = error::of_qmp(format!("disk {disk}: QEMU did not delete the snapshot {name:?}"), error);
        Err(if is_gone { error } else { other_than_the_snapshot(error) })
    }
}

fn other_than_the_snapshot(mut error: PortError) -> PortError {
    if error.kind == PortErrorKind::NotFound {
        error.kind = PortErrorKind::Failed;
    }
    error
}
