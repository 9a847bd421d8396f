//! What steps on layers are carried out by while QEMU has the disks: for a dry run.

use xlsnap_orchestrator::{Command, Does, LayerFile, Merge, PortError};
use xlsnap_qmp_transport::commands::JobStatus;

use super::{Live, PREFIX, Place, is_done, takes_speed};
use crate::images::commands;
use crate::inventory::swapped;
use crate::layers;

fn qmp(command: &str) -> Command {
    Command::new(format!("QMP {command}"))
}

/// What QEMU has changed when the steps before were done.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The files that it has let go of.
    pub(crate) closed: Vec<String>,
    /// The layers whose data jobs moved down.
    pub(crate) by_job: Vec<String>,
    /// The files that no disk is read through any more: their data went up.
    left: Vec<String>,
    /// The layers into which it went.
    above: Vec<String>,
}

impl Live {
    /// A merge, as far as it is not done: its job may be met in any state. `runs` is whether the guest does by then, and `before` what
    /// QEMU has changed.
    pub(in crate::live) async fn merge_commands(
        &self,
        merge: &Merge,
        runs: bool,
        before: &Before,
    ) -> Result<Vec<Command>, PortError> {
        if layers::is_gone(&merge.from)? {
            return Ok(Vec::new());
        }
        let closed = &before.closed;
        if before.left.contains(&merge.from.file) {
            let branch = self.branch_after(&merge.into.file, before).await?;
            let mut words = self.closes(&branch, closed).await?;
            words.push(commands::merge(merge));
            return Ok(words);
        }
        let id = format!("{PREFIX}{}", merge.token);
        let status = self.jobs().await?.into_iter().find(|job| job.id == id).map(|job| job.status);
        let mut words = Vec::new();
        match status {
            Some(JobStatus::Concluded) => return Ok(words),
            Some(status) => {
                words.extend(merge.rate.filter(|_| takes_speed(status)).map(|_| qmp("block-job-set-speed")));
            }
            None => match self.place(merge).await? {
                Place::Closed => return Ok(vec![commands::merge(merge)]),
                Place::Unused | Place::OnlyBelow => {
                    let branch = self.nodes().await?.branch(&merge.into.file);
                    words.extend(self.closes(&branch, closed).await?);
                    words.push(commands::merge(merge));
                    return Ok(words);
                }
                Place::Pivoted => return Ok(words),
                Place::Top(_) | Place::Middle(_) => {
                    let files = [merge.from.file.clone(), merge.into.file.clone()];
                    words.push(Command::on_all("QMP block-commit", files));
                }
            },
        }
        if merge.active {
            words.extend(runs.then(|| qmp("stop")));
            words.push(qmp("job-complete"));
            words.extend(self.closes(std::slice::from_ref(&merge.from.file), closed).await?);
        } else {
            // It has QEMU flush the layer below.
            words.push(qmp("human-monitor-command"));
            words.push(qmp("job-finalize"));
        }
        Ok(words)
    }

    /// What QEMU has changed by then, when these steps were done.
    pub(in crate::live) async fn before(
        &self,
        steps: impl Iterator<Item = &Does>,
    ) -> Result<Before, PortError> {
        let mut before = Before::default();
        let mut released = false;
        for does in steps {
            match does {
                Does::Release => released = true,
                Does::TakeBack => released = false,
                Does::Merge(merge) => {
                    let words = self.merge_commands(merge, false, &before).await?;
                    if words.iter().any(|word| word.command == "QMP block-commit") {
                        before.by_job.push(merge.from.file.clone());
                    }
                    let closed = self.closed_by(merge, &before).await?;
                    before.closed.extend(closed);
                }
                Does::Stream(stream) => {
                    let left = self.left_by(stream).await?;
                    before.above.push(stream.into.file.clone());
                    before.left.extend(left);
                }
                // What QEMU has let go of stays open.
                Does::DeleteInLayer(target) if !released => {
                    let branch = self.branch_after(&target.layer.file, &before).await?;
                    before.closed.extend(branch);
                }
                _ => {}
            }
        }
        Ok(before)
    }

    /// The file, and the files of the nodes that are above it by then.
    async fn branch_after(&self, file: &str, before: &Before) -> Result<Vec<String>, PortError> {
        let mut nodes = self.nodes().await?;
        let mut branch = nodes.branch(file);
        for top in &before.above {
            let above = nodes.branch(top);
            branch.retain(|file| !above.contains(file));
        }
        Ok(branch)
    }

    /// What QEMU lets go of with a merge, before its layer is unlinked.
    async fn closed_by(&self, merge: &Merge, before: &Before) -> Result<Vec<String>, PortError> {
        if layers::is_gone(&merge.from)? {
            return Ok(Vec::new());
        }
        if before.left.contains(&merge.from.file) {
            return self.branch_after(&merge.into.file, before).await;
        }
        match self.place(merge).await? {
            Place::Unused | Place::OnlyBelow => Ok(self.nodes().await?.branch(&merge.into.file)),
            Place::Top(_) | Place::Middle(_) if merge.active => Ok(vec![merge.from.file.clone()]),
            _ => Ok(Vec::new()),
        }
    }

