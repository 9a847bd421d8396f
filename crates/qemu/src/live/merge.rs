//! Merges a layer into the one below it while QEMU has them open: by a job of QEMU's.
//!
//! A job is met again by its name, in whatever state it is; a concluded one stays until its layer is unlinked. So a merge that was
//! done is told from one that never began, whatever became of the program that began it.
//!
//! Two kinds, and what is dangerous about each (QEMU 7.2 to 11.1):
//!
//! - The layer takes the disk's writes. The job copies while the guest runs, gets ready, and waits. Then the guest stops before the
//!   job completes: from that moment the layer below takes the writes, and the one above still opens well, with old data. As long
//!   as the guest stands, both hold the same. With `auto-finalize` off QEMU would stop the guest by itself and hang on a flush.
//! - It is in the middle. The header of the image above it is written when the job is finalized; so before that the layer below is
//!   flushed. A storage daemon has no command to flush, and makes the layer read-only again after it, which does: if that is cut
//!   short, the merge done again is right, since nothing is unlinked before this has returned.

mod words;

pub(crate) use words::Before;

use std::fs::File;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::atomic::Ordering;

use tokio::time::sleep;
use xlsnap_orchestrator::{Below, Effect, Layer, LayerFile, Merge, PortError, PortErrorKind, Progress};
use xlsnap_qemu_img::backing_name;
use xlsnap_qmp_transport::commands::{
    BlockCommit, BlockJobSetSpeed, HumanMonitorCommand, JobCancel, JobComplete, JobDismiss, JobFinalize,
    JobInfo, JobStatus, QueryJobs,
};
use xlsnap_qmp_transport::{Command, Kind, QmpExt};

use super::Live;
use super::job::{self, SOON, Watch};
use crate::layers::{self, about, unmerged};
use crate::{error, images};

/// What the names of jobs of merges begin with.
pub(super) const PREFIX: &str = "xls-";

/// Where the layer that goes down is in QEMU.
enum Place {
    /// It takes the writes of a disk.
    Top(BlockCommit),
    /// It is below another one of a disk.
    Middle(BlockCommit),
    /// QEMU has it open, and no disk stands on it.
    Unused,
    /// QEMU has the layer below open, and not this one.
    OnlyBelow,
    /// The layer below has taken the place of this one, under a disk or under the layer above.
    Pivoted,
    /// QEMU has neither open.
    Closed,
}

/// Whether `job` is one of a merge that is done, and not dismissed.
pub(super) fn is_done(id: &str, job_type: &str, status: JobStatus, error: Option<&str>) -> bool {
    id.starts_with(PREFIX) && job_type == "commit" && status == JobStatus::Concluded && error.is_none()
}

/// Whether a job in this status moves data, at a speed that can be changed.
pub(super) fn takes_speed(status: JobStatus) -> bool {
    matches!(status, JobStatus::Created | JobStatus::Running | JobStatus::Paused)
}

impl Live {
    /// Gives a job that is met again the speed that it is to have. One that has just come to the end of its work takes none.
    pub(super) async fn set_speed(&self, id: &str, rate: Option<NonZeroU64>) {
        let Some(rate) = rate else { return };
        let set = BlockJobSetSpeed { device: id.to_owned(), speed: rate.get() };
        if let Err(error) = self.qmp.execute(set).await {
            tracing::debug!(%error, job = id, "the speed of a job is not changed");
        }
    }

    pub(super) async fn merge_layers(&self, merge: &Merge, progress: &dyn Progress) -> Result<(), PortError> {
        if layers::is_gone(&merge.from)? {
            return Ok(());
        }
        layers::as_planned(&merge.from)?;
        layers::as_planned(&merge.into)?;
        self.check(merge).await?;
        let into = File::open(&merge.into.file).map_err(|source| {
            unmerged(PortErrorKind::Failed, merge, "the image below it cannot be opened").with_source(source)
        })?;
        let id = format!("{PREFIX}{}", merge.token);
        let mut run = Run {
            live: self,
            merge,
            into,
            watch: Watch::new(&*self.qmp, &id),
            id,
            begun: false,
            stopped: false,
            pivots: false,
        };
        let done = run.carry_out(progress).await;
        self.forget();
        self.holds_guest.store(false, Ordering::Relaxed);
        if done.is_err() && run.stopped && !run.pivots {
            // The guest goes on as it was. One whose writes may go to the other layer now stands until that is described.
            if let Err(error) = self.let_guest_run().await {
                tracing::warn!(%error, "the guest stands still after a merge of disk {} that failed", merge.from.disk);
            }
        }
        done.map_err(|error| job::meanwhile(run.begun, error))
    }

