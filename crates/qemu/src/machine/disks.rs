//! Its disks and its guest: each call goes to the monitor while the process has them, to the images else.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Bitmap, Can, CopyOut, Disks, Guest, GuestState, Health, ImageFile, ImageHealth, Inventory, Layer,
    LayerFile, LayerSnapshot, LayerStat, Layers, Merge, NameSwap, Names, Overlay, Overlays, PortError,
    Progress, SnapshotAction, SnapshotId, Stream,
};
use xlsnap_types::model::DiskName;

use super::Machine;
use super::state::Holder;
use crate::process::{self, Process, StartSpec};
use crate::{layers, names, overlay, spec};

#[async_trait]
impl Guest for Machine {
    async fn state(&self) -> Result<GuestState, PortError> {
        match self.on()? {
            Some(on) => on.live.state().await,
            None => Ok(GuestState::Off),
        }
    }
}

#[async_trait]
impl Disks for Machine {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        let mut inventory = match self.holder()? {
            Holder::Live(on) => on.live.inventory().await,
            Holder::Images(images) => images.inventory().await,
        }?;
        let process = self.process();
        if let Some(StartSpec::Argv(argv)) = process.as_ref().and_then(Process::start_spec) {
            let specs = self.specs();
            for disk in inventory.disks.iter_mut().filter(|disk| disk.external.is_yes()) {
                let spec = specs.iter().find(|spec| spec.name == disk.name);
                disk.external = Can::unless(spec.and_then(|spec| process::no_external(argv, spec)));
            }
        }
        Ok(inventory)
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.snapshot(actions).await,
            Holder::Images(images) => images.snapshot(actions).await,
        }
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.delete(disk, snapshot).await,
            Holder::Images(images) => images.delete(disk, snapshot).await,
        }
    }

    async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.drop_bitmap(disk, bitmap).await,
            Holder::Images(images) => images.drop_bitmap(disk, bitmap).await,
        }
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.revert(disk, snapshot).await,
            Holder::Images(images) => images.revert(disk, snapshot).await,
        }
    }
}

#[async_trait]
impl Overlays for Machine {
    async fn exists(&self, file: &str) -> Result<bool, PortError> {
        overlay::exists(file)
    }

    async fn beside(&self, files: &[String]) -> Result<Vec<(String, String)>, PortError> {
        overlay::beside(files).await
    }

    async fn place(&self, base: &str, file: &str) -> Result<Can, PortError> {
        overlay::no_place(base, file).map(Can::unless)
    }

    async fn make(&self, overlay: &Overlay) -> Result<(), PortError> {
        overlay::make(&*self.qemu_img, overlay).await
    }

    async fn discard(&self, overlay: &Overlay) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => Overlays::discard(&on.live, overlay).await,
            Holder::Images(images) => images.discard(overlay).await,
        }
    }

    async fn described(&self) -> Result<Vec<(DiskName, ImageFile)>, PortError> {
        match self.holder()? {
            Holder::Live(on) => Overlays::described(&on.live).await,
            Holder::Images(images) => images.described().await,
        }
    }

    async fn adopt(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => Overlays::adopt(&on.live, images).await,
            Holder::Images(at_rest) => at_rest.adopt(images).await,
        }?;
        self.change_specs(|specs| spec::set_images(specs, images));
        Ok(())
    }
}

#[async_trait]
impl Layers for Machine {
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
        match self.holder()? {
            Holder::Live(on) => on.live.merge(merge, progress).await,
            Holder::Images(images) => images.merge(merge, progress).await,
        }
    }

    async fn park(&self, merge: &Merge) -> Result<bool, PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.park(merge).await,
            Holder::Images(images) => images.park(merge).await,
        }
    }

    async fn stream(&self, stream: &Stream, progress: &dyn Progress) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.stream(stream, progress).await,
            Holder::Images(images) => images.stream(stream, progress).await,
        }
    }

    async fn limits(&self, stream: &Stream) -> Result<Can, PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.limits(stream).await,
            Holder::Images(images) => images.limits(stream).await,
        }
    }

    async fn park_stream(&self, stream: &Stream) -> Result<bool, PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.park_stream(stream).await,
            Holder::Images(images) => images.park_stream(stream).await,
        }
    }

    async fn copy_out(&self, copy: &CopyOut, progress: &dyn Progress) -> Result<(), PortError> {
        layers::copy_out(&*self.qemu_img, copy, progress).await
    }

    async fn delete_inside(&self, target: &LayerSnapshot) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.delete_inside(target).await,
            Holder::Images(images) => images.delete_inside(target).await,
        }
    }

    async fn reheader(&self, child: &LayerFile, base: &LayerFile) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.reheader(child, base).await,
            Holder::Images(images) => images.reheader(child, base).await,
        }
    }

    async fn unlink(&self, layer: &LayerFile) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.unlink(layer).await,
            Holder::Images(images) => images.unlink(layer).await,
        }
    }

    async fn unlink_all(&self, layers: &[LayerFile]) -> Vec<Result<(), PortError>> {
        match self.holder() {
            Ok(Holder::Live(on)) => on.live.unlink_all(layers).await,
            Ok(Holder::Images(images)) => images.unlink_all(layers).await,
            Err(error) => vec![Err(error)],
        }
    }

    async fn swap(&self, disk: &DiskName, to: &LayerFile) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.swap(disk, to).await,
            Holder::Images(images) => images.swap(disk, to).await,
        }
    }
}

#[async_trait]
impl Names for Machine {
    async fn movable(&self, file: &str) -> Result<Can, PortError> {
        names::movable(file)
    }

    async fn ready_names(&self, swap: &NameSwap) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.ready_names(swap).await,
            Holder::Images(images) => images.ready_names(swap).await,
        }
    }

    async fn swap_names(&self, swap: &NameSwap) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.swap_names(swap).await,
            Holder::Images(images) => images.swap_names(swap).await,
        }
    }

    async fn swap_names_back(&self, swap: &NameSwap) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.swap_names_back(swap).await,
            Holder::Images(images) => images.swap_names_back(swap).await,
        }
    }

    async fn rename(&self, file: &LayerFile, over: &LayerFile) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.rename(file, over).await,
            Holder::Images(images) => images.rename(file, over).await,
        }
    }

    async fn detach(&self, disk: &DiskName) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(on) => on.live.detach(disk).await,
            Holder::Images(images) => images.detach(disk).await,
        }
    }
}

#[async_trait]
impl Health for Machine {
    async fn examine(&self, disk: &DiskName) -> Result<Option<ImageHealth>, PortError> {
        match self.holder()? {
            Holder::Live(_) => Ok(None),
            Holder::Images(images) => images.examine(disk).await,
        }
    }

    async fn mend(&self, disk: &DiskName) -> Result<(), PortError> {
        match self.holder()? {
            Holder::Live(_) => Err(self.refused("its process has the image open")),
            Holder::Images(images) => images.mend(disk).await,
        }
    }
}
