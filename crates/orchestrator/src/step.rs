//! Steps: what a plan says, what a dry run prints, what the progress counts, what the journal holds and what the executor does.

mod about;
mod stage;
mod undo;
mod words;

pub use about::{Adoption, Ended, Expected, ImageFile, ImageTarget, LayerNote, UndoPoint};
pub(crate) use stage::gives_up_guest;
pub use stage::{Stage, Step};
pub(crate) use undo::{Look, back};
pub use words::StepText;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use xlsnap_types::model::{DiskName, MemoryMeta, SnapshotName};

use crate::journal::Draft;
use crate::layers::PartFiles;
use crate::{
    Bitmap, CopyOut, LayerFile, LayerSnapshot, MemoryInside, MemorySave, Merge, NameSwap, Overlay, Run,
    SnapshotAction, Stream,
};

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Does {
    /// Makes the empty file of an external snapshot.
    MakeLayer(Overlay),
    /// Makes an image of its own of what a snapshot inside a layer holds.
    CopyOut(CopyOut),
    /// Removes the file of an overlay that takes no disk's writes.
    RemoveLayer(Overlay),
    /// Makes the domain's description name a file as the disk's image.
    Adopt(Adoption),
    /// Makes the process that has the disk open write to another layer from then on. The one before stays as it is.
    SwapTop {
        /// The layer that takes the writes.
        to: LayerFile,
        /// The layer that took them before, to which the way back leads.
        from: LayerFile,
    },
    /// Makes the process that has a disk open close its image, while the guest stands still: an empty stand-in is under the device
    /// until [`Does::SwapTop`].
    Detach(LayerFile),
    /// Makes a new file ready to take the name of the disk's image, so that the guest stands still for less.
    ReadyNames(NameSwap),
    /// Gives a new file the name of the disk's image, and that file the new one's.
    SwapNames(NameSwap),
    /// The way back: both files have the names that they had before.
    SwapNamesBack(NameSwap),
    /// Gives a file the name of another one, whose content it has, and which is gone with that.
    Rename {
        /// The file, under the name that it has.
        file: LayerFile,
        /// The file whose name it gets.
        over: LayerFile,
    },
    /// Changes the file that a record names for an internal part.
    SetImage {
        /// The snapshot.
        snapshot: SnapshotName,
        /// The disk.
        disk: DiskName,
        /// The file before.
        from: String,
        /// The file from then on.
        to: String,
    },
    /// Changes the memory file that a record names.
    SetMemory {
        /// The snapshot.
        snapshot: SnapshotName,
        /// The file before.
        from: String,
        /// The file from then on.
        to: String,
    },
    /// Moves what a layer holds down into the one below it.
    Merge(Merge),
    /// Copies into a layer what is read through it from below.
    Stream(Stream),
    /// Makes the header of a layer name another base, which has the content of the one before.
    Reheader {
        /// The layer.
        child: LayerFile,
        /// The base.
        base: LayerFile,
    },
    /// Unlinks a layer that no disk and no snapshot needs. A file that has its name and is another one stays.
    Unlink(LayerFile),
    /// Takes the data out of a layer that no disk and no snapshot needs, and whose name a record has.
    EmptyLayer {
        /// The layer.
        layer: LayerFile,
        /// The same, empty.
        overlay: Overlay,
    },
    /// Changes the files that a record names for an external part.
    SetPart {
        /// The snapshot.
        snapshot: SnapshotName,
        /// The disk.
        disk: DiskName,
        /// The files before.
        from: PartFiles,
        /// The files from then on.
        to: PartFiles,
    },
    /// Notes in the domain's ledger whose the files of its chains are.
    NoteLayers {
        /// Files that are there from then on, or have changed.
        add: Vec<LayerNote>,
        /// Files that are gone.
        remove: Vec<String>,
    },
    /// Freezes the guest's file systems through its agent.
    Freeze {
        /// How long the agent has for an answer.
        bound: Duration,
    },
    /// Thaws them. A failure is a warning, and recovery tries it once more.
    Thaw {
        /// How long the agent has for an answer.
        bound: Duration,
    },
    /// Stops the guest.
    StopGuest {
        /// What it did before.
        was: Run,
    },
    /// Lets the guest run.
    ResumeGuest,
    /// Resets the guest: its memory does not fit its disks any more.
    ResetGuest,
    /// Saves the guest's memory until the guest has to stand still.
    BeginMemory(MemorySave),
    /// Lets the guest run on while the rest of its memory is written.
    RunOn(MemorySave),
    /// Waits until the memory file is whole and durable.
    FinishMemory(MemorySave),
    /// Ends a save that has failed, and removes its file.
    AbandonMemory(MemorySave),
    /// Takes a snapshot of a disk.
    Take(SnapshotAction),
    /// Takes internal snapshots of the disks with the guest's memory inside.
    TakeInside {
        /// The memory.
        save: MemorySave,
        /// The disks; all internal.
        actions: Vec<SnapshotAction>,
    },
    /// Marks what is on a disk now, so that a revert can go back to it.
    MarkUndo(UndoPoint),
    /// Removes the mark.
    DropUndo(UndoPoint),
    /// Removes a dirty bitmap: a revert would make it a lie, or is refused by it.
    DropBitmap {
        /// The disk.
        disk: DiskName,
        /// Its image.
        image: String,
        /// The bitmap.
        bitmap: Bitmap,
    },
    /// Makes the content of an image that of a snapshot inside it.
    Apply {
        /// The snapshot.
        target: ImageTarget,
        /// The undo point that leads back; `None` on the way back itself.
        undo: Option<UndoPoint>,
    },
    /// Deletes a snapshot inside an image. One that is gone counts as deleted.
    DeleteInside(ImageTarget),
    /// Deletes a snapshot inside a layer that the disk does not write to. One that is gone counts as deleted.
    DeleteInLayer(LayerSnapshot),
    /// Ends the domain's process.
    EndProcess(Ended),
    /// Starts the domain from its disks.
    Start {
        /// Whether its guest runs then.
        run: Run,
    },
    /// Starts the domain with the memory of a file.
    Restore {
        /// The memory.
        memory: MemoryMeta,
        /// Whether its guest runs then.
        run: Run,
    },
    /// Loads memory and disks from inside the images.
    Load {
        /// The memory.
        inside: MemoryInside,
        /// Whether the guest runs then.
        run: Run,
        /// The undo points of the disks that go back with it.
        undo: Vec<UndoPoint>,
        /// The memory of the guest that is given up for it, if it was saved and a process can be started with it.
        safety: Option<MemoryMeta>,
        /// The new images of the disks that were given copies of the images which hold their part: what they wrote to before is as it
        /// was.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        copies: Vec<LayerFile>,
    },
    /// Makes the process let go of its disks.
    Release,
    /// Gives the process its disks back.
    TakeBack,
    /// Removes a memory file.
    RemoveMemory {
        /// The file.
        file: String,
        /// The snapshot that it is of.
        snapshot: SnapshotName,
    },
    /// Stores the record of a snapshot: the commit point of its creation.
    StoreRecord(Box<Draft>),
    /// Changes the parent in a record.
    SetParent {
        /// The snapshot.
        snapshot: SnapshotName,
        /// Its parent from then on.
        parent: Option<SnapshotName>,
    },
    /// Corrects the id in a record of a snapshot inside an image.
    SetSnapshotId {
        /// The snapshot.
        snapshot: SnapshotName,
        /// The disk.
        disk: DiskName,
        /// Its id in the image.
        id: String,
    },
    /// Has an image mended by its own tool: clusters that belong to nothing are freed, wrong marks corrected.
    MendImage {
        /// The disk.
        disk: DiskName,
        /// Its image.
        image: String,
    },
    /// Deletes a record: the commit point of a deletion.
    DeleteRecord(SnapshotName),
    /// Notes where the domain is now.
    SetCurrent {
        /// The snapshot that it descends from.
        to: Option<SnapshotName>,
        /// The one before.
        from: Option<SnapshotName>,
    },
    /// Makes it durable that the operation is done, and only goes forward from here: the commit point of a revert.
    Commit,
    /// Looks whether what was done is there. Nothing is changed, so a dry run does not list it.
    Look(Expected),
}

