//! The names of image files of which QEMU has some open: it closes a disk's image while that gets another name.
//!
//! QEMU opens a base by its name again, and would read itself; so no file under an open node is renamed (tried on QEMU 7.2, 10.0 and
//! 11.1: it is silently wrong, at once or at the next snapshot). The device gets an empty stand-in (`null-co`) of the same size
//! meanwhile, under a guest that stands still: 9 to 15 ms.

use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::json;
use tokio::time::sleep;
use xlsnap_orchestrator::{Can, Effect, LayerFile, NameSwap, Names, PortError, PortErrorKind};
use xlsnap_qemu_img::{Chain, FileId, Layer, chain};
use xlsnap_qmp_transport::commands::{
    BlockdevAdd, BlockdevDel, BlockdevSetIothread, QomGetString, QomSetString,
};
use xlsnap_qmp_transport::{Kind, QmpExt};
use xlsnap_types::model::DiskName;

use super::Live;
use super::adapter::find;
use super::layers::{CLOSING, SOON};
use super::take::like;
use crate::inventory::attached::Medium;
use crate::inventory::swapped;
use crate::revertible::{self, OpenFiles};
use crate::{error, layers, names};

/// What was looked at while the guest ran, for a file that was made ready to take the name of an image.
#[derive(Debug, Clone)]
pub(super) struct Foreseen {
    /// The exchange's own word.
    token: String,
    /// The file under the name that is kept, and what is below it, as they are called then.
    pub(super) chain: Chain,
}

#[async_trait]
impl Names for Live {
    async fn movable(&self, file: &str) -> Result<Can, PortError> {
        names::movable(file)
    }

    async fn ready_names(&self, swap: &NameSwap) -> Result<(), PortError> {
        names::ready(&*self.qemu_img, swap, self.key_file(&swap.old.disk)).await?;
        // The new file waits beside, and goes back to its name.
        self.foresee(swap).await.map_err(PortError::after_effect)
    }

    async fn swap_names(&self, swap: &NameSwap) -> Result<(), PortError> {
        let is_ready = self.foreseen(swap.kept()).is_some_and(|foreseen| foreseen.token == swap.token);
        let done = names::swap(&*self.qemu_img, swap, self.key_file(&swap.old.disk), is_ready).await;
        self.forget();
        done
    }

    async fn swap_names_back(&self, swap: &NameSwap) -> Result<(), PortError> {
        self.foreseen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // What an operation that was cut short left open under no device.
        for name in [&swap.old.file, &swap.new.file] {
            self.close_unused(name).await?;
        }
        let done = names::back(&*self.qemu_img, swap, self.key_file(&swap.old.disk)).await;
        self.forget();
        done
    }

    async fn rename(&self, file: &LayerFile, over: &LayerFile) -> Result<(), PortError> {
        let closed: &[&LayerFile] = if names::is_renamed(file, over) { &[] } else { &[file, over] };
        for name in closed.iter().map(|file| &file.file) {
            if let Some(node) = self.close_unused(name).await? {
                let message = format!("disk {}: QEMU has {name} open (node {node})", file.disk);
                return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
            }
        }
        let done = names::rename(file, over);
        self.forget();
        done
    }

    async fn detach(&self, disk: &DiskName) -> Result<(), PortError> {
        self.detach_image(disk).await
    }
}

impl Live {
    /// Looks, while the guest runs, at what the device is to be given when its image has another name.
    async fn foresee(&self, swap: &NameSwap) -> Result<(), PortError> {
        let Some(process) = self.process.filter(|_| swap.stands_on_old) else { return Ok(()) };
        names::refuse_others(swap, process)?;
        let failed = |e| error::of_qemu_img(format!("the chain of {} can't be read", swap.kept()), e);
        let mut chain = chain(&*self.qemu_img, &layers::image(&swap.old)).await.map_err(failed)?;
        let waits = Path::new(&names::third(swap)).to_owned();
        let (Some(old), Ok(id)) = (chain.layers.first_mut(), FileId::of(&waits)) else { return Ok(()) };
        old.path = Path::new(&swap.new.file).to_owned();
        old.format = Some(swap.old.format.driver().to_owned());
        let format = Some(swap.new.format.driver().to_owned());
        let path = Path::new(swap.kept()).to_owned();
        chain.layers.insert(0, Layer { path, id, format, info: None });
        let mut foreseen = self.foreseen.lock().unwrap_or_else(PoisonError::into_inner);
        let token = swap.token.clone();
        foreseen.insert(swap.kept().to_owned(), Foreseen { token, chain });
        Ok(())
    }

    /// The chain of the new file under the name that is kept, as it was foreseen.
    pub(super) fn foreseen(&self, kept: &str) -> Option<Foreseen> {
        self.foreseen.lock().unwrap_or_else(PoisonError::into_inner).get(kept).cloned()
    }