    /// Cancels the job, and lets a guest go on that was stopped for it; gives whether it was done already. Then the guest stands still, since
    /// the layer below may take the writes.
    pub(super) async fn park_merge(&self, merge: &Merge) -> Result<bool, PortError> {
        let id = format!("{PREFIX}{}", merge.token);
        let failed = |e| error::of_qmp(format!("{}, and its job was not cancelled", about(merge)), e);
        let mut cancelled = false;
        while let Some(job) = self.jobs().await?.into_iter().find(|job| job.id == id) {
            match job.status {
                JobStatus::Concluded if job.error.is_none() => return Ok(true),
                JobStatus::Concluded => {
                    self.qmp.execute(JobDismiss { id: id.clone() }).await.map_err(failed)?;
                }
                _ if cancelled => sleep(SOON).await,
                _ => match self.qmp.execute(JobCancel { id: id.clone() }).await {
                    Ok(_) => cancelled = true,
                    // It has come further meanwhile.
                    Err(e) if e.kind() == Kind::Rejected => sleep(SOON).await,
                    Err(e) => return Err(failed(e)),
                },
            }
        }
        self.forget();
        if self.holds_guest.load(Ordering::Relaxed) {
            self.let_guest_run().await?;
            self.holds_guest.store(false, Ordering::Relaxed);
        }
        // Where QEMU has neither, qemu-img merged them.
        let mut nodes = self.nodes().await?;
        let is_open = [&merge.from.file, &merge.into.file].into_iter().any(|file| nodes.any(file).is_some());
        if !is_open {
            layers::at_rest(merge).await?;
        }
        Ok(false)
    }

    /// Refuses what would not give the content of `from`, or lose what is in it.
    async fn check(&self, merge: &Merge) -> Result<(), PortError> {
        let Merge { from, into, .. } = merge;
        let look = async |layer: &LayerFile| {
            let found = layers::look(&*self.qemu_img, layer).await?;
            found.ok_or_else(|| unmerged(PortErrorKind::NotFound, merge, &format!("{} is gone", layer.file)))
        };
        let (above, below): (Layer, Layer) = tokio::try_join!(look(from), look(into))?;
        let is_below = matches!(&above.base, Below::File { file, .. } if layers::same_file(file, &into.file));
        if !is_below {
            return Err(unmerged(PortErrorKind::Refused, merge, "its header names another image"));
        }
        if !above.snapshots.is_empty() {
            let why =
                format!("it holds internal snapshots ({}), which would stay behind", above.snapshots.len());
            return Err(unmerged(PortErrorKind::Refused, merge, &why));
        }
        if above.virtual_size < below.virtual_size {
            return Err(unmerged(PortErrorKind::Refused, merge, "it is smaller than the image below it"));
        }
        Ok(())
    }

    async fn place(&self, merge: &Merge) -> Result<Place, PortError> {
        let Merge { from, into, active, token, rate, .. } = merge;
        let looked = self.look_again().await?;
        let mut nodes = self.nodes().await?;
        nodes.refuse_replaced(from)?;
        nodes.refuse_replaced(into)?;
        let (of_from, of_into) = (nodes.images(&from.file), nodes.images(&into.file));
        let Some(from_node) = of_from.first() else {
            let mut media = looked.disks.iter().filter_map(|found| found.medium.as_ref());
            if *active && media.any(|medium| nodes.same(&into.file, &medium.file)) {
                return Ok(Place::Pivoted);
            }
            if !*active && self.is_merged(merge).await? {
                return Ok(Place::Pivoted);
            }
            let is_open = nodes.any(&into.file).is_some();
            return Ok(if is_open { Place::OnlyBelow } else { Place::Closed });
        };
        let commit = |device: &str, top: &str, base: &str| BlockCommit {
            job_id: format!("{PREFIX}{token}"),
            device: device.to_owned(),
            top_node: Some(top.to_owned()),
            base_node: Some(base.to_owned()),
            speed: rate.map(NonZeroU64::get),
            auto_dismiss: Some(false),
            ..BlockCommit::default()
        };
        let not_below = || unmerged(PortErrorKind::Refused, merge, "QEMU has another image below it");
        for found in &looked.disks {
            let Some(medium) = &found.medium else { continue };
            if of_from.contains(&medium.node) || nodes.same(&from.file, &medium.file) {
                let base = of_into.first().ok_or_else(not_below)?;
                if !found.is_served {
                    let why = "no device and no export has it, so none would take the image below it";
                    return Err(unmerged(PortErrorKind::Refused, merge, why));
                }
                return Ok(Place::Top(commit(&medium.node, &medium.node, base)));
            }
            let Some(at) = medium.chain.iter().position(|file| nodes.same(&from.file, file)) else {
                continue;
            };
            let base = of_into.first().ok_or_else(not_below)?;
            let above = if at == 0 { &medium.file } else { &medium.chain[at - 1] };
            let child = nodes.absolute(above)?;
            let commit = BlockCommit {
                backing_file: Some(self.header_name(&child, merge).await?),
                auto_finalize: Some(false),
                ..commit(&medium.node, from_node, base)
            };
            return Ok(Place::Middle(commit));
        }
        Ok(Place::Unused)
    }

