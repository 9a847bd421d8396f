//! Letting go of its disks while the process lives, so that qemu-img can write them.
//!
//! QEMU 10.0 has a command for that. What 7.2 has for Xen, `xen-save-devices-state`, does it too, but there QEMU does not say
//! whether a node is active, aborts when it is to inactivate one that is not, and activates nodes only before the guest runs,
//! or when it exports them. So the last is how a node is activated under a guest that stays paused, and a snapshot without a
//! name, which QEMU makes of none, is how it is asked whether one is: it refuses an inactive one before it looks at the name.
//!
//! Taking back has a trap, in both: when it fails because another process holds an image, and works later, QEMU goes on with
//! what it knew of the image at the failure. It knows it anew only after it has let go once more. So nothing is tried while
//! an image is held, and what was taken back is let go of and taken back again.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join4;
use tokio::time::{Instant, sleep};
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qemu_img::Image;
use xlsnap_qmp_transport::commands::{
    BlockExportAdd, BlockExportDel, BlockdevSetActive, BlockdevSnapshotInternalSync, ExportType, JobStatus,
    QueryBlockExports, QueryJobs, QueryNamedBlockNodes, RemovalMode, XenSaveDevicesState,
};
use xlsnap_qmp_transport::{Command, Kind, Qmp, QmpExt};

use super::Machine;
use super::state::On;
use crate::memory::migration;
use crate::{DiskSpec, error};

/// The command of QEMU 10.0 for it, and that of older ones.
const SET_ACTIVE: &str = "blockdev-set-active";
const SAVE_DEVICES: &str = "xen-save-devices-state";

/// The export that activates a node.
const EXPORT: &str = "xlsnap-activate";

/// How long QEMU has to end that export. No client knows of it, so it ends at once.
const EXPORT_ENDS: Duration = Duration::from_secs(10);

impl Machine {
    /// Why it cannot let go of its disks now, as a clause.
    pub(super) async fn no_release(&self, on: &On) -> Result<Option<String>, PortError> {
        let qmp = on.qmp();
        // A storage daemon knows nothing of migrations, which its commands tell.
        let migration = async { Ok(migration::info(qmp).await) };
        let (features, jobs, exports, migration) =
            try_join4(on.features(), ask(qmp, QueryJobs), ask(qmp, QueryBlockExports), migration).await?;
        if !features.has_command("query-status") {
            return Ok(Some("a storage daemon has its disks".to_owned()));
        }
        if !features.has_command(SET_ACTIVE) && !features.has_command(SAVE_DEVICES) {
            return Ok(Some(format!("this QEMU has no command for it ({SET_ACTIVE})")));
        }
        if !migration::is_over(&migration?) {
            return Ok(Some("QEMU is migrating".to_owned()));
        }
        let works = |status| !matches!(status, JobStatus::Concluded | JobStatus::Null);
        if let Some(job) = jobs.iter().find(|job| works(job.status)) {
            return Ok(Some(format!("the job {:?} ({}) is at work", job.id, job.job_type)));
        }
        // One of ours is left where its end was not heard of, and goes when the disks are taken back.
        let served = exports.iter().find(|export| export.id != EXPORT);
        Ok(served.map(|export| format!("it exports {} to others ({:?})", export.node_name, export.id)))
    }

    pub(super) async fn let_go(&self, on: &On) -> Result<(), PortError> {
        if on.released().is_some() {
            return Ok(());
        }
        if let Some(why) = self.no_release(on).await? {
            return Err(self.refused(&format!("QEMU cannot let go of its disks: {why}")));
        }
        // What QEMU has, not what is described: an overlay may be on top.
        let found = on.live.look_again().await?;
        let specs = self.specs();
        let images = self.images(found.disks.iter().map(|found| spec_of(&found.disk, &specs)).collect());
        let qmp = on.qmp();
        if migration::run_state(qmp).await?.running {
            return Err(self.refused("QEMU cannot let go of its disks while the guest runs"));
        }
        let done = self.inactivate(on).await;
        match done {
            Ok(()) => {
                on.set_released(Some(images));
                Ok(())
            }
            Err(mut cause) => {
                // Some may be let go of, and others not.
                let back = self.take_again(on).await;
                cause.effect = if back.is_ok() { Effect::None } else { Effect::Unknown };
                Err(cause)
            }
        }
    }

    pub(super) async fn take_again(&self, on: &On) -> Result<(), PortError> {
        if !self.has_all(on).await? {
            self.refuse_held_elsewhere(on).await?;
            // From here on some may be QEMU's, and a later letting go starts anew.
            on.set_released(None);
            return self.take_twice(on).await.map_err(PortError::after_effect);
        }
        on.set_released(None);
        Ok(())
    }

