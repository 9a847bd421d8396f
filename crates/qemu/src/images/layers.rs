//! The files of chains of a domain that is off.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Can, CopyOut, Effect, Layer, LayerFile, LayerSnapshot, LayerStat, Layers, Merge, PortError,
    PortErrorKind, Progress, Stream,
};
use xlsnap_types::model::DiskName;

use super::{Images, same_file};
use crate::layers::{self, Free};

#[async_trait]
impl Layers for Images {
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
        let key = self.spec(&merge.from.disk)?.key_file;
        if layers::is_gone(&merge.from)?
            || self.specs().iter().any(|spec| same_file(&spec.file, &merge.into.file))
        {
            return Ok(());
        }
        layers::merge(&*self.qemu_img, merge, key, progress).await
    }

    async fn park(&self, merge: &Merge) -> Result<bool, PortError> {
        layers::at_rest(merge).await.map(|()| false)
    }

    async fn stream(&self, stream: &Stream, progress: &dyn Progress) -> Result<(), PortError> {
        let key = self.spec(&stream.into.disk)?.key_file;
        layers::stream(&*self.qemu_img, stream, key, progress).await
    }

    async fn limits(&self, _stream: &Stream) -> Result<Can, PortError> {
        Ok(Can::no(layers::REBASE_IS_UNLIMITED))
    }

    async fn park_stream(&self, stream: &Stream) -> Result<bool, PortError> {
        let busy = |why: String| layers::unstreamed(PortErrorKind::Busy, stream, &why);
        layers::unlocked([&stream.into.file]).await.map_err(busy)?;
        Ok(!layers::stands_on(&*self.qemu_img, &stream.into, &stream.was).await?)
    }

    async fn copy_out(&self, copy: &CopyOut, progress: &dyn Progress) -> Result<(), PortError> {
        layers::copy_out(&*self.qemu_img, copy, progress).await
    }

    async fn delete_inside(&self, target: &LayerSnapshot) -> Result<(), PortError> {
        let key = self.spec(&target.layer.disk)?.key_file;
        layers::delete_inside(&*self.qemu_img, target, key).await
    }

    async fn reheader(&self, child: &LayerFile, base: &LayerFile) -> Result<(), PortError> {
        let key = self.spec(&child.disk)?.key_file;
        layers::reheader(&*self.qemu_img, child, base, key).await
    }

    async fn unlink(&self, layer: &LayerFile) -> Result<(), PortError> {
        self.unlink_all(std::slice::from_ref(layer)).await.into_iter().collect()
    }

    async fn unlink_all(&self, layers: &[LayerFile]) -> Vec<Result<(), PortError>> {
        let specs = self.specs();
        let used = |layer: &LayerFile| {
            let user = specs.iter().find(|spec| same_file(&spec.file, &layer.file))?;
            let message = format!("{} takes the writes of disk {}", layer.file, user.name);
            Some(PortError::new(PortErrorKind::Busy, Effect::None, message))
        };
        layers::unlink_all(layers, Free::Now, used)
    }

    async fn swap(&self, disk: &DiskName, to: &LayerFile) -> Result<(), PortError> {
        let message =
            format!("disk {disk}: no process has it open, so none can be made to write to {}", to.file);
        Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
    }
}
