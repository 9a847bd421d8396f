//! `FsStore`.

use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_types::model::{DomainRecord, SnapshotName};

use super::read::{self, Reader, found};
use super::{layout, lock, many};
use crate::durable::{Dir, LockFile};
use crate::{ConfStore, DomainLock, Entry, Error, Owner, Record};

/// A store in a directory: `<root>/<domain uuid>/snapshotdata-<name>.libxl-json` and what belongs to it.
///
/// Its methods are async for the trait's sake. They do their file operations where they are polled, and block for as
/// long as the disk takes: a flush is some milliseconds, listing ten thousand records a tenth of a second (with threads of
/// its own, which end before it does). Only
/// [`ConfStore::lock`] waits for others, and it sleeps on tokio's timer then (outside of a tokio runtime it blocks the
/// thread). Cancel safety: every method but `lock` runs to its end once polled; `lock` can be dropped at any time.
#[derive(Debug, Clone)]
pub struct FsStore {
    root: PathBuf,
}

impl FsStore {
    /// The store in the directory `root`. Nothing is opened or made until something is read or stored; reading makes
    /// nothing.
    ///
    /// `root` is trusted: symbolic links on the way to it are followed. None below it is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// As [`ConfStore::lock`], with the lock's file: a child process that is lent it keeps the domain locked until its
    /// own end, so that no process takes the domain for abandoned while the child of a process that was killed still works
    /// on it. The file is gone when the lock is.
    ///
    /// # Errors
    /// As [`ConfStore::lock`].
    pub async fn lock_with_file(
        &self,
        domain: Uuid,
        owner: &Owner,
        wait: Duration,
    ) -> Result<(Box<dyn DomainLock>, Weak<LockFile>), Error> {
        let lock = lock::take(&self.root, domain, owner, wait).await?;
        let file = lock.file();
        Ok((Box::new(lock), file))
    }

    fn domain(&self, domain: Uuid) -> Result<Option<Dir>, Error> {
        let Some(root) = found(Dir::open(&self.root))? else { return Ok(None) };
        found(root.open_dir(&layout::directory(domain)))
    }
}

#[async_trait]
impl ConfStore for FsStore {
    async fn domains(&self) -> Result<Vec<Uuid>, Error> {
        let Some(root) = found(Dir::open(&self.root))? else { return Ok(Vec::new()) };
        let mut domains = Vec::new();
        root.names(&mut |name| domains.extend(layout::domain(name)))?;
        domains.retain(|domain| match root.open_dir(&layout::directory(*domain)) {
            // Whatever is wrong with it is said when it is read.
            Err(_) => true,
            Ok(dir) => !is_empty(&dir),
        });
        Ok(domains)
    }

    async fn load(&self, domain: Uuid, name: &SnapshotName) -> Result<Record, Error> {
        let missing = || {
            let message = format!("domain {domain} has no snapshot {name:?}", name = name.as_str());
            Error::new(crate::Kind::NotFound, message)
        };
        let dir = self.domain(domain)?.ok_or_else(missing)?;
        found(Reader::default().read(&dir, name))?.ok_or_else(missing)
    }

    async fn list(&self, domain: Uuid, visit: &mut (dyn FnMut(Entry) + Send)) -> Result<(), Error> {
        let Some(dir) = self.domain(domain)? else { return Ok(()) };
        let mut names = Vec::new();
        dir.names(&mut |file| names.extend(layout::record_name(file)))?;
        many::read_all(&dir, &names, visit);
        Ok(())
    }

    async fn names(&self, domain: Uuid) -> Result<Vec<SnapshotName>, Error> {
        let Some(dir) = self.domain(domain)? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        dir.names(&mut |file| names.extend(layout::record_name(file)))?;
        Ok(names)
    }

    async fn domain_record(&self, domain: Uuid) -> Result<Option<DomainRecord>, Error> {
        let Some(dir) = self.domain(domain)? else { return Ok(None) };
        read::domain_record(&dir)
    }

    async fn journal(&self, domain: Uuid) -> Result<Option<Vec<u8>>, Error> {
        let Some(dir) = self.domain(domain)? else { return Ok(None) };
        found(dir.read(layout::JOURNAL, layout::MAX_JOURNAL))
    }

    async fn is_locked(&self, domain: Uuid) -> Result<bool, Error> {
        let Some(dir) = self.domain(domain)? else { return Ok(false) };
        dir.is_locked(layout::LOCK)
    }

    async fn lock(&self, domain: Uuid, owner: &Owner, wait: Duration) -> Result<Box<dyn DomainLock>, Error> {
        Ok(self.lock_with_file(domain, owner, wait).await?.0)
    }
}

/// Whether a domain's directory holds nothing that was stored.
fn is_empty(dir: &Dir) -> bool {
    let mut empty = true;
    let listed = dir.names(&mut |file| {
        empty &= layout::record_name(file).is_none() && file != layout::DOMAIN && file != layout::JOURNAL;
    });
    empty && listed.is_ok()
}
