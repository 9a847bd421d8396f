//! Steps: what a plan says, what a dry run prints, what the progress counts, what the journal holds and what the executor does.

mod undo;
mod words;

pub(crate) use undo::{Look, back};
pub use words::StepText;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xlsnap_types::model::{DiskName, ImageFormat, MemoryMeta, Owner, SnapshotName};

use crate::journal::Draft;
use crate::layers::PartFiles;
use crate::{
    Bitmap, CopyOut, Disk, FileIdentity, LayerFile, LayerSnapshot, MemoryInside, MemorySave, Merge, NameSwap,
    Overlay, Run, SnapshotAction, SnapshotId, Stream,
};

/// A part of a plan: its steps are begun together, and it ends when all have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "most stages are one step, and a plan has a few dozen")]
pub enum Stage {
    /// One step.
    One(Step),
    /// Steps of different images, at the same time.
    Parallel(Vec<Step>),
    /// Steps of one instant: one transaction where a process has the disks, and all or none.
    AtOnce(Vec<Step>),
    /// Changes of one file of ours, the domain's description or a record, which is written once: all or none.
    OneWrite(Vec<Step>),
}

impl Stage {
    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::One(step) => std::slice::from_ref(step),
            Self::Parallel(steps) | Self::AtOnce(steps) | Self::OneWrite(steps) => steps,
        }
    }

    /// The steps that have commands of their own: of those that write one file the first, since it is written once.
    pub fn commanded(&self) -> &[Step] {
        match self {
            Self::OneWrite(steps) => &steps[..1.min(steps.len())],
            _ => self.steps(),
        }
    }

    /// The same, to be changed.
    pub(crate) fn steps_mut(&mut self) -> &mut [Step] {
        match self {
            Self::One(step) => std::slice::from_mut(step),
            Self::Parallel(steps) | Self::AtOnce(steps) | Self::OneWrite(steps) => steps,
        }
    }

    /// Whether one of its steps is so.
    pub(crate) fn any(&self, is_it: impl Fn(&Does) -> bool) -> bool {
        self.steps().iter().any(|step| is_it(&step.does))
    }

    /// One step on this domain.
    pub(crate) fn one(domain: Uuid, does: Does) -> Self {
        Self::One(Step { domain, does })
    }

    /// Several steps on different disks as one stage.
    pub(crate) fn of(mut steps: Vec<Step>) -> Self {
        let are_one_write =
            |steps: &[Step]| steps.windows(2).all(|two| two[0].does.writes_with(&two[1].does));
        match steps.len() {
            1 => Self::One(steps.remove(0)),
            _ if are_one_write(&steps) => Self::OneWrite(steps),
            _ => Self::Parallel(steps),
        }
    }

    /// The same stages, with each run of steps that write one file of ours as one, and each run of removals as one: a file is written once
    /// for all disks, and a look at what others have open serves all that goes.
    pub(crate) fn gathered(stages: Vec<Self>) -> Vec<Self> {
        let mut gathered: Vec<Self> = Vec::with_capacity(stages.len());
        for stage in stages {
            match (gathered.last_mut(), &stage) {
                (Some(last), Self::One(step)) if last.gathers(step) => {
                    let mut steps = last.steps().to_vec();
                    steps.push(step.clone());
                    *last = Self::of(steps);
                }
                _ => gathered.push(stage),
            }
        }
        gathered
    }

    /// Whether a step that follows can be one of this stage's.
    fn gathers(&self, step: &Step) -> bool {
        let is_other_disk = self.steps().iter().all(|own| own.does.disk() != step.does.disk());
        match self {
            Self::One(own) if own.domain != step.domain => false,
            Self::One(_) | Self::OneWrite(_) if self.any(|own| own.writes_with(&step.does)) => is_other_disk,
            Self::One(_) | Self::Parallel(_) => self.removes() && step.does.is_removal(),
            Self::OneWrite(_) | Self::AtOnce(_) => false,
        }
    }

    /// Whether all that it does is to unlink layers.
    pub(crate) fn removes(&self) -> bool {
        self.steps().iter().all(|step| step.does.is_removal())
    }

    /// Whether it only looks: a dry run does not list it.
    pub fn looks(&self) -> bool {
        self.steps().iter().all(|step| matches!(step.does, Does::Look(_)))
    }
}

/// One step of a plan, on one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The domain's uuid.
    pub domain: Uuid,
    /// What it does.
    pub does: Does,
}

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
    /// Thaws them. A failure is a warning: they thaw by themselves, or by a reset.
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

/// A change of the image that a domain's description names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The disk.
    pub disk: DiskName,
    /// The file that it names from then on.
    pub file: String,
    /// The file's format.
    pub format: ImageFormat,
    /// The file that it named before, to which the way back leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<ImageFile>,
}

impl Adoption {
    /// The disk, and the image that it is given.
    pub(crate) fn image(&self) -> (DiskName, ImageFile) {
        (self.disk.clone(), ImageFile { file: self.file.clone(), format: self.format.clone() })
    }
}

/// A file as the image of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// The file.
    pub file: String,
    /// Its format.
    pub format: ImageFormat,
}

impl ImageFile {
    /// A file of this format.
    pub fn new(file: impl Into<String>, format: ImageFormat) -> Self {
        Self { file: file.into(), format }
    }
}

/// What the ledger is to say of a file; its identity and its stamp are looked up when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerNote {
    /// The file.
    pub file: LayerFile,
    /// Whose it is, unless the ledger knows it already.
    pub owner: Owner,
    /// The file below it; without one, what its header says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whether it is read-only from then on.
    pub frozen: bool,
    /// The name that it had as the disk's image, where another file has that now; without one, what the ledger says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
}