    async fn take_twice(&self, on: &On) -> Result<(), PortError> {
        self.activate(on).await?;
        self.inactivate(on).await?;
        self.activate(on).await
    }

    /// Whether all nodes are active.
    async fn has_all(&self, on: &On) -> Result<bool, PortError> {
        if on.features().await?.has_command(SET_ACTIVE) {
            let nodes = ask(on.qmp(), QueryNamedBlockNodes::FLAT).await?;
            return Ok(nodes.iter().all(|node| node.active != Some(false)));
        }
        let asked = self.inactive(on).await?;
        Ok(asked.iter().all(|(_, inactive)| !inactive) && (!asked.is_empty() || on.released().is_none()))
    }

    /// Refuses while another process has one of its images.
    async fn refuse_held_elsewhere(&self, on: &On) -> Result<(), PortError> {
        let found = on.live.look_again().await?;
        for disk in found.disks.iter().map(|found| &found.disk) {
            if disk.read_only || disk.image.is_empty() {
                continue;
            }
            let image = Image::new(&disk.image, disk.format.driver());
            let info = self.qemu_img.info_anew(&image).await.map_err(|e| {
                error::of_qemu_img(format!("disk {}: its image {} can't be read", disk.name, disk.image), e)
            })?;
            if info.in_use {
                let message = format!(
                    "disk {}: QEMU cannot take its image {} back: another process has it",
                    disk.name, disk.image
                );
                return Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message));
            }
        }
        Ok(())
    }

    async fn inactivate(&self, on: &On) -> Result<(), PortError> {
        if !on.features().await?.has_command(SET_ACTIVE) {
            return self.let_go_by_saving(on).await;
        }
        let failed = |e| error::of_qmp("QEMU did not let go of its disks".into(), e);
        on.qmp().execute(BlockdevSetActive { node_name: None, active: false }).await.map_err(failed).map(drop)
    }

    async fn activate(&self, on: &On) -> Result<(), PortError> {
        if !on.features().await?.has_command(SET_ACTIVE) {
            return self.activate_by_export(on).await;
        }
        let failed = |e| error::of_qmp("QEMU could not take its disks back".into(), e);
        on.qmp().execute(BlockdevSetActive { node_name: None, active: true }).await.map_err(failed).map(drop)
    }

    /// For a QEMU before 10.0.
    async fn let_go_by_saving(&self, on: &On) -> Result<(), PortError> {
        let asked = self.inactive(on).await?;
        if all_inactive(&asked) {
            // What another program began.
            return Ok(());
        }
        if asked.iter().any(|(_, inactive)| *inactive) {
            self.activate_by_export(on).await?;
        }
        let file = self.sockets.join(format!("{}.devices", on.client.peer_pid().unwrap_or_default()));
        let filename = file.to_string_lossy().into_owned();
        let failed = |e| error::of_qmp("QEMU did not let go of its disks".into(), e);
        let done = on.qmp().execute(XenSaveDevicesState { filename, live: true }).await.map_err(failed);
        remove(&file);
        done.map(drop)
    }

    /// Whether it has let go of its disks and is not told to once more: a QEMU before 10.0 would abort.
    pub(super) async fn keeps_let_go(&self, on: &On) -> Result<bool, PortError> {
        Ok(!on.features().await?.has_command(SET_ACTIVE) && all_inactive(&self.inactive(on).await?))
    }

    /// For a QEMU before 10.0, which says of none whether it is active: of each disk with snapshots inside, its node and
    /// whether that is inactive.
    async fn inactive(&self, on: &On) -> Result<Vec<(String, bool)>, PortError> {
        let found = on.live.look_again().await?;
        let mut asked = Vec::new();
        for medium in found.disks.iter().filter_map(|found| found.medium.as_ref()) {
            if medium.driver != "qcow2" || medium.read_only || medium.data_file || medium.filter.is_some() {
                continue;
            }
            let nameless = BlockdevSnapshotInternalSync { device: medium.node.clone(), name: String::new() };
            let inactive = match on.qmp().execute(nameless).await {
                Err(e) if e.kind() == Kind::Rejected => {
                    e.to_string().contains("does not support internal snapshots")
                }
                Err(e) => return Err(unanswered(e)),
                Ok(_) => false,
            };
            asked.push((medium.node.clone(), inactive));
        }
        Ok(asked)
    }

    /// For a QEMU before 10.0: has each node exported, which activates it, and takes the export away. Without a server for
    /// exports QEMU refuses only after that.
    async fn activate_by_export(&self, on: &On) -> Result<(), PortError> {
        let qmp = on.qmp();
        // What an earlier try left, which would take the id.
        if let Some(left) = ask(qmp, QueryBlockExports).await?.into_iter().find(|export| export.id == EXPORT)
        {
            end_export(qmp, &left.node_name).await?;
        }
        for node in ask(qmp, QueryNamedBlockNodes::FLAT).await? {
            let Some(node_name) = node.node_name else { continue };
            let exported = node_name.clone();
            let export = BlockExportAdd {
                export_type: ExportType::Nbd,
                id: EXPORT.to_owned(),
                node_name,
                writable: None,
                name: None,
            };
            match qmp.execute(export).await {
                Err(e) if e.kind() == Kind::Rejected => continue,
                Err(e) => return Err(error::of_qmp("QEMU could not take its disks back".into(), e)),
                Ok(_) => {}
            }
            end_export(qmp, &exported).await?;
        }
        let asked = self.inactive(on).await?;
        if let Some((node, _)) = asked.into_iter().find(|(_, inactive)| *inactive) {
            let message =
                format!("QEMU could not take its node {node} back: another process may have the image");
            return Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message));
        }
        Ok(())
    }
}

