//! The backend's own words for steps: the calls of its ports that have an effect.

use async_trait::async_trait;
use xlsnap_orchestrator::{Command, Commands, Does, PortError, Stage, Step};
use xlsnap_types::model::DiskName;

use super::FakeBackend;

#[async_trait]
impl Commands for FakeBackend {
    async fn commands(&self, stage: &Stage, _before: &[Stage]) -> Result<Vec<Command>, PortError> {
        if let Stage::AtOnce(steps) = stage {
            let files = steps.iter().flat_map(|step| self.files_of(step));
            return Ok(vec![Command::on_all("disks.snapshot", files)]);
        }
        let steps = stage.commanded().iter();
        if let [Step { does: Does::EmptyLayer { layer, .. }, .. }] = stage.steps() {
            let calls = ["layers.unlink", "overlays.make"];
            return Ok(calls.map(|call| Command::on_all(call, [layer.file.clone()])).into());
        }
        Ok(steps.filter_map(|step| Some(Command::on_all(call(&step.does)?, self.files_of(step)))).collect())
    }
}

impl FakeBackend {
    fn files_of(&self, step: &Step) -> Vec<String> {
        match &step.does {
            // It holds no images where the revert only goes forward.
            Does::Load { inside, copies, .. } => {
                let copy = |disk: &DiskName| copies.iter().find(|copy| copy.disk == *disk);
                let top = |disk: &DiskName| self.disk(disk.as_str()).top;
                let image = |disk| copy(disk).map_or_else(|| top(disk), |copy| copy.file.clone());
                inside.disks.iter().map(image).collect()
            }
            _ => step.text().map(|text| text.touches).unwrap_or_default(),
        }
    }
}

/// The call that does it, as [`super::Call::method`] has it.
fn call(does: &Does) -> Option<&'static str> {
    Some(match does {
        Does::MakeLayer(_) => "overlays.make",
        Does::RemoveLayer(_) => "overlays.discard",
        Does::CopyOut(_) => "layers.copy_out",
        Does::SwapTop { .. } => "layers.swap",
        Does::Detach(_) => "names.detach",
        Does::ReadyNames(_) => "names.ready_names",
        Does::SwapNames(_) => "names.swap_names",
        Does::SwapNamesBack(_) => "names.swap_names_back",
        Does::Rename { .. } => "names.rename",
        Does::Merge(_) => "layers.merge",
        Does::DeleteInLayer(_) => "layers.delete_inside",
        Does::Stream(_) => "layers.stream",
        Does::Reheader { .. } => "layers.reheader",
        Does::Unlink(_) => "layers.unlink",
        Does::Adopt(_) => "overlays.adopt",
        Does::Freeze { .. } => "agent.freeze",
        Does::Thaw { .. } => "agent.thaw",
        Does::StopGuest { .. } => "pause.stop",
        Does::ResumeGuest => "pause.resume",
        Does::ResetGuest => "pause.reset",
        Does::BeginMemory(_) => "memory.begin",
        Does::RunOn(_) => "memory.run_on",
        Does::FinishMemory(_) => "memory.finish",
        Does::AbandonMemory(save) if save.file().is_none() => "inside.abandon_inside",
        Does::AbandonMemory(_) => "memory.abandon",
        Does::Take(_) | Does::MarkUndo(_) => "disks.snapshot",
        Does::TakeInside { .. } => "inside.take_inside",
        Does::DropUndo(_) | Does::DeleteInside(_) => "disks.delete",
        Does::DropBitmap { .. } => "disks.drop_bitmap",
        Does::Apply { .. } => "disks.revert",
        Does::EndProcess(_) => "power.end",
        Does::Start { .. } => "power.start",
        Does::Restore { .. } => "power.restore",
        Does::Load { .. } => "inside.load",
        Does::Release => "release.release",
        Does::TakeBack => "release.take_back",
        Does::RemoveMemory { .. } => "memory_files.remove",
        Does::StoreRecord(_)
        | Does::SetPart { .. }
        | Does::SetImage { .. }
        | Does::SetMemory { .. }
        | Does::SetParent { .. }
        | Does::SetSnapshotId { .. } => "lock.store",
        Does::DeleteRecord(_) => "lock.delete",
        Does::SetCurrent { .. } | Does::NoteLayers { .. } => "lock.set_domain_record",
        Does::Commit => "lock.set_journal",
        _ => return None,
    })
}
