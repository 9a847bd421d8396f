//! What recovery relies on: above all, that every file it may remove is one that the operation was to make.

use std::collections::BTreeSet;

use xlsnap_types::model::{AbsoluteFile, DiskName};

use super::{Draft, Journal};
use crate::step::{Does, UndoPoint};
use crate::{MemorySave, NameSwap, Operation, Overlay, SaveTo, SnapshotAction, Stage};

type Verdict = Result<(), &'static str>;

pub(super) fn check(journal: &Journal) -> Verdict {
    if journal.stages.is_empty() {
        return Err("it has no steps");
    }
    if journal.at > journal.stages.len() {
        return Err("it is further than its list is long");
    }
    for stage in &journal.stages {
        if stage.steps().is_empty() {
            return Err("a stage has no steps");
        }
        side_by_side(stage)?;
        stage.steps().iter().try_for_each(|step| of_step(&step.does))?;
    }
    if let Some(draft) = journal.draft() {
        let swaps: Vec<&NameSwap> = journal.does().filter_map(names).collect();
        draft.check(&swaps)?;
        if draft.name != journal.name {
            return Err("it stores the record of another snapshot");
        }
        let taken: Vec<&SnapshotAction> = journal.does().flat_map(taken).collect();
        if journal.operation() == Operation::Adopt {
            return adopted(journal, draft);
        }
        if draft.meta.memory.is_some() {
            return Err("it makes a snapshot whose memory was there before");
        }
        let is_named = |action: &&SnapshotAction| swaps.iter().any(|names| names.old.disk == *action.disk());
        if !taken.into_iter().eq(draft.actions.iter().filter(|action| !is_named(action))) {
            return Err("the record is of other disks than are taken");
        }
    }
    Ok(())
}

/// What gets a record stands in the images already: nothing else is done.
fn adopted(journal: &Journal, draft: &Draft) -> Verdict {
    if journal.does().any(|does| !matches!(does, Does::StoreRecord(_))) {
        return Err("it adopts a snapshot, and does more");
    }
    if draft.memory.is_some()
        || draft.actions.iter().any(|action| matches!(action, SnapshotAction::External(_)))
    {
        return Err("it adopts what is not there");
    }
    Ok(())
}

fn names(does: &Does) -> Option<&NameSwap> {
    match does {
        Does::SwapNames(names) => Some(names),
        _ => None,
    }
}

fn taken(does: &Does) -> &[SnapshotAction] {
    match does {
        Does::Take(action) => std::slice::from_ref(action),
        Does::TakeInside { actions, .. } => actions,
        _ => &[],
    }
}

/// Steps that are done together are done to different disks.
fn side_by_side(stage: &Stage) -> Verdict {
    if let Stage::AtOnce(steps) = stage
        && steps.iter().any(|step| !matches!(step.does, Does::Take(_) | Does::MarkUndo(_)))
    {
        return Err("it does at once what is no snapshot");
    }
    if let Stage::OneWrite(steps) = stage
        && !steps.windows(2).all(|two| two[0].does.writes_with(&two[1].does))
    {
        return Err("it writes once what is not one file");
    }
    // A file and the one that stood on it go together.
    if stage.removes() {
        return Ok(());
    }
    if stage.steps().len() > 1 {
        let disks: Vec<&DiskName> = stage.steps().iter().filter_map(|step| step.does.disk()).collect();
        if disks.len() != stage.steps().len()
            && !stage.steps().iter().all(|s| matches!(s.does, Does::DropBitmap { .. }))
        {
            return Err("it does together what is not done to disks");
        }
        if !stage.any(|does| matches!(does, Does::DropBitmap { .. })) {
            return each_once(disks.into_iter());
        }
    }
    Ok(())
}

