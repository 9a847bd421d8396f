//! The files of chains. What is written, merged or unlinked here is open in no process but the domain's own QEMU, and a disk of no other
//! domain, which is looked at first, since QEMU takes no locks on Xen's disks. Where that QEMU has the disks, it moves the data.

use std::sync::Arc;

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Can, CopyOut, Effect, ImageFile, Layer, LayerFile, LayerSnapshot, LayerStat, Layers, Merge, Overlay,
    Overlays, PortError, PortErrorKind, Progress, Stream,
};
use xlsnap_qemu::Images;
use xlsnap_types::model::DiskName;

use crate::{usage, vbd};

use super::XlDomain;
use super::look::{LiveDisks, NO_ADOPT, not_adopted, spec};

impl XlDomain {
    /// The files of its disks, whatever has them open.
    pub(super) async fn image_files(&self) -> Result<Images, PortError> {
        let Some(domain) = self.running().await? else { return Ok(self.images()?.0) };
        let vbds = vbd::list(&*self.context.store, domain.domid).await?;
        Ok(self.images_of(vbds.iter().map(|vbd| spec(vbd, None)).collect()))
    }

    /// What works on these files, once it is certain that no other domain and no other process than its QEMU has one of them open.
    async fn hand_on(&self, files: &[&str]) -> Result<Hand, PortError> {
        let Some(disks) = self.served().await? else { return Ok(Hand::Ours(self.at_rest(files).await?)) };
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        usage::must_be_of_domain(&*self.context.store, &files, disks.domain.domid).await?;
        Ok(Hand::Qemus(disks))
    }

    /// What looks at the files, and ends what works on them.
    async fn hand(&self) -> Result<Hand, PortError> {
        Ok(match self.served().await? {
            Some(disks) => Hand::Qemus(disks),
            None => Hand::Ours(self.image_files().await?),
        })
    }

    /// The files of its disks, once it is certain that no domain and no process has one of these open.
    pub(super) async fn at_rest(&self, files: &[&str]) -> Result<Images, PortError> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        usage::must_be_closed(&*self.context.store, &files).await?;
        self.image_files().await
    }
}

/// What works on the files of chains.
enum Hand {
    /// The domain's QEMU, which has the disks.
    Qemus(Arc<LiveDisks>),
    /// qemu-img, and this process.
    Ours(Images),
}

impl Hand {
    fn layers(&self) -> Result<&dyn Layers, PortError> {
        Ok(match self {
            Self::Qemus(disks) => disks.live()?,
            Self::Ours(images) => images,
        })
    }

    /// What was done; QEMU's monitor is left to other clients.
    async fn left_with<T>(self, done: T) -> T {
        if let Self::Qemus(disks) = self {
            disks.leave().await;
        }
        done
    }
}

#[async_trait]
impl Overlays for XlDomain {
    async fn exists(&self, file: &str) -> Result<bool, PortError> {
        self.image_files().await?.exists(file).await
    }

    async fn beside(&self, files: &[String]) -> Result<Vec<(String, String)>, PortError> {
        self.image_files().await?.beside(files).await
    }

    async fn place(&self, base: &str, file: &str) -> Result<Can, PortError> {
        self.image_files().await?.place(base, file).await
    }

    async fn make(&self, overlay: &Overlay) -> Result<(), PortError> {
        self.image_files().await?.make(overlay).await
    }

    async fn discard(&self, overlay: &Overlay) -> Result<(), PortError> {
        self.at_rest(&[&overlay.file]).await?.discard(overlay).await
    }

    async fn described(&self) -> Result<Vec<(DiskName, ImageFile)>, PortError> {
        self.image_files().await?.described().await
    }

    fn adopts(&self) -> Can {
        Can::no(NO_ADOPT)
    }

