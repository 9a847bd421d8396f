//! The files that memory is saved in.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use async_trait::async_trait;
use twox_hash::XxHash3_128;
use xlsnap_orchestrator::{Effect, MemoryFiles, MemoryHeader, PortError, PortErrorKind, Progress};
use xlsnap_types::model::{MemoryMeta, SnapshotName};

use crate::domains;
use crate::error::of_io;
use crate::save_file::Header;

use super::XlDomain;
use super::mark;

/// How the checksum is called that is written.
const ALGORITHM: &str = "xxh3-128";

/// How much is read at a time.
const PIECE: usize = 1 << 20;

/// A file's size, and its checksum as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    pub(super) checksum: String,
}

/// Reads a whole file for its checksum. Dropping the future stops it after a piece.
pub(super) async fn sum(file: &Path, progress: &dyn Progress) -> io::Result<Sum> {
    let mut from = File::open(file)?;
    let total = from.metadata()?.len();
    let mut hasher = XxHash3_128::new();
    let mut piece = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.write(&piece[..read]);
        bytes += read as u64;
        progress.bytes(bytes, Some(total));
        // Others on this thread, and whoever drops this, have their turn.
        tokio::task::yield_now().await;
    }
    Ok(Sum { bytes, checksum: format!("{ALGORITHM}:{:032x}", hasher.finish_128()) })
}

impl XlDomain {
    /// Refuses when another domain has the name under which this one would be restored: xl would fail, with the domain destroyed.
    async fn is_free(&self, name: &str) -> Result<(), PortError> {
        let others = domains::list(&*self.context.store).await?;
        let mut others = others.into_iter().filter_map(Result::ok);
        let Some(other) = others.find(|other| other.name == name && other.uuid != self.uuid) else {
            return Ok(());
        };
        let message = format!(
            "domain {} was called {name} then, and domain {} (uuid {}) is called so now; rename or end that one",
            self.name, other.domid, other.uuid
        );
        Err(PortError::new(PortErrorKind::Busy, Effect::None, message))
    }
}

#[async_trait]
impl MemoryFiles for XlDomain {
    fn place(&self, name: &SnapshotName) -> String {
        self.context.places.records.join(format!("{name}.save")).to_string_lossy().into_owned()
    }

    async fn size(&self, file: &str) -> Result<Option<u64>, PortError> {
        match fs::symlink_metadata(file) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(of_io(format!("the memory file {file} cannot be looked at"), error, Effect::None))
            }
        }
    }

    async fn verify(&self, memory: &MemoryMeta, progress: &dyn Progress) -> Result<MemoryHeader, PortError> {
        let Some(file) = &memory.file else {
            let message = "the memory of a domain of Xen is in a file, and the record names none";
            return Err(PortError::new(PortErrorKind::Corrupt, Effect::None, message));
        };
        let corrupt = |why: &str| {
            PortError::new(PortErrorKind::Corrupt, Effect::None, format!("the memory file {file} {why}"))
        };
        let unreadable = |error| of_io(format!("the memory file {file} cannot be read"), error, Effect::None);
        let found = fs::symlink_metadata(file).map_err(unreadable)?;
        if !found.is_file() {
            return Err(corrupt("is no regular file"));
        }
        if found.len() != memory.bytes {
            return Err(corrupt(&format!("has {} bytes, and had {}", found.len(), memory.bytes)));
        }
        let configuration = match File::open(file).and_then(Header::read) {
            Ok(header) => header.configuration,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(corrupt("holds no memory of a domain").with_source(error));
            }
            Err(error) => return Err(unreadable(error)),
        };
        if configuration.uuid() != Some(self.uuid) {
            let name = configuration.name().unwrap_or("without a name");
            return Err(corrupt(&format!("is that of another domain, {name}")));
        }
        if let Some(name) = configuration.name() {
            self.is_free(name).await?;
        }
        if let Some(expected) = &memory.checksum {
            if !expected.starts_with(&format!("{ALGORITHM}:")) {
                let message =
                    format!("the checksum {expected} of {file} is one that this version does not know");
                return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
            }
            let sum = sum(Path::new(file), progress).await.map_err(unreadable)?;
            if sum.checksum != *expected || sum.bytes != memory.bytes {
                return Err(corrupt("is not what it was: its checksum is another one"));
            }
        }
        // By its uuid it is this domain's, whatever that was called then.
        Ok(MemoryHeader::default())
    }

    async fn remove(&self, file: &str) -> Result<(), PortError> {
        mark::remove(Path::new(file)).map(drop).map_err(|error| {
            of_io(format!("the memory file {file} cannot be removed"), error, Effect::Unknown)
        })
    }
}