fn of_step(does: &Does) -> Verdict {
    match does {
        Does::MakeLayer(overlay)
        | Does::RemoveLayer(overlay)
        | Does::Take(SnapshotAction::External(overlay)) => of_overlay(overlay),
        Does::BeginMemory(save)
        | Does::RunOn(save)
        | Does::FinishMemory(save)
        | Does::AbandonMemory(save) => of_save(save),
        Does::ReadyNames(names) | Does::SwapNames(names) | Does::SwapNamesBack(names) => of_names(names),
        Does::TakeInside { save, .. } if save.to != SaveTo::Inside => {
            Err("memory is saved inside, and to a file")
        }
        Does::TakeInside { save, .. } => of_save(save),
        Does::MarkUndo(point) | Does::DropUndo(point) if !UndoPoint::is_one(&point.tag) => {
            Err("a mark has a name that is not reserved for marks")
        }
        Does::Stream(stream) if stream.into.file == stream.was.file || !stream.into.file.starts_with('/') => {
            Err("a layer is to be copied into itself")
        }
        Does::DeleteInLayer(target) if !target.layer.file.starts_with('/') => {
            Err("the layer of a snapshot is not absolute")
        }
        Does::RemoveMemory { file, .. } | Does::SetMemory { to: file, .. }
            if AbsoluteFile::new(file.as_str()).is_err() =>
        {
            Err("the memory's file is not absolute")
        }
        _ => Ok(()),
    }
}

fn of_names(names: &NameSwap) -> Verdict {
    let directory = |file: &str| file.rfind('/').map(|slash| file[..slash].to_owned());
    let (old, new) = (&names.old.file, &names.new.file);
    if old == new || !old.starts_with('/') || directory(old) != directory(new) {
        return Err("the names that are exchanged are not of two files of one directory");
    }
    if names.old.identity.is_none() || !is_word(&names.token) {
        return Err("it is not said which file gets another name");
    }
    Ok(())
}

fn is_word(token: &str) -> bool {
    token.len() <= 24 && token.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn of_overlay(overlay: &Overlay) -> Verdict {
    if overlay.file == overlay.base || !overlay.file.starts_with('/') {
        return Err("an overlay is not the file that was to be made");
    }
    Ok(())
}

fn of_save(save: &MemorySave) -> Verdict {
    if !is_word(&save.token) {
        return Err("the memory's token is not a word");
    }
    Ok(())
}

impl Draft {
    fn check(&self, swaps: &[&NameSwap]) -> Verdict {
        if self.actions.is_empty() || self.actions.len() != self.meta.disks.len() {
            return Err("it does not do one thing for each disk");
        }
        each_once(self.meta.disks.iter().map(|meta| &meta.disk))?;
        let saved = self.memory.as_ref().and_then(MemorySave::file);
        if let Some(file) = saved.or(self.meta.memory.as_ref().and_then(|memory| memory.file())) {
            let mut disks = self.meta.disks.iter();
            if disks.any(|meta| meta.image == file || meta.made.as_deref() == Some(file)) {
                return Err("the memory's file is a disk's");
            }
        }
        for (action, meta) in self.actions.iter().zip(&self.meta.disks) {
            if action.disk() != &meta.disk {
                return Err("its disks are in another order than what is done to them");
            }
            match action {
                SnapshotAction::Internal { tag, .. } if tag != self.name.as_str() => {
                    return Err("a disk's snapshot has another name");
                }
                SnapshotAction::Internal { .. } if meta.made.is_some() => {
                    return Err("an internal snapshot made a file");
                }
                SnapshotAction::External(overlay)
                    if let Some(names) = swaps.iter().find(|names| names.old.disk == meta.disk) =>
                {
                    let (kept, other) = (names.kept(), &names.new.file);
                    if (overlay.base.as_str(), &overlay.file) != (kept, other)
                        || meta.made.as_deref() != Some(kept)
                        || meta.image != *other
                    {
                        return Err("an overlay does not take the name that was to be kept");
                    }
                }
                SnapshotAction::External(overlay)
                    if meta.made.as_ref() != Some(&overlay.file) || meta.image != overlay.base =>
                {
                    return Err("an overlay is not the file that was to be made");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

pub(super) fn each_once<'a>(disks: impl Iterator<Item = &'a DiskName>) -> Verdict {
    let mut met = BTreeSet::new();
    if disks.into_iter().all(|disk| met.insert(disk)) { Ok(()) } else { Err("it names a disk twice") }
}
