//! Its process.

use async_trait::async_trait;
use xlsnap_orchestrator::{Abilities, Effect, InsideMemory, PortError, PortErrorKind, Power, Progress};
use xlsnap_types::model::MemoryMeta;

use super::Machine;

impl Machine {
    fn not_yet(&self, what: &str) -> PortError {
        let message = format!("domain {}: {what} cannot be done here", self.name);
        PortError::new(PortErrorKind::Refused, Effect::None, message)
    }
}

#[async_trait]
impl Power for Machine {
    async fn abilities(&self) -> Result<Abilities, PortError> {
        let no = || Some("it cannot be done here".to_owned());
        Ok(Abilities {
            no_restart: no(),
            no_restore: no(),
            no_release: no(),
            no_load: no(),
            ..Abilities::default()
        })
    }

    async fn destroy(&self) -> Result<(), PortError> {
        Err(self.not_yet("ending its process"))
    }

    async fn start(&self, _run: bool) -> Result<(), PortError> {
        Err(self.not_yet("starting it"))
    }

    async fn restore(&self, _memory: &MemoryMeta, _run: bool, _: &dyn Progress) -> Result<(), PortError> {
        Err(self.not_yet("restoring its memory"))
    }

    async fn load(&self, _inside: &InsideMemory, _run: bool, _: &dyn Progress) -> Result<(), PortError> {
        Err(self.not_yet("loading its memory"))
    }

    async fn release(&self) -> Result<(), PortError> {
        Err(self.not_yet("letting go of its disks"))
    }

    async fn take_back(&self, _reset: bool, _run: bool) -> Result<(), PortError> {
        Err(self.not_yet("taking its disks back"))
    }
}
