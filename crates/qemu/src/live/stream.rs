//! Copies up into a layer what is read through it from below, while QEMU has it open: by a job of QEMU's.
//!
//! The job is met again by its name until it takes effect. **QEMU writes the header of the layer then, and what it copied may be in its
//! caches still**: killed, the layer would read zeros (QEMU 7.2 to 11.1). So the job waits before it takes effect, and the layer is flushed
//! first. A storage daemon has no command for that, and does not copy up. A header that names another image than before therefore tells
//! that it is done, and that all data is on the disk.
//!
//! It tells that alone, since the job dismisses itself: while one that is done waits to be dismissed, QEMU 7.2 and 10.0 crash when they are
//! asked for their nodes (`query-named-block-nodes`).

use std::num::NonZeroU64;
use std::path::Path;

use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::sleep;
use xlsnap_orchestrator::{Can, Command, Effect, GuestState, PortError, PortErrorKind, Progress, Stream};
use xlsnap_qemu_img::backing_name;
use xlsnap_qmp_transport::commands::{
    BlockStream, HumanMonitorCommand, JobCancel, JobFinalize, JobInfo, JobStatus,
};
use xlsnap_qmp_transport::{EventStream, Kind, QmpExt};

use super::Live;
use super::job::{self, SOON, Watch};
use super::merge::{Before, PREFIX, takes_speed};
use crate::layers::{self, about_stream, unstreamed};
use crate::{error, images};

/// Where the layer is in QEMU.
enum Place {
    /// A disk writes to it, or is read through it: this job copies into it.
    Chain(BlockStream),
    /// QEMU has it open, and no disk is read through it.
    Unused,
    /// QEMU does not have it open.
    Closed,
}

impl Live {
    pub(super) async fn stream_layers(
        &self,
        stream: &Stream,
        progress: &dyn Progress,
    ) -> Result<(), PortError> {
        layers::as_planned(&stream.into)?;
        let id = format!("{PREFIX}{}", stream.token);
        let watch = Watch::new(&*self.qmp, &id);
        let mut run = Run { live: self, stream, id, begun: false, events: self.qmp.events(), watch };
        let done = run.carry_out(progress).await;
        self.forget();
        done.map_err(|error| job::meanwhile(run.begun, error))
    }

    /// Cancels the job, unless it has taken effect; gives whether it has.
    pub(super) async fn park_streaming(&self, stream: &Stream) -> Result<bool, PortError> {
        let id = format!("{PREFIX}{}", stream.token);
        let failed = |e| error::of_qmp(format!("{}, and its job was not cancelled", about_stream(stream)), e);
        let mut cancelled = false;
        while self.jobs().await?.iter().any(|job| job.id == id) {
            match cancelled {
                true => sleep(SOON).await,
                false => match self.qmp.execute(JobCancel { id: id.clone() }).await {
                    Ok(_) => cancelled = true,
                    // It has come further meanwhile.
                    Err(e) if e.kind() == Kind::Rejected => sleep(SOON).await,
                    Err(e) => return Err(failed(e)),
                },
            }
        }
        self.forget();
        // Where QEMU does not have it, qemu-img copied.
        if self.nodes().await?.any(&stream.into.file).is_none() {
            let busy = |why: String| unstreamed(PortErrorKind::Busy, stream, &why);
            layers::unlocked([&stream.into.file]).await.map_err(busy)?;
        }
        self.is_streamed(stream).await
    }

    /// Whether a job of QEMU's does it: qemu-img knows no limit.
    pub(super) async fn limits_stream(&self, stream: &Stream) -> Result<Can, PortError> {
        let Stream { into, .. } = stream;
        // What is made first is swapped in before data goes up into it.
        if layers::is_gone(into)? {
            return Ok(Can::Yes);
        }
        let looked = self.look_again().await?;
        let mut nodes = self.nodes().await?;
        let is_read = looked.disks.iter().filter_map(|found| found.medium.as_ref()).any(|medium| {
            std::iter::once(&medium.file).chain(&medium.chain).any(|file| nodes.same(&into.file, file))
        });
        Ok(Can::unless((!is_read).then_some(layers::REBASE_IS_UNLIMITED)))
    }

    async fn is_streamed(&self, stream: &Stream) -> Result<bool, PortError> {
        Ok(!layers::stands_on(&*self.qemu_img, &stream.into, &stream.was).await?)
    }

