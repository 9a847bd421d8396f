//! Plans: what an operation will do, as a list of stages. Making one has no effect, and no function here asks a port.

mod create;
mod delete;
mod flatten;
mod in_layers;
mod keep;
mod layers;
mod lent;
mod memory;
mod names;
mod orphan;
mod quiesce;
mod relocate;
mod revert;
mod stages;

pub(crate) use create::{CreateFacts, create, token};
pub(crate) use delete::{DeleteFacts, Parents, delete, heir, new_parents, no_such, order};
pub(crate) use flatten::{beyond, flatten};
pub(crate) use in_layers::InLayers;
pub(crate) use keep::{Keeping, NameFacts};
pub(crate) use layers::{LayerFacts, Merges, Tidying, about_unread, note};
pub(crate) use memory::{MemoryFacts, left_out, memory, run_to_save};
pub(crate) use names::first_unused;
pub(crate) use orphan::{OrphanFacts, adopt, delete_orphan, stray};
pub(crate) use quiesce::quiesce;
pub(crate) use relocate::{
    Moved, MovedMemory, NamedMemory, RelocateFacts, memories, named, new_name, plain, relocate, relocating,
};
pub(crate) use revert::{Marks, RevertFacts, Reverting, header, revert};
pub(crate) use stages::{
    Naming, adopting_stages, creation_stages, deletion_stages, disk_stages, layer_deletion_stages,
    orphan_stages, reverting_stages,
};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, MemoryMeta, PassedOver, SnapshotName};

use crate::step::ImageTarget;
use crate::{
    Command, Commands, CopyOut, Effect, Error, Kind, LayerFile, LayerSnapshot, MemoryInside, MemorySave,
    NameSwap, Operation, Outcome, Overlay, Port, PortError, Run, SnapshotAction, Stage, StepText,
};

/// What is planned for one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlan {
    /// The disk.
    pub disk: DiskName,
    /// Its image now.
    pub image: String,
    /// What is done to it.
    pub action: SnapshotAction,
}

/// How a snapshot will be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatePlan {
    /// Its name.
    pub name: SnapshotName,
    /// The disks it takes, in the domain's order.
    pub disks: Vec<DiskPlan>,
    /// The disks it leaves out, and why.
    pub passed_over: Vec<PassedOver>,
    /// How the guest's memory is saved with them.
    pub memory: Option<MemorySave>,
    /// The guest's file systems are frozen meanwhile; how long its agent has for each answer.
    pub quiesce: Option<Duration>,
    /// Sentences for people: what it brings with it.
    pub warnings: Vec<String>,
    /// What is done, in this order.
    pub stages: Vec<Stage>,
    /// The new files that take the names of the disks' images.
    pub(crate) names: Vec<NameSwap>,
}

impl CreatePlan {
    /// The overlays that it makes.
    pub(crate) fn overlays(&self) -> impl Iterator<Item = &Overlay> {
        self.disks.iter().filter_map(DiskPlan::overlay)
    }
}

impl CreatePlan {
    /// The exchange of names of a disk.
    pub(crate) fn names_of(&self, disk: &DiskName) -> Option<&NameSwap> {
        self.names.iter().find(|names| names.old.disk == *disk)
    }
}

impl DiskPlan {
    /// The overlay that it makes.
    pub(crate) fn overlay(&self) -> Option<&Overlay> {
        match &self.action {
            SnapshotAction::External(overlay) => Some(overlay),
            SnapshotAction::Internal { .. } => None,
        }
    }
}

/// How snapshots will be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePlan {
    /// The snapshots, in the order of deletion: children before their parents.
    pub snapshots: Vec<SnapshotDeletion>,
    /// Sentences for people: what is odd about it.
    pub warnings: Vec<String>,
    /// What is done, in this order.
    pub stages: Vec<Stage>,
}