/// Ends our export of a node.
async fn end_export(qmp: &dyn Qmp, node: &str) -> Result<(), PortError> {
    let remove = BlockExportDel { id: EXPORT.to_owned(), mode: Some(RemovalMode::Hard) };
    // One that is ending already.
    match qmp.execute(remove).await {
        Err(e) if e.kind() != Kind::Rejected => return Err(unanswered(e)),
        _ => {}
    }
    export_ended(qmp, node).await
}

/// Waits until QEMU has ended the export that it was told to remove.
async fn export_ended(qmp: &dyn Qmp, node: &str) -> Result<(), PortError> {
    let deadline = Instant::now() + EXPORT_ENDS;
    while ask(qmp, QueryBlockExports).await?.iter().any(|export| export.id == EXPORT) {
        if Instant::now() >= deadline {
            let message = format!(
                "QEMU does not end its export {EXPORT:?} of node {node} within {} s after block-export-del",
                EXPORT_ENDS.as_secs()
            );
            return Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message));
        }
        sleep(migration::SOON).await;
    }
    Ok(())
}

fn all_inactive(asked: &[(String, bool)]) -> bool {
    !asked.is_empty() && asked.iter().all(|(_, inactive)| *inactive)
}

/// The disk as QEMU has it, with what only its description says.
fn spec_of(disk: &xlsnap_orchestrator::Disk, described: &[DiskSpec]) -> DiskSpec {
    let described = described.iter().find(|spec| spec.name == disk.name);
    DiskSpec {
        name: disk.name.clone(),
        file: disk.image.clone(),
        format: disk.format.clone(),
        read_only: disk.read_only,
        removable: disk.removable,
        node: None,
        key_file: described.and_then(|spec| spec.key_file.clone()),
        overlays: disk.overlays.clone(),
    }
}

fn remove(file: &Path) {
    if let Err(e) = std::fs::remove_file(file)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(error = %e, file = %file.display(), "it stays");
    }
}

async fn ask<C: Command>(qmp: &dyn Qmp, command: C) -> Result<C::Ok, PortError> {
    qmp.execute(command).await.map_err(unanswered)
}

fn unanswered(error: xlsnap_qmp_transport::Error) -> PortError {
    error::of_query("QEMU could not be asked what it does with its disks".into(), error)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};
    use tokio::time::timeout;
    use xlsnap_orchestrator::async_trait;
    use xlsnap_qmp_transport::{Error, EventStream};

    use super::*;

    /// A QEMU that lists the export so many times after it was told to remove it.
    struct Exporting(std::sync::Mutex<usize>);

    #[async_trait]
    impl Qmp for Exporting {
        async fn execute_raw(&self, command: &str, _arguments: Map<String, Value>) -> Result<Value, Error> {
            assert_eq!(command, "query-block-exports");
            let mut left = self.0.lock().expect("no test panics while it asks");
            let listed = *left > 0;
            *left = left.saturating_sub(1);
            let export = json!({ "id": EXPORT, "type": "nbd", "node-name": "vda", "shutting-down": true });
            Ok(if listed { json!([export]) } else { json!([]) })
        }

        fn events(&self) -> EventStream {
            unreachable!("an export's end is asked for")
        }

        fn version(&self) -> (u32, u32, u32) {
            (7, 2, 22)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_export_that_does_not_end_is_given_up_by_name() {
        let wait = |listed| async move {
            let qemu = Exporting(std::sync::Mutex::new(listed));
            timeout(EXPORT_ENDS * 2, export_ended(&qemu, "vda")).await.expect("it has a deadline")
        };
        wait(3).await.expect("it ended soon");
        let error = wait(usize::MAX).await.expect_err("it never ends");
        assert_eq!((error.kind, error.effect), (PortErrorKind::Failed, Effect::Unknown));
        let text = error.to_string();
        assert!(text.contains(EXPORT) && text.contains("node vda"), "{text}");
    }
}