    /// Whether a layer that stood on `from` stands on `into` by its header: the job wrote that when all was done, and it may have been
    /// dismissed since.
    async fn is_merged(&self, merge: &Merge) -> Result<bool, PortError> {
        for above in &merge.above {
            if !layers::is_gone(above)? && layers::names(&*self.qemu_img, above, &merge.into).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The name for `into` in the header of the image at `child`, as that has `from`'s.
    async fn header_name(&self, child: &str, merge: &Merge) -> Result<String, PortError> {
        let format = xlsnap_types::model::ImageFormat::Qcow2;
        let info = self.qemu_img.info(&images::image(child, &format)).await;
        let failed = |e| error::of_qemu_img(about(merge), e);
        let was = info.map_err(failed)?.backing.map(|backing| backing.name).unwrap_or_default();
        backing_name(Path::new(child), &was, Path::new(&merge.into.file)).map_err(failed)
    }

    /// Lets the jobs of merges go that are done, once every disk is described as it is.
    pub(super) async fn dismiss_merges(&self) -> Result<(), PortError> {
        let jobs = self.jobs().await?;
        let mut done = jobs
            .into_iter()
            .filter(|job| is_done(&job.id, &job.job_type, job.status, job.error.as_deref()))
            .peekable();
        if done.peek().is_none() {
            return Ok(());
        }
        let looked = self.look_again().await?;
        let specs = self.specs();
        let mut nodes = self.nodes().await?;
        let mut as_described = |name: &xlsnap_types::model::DiskName, image: &str| {
            specs.iter().find(|spec| spec.name == *name).is_none_or(|spec| nodes.same(&spec.file, image))
        };
        if !looked.disks.iter().all(|found| as_described(&found.disk.name, &found.disk.image)) {
            return Ok(());
        }
        for job in done {
            if let Err(error) = self.qmp.execute(JobDismiss { id: job.id }).await {
                tracing::debug!(%error, "the job of a merge that is done stays");
            }
        }
        Ok(())
    }

    pub(super) async fn jobs(&self) -> Result<Vec<JobInfo>, PortError> {
        let unknown = |e| error::of_query("QEMU could not be asked for its jobs".into(), e);
        self.qmp.execute(QueryJobs).await.map_err(unknown)
    }
}

/// A merge under way.
struct Run<'a> {
    live: &'a Live,
    merge: &'a Merge,
    /// The layer below, open from before the job: a fault in writing to it is told by its flush, whoever else flushed before.
    into: File,
    /// The job's.
    id: String,
    watch: Watch,
    /// Whether the job was begun, or met, here.
    begun: bool,
    /// Whether the guest was stopped here.
    stopped: bool,
    /// Whether the layer below may take the writes by now.
    pivots: bool,
}

impl Run<'_> {
    async fn carry_out(&mut self, progress: &dyn Progress) -> Result<(), PortError> {
        loop {
            let Some(job) = self.live.jobs().await?.into_iter().find(|job| job.id == self.id) else {
                if self.begun {
                    return Err(self.lost("its job went away by itself"));
                }
                if self.begin_or_do(progress).await? {
                    return self.durable();
                }
                continue;
            };
            progress.bytes(job.current_progress, (job.total_progress > 0).then_some(job.total_progress));
            match job.status {
                JobStatus::Ready => self.complete().await?,
                JobStatus::Pending => self.finalize().await?,
                JobStatus::Concluded => {
                    let place = self.place_after().await.map_err(|error| match job.error {
                        // The layer below may take the writes.
                        None => error.after_effect(),
                        Some(_) => error,
                    })?;
                    let is_above = matches!(place, Place::Top(_) | Place::Middle(_));
                    if job.error.is_none() && !is_above {
                        return self.durable();
                    }
                    if is_above {
                        self.pivots = false;
                    }
                    let said = job.error.unwrap_or_else(|| "its job was cancelled".to_owned());
                    self.command("QEMU's job could not be dismissed", JobDismiss { id: self.id.clone() })
                        .await?;
                    if self.begun {
                        return Err(self.failed(&said));
                    }
                    // One that failed before: anew.
                }
                status => {
                    if !self.begun && takes_speed(status) {
                        self.live.set_speed(&self.id, self.merge.rate).await;
                    }
                    self.begun = true;
                    // What it has copied goes to the disk meanwhile, so that little is left when the guest stands.
                    let into = self.merge.into.file.clone();
                    tokio::join!(self.watch.next(), job::flush_ahead(vec![into]));
                }
            }
        }
    }

