//! A save that goes on: what is known between two of its steps.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use xlsnap_memory_file::{Packing, Staged};
use xlsnap_orchestrator::{
    Effect, MemorySave, PortError, PortErrorKind, Progress, SavedMemory, StoppedGuest, UnfinishedMemory,
};
use xlsnap_qemu::of_memory_file;

use crate::error::of_xl;
use crate::save_file;
use crate::toolstack::Suspended;

use super::XlDomain;

/// A save whose guest stands still, for the disks to be taken.
pub(super) struct Stopped<'a> {
    pub(super) domain: &'a XlDomain,
    pub(super) save: MemorySave,
    pub(super) progress: &'a dyn Progress,
    /// What xl has written.
    pub(super) staged: Staged,
    /// Since when the guest stands still.
    pub(super) since: Instant,
    /// What lets a guest go on that was saved while it ran; dropped, it does that too.
    pub(super) suspended: Option<Box<dyn Suspended>>,
}

#[async_trait]
impl<'a> StoppedGuest<'a> for Stopped<'a> {
    async fn run_on(self: Box<Self>) -> Result<(Duration, Box<dyn UnfinishedMemory + 'a>), PortError> {
        let Self { domain, save, progress, staged, since, suspended } = *self;
        let resumes = suspended.is_some();
        if let Some(suspended) = suspended {
            let resumed = suspended.resume().await;
            resumed.map_err(|error| of_xl(format!("domain {} does not go on", domain.name), error))?;
        }
        let back = domain.put_back(save.was).await;
        back.map_err(|e| if resumes { e.after_effect() } else { e })?;
        Ok((since.elapsed(), Box::new(Unfinished { domain, progress, staged })))
    }
}

/// A save whose guest runs again, if it ran before, and whose file has no name yet.
struct Unfinished<'a> {
    domain: &'a XlDomain,
    progress: &'a dyn Progress,
    /// What xl has written.
    staged: Staged,
}

#[async_trait]
impl UnfinishedMemory for Unfinished<'_> {
    /// Gives the file its name, if it is this domain's memory.
    async fn finish(self: Box<Self>) -> Result<SavedMemory, PortError> {
        self.named().await.map_err(|mut cause| {
            // What xl has written is there until the save is abandoned.
            cause.effect = Effect::Unknown;
            cause
        })
    }
}

impl Unfinished<'_> {
    async fn named(self: Box<Self>) -> Result<SavedMemory, PortError> {
        let Self { domain, progress, staged } = *self;
        let file = staged.file().clone();
        let total = staged.bytes().map_err(of_memory_file)?;
        let told = |done| progress.bytes(done, Some(total));
        let sealed = staged.seal(told).await.map_err(of_memory_file)?;
        let header = sealed.header(Packing::None).await.map_err(of_memory_file)?;
        if save_file::configuration(&file, header)?.uuid() != Some(domain.uuid) {
            let message = format!("the memory file {} is that of another domain", file.path().display());
            return Err(PortError::new(PortErrorKind::Corrupt, Effect::None, message));
        }
        let saved = SavedMemory { bytes: sealed.bytes(), checksum: Some(sealed.checksum().to_string()) };
        sealed.publish().await.map_err(of_memory_file)?;
        Ok(saved)
    }
}