    async fn stream_place(&self, stream: &Stream) -> Result<Place, PortError> {
        let Stream { into, was, below, rate, token } = stream;
        let looked = self.look_again().await?;
        let mut nodes = self.nodes().await?;
        for layer in [into, was].into_iter().chain(below) {
            nodes.refuse_replaced(layer)?;
        }
        let Some(node) = nodes.images(&into.file).into_iter().next() else { return Ok(Place::Closed) };
        let mut media = looked.disks.iter().filter_map(|found| found.medium.as_ref());
        let is_read = media.any(|medium| {
            std::iter::once(&medium.file).chain(&medium.chain).any(|file| nodes.same(&into.file, file))
        });
        if !is_read {
            return Ok(Place::Unused);
        }
        let (mut base_node, mut backing_file) = (None, None);
        if let Some(below) = below {
            let why = || unstreamed(PortErrorKind::Refused, stream, "QEMU has another image below it");
            base_node = Some(nodes.images(&below.file).into_iter().next().ok_or_else(why)?);
            let failed = |e| error::of_qemu_img(about_stream(stream), e);
            let info = self.qemu_img.info(&images::image(&into.file, &into.format)).await.map_err(failed)?;
            let named = info.backing.map(|backing| backing.name).unwrap_or_default();
            let name = backing_name(Path::new(&into.file), &named, Path::new(&below.file)).map_err(failed)?;
            backing_file = Some(name);
        }
        Ok(Place::Chain(BlockStream {
            job_id: format!("{PREFIX}{token}"),
            device: node,
            base_node,
            backing_file,
            speed: rate.map(NonZeroU64::get),
            auto_finalize: Some(false),
            auto_dismiss: None,
        }))
    }

    /// What copies up, as far as it is not done. `before` is what QEMU has changed by then.
    pub(crate) async fn stream_commands(
        &self,
        stream: &Stream,
        before: &Before,
    ) -> Result<Vec<Command>, PortError> {
        let qmp = |command: &str| Command::new(format!("QMP {command}"));
        let id = format!("{PREFIX}{}", stream.token);
        let status = self.jobs().await?.into_iter().find(|job| job.id == id).map(|job| job.status);
        let mut words = Vec::new();
        match status {
            Some(status) => {
                words.extend(stream.rate.filter(|_| takes_speed(status)).map(|_| qmp("block-job-set-speed")));
            }
            None if self.is_streamed(stream).await? => return Ok(words),
            None => match self.stream_place(stream).await? {
                Place::Closed => return Ok(vec![images::commands::stream(stream)]),
                Place::Unused => {
                    let branch = self.nodes().await?.branch(&stream.into.file);
                    words.extend(self.closes(&branch, &before.closed).await?);
                    words.push(images::commands::stream(stream));
                    return Ok(words);
                }
                Place::Chain(_) => words.push(Command::on("QMP block-stream", &stream.into.file)),
            },
        }
        // It has QEMU flush the layer.
        words.extend([qmp("human-monitor-command"), qmp("job-finalize")]);
        Ok(words)
    }

    /// The files that no disk is read through after a copying that is not done.
    pub(super) async fn left_by(&self, stream: &Stream) -> Result<Vec<String>, PortError> {
        let looked = self.look_again().await?;
        let mut nodes = self.nodes().await?;
        for medium in looked.disks.iter().filter_map(|found| found.medium.as_ref()) {
            let chain: Vec<&String> = std::iter::once(&medium.file).chain(&medium.chain).collect();
            let Some(at) = chain.iter().position(|file| nodes.same(&stream.into.file, file)) else {
                continue;
            };
            let mut left = Vec::new();
            for file in &chain[at + 1..] {
                if stream.below.as_ref().is_some_and(|below| nodes.same(&below.file, file)) {
                    break;
                }
                left.push(nodes.absolute(file)?);
            }
            return Ok(left);
        }
        Ok(Vec::new())
    }
}

/// A copying under way.
struct Run<'a> {
    live: &'a Live,
    stream: &'a Stream,
    /// The job's.
    id: String,
    /// Whether the job was begun, or met, here, and is not known to have ended.
    begun: bool,
    /// What QEMU tells meanwhile.
    events: EventStream,
    watch: Watch,
}

