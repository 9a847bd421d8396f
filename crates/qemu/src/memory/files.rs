//! The files that memory is saved in.

use std::path::PathBuf;

use async_trait::async_trait;
use xlsnap_memory_file::{Examined, Header, MemoryFile, Opened, Packing, Recorded};
use xlsnap_orchestrator::{
    Effect, FoundMemory, MemoryFiles, MemoryHeader, MemorySign, PortError, PortErrorKind, Progress,
};
use xlsnap_types::model::{Compression, MemoryMeta, MemoryWay, SavedIn, SnapshotName};

use crate::error::of_memory_file;

/// The memory files of a domain. They are there whether it runs or not.
#[derive(Debug, Clone)]
pub struct Saves {
    directory: PathBuf,
}

impl Saves {
    /// Those in `directory`, as far as no other place is given.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }
}

#[async_trait]
impl MemoryFiles for Saves {
    /// `<name>.save` in the directory.
    fn place(&self, name: &SnapshotName) -> String {
        let file = MemoryFile::in_directory(&self.directory, name.as_str());
        let path =
            file.map_or_else(|_| self.directory.join(format!("{name}.save")), |file| file.path().into());
        path.to_string_lossy().into_owned()
    }

    async fn list(&self) -> Result<Vec<String>, PortError> {
        let files = MemoryFile::all_in(&self.directory).await.map_err(of_memory_file)?;
        Ok(files.into_iter().map(|file| file.to_string_lossy().into_owned()).collect())
    }

    async fn size(&self, file: &str) -> Result<Option<u64>, PortError> {
        MemoryFile::new(file).map_err(of_memory_file)?.size().await.map_err(of_memory_file)
    }

    async fn verify(&self, memory: &MemoryMeta, progress: &dyn Progress) -> Result<MemoryHeader, PortError> {
        let (file, recorded) = recorded_memory(memory)?;
        let opened = file.open(&recorded).await.map_err(of_memory_file)?;
        // First what takes no time.
        let machine = match opened.header().await.map_err(of_memory_file)? {
            Header::Qemu { machine } => machine,
            Header::Xl { .. } => return Err(of_xen(&file.path().display().to_string())),
        };
        let report = |done| progress.bytes(done, Some(recorded.bytes));
        opened.verify(report).await.map_err(of_memory_file)?;
        Ok(MemoryHeader { machine, domain: None })
    }

    async fn recognize(
        &self,
        memory: &MemoryMeta,
        token: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<MemorySign, PortError> {
        let (file, recorded) = recorded_memory(memory)?;
        let opened = file.open(&recorded).await.map_err(of_memory_file)?;
        if let Header::Xl { .. } = opened.header().await.map_err(of_memory_file)? {
            return Err(of_xen(&file.path().display().to_string()));
        }
        memory_sign(&opened, &recorded, token, progress).await
    }

    async fn examine(&self, file: &str, progress: &dyn Progress) -> Result<FoundMemory, PortError> {
        let of_qemu = MemoryFile::new(file).map_err(of_memory_file)?;
        let examined = of_qemu.examine(|done| progress.bytes(done, None)).await.map_err(of_memory_file)?;
        let Header::Qemu { machine } = &examined.header else { return Err(of_xen(file)) };
        let header = MemoryHeader { machine: machine.clone(), domain: None };
        Ok(found_memory(file, &examined, MemoryWay::Unknown, header))
    }

    async fn remove(&self, file: &str) -> Result<(), PortError> {
        MemoryFile::new(file).map_err(of_memory_file)?.remove().await.map_err(of_memory_file)
    }
}

/// What tells that a file which begins as it should is the one that was recorded: its mark, else all that it holds.
///
/// # Errors
/// [`PortErrorKind::Corrupt`] when its checksum is another one.
pub async fn memory_sign(
    opened: &Opened,
    recorded: &Recorded,
    token: Option<&str>,
    progress: &dyn Progress,
) -> Result<MemorySign, PortError> {
    if let Some(token) = token
        && opened.is_marked(token).await.map_err(of_memory_file)?
    {
        return Ok(MemorySign::Mark);
    }
    if recorded.checksum.is_none() {
        return Ok(MemorySign::Size);
    }
    let report = |done| progress.bytes(done, Some(recorded.bytes));
    opened.verify(report).await.map_err(of_memory_file)?;
    Ok(MemorySign::Checksum)
}

fn of_xen(file: &str) -> PortError {
    let message = format!("the memory file {file} is a save file of Xen's, and no QEMU reads it");
    PortError::new(PortErrorKind::Corrupt, Effect::None, message)
}

/// What a record says of a file that was found.
pub fn found_memory(file: &str, examined: &Examined, way: MemoryWay, header: MemoryHeader) -> FoundMemory {
    let Recorded { bytes, checksum, packing } = &examined.recorded;
    let compression = match packing {
        Packing::None => Compression::None,
        Packing::Zstd => Compression::Zstd,
    };
    let (file, checksum) = (file.to_owned(), checksum.as_ref().map(ToString::to_string));
    let memory = MemoryMeta { place: SavedIn::File { file, way, checksum, compression }, bytes: *bytes };
    FoundMemory { memory, header, written: examined.written }
}

/// The file of `memory`, and what was recorded of it.
///
/// # Errors
/// [`PortErrorKind::Refused`] when the memory is in no file, and for a checksum or a packing that is not known here.
pub fn recorded_memory(memory: &MemoryMeta) -> Result<(MemoryFile, Recorded), PortError> {
    let refused = |message: String| PortError::new(PortErrorKind::Refused, Effect::None, message);
    let SavedIn::File { file: name, checksum, compression, .. } = &memory.place else {
        return Err(refused("the memory is inside the images, and in no file".to_owned()));
    };
    let file = MemoryFile::new(name).map_err(of_memory_file)?;
    let checksum = checksum
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|error| refused(format!("the memory file {name} cannot be verified: {error}")))?;
    Ok((file, Recorded { bytes: memory.bytes, checksum, packing: packing(*compression)? }))
}

/// How a file is packed.
pub(super) fn packing(compression: Compression) -> Result<Packing, PortError> {
    match compression {
        Compression::None => Ok(Packing::None),
        Compression::Zstd => Ok(Packing::Zstd),
        // The enumeration may grow.
        other => {
            let message = format!("memory files are not packed as {other:?} here");
            Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
        }
    }
}
