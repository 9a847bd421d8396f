//! The files of chains: what an external snapshot's state lies in, wherever the disk writes now.

use std::num::NonZeroU64;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use xlsnap_types::model::{DiskName, ImageFormat, Stamp};

use super::Progress;
use crate::{Can, FileIdentity, ImageSnapshot, PortError, PortErrorKind, SnapshotId};

/// A file of a disk's tree of layers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerFile {
    /// The disk whose tree it is in: a backend may have a key for it.
    pub disk: DiskName,
    /// The file, absolute.
    pub file: String,
    /// Its format.
    pub format: ImageFormat,
    /// Which file that was when the operation was planned; `None` for one that the operation itself makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<FileIdentity>,
}

impl LayerFile {
    /// Whether what was found is the file that it was when the operation was planned ([`FileIdentity::is_still`]).
    pub fn is(&self, found: Option<FileIdentity>) -> bool {
        self.identity.zip(found).is_some_and(|(planned, found)| planned.is_still(found))
    }
}

/// What a layer is, by its own header and the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The file, absolute, as it was asked for.
    pub file: String,
    /// Which file that is.
    pub identity: FileIdentity,
    /// Its format.
    pub format: ImageFormat,
    /// The size of the disk that is in it, in bytes.
    pub virtual_size: u64,
    /// The bytes that it takes on disk.
    pub bytes: u64,
    /// By which a later change of it is found; `None` where nothing tells (a block device after a reboot).
    pub stamp: Option<Stamp>,
    /// The snapshots inside it. While it has any, what is below it must not change for them.
    pub snapshots: Vec<ImageSnapshot>,
    /// What is below it.
    pub base: Below,
    /// Whether another process has it open for writing, as far as locks tell.
    pub in_use: bool,
    /// Whether its data is encrypted.
    pub encrypted: bool,
}

/// Which file a layer is, and by what a change of it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerStat {
    /// Which file that is.
    pub identity: FileIdentity,
    /// As [`Layer::stamp`].
    pub stamp: Option<Stamp>,
}

/// What the header of a layer says of what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// Nothing is: it is whole in itself.
    Nothing,
    /// A file.
    File {
        /// The file, absolute: the name in the header is resolved against the layer's own directory.
        file: String,
        /// The format, if the header says it.
        format: Option<ImageFormat>,
    },
    /// No local file; it is never opened.
    Foreign(String),
}

impl Below {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::File { file, .. } => Some(file),
            Self::Nothing | Self::Foreign(_) => None,
        }
    }
}

/// Moves what a layer holds down into the layer below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Merge {
    /// The layer whose data goes down. It stays as it is until it is unlinked, and is right all the time.
    pub from: LayerFile,
    /// The layer below it, which has the content of `from` afterwards.
    pub into: LayerFile,
    /// Whether the disk writes to `from`.
    pub active: bool,
    /// The layers that stood on `from` when this was planned. One whose header names `into` tells that the merge is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<LayerFile>,
    /// The most bytes that are moved in a second; `None` for as many as can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU64>,
    /// A word that no other operation has, at most 24 ASCII letters and digits: the job's name is made of it.
    pub token: String,
}

/// Copies what a snapshot inside a layer holds into an image of its own, or the layer with all that is inside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CopyOut {
    /// The layer.
    pub from: LayerFile,
    /// The snapshot inside it.
    pub snapshot: SnapshotId,
    /// The new image.
    pub to: LayerFile,
    /// The size of the disk in it, in bytes.
    pub virtual_size: u64,
    /// The bytes that the layer takes, where it is copied as it is: the snapshots inside it hold a guest's memory, too, and what it
    /// stands on the copy stands on. `None` for a copy of what one snapshot holds on the disk, which stands on nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<u64>,
}

/// Copies into a layer what is read through it from the layers below, down to one that it stands on afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stream {
    /// The layer. What is read from it stays the same all the time.
    pub into: LayerFile,
    /// What its header names before. One that names something else tells that the copying is done.
    pub was: LayerFile,
    /// What it stands on afterwards; `None` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<LayerFile>,
    /// The most bytes that are moved in a second; `None` for as many as can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU64>,
    /// A word that no other operation has, at most 24 ASCII letters and digits: the job's name is made of it.
    pub token: String,
}

/// A snapshot inside a layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerSnapshot {
    /// The layer.
    pub layer: LayerFile,
    /// The snapshot in it.
    pub snapshot: SnapshotId,
}

/// The layers of disks, in and out of use.
///
/// Each method looks or acts once and says truly what it knows of the effect; none decides. Whether a layer may be written to
/// or unlinked is judged by planning.
///
/// # Cancel safety
/// A future that looks may be dropped at any time. A merge that is dropped goes on or is begun anew by the next one of the same
/// layers: until `from` is unlinked both layers may be read through it. Of the other acts the next operation looks what they did.
#[async_trait]
pub trait Layers: Send + Sync {
    /// What the layer is; `None` when nothing is there. Its header alone is read, never what is below it.
    async fn look(&self, layer: &LayerFile) -> Result<Option<Layer>, PortError>;

    /// Which file the layer is, without a look into it; `None` when nothing is there.
    async fn stat(&self, layer: &LayerFile) -> Result<Option<LayerStat>, PortError> {
        let found = self.look(layer).await?;
        Ok(found.map(|Layer { identity, stamp, .. }| LayerStat { identity, stamp }))
    }

