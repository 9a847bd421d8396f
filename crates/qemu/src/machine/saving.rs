//! Its memory, and the files of it.

use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Effect, Memory, MemoryFiles, MemoryHeader, MemorySave, MemorySurvey, PortError, PortErrorKind, Progress,
    SavedMemory, SnapshotAction,
};
use xlsnap_types::model::{MemoryMeta, SnapshotName};

use super::Machine;

impl Machine {
    fn no_memory(&self) -> PortError {
        let message = format!("the memory of domain {} cannot be saved here", self.name);
        PortError::new(PortErrorKind::Refused, Effect::None, message)
    }
}

#[async_trait]
impl Memory for Machine {
    async fn survey(&self, _file: Option<&str>) -> Result<MemorySurvey, PortError> {
        Ok(MemorySurvey::default())
    }

    async fn begin(&self, _save: &MemorySave, _: &dyn Progress) -> Result<(), PortError> {
        Err(self.no_memory())
    }

    async fn resume(&self, _save: &MemorySave, _: &dyn Progress) -> Result<Duration, PortError> {
        Err(self.no_memory())
    }

    async fn finish(&self, _save: &MemorySave, _: &dyn Progress) -> Result<SavedMemory, PortError> {
        Err(self.no_memory())
    }

    async fn take_inside(
        &self,
        _save: &MemorySave,
        _actions: &[SnapshotAction],
        _: &dyn Progress,
    ) -> Result<Duration, PortError> {
        Err(self.no_memory())
    }

    async fn abandon(&self, _save: &MemorySave) -> Result<(), PortError> {
        Ok(())
    }
}

#[async_trait]
impl MemoryFiles for Machine {
    fn place(&self, name: &SnapshotName) -> String {
        self.memory.join(format!("{name}.save")).to_string_lossy().into_owned()
    }

    async fn size(&self, _file: &str) -> Result<Option<u64>, PortError> {
        Err(self.no_memory())
    }

    async fn verify(&self, _memory: &MemoryMeta, _: &dyn Progress) -> Result<MemoryHeader, PortError> {
        Err(self.no_memory())
    }

    async fn remove(&self, _file: &str) -> Result<(), PortError> {
        Err(self.no_memory())
    }
}
