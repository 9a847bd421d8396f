//! Format 1: what an operation was about, from which the steps are made that finish or undo it.

use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;
use xlsnap_types::model::{
    AbsoluteFile, Compression, DiskName, MemoryMeta, MemoryWay, Meta, SnapshotName, StateFlags,
};

use super::{Direction, Draft, Journal, JournalError, check};
use crate::operation::{creation_stages, deletion_stages, reverting_stages};
use crate::plan::Naming;
use crate::plan::Reverting;
use crate::step::{Does, ImageTarget};
use crate::{MemoryInside, MemorySave, Operation, RevertWay, Run, SaveTo, SnapshotAction, SnapshotDeletion};

#[derive(Deserialize)]
struct First {
    id: Uuid,
    #[serde(flatten)]
    intent: Intent,
}

#[derive(Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
enum Intent {
    Create {
        phase: Phase,
        #[serde(flatten)]
        draft: Box<FirstDraft>,
    },
    Delete {
        snapshots: Vec<FirstDeletion>,
    },
    Revert {
        name: SnapshotName,
        disks: Vec<ImageTarget>,
        #[serde(default)]
        way: Way,
    },
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Phase {
    Preparing,
    Snapshotting,
    Undoing,
}

#[derive(Deserialize)]
struct FirstDraft {
    name: SnapshotName,
    description: String,
    creation_time: u64,
    state: StateFlags,
    actions: Vec<SnapshotAction>,
    #[serde(default)]
    memory: Option<Save>,
    #[serde(default)]
    quiesced: Option<Duration>,
    meta: Meta,
}

#[derive(Deserialize)]
struct Save {
    way: MemoryWay,
    #[serde(default)]
    file: Option<AbsoluteFile>,
    #[serde(default)]
    compression: Compression,
    was_running: bool,
    token: String,
}

#[derive(Deserialize)]
struct FirstDeletion {
    name: SnapshotName,
    parent: Option<SnapshotName>,
    disks: Vec<ImageTarget>,
    #[serde(default)]
    memory: Option<AbsoluteFile>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum Way {
    #[default]
    Off,
    Release {
        run: bool,
    },
    Restart {
        run: bool,
    },
    Restore {
        memory: MemoryMeta,
        run: bool,
    },
    Load {
        inside: Inside,
        run: bool,
    },
}

#[derive(Deserialize)]
struct Inside {
    tag: String,
    state: DiskName,
    disks: Vec<DiskName>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Journal, JournalError> {
    let First { id, intent } = serde_json::from_slice(bytes).map_err(JournalError::Malformed)?;
    let contradiction = JournalError::Contradiction;
    // Format 1 does not name the domain: it is the one whose journal it is.
    let domain = Uuid::nil();
    Ok(match intent {
        Intent::Create { phase, draft } => {
            let draft = draft.draft().map_err(contradiction)?;
            let name = draft.name.clone();
            let mut journal = Journal::new(
                id,
                Operation::Create,
                name,
                creation_stages(domain, draft, Naming::default(), Vec::new()),
            );
            let taken = |does: &Does| matches!(does, Does::Take(_) | Does::TakeInside { .. });
            match phase {
                Phase::Preparing => {}
                Phase::Snapshotting => journal.at = journal.stage_with(taken).unwrap_or_default(),
                Phase::Undoing => {
                    journal.direction = Direction::Back;
                    journal.at = journal.stages.len();
                }
            }
            journal
        }
        Intent::Delete { snapshots } => {
            let Some(last) = snapshots.last() else {
                return Err(contradiction("it deletes no snapshot"));
            };
            let name = last.name.clone();
            for snapshot in &snapshots {
                check::each_once(snapshot.disks.iter().map(|target| &target.disk)).map_err(contradiction)?;
            }
            let deletions: Vec<SnapshotDeletion> =
                snapshots.into_iter().map(FirstDeletion::deletion).collect();
            Journal::new(id, Operation::Delete, name, deletion_stages(domain, &deletions, &[], None))
        }
        Intent::Revert { name, disks, way } => {
            if disks.is_empty() {
                return Err(contradiction("it reverts no disk"));
            }
            check::each_once(disks.iter().map(|target| &target.disk)).map_err(contradiction)?;
            // Format 1 marked no undo points: such a revert only goes forward.
            let reverting = Reverting::without_undo(name.clone(), disks, way.way());
            Journal::new(id, Operation::Revert, name, reverting_stages(domain, &reverting))
        }
    })
}

impl FirstDraft {
    fn draft(self) -> Result<Draft, &'static str> {
        let Self { name, description, creation_time, state, mut actions, memory, quiesced, meta } = self;
        for (action, found) in actions.iter_mut().zip(&meta.disks) {
            // Format 1 has it in the record alone.
            if let SnapshotAction::Internal { image, .. } = action {
                image.clone_from(&found.image);
            }
        }
        let memory = memory.map(Save::save).transpose()?;
        Ok(Draft { name, description, creation_time, state, actions, memory, quiesced, meta })
    }
}

impl Save {
    fn save(self) -> Result<MemorySave, &'static str> {
        let Self { way, file, compression, was_running, token } = self;
        let to = match (file, way) {
            (None, MemoryWay::Internal) => SaveTo::Inside,
            (Some(_), MemoryWay::Internal) => return Err("memory is saved inside the images, and to a file"),
            (Some(file), way) => SaveTo::File { file, way, compression },
            (None, _) => return Err("memory is saved outside the images, and to no file"),
        };
        Ok(MemorySave { to, was: Run::if_it(was_running), token })
    }
}

impl FirstDeletion {
    fn deletion(self) -> SnapshotDeletion {
        let Self { name, parent, disks, memory } = self;
        SnapshotDeletion { name, parent, disks, layers: Vec::new(), memory: memory.map(String::from) }
    }
}

impl Way {
    fn way(self) -> RevertWay {
        match self {
            Self::Off => RevertWay::Off,
            Self::Release { run } => RevertWay::Release { run: Run::if_it(run) },
            Self::Restart { run } => RevertWay::Restart { run: Run::if_it(run) },
            Self::Restore { memory, run } => RevertWay::Restore { memory, run: Run::if_it(run) },
            Self::Load { inside: Inside { tag, state, disks }, run } => {
                RevertWay::Load { inside: MemoryInside { tag, state, disks }, run: Run::if_it(run) }
            }
        }
    }
}