impl LayerNote {
    /// A file that was made to take a disk's writes.
    pub(crate) fn made(disk: &DiskName, file: &str, format: &ImageFormat, base: &str) -> Self {
        Self {
            file: LayerFile {
                disk: disk.clone(),
                file: file.to_owned(),
                format: format.clone(),
                identity: None,
            },
            owner: Owner::Made,
            base: Some(base.to_owned()),
            frozen: false,
            named: None,
        }
    }
}

impl LayerNote {
    /// An overlay that takes a disk's writes, and the image below it, which took them before.
    pub(crate) fn of_overlay(overlay: &Overlay) -> Vec<Self> {
        let Overlay { disk, file, format, base, base_format, .. } = overlay;
        let (base_file, base_format) = (base.clone(), base_format.clone());
        let below = Self {
            file: LayerFile { disk: disk.clone(), file: base_file, format: base_format, identity: None },
            owner: Owner::Domain,
            base: None,
            frozen: true,
            named: None,
        };
        vec![Self::made(disk, file, format, base), below]
    }
}

/// A mark of what is on a disk: an internal snapshot under a reserved name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoPoint {
    /// The disk.
    pub disk: DiskName,
    /// Its image.
    pub image: String,
    /// The snapshot's name in the image; begins with [`UndoPoint::PREFIX`].
    pub tag: String,
    /// The size of the disk, in bytes.
    pub virtual_size: u64,
}

impl UndoPoint {
    /// How the names of undo points begin. No snapshot of a user's has such a name.
    pub const PREFIX: &'static str = "xlsnap-undo-";

    /// Whether a snapshot's name is that of an undo point.
    pub fn is_one(tag: &str) -> bool {
        tag.starts_with(Self::PREFIX)
    }
}

/// How a process was ended, so that it can be started again as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What its guest did; `None` when there was no process.
    pub was: Option<Run>,
    /// A memory file of that moment, from which the guest goes on; without one it boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMeta>,
}

/// A snapshot inside a disk's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTarget {
    /// The disk.
    pub disk: DiskName,
    /// Its image.
    pub image: String,
    /// The image's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<FileIdentity>,
    /// The snapshot in it.
    pub snapshot: SnapshotId,
    /// The size that the disk must have, in bytes; `None` where it does not matter or nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
}

impl ImageTarget {
    /// This snapshot in the image that the disk has now.
    pub(crate) fn on(disk: &Disk, snapshot: SnapshotId, virtual_size: Option<u64>) -> Self {
        Self {
            disk: disk.name.clone(),
            image: disk.image.clone(),
            identity: disk.identity,
            snapshot,
            virtual_size,
        }
    }
}

/// What a look expects to find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Every disk has its part of the snapshot.
    Taken {
        /// The parts.
        actions: Vec<SnapshotAction>,
        /// Whether an image must hold the guest's memory.
        inside: bool,
    },
    /// The disks have these sizes.
    Sizes(Vec<ImageTarget>),
    /// The disks write to these new files, under the names that were kept.
    Named(Vec<NameSwap>),
}

/// Whether what a guest holds in memory is lost with the stage `at`, its process is known to be gone, or another one is there from then on.
/// Looking afterwards cannot tell that, where disks go back without a mark of theirs, so that the journal says how far the list is.
pub(crate) fn gives_up_guest(stages: &[Stage], at: usize) -> bool {
    let ended = at
        .checked_sub(1)
        .is_some_and(|before| stages[before].any(|does| matches!(does, Does::EndProcess(_))));
    ended
        || stages[at].any(|does| {
            matches!(
                does,
                Does::ResetGuest
                    | Does::EndProcess(_)
                    | Does::Start { .. }
                    | Does::Restore { .. }
                    | Does::Load { .. }
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: Uuid = Uuid::from_u128(1);

    fn file(disk: &str) -> LayerFile {
        let format = ImageFormat::Qcow2;
        LayerFile { disk: disk.parse().unwrap(), file: format!("/{disk}"), format, identity: None }
    }

    fn part(snapshot: &str, disk: &str) -> Does {
        let LayerFile { disk, file, format, .. } = file(disk);
        let (image, overlay) = (file.clone(), file);
        let from = PartFiles { image, format: format.clone(), overlay, overlay_format: format };
        Does::SetPart { snapshot: snapshot.parse().unwrap(), disk, to: from.clone(), from }
    }

    fn gathered(all: Vec<Does>) -> Vec<(&'static str, usize)> {
        let stages = all.into_iter().map(|does| Stage::one(DOMAIN, does)).collect();
        let kind = |stage: &Stage| match stage {
            Stage::One(_) => "one",
            Stage::Parallel(_) => "parallel",
            Stage::AtOnce(_) => "at once",
            Stage::OneWrite(_) => "one write",
        };
        Stage::gathered(stages).iter().map(|stage| (kind(stage), stage.steps().len())).collect()
    }

    #[test]
    fn what_writes_one_file_is_one_write() {
        let parts = vec![part("s1", "vda"), part("s1", "vdb"), part("s2", "vda"), part("s2", "vdb")];
        assert_eq!(gathered(parts), [("one write", 2), ("one write", 2)]);
        // Once more for a disk: the later word counts, in a write of its own.
        let again = vec![part("s1", "vda"), part("s1", "vda")];
        assert_eq!(gathered(again), [("one", 1), ("one", 1)]);
        let removals = vec![Does::Unlink(file("vda")), Does::Unlink(file("vda")), Does::Unlink(file("vdb"))];
        assert_eq!(gathered(removals), [("parallel", 3)]);
        let mixed = vec![Does::Unlink(file("vda")), part("s1", "vda"), Does::Unlink(file("vdb"))];
        assert_eq!(gathered(mixed), [("one", 1), ("one", 1), ("one", 1)]);
    }
}
