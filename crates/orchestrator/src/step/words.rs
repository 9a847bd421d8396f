//! Steps in words: what a step does, what it touches, and what is said when it fails.

use std::num::NonZeroU64;

use crate::{CopyOut, Does, LayerSnapshot, Merge, Run, SnapshotAction, Stage, Step, Stream};

/// A step for people: one line of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepText {
    /// What is done, in words of the domain.
    pub what: String,
    /// The images and files that it changes.
    pub touches: Vec<String>,
}

fn then(run: Run) -> &'static str {
    if run.runs() { "its guest runs" } else { "its guest stays paused" }
}

impl Step {
    /// The step for people; `None` for a look, which changes nothing.
    pub fn text(&self) -> Option<StepText> {
        let (what, touches) = match &self.does {
            Does::Look(_) => return None,
            Does::MakeLayer(overlay) => (
                format!("make an empty overlay for disk {} on {}", overlay.disk, overlay.base),
                vec![overlay.file.clone()],
            ),
            Does::CopyOut(CopyOut { from, to, whole: Some(bytes), .. }) => (
                format!(
                    "copy {} of disk {}, {bytes} bytes, with the snapshots inside it",
                    from.file, from.disk
                ),
                vec![to.file.clone()],
            ),
            Does::CopyOut(CopyOut { from, snapshot, to, .. }) => (
                format!(
                    "copy the internal snapshot {} (id {}) of disk {} out of {}",
                    snapshot.name, snapshot.id, from.disk, from.file
                ),
                vec![to.file.clone()],
            ),
            Does::RemoveLayer(overlay) => {
                (format!("remove the overlay of disk {}", overlay.disk), vec![overlay.file.clone()])
            }
            Does::Adopt(adoption) => (
                format!(
                    "name {} as the image of disk {} in the domain's description",
                    adoption.file, adoption.disk
                ),
                Vec::new(),
            ),
            Does::SwapTop { to, .. } => (
                format!("make the domain's process write disk {} to {}", to.disk, to.file),
                vec![to.file.clone()],
            ),
            Does::Detach(from) => {
                (format!("make the domain's process close {} (disk {})", from.file, from.disk), Vec::new())
            }
            Does::ReadyNames(names) => (
                format!(
                    "make the new file of disk {} ready to take the name {}",
                    names.old.disk,
                    names.kept()
                ),
                vec![names.new.file.clone()],
            ),
            Does::SwapNames(names) => (
                format!(
                    "give the new file of disk {} the name {}; the one that has it now becomes {}",
                    names.old.disk,
                    names.kept(),
                    names.new.file
                ),
                vec![names.old.file.clone(), names.new.file.clone()],
            ),
            Does::SwapNamesBack(names) => (
                format!("give the file of disk {} its name back: {}", names.old.disk, names.kept()),
                vec![names.old.file.clone(), names.new.file.clone()],
            ),
            Does::Rename { file, over } => (
                format!("rename {} (disk {}) to {}, in place of that", file.file, file.disk, over.file),
                vec![file.file.clone(), over.file.clone()],
            ),
            Does::SetImage { snapshot, disk, to, .. } => (
                format!(
                    "note in the record of snapshot {snapshot} that its part of disk {disk} is inside {to}"
                ),
                Vec::new(),
            ),
            Does::SetMemory { snapshot, to, .. } => (
                format!("note in the record of snapshot {snapshot} that its memory file is {to}"),
                Vec::new(),
            ),
            Does::Merge(Merge { from, into, rate, .. }) => (
                format!(
                    "merge what {} holds of disk {} into {}{}",
                    from.file,
                    from.disk,
                    into.file,
                    limit(*rate)
                ),
                vec![into.file.clone()],
            ),
            Does::Stream(Stream { into, below, rate, .. }) => (
                match below {
                    None => format!(
                        "copy into {} what disk {} reads from below it, so that it stands on nothing{}",
                        into.file,
                        into.disk,
                        limit(*rate)
                    ),
                    Some(below) => format!(
                        "copy into {} what disk {} reads from between it and {}{}",
                        into.file,
                        into.disk,
                        below.file,
                        limit(*rate)
                    ),
                },
                vec![into.file.clone()],
            ),
            Does::Reheader { child, base } => (
                format!("make {} (disk {}) stand on {}", child.file, child.disk, base.file),
                vec![child.file.clone()],
            ),
            Does::Unlink(layer) => {
                (format!("remove {} (disk {})", layer.file, layer.disk), vec![layer.file.clone()])
            }
            Does::EmptyLayer { layer, .. } => (
                format!(
                    "make {} anew, empty: no disk writes to it any more (disk {})",
                    layer.file, layer.disk
                ),
                vec![layer.file.clone()],
            ),
            Does::SetPart { snapshot, disk, to, .. } => (
                format!(
                    "note in the record of snapshot {snapshot} that the state of disk {disk} is in {}, below {}",
                    to.image, to.overlay
                ),
                Vec::new(),
            ),
            Does::NoteLayers { .. } => {
                ("note in the ledger which files the disks' chains have".to_owned(), Vec::new())
            }
            Does::Freeze { .. } => ("freeze the guest's file systems".to_owned(), Vec::new()),
            Does::Thaw { .. } => ("thaw the guest's file systems".to_owned(), Vec::new()),
            Does::StopGuest { .. } => ("stop the guest".to_owned(), Vec::new()),
            Does::ResumeGuest => ("let the guest run".to_owned(), Vec::new()),
            Does::ResetGuest => ("reset the guest".to_owned(), Vec::new()),
            Does::BeginMemory(save) => (
                format!("begin to save the guest's memory ({}), and stop the guest", save.way().word()),
                save.file().map(str::to_owned).into_iter().collect(),
            ),
            Does::RunOn(save) if save.was.runs() => ("let the guest run on".to_owned(), Vec::new()),
            Does::RunOn(_) => ("leave the guest paused, as it was".to_owned(), Vec::new()),
            Does::FinishMemory(save) => {
                ("finish the memory file".to_owned(), save.file().map(str::to_owned).into_iter().collect())
            }
            Does::AbandonMemory(save) => (
                "end the saving of the guest's memory, and remove what was saved".to_owned(),
                save.file().map(str::to_owned).into_iter().collect(),
            ),
            Does::Take(SnapshotAction::Internal { disk, tag, image }) => {
                (format!("take the internal snapshot {tag} of disk {disk}"), vec![image.clone()])
            }
            Does::Take(SnapshotAction::External(overlay)) => (
                format!(
                    "write disk {} to {} from now on; {} stays as it is",
                    overlay.disk, overlay.file, overlay.base
                ),
                vec![overlay.file.clone()],
            ),
            Does::TakeInside { actions, .. } => {
                let disks: Vec<&str> = actions.iter().map(|action| action.disk().as_str()).collect();
                (
                    format!(
                        "take internal snapshots of {}, with the guest's memory inside",
                        disk_list(&disks)
                    ),
                    actions.iter().filter_map(SnapshotAction::image).map(str::to_owned).collect(),
                )
            }
            Does::MarkUndo(point) => {
                (format!("mark the present state of disk {}", point.disk), vec![point.image.clone()])
            }
            Does::DropUndo(point) => {
                (format!("remove the mark of disk {}", point.disk), vec![point.image.clone()])
            }
            Does::DropBitmap { disk, image, bitmap } => {
                (format!("remove the dirty bitmap {} of disk {disk}", bitmap.name), vec![image.clone()])
            }
            Does::Apply { target, .. } => (
                format!(
                    "revert disk {} to the internal snapshot {} (id {})",
                    target.disk, target.snapshot.name, target.snapshot.id
                ),
                vec![target.image.clone()],
            ),
            Does::DeleteInside(target) => (
                format!(
                    "delete the internal snapshot {} (id {}) of disk {}",
                    target.snapshot.name, target.snapshot.id, target.disk
                ),
                vec![target.image.clone()],
            ),
            Does::DeleteInLayer(LayerSnapshot { layer, snapshot }) => (
                format!(
                    "delete the internal snapshot {} (id {}) of disk {} from {}, which the disk does not write to",
                    snapshot.name, snapshot.id, layer.disk, layer.file
                ),
                vec![layer.file.clone()],
            ),
            Does::EndProcess(_) => ("end the domain's process".to_owned(), Vec::new()),
            Does::Start { run } => (format!("start the domain from its disks; {}", then(*run)), Vec::new()),
            Does::Restore { memory, run } => (
                format!("start the domain with the memory of the snapshot; {}", then(*run)),
                memory.file().map(str::to_owned).into_iter().collect(),
            ),
            Does::Load { inside, run, undo, copies, .. } => {
                let marked = undo.iter().map(|point| &point.image);
                (
                    format!("load memory and disks of {} from inside the images; {}", inside.tag, then(*run)),
                    marked.chain(copies.iter().map(|copy| &copy.file)).cloned().collect(),
                )
            }
            Does::Release => ("make the domain's process let go of its disks".to_owned(), Vec::new()),
            Does::TakeBack => ("give the domain's process its disks back".to_owned(), Vec::new()),
            Does::RemoveMemory { file, snapshot } => {
                (format!("remove the memory file of snapshot {snapshot}"), vec![file.clone()])
            }
            Does::StoreRecord(draft) => (format!("store the record of snapshot {}", draft.name), Vec::new()),
            Does::SetParent { snapshot, parent: Some(parent) } => {
                (format!("make {parent} the parent in the record of snapshot {snapshot}"), Vec::new())
            }
            Does::SetParent { snapshot, parent: None } => {
                (format!("make snapshot {snapshot} a root in its record"), Vec::new())
            }
            Does::SetSnapshotId { snapshot, disk, id } => (
                format!("note in the record of snapshot {snapshot} that it has id {id} on disk {disk}"),
                Vec::new(),
            ),
            Does::MendImage { disk, image } => {
                (format!("mend the image of disk {disk}"), vec![image.clone()])
            }
            Does::DeleteRecord(name) => (format!("delete the record of snapshot {name}"), Vec::new()),
            Does::SetCurrent { to: Some(name), .. } => {
                (format!("note that the domain is at snapshot {name}"), Vec::new())
            }
            Does::SetCurrent { to: None, .. } => {
                ("note that the domain is at no snapshot".to_owned(), Vec::new())
            }
            Does::Commit => ("note in the journal that the operation is done".to_owned(), Vec::new()),
        };
        Some(StepText { what, touches })
    }
}