/// How one snapshot will be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDeletion {
    /// Its name.
    pub name: SnapshotName,
    /// Its parent, which becomes that of its children.
    pub parent: Option<SnapshotName>,
    /// What is deleted inside images; a snapshot that is gone from an image already is not listed.
    pub disks: Vec<ImageTarget>,
    /// What is deleted inside layers that the disks do not write to.
    pub layers: Vec<LayerSnapshot>,
    /// The memory file that is removed.
    pub memory: Option<String>,
}

/// How disks will be flattened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlattenPlan {
    /// The snapshots that are deleted first, in the order of deletion: children before their parents.
    pub snapshots: Vec<SnapshotDeletion>,
    /// The disks into whose images data is copied.
    pub disks: Vec<FlattenedDisk>,
    /// Sentences for people: what it brings with it.
    pub warnings: Vec<String>,
    /// What is done, in this order.
    pub stages: Vec<Stage>,
}

/// A disk that will stand on nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlattenedDisk {
    /// The disk.
    pub disk: DiskName,
    /// Its image.
    pub image: String,
    /// The most bytes that are copied into it.
    pub bytes: u64,
}

/// A snapshot that stays and gets another parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewParent {
    /// The snapshot.
    pub(crate) child: SnapshotName,
    /// Its parent, which is deleted.
    pub(crate) old: SnapshotName,
    /// Its parent from then on.
    pub(crate) new: Option<SnapshotName>,
}

/// How an orphan will get a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptPlan {
    /// Its name.
    pub name: SnapshotName,
    /// The record.
    pub record: Record,
    /// The disks that are not in it, and why.
    pub passed_over: Vec<PassedOver>,
    /// Sentences for people: what is not known of it.
    pub warnings: Vec<String>,
    /// What is done, in this order.
    pub stages: Vec<Stage>,
}

/// How an orphan will be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanDeletion {
    /// Its name, or its file.
    pub orphan: String,
    /// What is deleted inside images: those that the disks write to, and those below.
    pub disks: Vec<ImageTarget>,
    /// The memory file, or the overlay, that is removed.
    pub file: Option<String>,
    /// Sentences for people: what stays.
    pub warnings: Vec<String>,
    /// What is done, in this order.
    pub stages: Vec<Stage>,
}

/// How what names files that were moved will follow them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelocatePlan {
    /// The files of disks' chains.
    pub files: Vec<RelocatedFile>,
    /// The memory files.
    pub memory: Vec<RelocatedMemory>,
    /// Sentences for people: what is not followed, and what little tells that a file is the one that was moved.
    pub warnings: Vec<String>,
    /// What is done, in this order.
    pub stages: Vec<Stage>,
}

/// A file that was moved or renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelocatedFile {
    /// The disk whose chain it is of.
    pub disk: DiskName,
    /// The name that it had.
    pub from: String,
    /// The name that it has now.
    pub to: String,
}

/// A memory file that was moved or renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelocatedMemory {
    /// The snapshot whose memory it has.
    pub snapshot: SnapshotName,
    /// The name that it had.
    pub from: String,
    /// The name that it has now.
    pub to: String,
}

/// How the disks will go back to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevertPlan {
    /// Its name.
    pub name: SnapshotName,
    /// The snapshot that is made first.
    pub safety: Option<CreatePlan>,
    /// The disks that go back inside their images.
    pub disks: Vec<ImageTarget>,
    /// The disks that go back to what another layer holds: each gets a new image.
    pub tops: Vec<NewTop>,
    /// The domain's other disks, and why they are left alone.
    pub untouched: Vec<PassedOver>,
    /// What happens to the domain's process.
    pub way: RevertWay,
    /// Sentences for people: what it brings with it.
    pub warnings: Vec<String>,
    /// What is done after the safety snapshot, in this order.
    pub stages: Vec<Stage>,
}

/// A new image that takes a disk's writes, in place of the one that takes them now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTop {
    /// How it is made.
    pub made: MadeTop,
    /// The disk's image before.
    pub old: LayerFile,
}

/// How a new image is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MadeTop {
    /// An overlay, on the image that holds the snapshot's state.
    Overlay(Overlay),
    /// A copy of what the snapshot holds inside a layer that stays as it is.
    Copy(CopyOut),
}

