//! The files of chains of which QEMU may have some open.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::sleep;
use xlsnap_orchestrator::{
    Can, CopyOut, Effect, Layer, LayerFile, LayerSnapshot, LayerStat, Layers, Merge, PortError,
    PortErrorKind, Progress, Stream,
};
use xlsnap_types::model::DiskName;

use super::Live;
use crate::layers::{self, Free};

/// How long QEMU may take to close a file after it let go of the last node on it.
pub(super) const CLOSING: Duration = Duration::from_secs(5);
pub(super) const SOON: Duration = Duration::from_millis(5);

#[async_trait]
impl Layers for Live {
    async fn look(&self, layer: &LayerFile) -> Result<Option<Layer>, PortError> {
        layers::look(&*self.qemu_img, layer).await
    }

    async fn stat(&self, layer: &LayerFile) -> Result<Option<LayerStat>, PortError> {
        layers::stat(layer)
    }

    async fn room(&self, file: &str) -> Result<u64, PortError> {
        layers::room(file)
    }

    async fn merge(&self, merge: &Merge, progress: &dyn Progress) -> Result<(), PortError> {
        self.merge_layers(merge, progress).await
    }

    async fn park(&self, merge: &Merge) -> Result<bool, PortError> {
        self.park_merge(merge).await
    }

    async fn stream(&self, stream: &Stream, progress: &dyn Progress) -> Result<(), PortError> {
        self.stream_layers(stream, progress).await
    }

    async fn limits(&self, stream: &Stream) -> Result<Can, PortError> {
        self.limits_stream(stream).await
    }

    async fn park_stream(&self, stream: &Stream) -> Result<bool, PortError> {
        self.park_streaming(stream).await
    }

    async fn copy_out(&self, copy: &CopyOut, progress: &dyn Progress) -> Result<(), PortError> {
        layers::copy_out(&*self.qemu_img, copy, progress).await
    }

    async fn delete_inside(&self, target: &LayerSnapshot) -> Result<(), PortError> {
        let LayerSnapshot { layer, snapshot } = target;
        layers::as_planned(layer)?;
        // What a disk wrote to before is open still.
        if let Some(node) = self.close_branch(&layer.file).await? {
            let message = format!(
                "disk {}: the snapshot {} is not deleted from {} while QEMU has that open (node {node})",
                layer.disk, snapshot.name, layer.file
            );
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
        }
        let begin = Instant::now();
        loop {
            match layers::delete_inside(&*self.qemu_img, target, self.key_file(&layer.disk)).await {
                // A node goes before its file is closed.
                Err(error) if error.kind == PortErrorKind::Busy && begin.elapsed() < CLOSING => {
                    sleep(SOON).await;
                }
                done => return done,
            }
        }
    }

    async fn reheader(&self, child: &LayerFile, base: &LayerFile) -> Result<(), PortError> {
        layers::as_planned(child)?;
        if layers::names(&*self.qemu_img, child, base).await? {
            return Ok(());
        }
        if let Some(node) = self.close_branch(&child.file).await? {
            let message = format!(
                "disk {}: the header of {} is QEMU's to write, which has it open (node {node})",
                child.disk, child.file
            );
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
        }
        layers::reheader(&*self.qemu_img, child, base, self.key_file(&child.disk)).await
    }

    async fn unlink(&self, layer: &LayerFile) -> Result<(), PortError> {
        let stays = |by: &str| {
            let message = format!("disk {}: the layer {} stays: {by}", layer.disk, layer.file);
            PortError::new(PortErrorKind::Busy, Effect::None, message)
        };
        if self.specs().iter().any(|spec| layers::same_file(&spec.file, &layer.file)) {
            return Err(stays("the domain's description names it"));
        }
        if layers::is_gone(layer)? {
            return self.dismiss_merges().await;
        }
        layers::as_planned(layer)?;
        if self.close_unused(&layer.file).await?.is_some() {
            // The job of a merge holds the layer until it is dismissed.
            self.dismiss_merges().await?;
        }
        if let Some(node) = self.close_unused(&layer.file).await? {
            return Err(stays(&format!("QEMU has it open (node {node})")));
        }
        self.forget();
        let free = if matches!(self.runs().await, Ok(false)) { Free::Soon } else { Free::Now };
        let begin = Instant::now();
        loop {
            match layers::unlink(layer, free) {
                // A node goes before its file is closed.
                Err(error) if error.kind == PortErrorKind::Busy && begin.elapsed() < CLOSING => {
                    sleep(SOON).await;
                }
                Err(error) => return Err(error),
                Ok(()) => return self.dismiss_merges().await,
            }
        }
    }

    async fn swap(&self, disk: &DiskName, to: &LayerFile) -> Result<(), PortError> {
        self.swap_image(disk, to).await
    }
}

impl Live {
    pub(super) fn key_file(&self, disk: &DiskName) -> Option<std::path::PathBuf> {
        self.specs().into_iter().find(|spec| spec.name == *disk)?.key_file
    }
}
