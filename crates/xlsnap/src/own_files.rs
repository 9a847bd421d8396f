//! The words of a backend for a dry run, with the paths of the files that xlsnap keeps itself: no backend knows where they are.

use std::path::Path;

use async_trait::async_trait;
use xlsnap_orchestrator::{Command, Commands, Does, PortError, Stage};

/// A backend's words, completed.
pub(crate) struct OwnFiles<'a> {
    pub(crate) backend: &'a dyn Commands,
    /// The domain's file, if it has one.
    pub(crate) file: Option<&'a Path>,
    /// The directory of the domain's records.
    pub(crate) records: &'a Path,
}

impl OwnFiles<'_> {
    fn of(&self, does: &Does) -> Option<&Path> {
        match does {
            Does::Adopt(_) => self.file,
            Does::StoreRecord(_)
            | Does::SetPart { .. }
            | Does::SetImage { .. }
            | Does::SetMemory { .. }
            | Does::NoteLayers { .. }
            | Does::SetParent { .. }
            | Does::SetSnapshotId { .. }
            | Does::DeleteRecord(_)
            | Does::SetCurrent { .. }
            | Does::Commit => Some(self.records),
            _ => None,
        }
    }
}

#[async_trait]
impl Commands for OwnFiles<'_> {
    async fn commands(&self, stage: &Stage, before: &[Stage]) -> Result<Vec<Command>, PortError> {
        let mut commands = self.backend.commands(stage, before).await?;
        if let Some(own) = stage.steps().iter().find_map(|step| self.of(&step.does)) {
            for command in commands.iter_mut().filter(|command| command.files.is_empty()) {
                command.files.push(own.display().to_string());
            }
        }
        Ok(commands)
    }
}