    async fn detach_image(&self, disk: &DiskName) -> Result<(), PortError> {
        let looked = self.look_again().await?;
        let found = find(&looked.disks, disk)?;
        let about = |what: &str| format!("disk {disk}: QEMU was not made to close its image: {what}");
        let refused = |why: &str| PortError::new(PortErrorKind::Refused, Effect::None, about(why));
        let medium = found.medium.as_ref().ok_or_else(|| refused("its drive is empty"))?;
        if swapped::is_stand_in(medium, disk) {
            return Ok(());
        }
        if let Some(why) = found.disk.swap.why() {
            return Err(refused(why));
        }
        let device = found.device.as_deref().ok_or_else(|| refused("no guest's device has it"))?;
        if self.runs().await? {
            return Err(refused("its guest runs"));
        }
        let nodes = self.nodes().await?;
        let stand_in = swapped::free_name(disk, |name| nodes.has(name));
        let failed = |e| error::of_query(about("its stand-in could not be made"), e);
        self.qmp.execute(empty(&stand_in, medium)).await.map_err(failed)?;
        let set = self.give_device(device, &stand_in).await;
        self.forget();
        if let Err(error) = set {
            self.let_go_of(&stand_in).await;
            return Err(error::of_qmp(about("its device keeps it"), error));
        }
        // The device has its stand-in by now, also where it is a look that fails.
        let closed = self.close_branch(&medium.file).await.map_err(|mut error| {
            error.effect = Effect::Unknown;
            error
        });
        let held = match closed? {
            Some(node) => Some(format!("something else uses it (node {node})")),
            None => self.still_open(&medium.file).await,
        };
        let Some(why) = held else { return Ok(()) };
        // Back to it: nothing was changed.
        let to = LayerFile {
            disk: disk.clone(),
            file: medium.file.clone(),
            format: found.disk.format.clone(),
            identity: None,
        };
        let back = self.swap_image(disk, &to).await;
        let effect = if back.is_ok() { Effect::None } else { Effect::Unknown };
        Err(PortError::new(PortErrorKind::Busy, effect, about(&why)))
    }

    pub(super) async fn give_device(
        &self,
        device: &str,
        node: &str,
    ) -> Result<(), xlsnap_qmp_transport::Error> {
        let set =
            QomSetString { path: path_of(device), property: "drive".to_owned(), value: node.to_owned() };
        let refused = match self.qmp.execute(set.clone()).await {
            Err(error) if error.kind() == Kind::Rejected => error,
            done => return done.map(drop),
        };
        // "Different aio context is not supported for new node" (tried on QEMU 7.2).
        let Ok(Some(iothread)) = self.thread_of(device).await else { return Err(refused) };
        self.qmp.execute(BlockdevSetIothread { node_name: node.to_owned(), iothread }).await?;
        self.qmp.execute(set).await.map(drop)
    }

    /// The thread in which the device of a domain of Xen's serves its disk while the guest has it: there the node has to be too.
    pub(super) async fn thread_of(&self, device: &str) -> Result<Option<String>, PortError> {
        if self.guest.is_none() {
            return Ok(None);
        }
        let asked = QomGetString { path: path_of(device), property: "iothread".to_owned() };
        let thread = self.ask_if_known(asked).await?;
        Ok(thread.and_then(|path| Some(path.rsplit('/').next()?.to_owned())).filter(|id| !id.is_empty()))
    }

    /// Closes a node that no device has any more.
    pub(super) async fn let_go_of(&self, node: &str) {
        if let Err(error) = self.qmp.execute(BlockdevDel { node_name: node.to_owned() }).await {
            tracing::debug!(%error, node, "a node that is not used stays open");
        }
    }

    /// Why the file is still open after QEMU let go of its last node on it: a node goes before its file is closed.
    async fn still_open(&self, file: &str) -> Option<String> {
        let begin = Instant::now();
        loop {
            let is_open = || self.process.and_then(OpenFiles::of).is_some_and(|open| open.has(file));
            let why =
                revertible::locked(file).or_else(|| is_open().then(|| "QEMU has it open".to_owned()))?;
            if begin.elapsed() > CLOSING {
                return Some(why);
            }
            sleep(SOON).await;
        }
    }
}

/// The path of a device of which QEMU tells the id, or the path.
fn path_of(device: &str) -> String {
    if device.starts_with('/') { device.to_owned() } else { format!("/machine/peripheral/{device}") }
}

/// A node that reads as zeros, of the size of the medium, which treats the host's cache as that does, so that it can be known of it later.
fn empty(name: &str, medium: &Medium) -> BlockdevAdd {
    let mut node =
        BlockdevAdd { driver: "null-co".into(), node_name: Some(name.to_owned()), ..BlockdevAdd::default() };
    node = like(node, medium);
    node.options.insert("size".into(), json!(medium.virtual_size));
    node.options.insert("read-zeroes".into(), json!(true));
    node
}