    /// The nodes on files that are closed one by one: what QEMU named itself goes with the node above it.
    pub(in crate::live) async fn closes(
        &self,
        files: &[String],
        closed: &[String],
    ) -> Result<Vec<Command>, PortError> {
        let mut nodes = self.nodes().await?;
        let open = files.iter().filter(|file| !closed.contains(file)).flat_map(|file| nodes.images(file));
        Ok(open.filter(|node| !node.starts_with('#')).map(|_| qmp("blockdev-del")).collect())
    }

    /// A header that QEMU's job wrote with the merge is not written again.
    pub(in crate::live) async fn reheader_commands(
        &self,
        child: &LayerFile,
        before: &Before,
    ) -> Result<Vec<Command>, PortError> {
        let closed = &before.closed;
        if before.left.contains(&child.file) {
            let branch = self.branch_after(&child.file, before).await?;
            let mut words = self.closes(&branch, closed).await?;
            words.push(commands::reheader(child));
            return Ok(words);
        }
        let looked = self.look_again().await?;
        let mut nodes = self.nodes().await?;
        for medium in looked.disks.iter().filter_map(|found| found.medium.as_ref()) {
            let mut chain = std::iter::once(&medium.file).chain(&medium.chain);
            if chain.any(|file| nodes.same(&child.file, file)) {
                return Ok(Vec::new());
            }
        }
        let mut words = self.closes(&nodes.branch(&child.file), closed).await?;
        words.push(commands::reheader(child));
        Ok(words)
    }

    /// The end of a snapshot inside a layer that no disk is read through.
    pub(in crate::live) async fn delete_inside_commands(
        &self,
        layer: &LayerFile,
        before: &Before,
    ) -> Result<Vec<Command>, PortError> {
        let branch = self.branch_after(&layer.file, before).await?;
        let mut words = self.closes(&branch, &before.closed).await?;
        words.push(Command::on("qemu-img snapshot -d", &layer.file));
        Ok(words)
    }

    /// A new image under a device, which QEMU may have open already.
    ///
    /// `detached` is whether QEMU was made to close the disk's image before.
    pub(in crate::live) async fn swap_commands(
        &self,
        to: &LayerFile,
        detached: bool,
    ) -> Result<Vec<Command>, PortError> {
        let looked = self.look_again().await?;
        let mut nodes = self.nodes().await?;
        let found = looked.disks.iter().find(|found| found.disk.name == to.disk);
        let medium = found.and_then(|found| found.medium.as_ref());
        let has_it = medium.is_some_and(|medium| nodes.same(&to.file, &medium.file));
        if has_it && !detached {
            return Ok(Vec::new());
        }
        let detached = detached || medium.is_some_and(|medium| swapped::is_stand_in(medium, &to.disk));
        let is_open = !detached && !nodes.images(&to.file).is_empty();
        let add = (!is_open).then(|| Command::on("QMP blockdev-add", &to.file));
        let stand_in = detached.then(|| qmp("blockdev-del"));
        let device = found.and_then(|found| found.device.as_deref());
        Ok(add.into_iter().chain(self.give_commands(device).await?).chain(stand_in).collect())
    }

    /// A node under a device. Xen's half of QEMU serves its disks in threads of their own, to which the node goes first.
    async fn give_commands(&self, device: Option<&str>) -> Result<Vec<Command>, PortError> {
        let mut words = Vec::new();
        if let Some(device) = device
            && self.thread_of(device).await?.is_some()
        {
            words.push(qmp("x-blockdev-set-iothread"));
        }
        words.push(qmp("qom-set"));
        Ok(words)
    }

    /// An empty stand-in under a device, and its image closed.
    pub(in crate::live) async fn detach_commands(
        &self,
        from: &LayerFile,
        closed: &[String],
    ) -> Result<Vec<Command>, PortError> {
        let looked = self.look_again().await?;
        let found = looked.disks.iter().find(|found| found.disk.name == from.disk);
        let medium = found.and_then(|found| found.medium.as_ref());
        if medium.is_some_and(|medium| swapped::is_stand_in(medium, &from.disk)) {
            return Ok(Vec::new());
        }
        let mut words = vec![qmp("blockdev-add")];
        words.extend(self.give_commands(found.and_then(|found| found.device.as_deref())).await?);
        let branch = self.nodes().await?.branch(&from.file);
        words.extend(self.closes(&branch, closed).await?);
        Ok(words)
    }

    /// The end of a layer's file; `merged` is whether a job moves its data down before.
    pub(in crate::live) async fn unlink_commands(
        &self,
        file: &str,
        merged: bool,
        closed: &[String],
    ) -> Result<Vec<Command>, PortError> {
        let waits = |job: &xlsnap_qmp_transport::commands::JobInfo| {
            is_done(&job.id, &job.job_type, job.status, job.error.as_deref())
        };
        let dismisses = merged || self.jobs().await?.iter().any(waits);
        let mut words: Vec<Command> = dismisses.then(|| qmp("job-dismiss")).into_iter().collect();
        words.extend(self.closes(&[file.to_owned()], closed).await?);
        words.push(Command::on("xlsnap: unlink", file));
        Ok(words)
    }
}