impl Does {
    /// Whether the journal has to say how far the list is before this step: looking afterwards cannot tell.
    pub(crate) fn flushes(&self) -> bool {
        // Of a domain that is off an overlay counts as taken; whether all were made by then only the journal tells.
        matches!(self, Self::Take(SnapshotAction::External(_)))
    }

    /// Whether nothing leads back from the step: no mark says what was there before.
    pub(crate) fn has_no_way_back(&self) -> bool {
        match self {
            Self::Apply { undo, .. } => undo.is_none(),
            Self::Load { inside, undo, copies, .. } => !inside.disks.iter().all(|disk| {
                undo.iter().any(|point| point.disk == *disk) || copies.iter().any(|copy| copy.disk == *disk)
            }),
            _ => false,
        }
    }

    /// Whether it makes a new image for a disk, which then leaves the one that it writes to as it is.
    pub(crate) fn makes_top(&self) -> bool {
        matches!(self, Self::MakeLayer(_) | Self::CopyOut(_))
    }

    /// Whether it is a step on layers that no snapshot needs any more. Each may be done again, in the order of the list.
    pub(crate) fn is_tidying(&self) -> bool {
        matches!(
            self,
            Self::Merge(_)
                | Self::Stream(_)
                | Self::Adopt(_)
                | Self::Reheader { .. }
                | Self::Unlink(_)
                | Self::EmptyLayer { .. }
                | Self::SetPart { .. }
                | Self::SetImage { .. }
                | Self::Rename { .. }
                | Self::NoteLayers { .. }
        )
    }