impl Run<'_> {
    async fn carry_out(&mut self, progress: &dyn Progress) -> Result<(), PortError> {
        loop {
            let Some(job) = self.live.jobs().await?.into_iter().find(|job| job.id == self.id) else {
                if self.live.is_streamed(self.stream).await? {
                    return self.durable();
                }
                if self.begun {
                    // The header names what it named.
                    self.begun = false;
                    let said = self.said();
                    let mut error = self.failed(&said);
                    error.effect = Effect::None;
                    return Err(error);
                }
                if self.begin_or_do(progress).await? {
                    return self.durable();
                }
                continue;
            };
            progress.bytes(job.current_progress, (job.total_progress > 0).then_some(job.total_progress));
            if !self.begun && takes_speed(job.status) {
                self.live.set_speed(&self.id, self.stream.rate).await;
            }
            self.begun = true;
            if job.status == JobStatus::Pending {
                self.finalize().await?;
            } else {
                // What it has copied goes to the disk meanwhile, so that little is left when it takes effect.
                let into = self.stream.into.file.clone();
                tokio::join!(self.watch.next(), job::flush_ahead(vec![into]));
            }
        }
    }

    /// What QEMU said of the end of the job.
    fn said(&mut self) -> String {
        let mut said = None;
        loop {
            let event = match self.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Lagged(_)) => continue,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
            let text = |key: &str| event.data.get(key).and_then(|value| value.as_str());
            if event.name == "BLOCK_JOB_COMPLETED" && text("device") == Some(self.id.as_str()) {
                said = text("error").map(str::to_owned);
            }
        }
        said.unwrap_or_else(|| "its job ended without an effect".to_owned())
    }

    /// Begins the job; or, where QEMU does not have the layer, copies by qemu-img: then it is done.
    async fn begin_or_do(&mut self, progress: &dyn Progress) -> Result<bool, PortError> {
        match self.live.stream_place(self.stream).await? {
            Place::Chain(job) => {
                if self.live.guest_state().await? == GuestState::Serving {
                    let why = "a storage daemon has it open, and has no command that brings what it copied to the disk";
                    return Err(unstreamed(PortErrorKind::Refused, self.stream, why));
                }
                self.command("QEMU did not begin the job", job).await?;
                self.begun = true;
                Ok(false)
            }
            Place::Unused => match self.live.close_branch(&self.stream.into.file).await? {
                None => Ok(false),
                Some(node) => {
                    let why = format!("QEMU has it open for something else (node {node})");
                    Err(unstreamed(PortErrorKind::Busy, self.stream, &why))
                }
            },
            Place::Closed => {
                let key = self.live.key_file(&self.stream.into.disk);
                layers::stream(&*self.live.qemu_img, self.stream, key, progress).await?;
                Ok(true)
            }
        }
    }

    /// All that was copied is on the disk before the header changes.
    async fn finalize(&mut self) -> Result<(), PortError> {
        self.begun = true;
        if let Err(error) = self.flush().await {
            self.command("QEMU's job could not be cancelled", JobCancel { id: self.id.clone() }).await?;
            return Err(error);
        }
        self.command("QEMU did not finalize the job", JobFinalize { id: self.id.clone() }).await?;
        let is_left = |job: &JobInfo| job.id == self.id && job.status == JobStatus::Pending;
        while self.live.jobs().await?.iter().any(is_left) {
            sleep(SOON).await;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), PortError> {
        let nodes = self.live.nodes().await?.images(&self.stream.into.file);
        if nodes.is_empty() {
            return Err(self.failed("QEMU has no node on it"));
        }
        for node in nodes {
            let command_line = format!("qemu-io \"{node}\" flush");
            match self.live.qmp.execute(HumanMonitorCommand { command_line }).await {
                Ok(said) if said.trim().is_empty() => {}
                Ok(said) => return Err(self.failed(&said)),
                Err(e) => return Err(error::of_qmp(about_stream(self.stream), e)),
            }
        }
        Ok(())
    }

    /// Whatever QEMU's cache mode is.
    fn durable(&self) -> Result<(), PortError> {
        job::durable(&about_stream(self.stream), &self.stream.into.file)
    }

    async fn command<C: xlsnap_qmp_transport::Command>(
        &self,
        what: &str,
        command: C,
    ) -> Result<C::Ok, PortError> {
        let failed = |e| error::of_qmp(format!("{}: {what}", about_stream(self.stream)), e);
        self.live.qmp.execute(command).await.map_err(failed)
    }

    fn failed(&self, said: &str) -> PortError {
        job::failed(&about_stream(self.stream), said)
    }
}
