//! The files that memory is saved in.

use async_trait::async_trait;
use xlsnap_memory_file::{MemoryFile, Packing, Recorded};
use xlsnap_orchestrator::{
    Effect, FoundMemory, MemoryFiles, MemoryHeader, MemorySign, PortError, PortErrorKind, Progress,
};
use xlsnap_qemu::{Saves, found_memory, memory_sign, of_memory_file, recorded_memory};
use xlsnap_types::model::{MemoryMeta, MemoryWay, SnapshotName};

use crate::{domains, save_file};

use super::XlDomain;

impl XlDomain {
    /// Its files, as far as their contents do not matter.
    fn saves(&self) -> Saves {
        Saves::new(&self.context.places.records)
    }

    /// Refuses when another domain has the name under which this one would be restored: xl would fail, with the domain destroyed.
    async fn is_free(&self, name: &str) -> Result<(), PortError> {
        let others = domains::list(&*self.context.store).await?;
        let mut others = others.into_iter().filter_map(Result::ok);
        let Some(other) = others.find(|other| other.name == name && other.uuid != self.uuid) else {
            return Ok(());
        };
        let message = format!(
            "domain {} was called {name} then, and domain {} (uuid {}) is called so now; rename that one (xl rename {} NEW-NAME), or end it",
            self.name, other.domid, other.uuid, other.domid
        );
        Err(PortError::new(PortErrorKind::Busy, Effect::None, message))
    }
}

/// Refuses a file that is packed: xl reads none.
fn refuse_packed(file: &MemoryFile, recorded: &Recorded) -> Result<(), PortError> {
    if recorded.packing == Packing::None {
        return Ok(());
    }
    let message = format!("the memory file {} is packed, and xl reads no such file", file.path().display());
    Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
}

fn of_another(file: &MemoryFile, name: Option<&str>) -> PortError {
    let name = name.unwrap_or("without a name");
    let message = format!("the memory file {} is that of another domain, {name}", file.path().display());
    PortError::new(PortErrorKind::Corrupt, Effect::None, message)
}

#[async_trait]
impl MemoryFiles for XlDomain {
    fn place(&self, name: &SnapshotName) -> String {
        self.saves().place(name)
    }

    async fn list(&self) -> Result<Vec<String>, PortError> {
        self.saves().list().await
    }

    async fn size(&self, file: &str) -> Result<Option<u64>, PortError> {
        self.saves().size(file).await
    }

    async fn verify(&self, memory: &MemoryMeta, progress: &dyn Progress) -> Result<MemoryHeader, PortError> {
        let (file, recorded) = recorded_memory(memory)?;
        refuse_packed(&file, &recorded)?;
        let opened = file.open(&recorded).await.map_err(of_memory_file)?;
        // First what takes no time.
        let header = opened.header().await.map_err(of_memory_file)?;
        let configuration = save_file::configuration(&file, header)?;
        let name = configuration.name();
        if configuration.uuid() != Some(self.uuid) {
            return Err(of_another(&file, name));
        }
        if let Some(name) = name {
            self.is_free(name).await?;
        }
        let told = |done| progress.bytes(done, Some(recorded.bytes));
        opened.verify(told).await.map_err(of_memory_file)?;
        // By its uuid it is this domain's, whatever that was called then.
        Ok(MemoryHeader::default())
    }

    async fn recognize(
        &self,
        memory: &MemoryMeta,
        token: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<MemorySign, PortError> {
        let (file, recorded) = recorded_memory(memory)?;
        refuse_packed(&file, &recorded)?;
        let opened = file.open(&recorded).await.map_err(of_memory_file)?;
        let header = opened.header().await.map_err(of_memory_file)?;
        let configuration = save_file::configuration(&file, header)?;
        if configuration.uuid() != Some(self.uuid) {
            return Err(of_another(&file, configuration.name()));
        }
        memory_sign(&opened, &recorded, token, progress).await
    }

    async fn examine(&self, file: &str, progress: &dyn Progress) -> Result<FoundMemory, PortError> {
        let of_xl = MemoryFile::new(file).map_err(of_memory_file)?;
        let examined = of_xl.examine(|done| progress.bytes(done, None)).await.map_err(of_memory_file)?;
        let configuration = save_file::configuration(&of_xl, examined.header.clone())?;
        if configuration.uuid() != Some(self.uuid) {
            return Err(of_another(&of_xl, configuration.name()));
        }
        Ok(found_memory(file, &examined, MemoryWay::Toolstack, MemoryHeader::default()))
    }

    async fn remove(&self, file: &str) -> Result<(), PortError> {
        self.saves().remove(file).await
    }
}