    /// Whether both change one file of ours in one way, so that it may be written once for both.
    pub(crate) fn writes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Adopt(_), Self::Adopt(_)) => true,
            (Self::SetPart { snapshot, .. }, Self::SetPart { snapshot: other, .. })
            | (Self::SetImage { snapshot, .. }, Self::SetImage { snapshot: other, .. }) => snapshot == other,
            _ => false,
        }
    }

    /// Whether it unlinks a layer.
    pub(crate) fn is_removal(&self) -> bool {
        matches!(self, Self::Unlink(_))
    }

    /// Whether the step may take long, so that a wish to end early is heard while it goes on.
    pub(crate) fn is_long(&self) -> bool {
        matches!(
            self,
            Self::BeginMemory(_)
                | Self::RunOn(_)
                | Self::FinishMemory(_)
                | Self::TakeInside { .. }
                | Self::Merge(_)
                | Self::Stream(_)
                | Self::CopyOut(_)
        )
    }

    /// The disk that it is done to, if it is one.
    pub fn disk(&self) -> Option<&DiskName> {
        Some(match self {
            Self::MakeLayer(overlay) | Self::RemoveLayer(overlay) => &overlay.disk,
            Self::Adopt(adoption) => &adoption.disk,
            Self::SwapTop { to: layer, .. }
            | Self::Detach(layer)
            | Self::Rename { file: layer, .. }
            | Self::ReadyNames(NameSwap { old: layer, .. })
            | Self::SwapNames(NameSwap { old: layer, .. })
            | Self::SwapNamesBack(NameSwap { old: layer, .. })
            | Self::Unlink(layer)
            | Self::EmptyLayer { layer, .. }
            | Self::Reheader { child: layer, .. } => &layer.disk,
            Self::CopyOut(copy) => &copy.to.disk,
            Self::DeleteInLayer(target) => &target.layer.disk,
            Self::Merge(merge) => &merge.from.disk,
            Self::Stream(stream) => &stream.into.disk,
            Self::SetPart { disk, .. } | Self::SetImage { disk, .. } => disk,
            Self::Take(action) => action.disk(),
            Self::MarkUndo(point) | Self::DropUndo(point) => &point.disk,
            Self::DropBitmap { disk, .. } | Self::MendImage { disk, .. } => disk,
            Self::Apply { target, .. } | Self::DeleteInside(target) => &target.disk,
            _ => return None,
        })
    }
}