impl NewTop {
    /// The new image, with nothing known of its file.
    pub fn file(&self) -> LayerFile {
        match &self.made {
            MadeTop::Overlay(Overlay { disk, file, format, .. }) => {
                LayerFile { disk: disk.clone(), file: file.clone(), format: format.clone(), identity: None }
            }
            MadeTop::Copy(copy) => copy.to.clone(),
        }
    }

    /// The same under the name that it has in the end, where it is given the image's of before.
    pub(crate) fn named(&self, names: &[NameSwap]) -> LayerFile {
        let kept = names.iter().find(|names| names.old.disk == *self.disk());
        kept.map_or_else(|| self.file(), NameSwap::top)
    }

    /// The disk.
    pub fn disk(&self) -> &DiskName {
        &self.old.disk
    }

    /// The size of the disk in it, in bytes.
    pub fn virtual_size(&self) -> u64 {
        match &self.made {
            MadeTop::Overlay(overlay) => overlay.virtual_size,
            MadeTop::Copy(copy) => copy.virtual_size,
        }
    }

    pub(crate) fn making(&self) -> crate::Does {
        match &self.made {
            MadeTop::Overlay(overlay) => crate::Does::MakeLayer(overlay.clone()),
            MadeTop::Copy(copy) => crate::Does::CopyOut(copy.clone()),
        }
    }
}

/// How an interrupted operation will be brought to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverPlan {
    /// The operation that was interrupted.
    pub operation: Operation,
    /// The snapshot it was about.
    pub name: SnapshotName,
    /// How it will end.
    pub outcome: Outcome,
    /// What is done, in this order.
    pub stages: Vec<Stage>,
    /// Sentences for people: what cannot be as it should.
    pub warnings: Vec<String>,
}

/// What happens to a domain's process in a revert.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum RevertWay {
    /// The domain is off and stays so.
    #[default]
    Off,
    /// The process lets go of the disks and takes them back; the guest is reset.
    Release {
        /// Whether it runs then.
        run: Run,
    },
    /// A process that there is ends, and the domain is started from its disks.
    Restart {
        /// Whether its guest runs then.
        run: Run,
    },
    /// A process that there is ends, and the domain is started with the memory of a file.
    Restore {
        /// The memory.
        memory: MemoryMeta,
        /// Whether its guest runs then.
        run: Run,
    },
    /// Memory and disks come back from inside the images.
    Load {
        /// The memory.
        inside: MemoryInside,
        /// Whether the guest runs then.
        run: Run,
    },
}

impl RevertWay {
    /// The word for it, as answers have it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Release { .. } => "release",
            Self::Restart { .. } => "restart",
            Self::Restore { .. } => "restore",
            Self::Load { .. } => "load",
        }
    }
}

/// One stage of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStage {
    /// Its steps in words of the domain.
    pub steps: Vec<StepText>,
    /// The commands that carry it out, in order; empty where the backend does not tell them.
    pub commands: Vec<Command>,
}

/// The stages of a plan as a dry run prints them: with the backend's own words, and without looks.
///
/// # Errors
/// When the backend cannot be asked what it would do.
///
/// # Cancel safety
/// It only looks.
pub async fn planned_stages(
    commands: Port<'_, dyn Commands>,
    stages: &[Stage],
) -> Result<Vec<PlannedStage>, PortError> {
    let mut planned = Vec::with_capacity(stages.len());
    for (at, stage) in stages.iter().enumerate().filter(|(_, stage)| !stage.looks()) {
        let steps = stage.steps().iter().filter_map(crate::Step::text).collect();
        let commands = match commands {
            Port::Has(commands) => commands.commands(stage, &stages[..at]).await?,
            Port::Lacks(_) => Vec::new(),
        };
        planned.push(PlannedStage { steps, commands });
    }
    Ok(planned)
}

/// A refusal before any effect.
fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Refused, Effect::None, message)
}
