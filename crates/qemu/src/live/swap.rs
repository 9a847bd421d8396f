//! Gives a guest's device another image while QEMU lives.
//!
//! The device's property `drive` takes another node while it is in use: virtio-blk, virtio-scsi, IDE, NVMe, USB, SD, floppies, with and
//! without an id, and with the older `-drive` (tried on QEMU 7.2, 10.0 and 11.1). The guest stands still meanwhile: QEMU has
//! flushed all when it stopped.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use xlsnap_orchestrator::{Effect, LayerFile, PortError, PortErrorKind};
use xlsnap_qemu_img::{ChainEnd, FileId, chain};
use xlsnap_qmp_transport::QmpExt;
use xlsnap_qmp_transport::commands::{Backing, BlockdevAdd, NodeRef};
use xlsnap_types::model::DiskName;

use super::Live;
use super::adapter::find;
use super::open::Nodes;
use super::take::{cached, like};
use crate::inventory::attached::Medium;
use crate::inventory::swapped;
use crate::{error, layers};

impl Live {
    pub(super) async fn swap_image(&self, disk: &DiskName, to: &LayerFile) -> Result<(), PortError> {
        let about = format!("disk {disk}: QEMU was not made to write to {}", to.file);
        let refused =
            |why: &str| PortError::new(PortErrorKind::Refused, Effect::None, format!("{about}: {why}"));
        layers::as_planned(to)?;
        let looked = self.look_again().await?;
        let found = find(&looked.disks, disk)?;
        let medium = found.medium.as_ref().ok_or_else(|| refused("its drive is empty"))?;
        let mut nodes = self.nodes().await?;
        if nodes.same(&to.file, &medium.file) {
            return Ok(());
        }
        if let Some(why) = found.disk.swap.why() {
            return Err(refused(why));
        }
        let device = found.device.as_deref().ok_or_else(|| refused("no guest's device has it"))?;
        if self.runs().await? {
            return Err(refused("its guest runs"));
        }
        let unused = nodes.images(&to.file).into_iter().next();
        let opened = unused.is_none();
        let node = match unused {
            // What took the writes before and is still open, say.
            Some(node) => node,
            None => {
                let name = self.node_of(disk, &nodes);
                let add = self.with_chain(&name, to, medium).await?;
                let failed = |e| error::of_query(format!("{about}: QEMU could not open it"), e);
                self.qmp.execute(add).await.map_err(failed)?;
                name
            }
        };
        let done = self.give_device(device, &node).await;
        self.forget();
        let Err(error) = done else {
            if swapped::is_stand_in(medium, disk) {
                self.let_go_of(&medium.node).await;
            }
            return Ok(());
        };
        if opened {
            self.let_go_of(&node).await;
        }
        Err(error::of_qmp(about, error))
    }

    /// A name for a node that a disk's device is given.
    fn node_of(&self, disk: &DiskName, nodes: &Nodes) -> String {
        let described = self.specs().into_iter().find(|spec| spec.name == *disk).and_then(|spec| spec.node);
        let free = described.filter(|name| self.guest.is_some() && !nodes.has(name));
        free.unwrap_or_else(|| swapped::free_name(disk, |name| nodes.has(name)))
    }

    /// The image as a node of its own, which treats the host's cache as the one before does, on the nodes that QEMU has of the images
    /// below it, and else on these by name and format.
    async fn with_chain(
        &self,
        name: &str,
        to: &LayerFile,
        medium: &Medium,
    ) -> Result<BlockdevAdd, PortError> {
        let failed =
            |e| error::of_qemu_img(format!("disk {}: the chain of {} can't be read", to.disk, to.file), e);
        // Where the file is the one that was made ready, the guest does not stand still for what is known of it.
        let known = self.foreseen(&to.file).map(|foreseen| foreseen.chain).filter(|chain| {
            let is_it =
                |top: &xlsnap_qemu_img::Layer| FileId::of(Path::new(&to.file)).is_ok_and(|id| id == top.id);
            chain.layers.first().is_some_and(is_it)
        });
        let found = match known {
            Some(found) => found,
            None => chain(&*self.qemu_img, &layers::image(to)).await.map_err(failed)?,
        };
        let refuse = |why: &str| {
            let message = format!("disk {}: {} can't be opened: {why}", to.disk, to.file);
            Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
        };
        let mut nodes = self.nodes().await?;
        let mut inline = Vec::new();
        let mut backing = match found.end {
            ChainEnd::Base => Some(Backing::None),
            // QEMU opens by itself what is no local file, as it does when the domain starts.
            ChainEnd::Foreign(_) => None,
            ChainEnd::Missing(file) => return refuse(&format!("{} is not there", file.display())),
            ChainEnd::Cycle | ChainEnd::TooDeep => return refuse("it is below itself, or too deep"),
        };
        for layer in found.layers.iter().skip(1) {
            let Some(file) = layer.path.to_str() else { return refuse("a name below it is not UTF-8") };
            if let Some(node) = nodes.images(file).into_iter().next() {
                backing = Some(Backing::Node(NodeRef::Name(node)));
                break;
            }
            let Some(format) = layer.format.clone() else {
                return refuse(&format!("no header says the format of {file}"));
            };
            inline.push((file, format));
        }
        for (file, format) in inline.into_iter().rev() {
            let mut below = cached(image("", &format, file), medium.cache);
            below.node_name = None;
            below.read_only = Some(true);
            // A format without backing files takes no such option.
            below.backing = backing.filter(|_| format != "raw");
            backing = Some(Backing::Node(NodeRef::Inline(Box::new(below))));
        }
        let driver = to.format.driver();
        let mut top = like(image(name, driver, &to.file), medium);
        top.backing = backing.filter(|_| driver != "raw");
        Ok(top)
    }
}

/// The image in a file or on a block device as a node.
fn image(name: &str, driver: &str, file: &str) -> BlockdevAdd {
    let mut node = BlockdevAdd::image(name, driver, file);
    let is_device = std::fs::metadata(Path::new(file)).is_ok_and(|found| found.file_type().is_block_device());
    if is_device && let Some(NodeRef::Inline(below)) = &mut node.file {
        below.driver = "host_device".to_owned();
    }
    node
}