    /// Where the layer is once its job has ended.
    async fn place_after(&self) -> Result<Place, PortError> {
        // What took the writes before stays open if QEMU was told to open it, and would pass for a disk.
        self.live.close_unused(&self.merge.from.file).await?;
        self.live.place(self.merge).await
    }

    /// Begins the job; or, where QEMU does not have the layers, merges by qemu-img: then it is done.
    async fn begin_or_do(&mut self, progress: &dyn Progress) -> Result<bool, PortError> {
        let commit = match self.live.place(self.merge).await? {
            Place::Top(commit) | Place::Middle(commit) => commit,
            Place::Unused => {
                return match self.live.close_branch(&self.merge.from.file).await? {
                    None => Ok(false),
                    Some(node) => {
                        let why = format!("QEMU has it open for something else (node {node})");
                        Err(unmerged(PortErrorKind::Busy, self.merge, &why))
                    }
                };
            }
            Place::Pivoted => return Ok(true),
            Place::OnlyBelow => {
                return match self.live.close_branch(&self.merge.into.file).await? {
                    None => Ok(false),
                    Some(node) => {
                        let why = format!("QEMU has the image below it open (node {node}), and not this one");
                        Err(unmerged(PortErrorKind::Busy, self.merge, &why))
                    }
                };
            }
            Place::Closed => {
                let key = self.live.key_file(&self.merge.from.disk);
                layers::merge(&*self.live.qemu_img, self.merge, key, progress).await?;
                return Ok(true);
            }
        };
        self.command("QEMU did not begin the job", commit).await?;
        self.begun = true;
        Ok(false)
    }

    /// The layer takes writes until here, and the one below from here on; the guest stands.
    async fn complete(&mut self) -> Result<(), PortError> {
        self.begun = true;
        if self.live.runs().await? {
            let Merge { from, into, .. } = self.merge;
            let disks = self.live.specs().into_iter().map(|spec| spec.file);
            job::flush_ahead([from, into].map(|layer| layer.file.clone()).into_iter().chain(disks).collect())
                .await;
        }
        if self.live.runs().await? {
            self.stopped = true;
            self.live.holds_guest.store(true, Ordering::Relaxed);
            self.live.stop_guest().await?;
        }
        let done = self.command("QEMU did not complete the job", JobComplete { id: self.id.clone() }).await;
        self.pivots = !done.as_ref().is_err_and(|error| error.effect == Effect::None);
        done?;
        self.settle(JobStatus::Ready).await
    }

    async fn finalize(&mut self) -> Result<(), PortError> {
        self.begun = true;
        if let Err(error) = self.flush().await {
            self.command("QEMU's job could not be cancelled", JobCancel { id: self.id.clone() }).await?;
            return Err(error);
        }
        self.command("QEMU did not finalize the job", JobFinalize { id: self.id.clone() }).await?;
        self.settle(JobStatus::Pending).await
    }

    /// Waits until the job has left this status, so that it is not told twice.
    async fn settle(&self, left: JobStatus) -> Result<(), PortError> {
        let is_left = |job: &JobInfo| job.id == self.id && job.status == left;
        while self.live.jobs().await?.iter().any(is_left) {
            sleep(SOON).await;
        }
        Ok(())
    }

    /// Brings what QEMU has of the layer below to its file.
    async fn flush(&self) -> Result<(), PortError> {
        for node in self.live.nodes().await?.images(&self.merge.into.file) {
            let command_line = format!("qemu-io \"{node}\" flush");
            match self.live.qmp.execute(HumanMonitorCommand { command_line }).await {
                Ok(said) if said.trim().is_empty() => {}
                Ok(said) => return Err(self.failed(&said)),
                // A storage daemon has no such command.
                Err(e) if e.kind() == Kind::Rejected && e.class() == Some("CommandNotFound") => {}
                Err(e) => return Err(error::of_qmp(about(self.merge), e)),
            }
        }
        Ok(())
    }

    /// Whatever QEMU's cache mode is: the data, and the headers of the layers above that name the one below by now. QEMU flushes no
    /// header that it changes.
    fn durable(&self) -> Result<(), PortError> {
        let (about, Merge { into, above, .. }) = (about(self.merge), self.merge);
        self.into.sync_all().map_err(|source| job::not_durable(&about, &into.file).with_source(source))?;
        above.iter().try_for_each(|layer| job::durable(&about, &layer.file))
    }

    async fn command<C: Command>(&self, what: &str, command: C) -> Result<C::Ok, PortError> {
        let failed = |e| error::of_qmp(format!("{}: {what}", about(self.merge)), e);
        self.live.qmp.execute(command).await.map_err(failed)
    }

    fn failed(&self, said: &str) -> PortError {
        job::failed(&about(self.merge), said)
    }

    fn lost(&self, why: &str) -> PortError {
        PortError::new(PortErrorKind::Failed, Effect::Unknown, format!("{}: {why}", about(self.merge)))
    }
}