    /// The bytes that are free where the file is, or is to be.
    async fn room(&self, file: &str) -> Result<u64, PortError>;

    /// Merges, and returns when the result is durable. Again, after a part of it or all of it, gives the same; a merge whose `from`
    /// is gone, or into the image that the disk writes to already, is done. Layers that no process has open are merged in this process; one that is in the middle of a running disk's chain,
    /// by its process, which writes the header of the layer above it in that chain. The headers of other children are
    /// [`Layers::reheader`]'s.
    ///
    /// **When `from` takes the writes of a running disk**, the guest goes on while its data moves; then it is stopped, `into` takes
    /// the writes, and this returns **with the guest standing still**, if it ran: both layers hold the same until it runs again, and
    /// nothing but the domain's description tells which one is right then. So what follows is [`crate::Overlays::adopt`] of `into`,
    /// [`Layers::unlink`] of `from`, and [`crate::Pause::resume`] if the guest ran before. Until it is adopted
    /// [`crate::Disks::inventory`] has `into` as the disk's image, as what takes the writes. A storage daemon's clients cannot be
    /// stopped: there the description has to follow at once. After an error the guest is as it was, unless it is not known which layer takes
    /// its writes: then it stands still.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::Refused`] when a file is not the one that was planned, `from` is not right above `into`, is smaller,
    /// or holds snapshots. [`crate::PortErrorKind::Busy`] when another process has one of them open.
    async fn merge(&self, merge: &Merge, progress: &dyn Progress) -> Result<(), PortError>;

    /// Ends a merge that was begun and is not to go on now; gives whether it was done by then, so that [`Layers::merge`] is to be called
    /// once more, which meets it and takes no time. Else both layers stay, and read as before, and the guest is as it was. One that is not
    /// under way is ended.
    async fn park(&self, merge: &Merge) -> Result<bool, PortError>;

    /// Copies data up, and returns when the result is durable and the header of `into` says so: all data is on the disk before that is
    /// written. Again, after a part of it or all of it, gives the same. A layer that no process has open is copied into by qemu-img;
    /// one of a running disk's chain by its process, whose guest goes on. What is below `into` stays as it is.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::Refused`] when a file is not the one that was planned, or holds snapshots, and while a storage daemon
    /// has it, which has no command that brings data to the disk. [`crate::PortErrorKind::Busy`] when another process has it open.
    async fn stream(&self, stream: &Stream, progress: &dyn Progress) -> Result<(), PortError>;

    /// Whether the copying of data up keeps to [`Stream::rate`], as QEMU and the layer are now.
    async fn limits(&self, stream: &Stream) -> Result<Can, PortError>;

    /// Ends the copying of data up that was begun and is not to go on now; gives whether it was done by then. What was copied stays, and
    /// the layer stands on what it stood on, if it was not done.
    async fn park_stream(&self, stream: &Stream) -> Result<bool, PortError>;

    /// Copies a snapshot out into a new image, or the whole layer ([`CopyOut::whole`]), durably, with the access of the layer and for no other
    /// user. A process may have the layer open below another one.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::AlreadyExists`] when something has the new image's name: nothing is overwritten. After another error
    /// a part of the new image may be there.
    async fn copy_out(&self, copy: &CopyOut, progress: &dyn Progress) -> Result<(), PortError>;

    /// Deletes a snapshot inside a layer that no disk writes to. One that is gone is deleted. What the layer holds otherwise, and
    /// what is read through it, stays.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::Refused`] when another file has the layer's name now; [`crate::PortErrorKind::Busy`] while a process
    /// has it open: [`crate::Release`] is how one lets go of it.
    async fn delete_inside(&self, target: &LayerSnapshot) -> Result<(), PortError>;

    /// Makes the header of `child` name `base`, which has the content of what it named before. Nothing is copied. One that names
    /// it already stays as it is. The name stays relative if it was.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::Busy`] when a process has `child` open and its header names another; [`Layers::merge`] is how that
    /// one's changes.
    async fn reheader(&self, child: &LayerFile, base: &LayerFile) -> Result<(), PortError>;

    /// Unlinks a file that no disk writes to and no layer stands on. One that is gone is unlinked.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::Refused`] when another file has its name now; [`crate::PortErrorKind::Busy`] while a process has
    /// it open.
    async fn unlink(&self, layer: &LayerFile) -> Result<(), PortError>;

    /// Unlinks several, in this order, each as [`Layers::unlink`] does; one that stands on another goes before it. There is a result for
    /// each that was tried: after one that stays for another reason than that another file has its name, none is tried.
    async fn unlink_all(&self, layers: &[LayerFile]) -> Vec<Result<(), PortError>> {
        let mut done = Vec::with_capacity(layers.len());
        for layer in layers {
            done.push(self.unlink(layer).await);
            if done.last().is_some_and(|last| last.as_ref().is_err_and(|e| e.kind != PortErrorKind::Refused))
            {
                break;
            }
        }
        done
    }

    /// Makes the process that has the disk open write to `to` from now on, while its guest stands still. The layer that took the
    /// writes before stays as it is. Again is no error.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::Refused`] where the device cannot be given another image; [`crate::Disk::swap`] tells it before.
    async fn swap(&self, disk: &DiskName, to: &LayerFile) -> Result<(), PortError>;
}
