//! The files that memory is saved in.

use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use xlsnap_orchestrator::{Effect, MemoryFiles, MemoryHeader, PortError, PortErrorKind, Progress};
use xlsnap_types::model::{Compression, MemoryMeta, SnapshotName};

use super::header::Wrong;
use super::read::Sum;
use super::{checksum, header, place, read};

/// The memory files of a domain. They are there whether it runs or not.
#[derive(Debug, Clone)]
pub struct Saves {
    directory: PathBuf,
}

impl Saves {
    /// Those in `directory`, as far as nobody names another place.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }
}

#[async_trait]
impl MemoryFiles for Saves {
    /// `<name>.save` in the directory.
    fn place(&self, name: &SnapshotName) -> String {
        self.directory.join(format!("{name}.save")).to_string_lossy().into_owned()
    }

    async fn size(&self, file: &str) -> Result<Option<u64>, PortError> {
        match std::fs::symlink_metadata(file) {
            Ok(found) if found.is_file() => Ok(Some(found.len())),
            Ok(_) => Err(corrupt(file, "is no regular file")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(cannot(file, "looked at", e)),
        }
    }

    async fn verify(&self, memory: &MemoryMeta, progress: &dyn Progress) -> Result<MemoryHeader, PortError> {
        let (name, mut file) = open(memory)?;
        sum_up(name, memory, &file, progress).await?;
        file.rewind().map_err(|e| cannot(name, "read", e))?;
        let file = BufReader::new(file);
        let read = match memory.compression {
            Compression::None => header::read(file),
            _ => read::unpacker(file).map_err(|e| Wrong::Unread(e.to_string())).and_then(header::read),
        };
        read.map_err(|wrong| match wrong {
            Wrong::Foreign(why) => corrupt(name, &why),
            Wrong::Unread(why) => corrupt(name, &format!("cannot be read: {why}")),
        })
    }

    async fn remove(&self, file: &str) -> Result<(), PortError> {
        place::remove(Path::new(file)).map_err(|e| cannot(file, "removed", e))
    }
}

/// Opens the file of `memory`, which has the recorded size.
pub(super) fn open(memory: &MemoryMeta) -> Result<(&str, File), PortError> {
    let Some(name) = memory.file.as_deref() else {
        let message = "the memory is inside the images, and in no file";
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
    };
    if let Some(recorded) = memory.checksum.as_deref().filter(|recorded| !checksum::is_known(recorded)) {
        let message = format!("the memory file {name} has a checksum that is not known here: {recorded:?}");
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
    }
    let file = read::open(Path::new(name)).map_err(|e| cannot(name, "opened", e))?;
    let size = file.metadata().map_err(|e| cannot(name, "looked at", e))?.len();
    if size != memory.bytes {
        return Err(corrupt(name, &format!("has {size} bytes, and {} were saved", memory.bytes)));
    }
    Ok((name, file))
}

async fn sum_up(
    name: &str,
    memory: &MemoryMeta,
    file: &File,
    progress: &dyn Progress,
) -> Result<(), PortError> {
    let theirs = file.try_clone().map_err(|e| cannot(name, "read", e))?;
    let mut worker = read::summing(theirs).map_err(|e| cannot(name, "read", e))?;
    let sum = worker.done(|done| progress.bytes(done, Some(memory.bytes))).await;
    let sum = sum.map_err(|e| cannot(name, "read", e))?;
    progress.bytes(sum.bytes, Some(memory.bytes));
    compare(name, memory, &sum)
}

/// Whether what was read is what was recorded.
pub(super) fn compare(name: &str, memory: &MemoryMeta, sum: &Sum) -> Result<(), PortError> {
    if sum.bytes != memory.bytes {
        return Err(corrupt(name, &format!("has {} bytes, and {} were saved", sum.bytes, memory.bytes)));
    }
    match &memory.checksum {
        Some(recorded) if !recorded.eq_ignore_ascii_case(&sum.checksum) => Err(corrupt(
            name,
            &format!("was changed: its checksum is {}, and {recorded} was recorded", sum.checksum),
        )),
        _ => Ok(()),
    }
}

pub(super) fn corrupt(name: &str, what: &str) -> PortError {
    PortError::new(PortErrorKind::Corrupt, Effect::None, format!("the memory file {name} {what}"))
}

/// An error of the host's file system, as a port's.
pub(super) fn cannot(name: &str, what: &str, error: io::Error) -> PortError {
    let message = format!("the memory file {name} cannot be {what}");
    PortError::new(kind_of(&error), Effect::None, message).with_source(error)
}

/// What an error of the host's file system means.
pub(super) fn kind_of(error: &io::Error) -> PortErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => PortErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => PortErrorKind::AlreadyExists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            PortErrorKind::NoSpace
        }
        _ => PortErrorKind::Failed,
    }
}
