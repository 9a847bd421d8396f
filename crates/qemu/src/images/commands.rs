//! What a step is carried out by while no process has the disks: qemu-img, and xlsnap itself.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Command, Commands, Does, LayerFile, Merge, NameSwap, PortError, SnapshotAction, Stage, Step, Stream,
};
use xlsnap_types::model::DiskName;

use super::Images;
use crate::names::{goes_back, third};

#[async_trait]
impl Commands for Images {
    async fn commands(&self, stage: &Stage, _before: &[Stage]) -> Result<Vec<Command>, PortError> {
        if let Stage::AtOnce(steps) = stage {
            let specs = self.specs();
            return Ok(taken(steps, |disk| {
                specs.iter().find(|spec| spec.name == *disk).map(|spec| spec.file.clone())
            }));
        }
        Ok(stage.commanded().iter().flat_map(|step| of(&step.does)).collect())
    }
}

/// The snapshots of a stage, each by a qemu-img of its own.
pub(crate) fn taken(steps: &[Step], image_of: impl Fn(&DiskName) -> Option<String>) -> Vec<Command> {
    let taken = steps.iter().filter_map(|step| match &step.does {
        Does::Take(SnapshotAction::Internal { disk, .. }) => image_of(disk),
        Does::MarkUndo(point) => Some(point.image.clone()),
        // It is the disk's image as soon as the description names it.
        _ => None,
    });
    taken.map(|image| Command::on("qemu-img snapshot -c", image)).collect()
}

/// A merge of layers that no process has open.
pub(crate) fn merge(merge: &Merge) -> Command {
    Command::on("qemu-img commit", &merge.from.file)
}

/// Data that is copied up into a layer that no process has open.
pub(crate) fn stream(stream: &Stream) -> Command {
    Command::on("qemu-img rebase", &stream.into.file)
}

/// Another name in the header of a layer that no process has open.
pub(crate) fn reheader(child: &LayerFile) -> Command {
    Command::on("qemu-img rebase -u", &child.file)
}

/// Files that exchange their names.
pub(crate) fn exchange(names: &NameSwap) -> Command {
    Command::on_all("xlsnap: link, rename", [names.old.file.clone(), names.new.file.clone()])
}

pub(crate) fn exchange_back(names: &NameSwap) -> Vec<Command> {
    // One that cannot be looked at is told as one that goes back.
    let (goes, writes) = goes_back(names).unwrap_or((true, names.stands_on_old));
    let reheader = reheader_new(names).filter(|_| writes);
    goes.then(|| exchange(names)).into_iter().chain(reheader).collect()
}

/// The header of a new file that stands on the old one is written while it waits under a third name.
fn reheader_new(names: &NameSwap) -> Option<Command> {
    names.stands_on_old.then(|| Command::on("qemu-img rebase -u", third(names)))
}

/// One step.
pub(crate) fn of(does: &Does) -> Vec<Command> {
    vec![match does {
        Does::EmptyLayer { layer, .. } => {
            return vec![
                Command::on("xlsnap: unlink", &layer.file),
                Command::on("qemu-img create", &layer.file),
            ];
        }
        Does::ReadyNames(names) => {
            let rename = Command::on_all("xlsnap: rename", [names.new.file.clone(), third(names)]);
            return std::iter::once(rename).chain(reheader_new(names)).collect();
        }
        Does::SwapNames(names) => exchange(names),
        Does::SwapNamesBack(names) => return exchange_back(names),
        Does::Rename { file, over } => {
            Command::on_all("xlsnap: rename", [file.file.clone(), over.file.clone()])
        }
        Does::Merge(layers) => merge(layers),
        Does::Stream(stream) => self::stream(stream),
        Does::Reheader { child, .. } => reheader(child),
        Does::Unlink(layer) => Command::on("xlsnap: unlink", &layer.file),
        Does::MakeLayer(overlay) => Command::on("qemu-img create", &overlay.file),
        Does::RemoveLayer(overlay) => Command::on("xlsnap: unlink", &overlay.file),
        Does::Adopt(_) => Command::new("xlsnap: the domain's file"),
        Does::DropUndo(point) => Command::on("qemu-img snapshot -d", &point.image),
        Does::DeleteInside(target) => Command::on("qemu-img snapshot -d", &target.image),
        Does::DeleteInLayer(target) => Command::on("qemu-img snapshot -d", &target.layer.file),
        Does::Apply { target, .. } => Command::on("qemu-img snapshot -a", &target.image),
        Does::DropBitmap { image, .. } => Command::on("qemu-img bitmap --remove", image),
        Does::MendImage { image, .. } => Command::on("qemu-img check -r", image),
        Does::RemoveMemory { file, .. } => Command::on("xlsnap: unlink", file),
        Does::StoreRecord(_)
        | Does::SetPart { .. }
        | Does::SetImage { .. }
        | Does::SetMemory { .. }
        | Does::NoteLayers { .. }
        | Does::SetParent { .. }
        | Does::SetSnapshotId { .. }
        | Does::DeleteRecord(_)
        | Does::SetCurrent { .. } => Command::new("xlsnap: the domain's records"),
        Does::Commit => Command::new("xlsnap: the domain's journal"),
        _ => return Vec::new(),
    }]
}