    /// What xl starts the domain from names the image already, or it stays as it is.
    async fn adopt(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        let named: Vec<(DiskName, String)> = match self.running().await? {
            Some(domain) => {
                let vbds = vbd::list(&*self.context.store, domain.domid).await?;
                vbds.into_iter().map(|vbd| (vbd.name, vbd.image)).collect()
            }
            None => {
                let kept = self.kept().unwrap_or_default().disks;
                kept.into_iter().map(|kept| (kept.disk, kept.image)).collect()
            }
        };
        let is_named =
            |disk: &DiskName, file: &str| named.iter().any(|(name, image)| name == disk && image == file);
        match images.iter().find(|(disk, image)| !is_named(disk, &image.file)) {
            None => Ok(()),
            Some((disk, image)) => Err(not_adopted(disk, &image.file)),
        }
    }
}

#[async_trait]
impl Layers for XlDomain {
    async fn look(&self, layer: &LayerFile) -> Result<Option<Layer>, PortError> {
        self.image_files().await?.look(layer).await
    }

    async fn stat(&self, layer: &LayerFile) -> Result<Option<LayerStat>, PortError> {
        self.image_files().await?.stat(layer).await
    }

    async fn room(&self, file: &str) -> Result<u64, PortError> {
        self.image_files().await?.room(file).await
    }

    async fn merge(&self, merge: &Merge, progress: &dyn Progress) -> Result<(), PortError> {
        let above = merge.above.iter().map(|layer| layer.file.as_str());
        let files: Vec<&str> =
            [merge.from.file.as_str(), merge.into.file.as_str()].into_iter().chain(above).collect();
        let hand = self.hand_on(&files).await?;
        let done = hand.layers()?.merge(merge, progress).await;
        hand.left_with(done).await
    }

    async fn park(&self, merge: &Merge) -> Result<bool, PortError> {
        let hand = self.hand().await?;
        let done = hand.layers()?.park(merge).await;
        hand.left_with(done).await
    }

    async fn stream(&self, stream: &Stream, progress: &dyn Progress) -> Result<(), PortError> {
        let files = [stream.into.file.as_str()];
        let hand = self.hand_on(&files).await?;
        let done = hand.layers()?.stream(stream, progress).await;
        hand.left_with(done).await
    }

    async fn limits(&self, stream: &Stream) -> Result<Can, PortError> {
        let hand = self.hand().await?;
        let done = hand.layers()?.limits(stream).await;
        hand.left_with(done).await
    }

    async fn park_stream(&self, stream: &Stream) -> Result<bool, PortError> {
        let hand = self.hand().await?;
        let done = hand.layers()?.park_stream(stream).await;
        hand.left_with(done).await
    }

    async fn copy_out(&self, copy: &CopyOut, progress: &dyn Progress) -> Result<(), PortError> {
        self.image_files().await?.copy_out(copy, progress).await
    }

    async fn delete_inside(&self, target: &LayerSnapshot) -> Result<(), PortError> {
        let files = [target.layer.file.as_str()];
        let hand = self.hand_on(&files).await?;
        let done = hand.layers()?.delete_inside(target).await;
        hand.left_with(done).await
    }

    async fn reheader(&self, child: &LayerFile, base: &LayerFile) -> Result<(), PortError> {
        let files = [child.file.as_str()];
        let hand = self.hand_on(&files).await?;
        let done = hand.layers()?.reheader(child, base).await;
        hand.left_with(done).await
    }

    async fn unlink(&self, layer: &LayerFile) -> Result<(), PortError> {
        let files = [layer.file.as_str()];
        let hand = self.hand_on(&files).await?;
        let done = hand.layers()?.unlink(layer).await;
        hand.left_with(done).await
    }

    async fn unlink_all(&self, layers: &[LayerFile]) -> Vec<Result<(), PortError>> {
        let files: Vec<&str> = layers.iter().map(|layer| layer.file.as_str()).collect();
        let hand = match self.hand_on(&files).await {
            Ok(hand) => hand,
            Err(error) => return vec![Err(error)],
        };
        let done = match hand.layers() {
            Ok(its) => its.unlink_all(layers).await,
            Err(error) => vec![Err(error)],
        };
        hand.left_with(done).await
    }

    async fn swap(&self, disk: &DiskName, to: &LayerFile) -> Result<(), PortError> {
        let Some(disks) = self.served().await? else {
            let message = format!("disk {disk}: no QEMU has it, so none can be made to write to {}", to.file);
            return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
        };
        disks.leaving(disks.live()?.swap(disk, to)).await
    }
}