fn disk_list(disks: &[&str]) -> String {
    match disks {
        [one] => format!("disk {one}"),
        _ => format!("disks {}", disks.join(", ")),
    }
}

impl Stage {
    /// The stage in one clause, for the progress; `None` when it only looks.
    pub(crate) fn text(&self) -> Option<String> {
        let steps = self.steps();
        let first = steps.first()?.text()?;
        if steps.len() == 1 {
            return Some(first.what);
        }
        let disks: Vec<&str> = steps.iter().filter_map(|step| Some(step.does.disk()?.as_str())).collect();
        let disks = disk_list(&disks);
        Some(match &steps[0].does {
            Does::Take(_) => format!("take the snapshot of {disks}"),
            Does::MakeLayer(_) => format!("make an empty overlay for each of {disks}"),
            Does::MarkUndo(_) => format!("mark the present state of {disks}"),
            Does::DropUndo(_) => format!("remove the marks of {disks}"),
            Does::Apply { target, .. } => format!("revert {disks} to {}", target.snapshot.name),
            Does::DeleteInside(target) => {
                format!("delete the internal snapshot {} of {disks}", target.snapshot.name)
            }
            Does::Adopt(_) => format!("name the new images of {disks} in the domain's description"),
            Does::SetPart { snapshot, .. } | Does::SetImage { snapshot, .. } => {
                format!("note in the record of snapshot {snapshot} where its parts of {disks} are")
            }
            Does::Unlink(_) => format!("remove files of {disks} that no snapshot needs"),
            _ => first.what,
        })
    }

    /// What is said when a stage fails that is all or none: a clause without its cause.
    pub(crate) fn failure(&self) -> String {
        let disks: Vec<&str> =
            self.steps().iter().filter_map(|step| Some(step.does.disk()?.as_str())).collect();
        let disks = disk_list(&disks);
        match &self.steps()[0].does {
            Does::Adopt(_) if self.steps().len() > 1 => {
                format!("the domain's description cannot name the new images of {disks}")
            }
            Does::SetPart { snapshot, .. } | Does::SetImage { snapshot, .. } if self.steps().len() > 1 => {
                format!("the files of {disks} in the record of snapshot {snapshot} cannot be changed")
            }
            does => does.failure(),
        }
    }
}

impl Does {
    /// What is said when the step fails: a clause without its cause.
    pub(crate) fn failure(&self) -> String {
        match self {
            Self::MakeLayer(overlay) => {
                format!("the overlay {} of disk {} cannot be made", overlay.file, overlay.disk)
            }
            Self::CopyOut(CopyOut { from, whole: Some(_), .. }) => {
                format!("{} of disk {} cannot be copied", from.file, from.disk)
            }
            Self::CopyOut(CopyOut { from, snapshot, .. }) => format!(
                "the internal snapshot {} of disk {} cannot be copied out of {}",
                snapshot.name, from.disk, from.file
            ),
            Self::RemoveLayer(overlay) => {
                format!("the overlay {} of disk {} cannot be removed", overlay.file, overlay.disk)
            }
            Self::Adopt(adoption) => format!(
                "the domain's description cannot name {} as the image of disk {}",
                adoption.file, adoption.disk
            ),
            Self::SwapTop { to, .. } => {
                format!("the domain's process cannot write disk {} to {}", to.disk, to.file)
            }
            Self::Detach(from) => {
                format!("the domain's process cannot close {} (disk {})", from.file, from.disk)
            }
            Self::ReadyNames(names) | Self::SwapNames(names) => {
                format!("the new file of disk {} cannot take the name {}", names.old.disk, names.kept())
            }
            Self::SwapNamesBack(names) => {
                format!("the file of disk {} cannot have its name {} back", names.old.disk, names.kept())
            }
            Self::Rename { file, over } => {
                format!("{} (disk {}) cannot be renamed to {}", file.file, file.disk, over.file)
            }
            Self::SetImage { snapshot, disk, .. } => {
                format!("the image of disk {disk} in the record of snapshot {snapshot} cannot be changed")
            }
            Self::SetMemory { snapshot, .. } => {
                format!("the memory file in the record of snapshot {snapshot} cannot be changed")
            }
            Self::Merge(Merge { from, into, .. }) => {
                format!("{} (disk {}) cannot be merged into {}", from.file, from.disk, into.file)
            }
            Self::Stream(Stream { into, .. }) => {
                format!("what is below {} (disk {}) cannot be copied into it", into.file, into.disk)
            }
            Self::Reheader { child, base } => {
                format!("{} (disk {}) cannot be made to stand on {}", child.file, child.disk, base.file)
            }
            Self::Unlink(layer) => format!("{} (disk {}) cannot be removed", layer.file, layer.disk),
            Self::EmptyLayer { layer, .. } => {
                format!("{} (disk {}) cannot be emptied", layer.file, layer.disk)
            }
            Self::SetPart { snapshot, disk, .. } => {
                format!("the files of disk {disk} in the record of snapshot {snapshot} cannot be changed")
            }
            Self::NoteLayers { .. } => {
                "the ledger of the files of the disks' chains cannot be written".to_owned()
            }
            Self::Freeze { .. } => "the guest's file systems cannot be frozen".to_owned(),
            Self::Thaw { .. } => "the guest's file systems cannot be thawed".to_owned(),
            Self::StopGuest { .. } => "the guest cannot be stopped".to_owned(),
            Self::ResumeGuest => "the guest cannot run on".to_owned(),
            Self::ResetGuest => "the guest cannot be reset".to_owned(),
            Self::BeginMemory(_) | Self::FinishMemory(_) => "the guest's memory cannot be saved".to_owned(),
            Self::RunOn(_) => "the guest cannot run on while its memory is saved".to_owned(),
            Self::AbandonMemory(_) => "the saving of the guest's memory cannot be ended".to_owned(),
            Self::Take(_) => "the snapshot cannot be taken of all disks".to_owned(),
            Self::TakeInside { .. } => {
                "the snapshot cannot be taken with the guest's memory inside".to_owned()
            }
            Self::MarkUndo(point) => {
                format!("the present state of disk {} ({}) cannot be marked", point.disk, point.image)
            }
            Self::DropUndo(point) => {
                format!("the mark {} of disk {} ({}) cannot be removed", point.tag, point.disk, point.image)
            }
            Self::DropBitmap { disk, bitmap, .. } => {
                format!("the dirty bitmap {} of disk {disk} cannot be removed", bitmap.name)
            }
            Self::Apply { target, .. } => {
                format!(
                    "disk {} ({}) cannot be reverted to {}",
                    target.disk, target.image, target.snapshot.name
                )
            }
            Self::DeleteInside(target) => format!(
                "snapshot {} cannot be deleted from {} (disk {})",
                target.snapshot.name, target.image, target.disk
            ),
            Self::DeleteInLayer(LayerSnapshot { layer, snapshot }) => {
                format!(
                    "snapshot {} cannot be deleted from {} (disk {})",
                    snapshot.name, layer.file, layer.disk
                )
            }
            Self::EndProcess(_) => "the domain's process cannot be ended".to_owned(),
            Self::Start { .. } => "the domain cannot be started".to_owned(),
            Self::Restore { .. } => "the domain cannot be started with the memory of the snapshot".to_owned(),
            Self::Load { .. } => "memory and disks cannot be loaded from inside the images".to_owned(),
            Self::Release => "the domain's process does not let go of its disks".to_owned(),
            Self::TakeBack => "the domain's process does not take its disks back".to_owned(),
            Self::RemoveMemory { file, snapshot } => {
                format!("the memory file {file} of snapshot {snapshot} cannot be removed")
            }
            Self::StoreRecord(draft) => format!("the record of snapshot {} cannot be stored", draft.name),
            Self::SetParent { snapshot, .. } => {
                format!("the parent in the record of snapshot {snapshot} cannot be changed")
            }
            Self::SetSnapshotId { snapshot, disk, .. } => {
                format!("the id of disk {disk} in the record of snapshot {snapshot} cannot be changed")
            }
            Self::MendImage { disk, image } => format!("the image {image} of disk {disk} cannot be mended"),
            Self::DeleteRecord(name) => format!("the record of snapshot {name} cannot be deleted"),
            Self::SetCurrent { .. } => "the domain's current snapshot cannot be noted".to_owned(),
            Self::Commit => "the journal cannot note that the operation is done".to_owned(),
            Self::Look(_) => "what was done is not there".to_owned(),
        }
    }
}

/// How fast data moves, as a clause.
fn limit(rate: Option<NonZeroU64>) -> String {
    rate.map(|rate| format!(", at most {rate} bytes a second")).unwrap_or_default()
}
