//! The store as an operation sees it: with the domain's lock comes the certainty that its file says what it said, and each
//! writing qemu-img keeps the domain locked until it ends.
//!
//! A domain's file is read before its lock is taken, because it tells whose lock that is. Another operation may have made
//! an overlay the image of a disk meanwhile; whoever went on with the image below it would fork the disk.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_conf_store::durable::LockFile;
use xlsnap_conf_store::{ConfStore, DomainLock, Entry, Error, FsStore, Kind, Owner, Record};
use xlsnap_orchestrator::DomainRef;
use xlsnap_qemu_img::Lender;
use xlsnap_types::model::{DomainRecord, SnapshotName, XenRecord};

use crate::Domain;
use crate::domain::Shelf;

/// Where qemu-img gets the domain's lock from, once it is taken.
#[derive(Debug, Default)]
pub(crate) struct LockSlot(Mutex<Weak<LockFile>>);

impl Lender for LockSlot {
    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        file.map(|file| file.lend()).transpose()
    }
}

/// The store during one operation on one domain.
pub(crate) struct Held<'a> {
    store: &'a FsStore,
    shelf: &'a Shelf,
    described: Option<&'a Domain>,
    slot: &'a LockSlot,
    stale: AtomicBool,
    /// What is kept of a domain of Xen's with its records, and what it is called.
    keep: Option<(&'a str, &'a XenRecord)>,
}

impl<'a> Held<'a> {
    /// The store, for an operation on a domain that was described so.
    pub(crate) fn new(
        store: &'a FsStore,
        shelf: &'a Shelf,
        described: Option<&'a Domain>,
        slot: &'a LockSlot,
    ) -> Self {
        Self { store, shelf, described, slot, stale: AtomicBool::new(false), keep: None }
    }

    /// The same for a domain of Xen's of which this is kept as soon as it is locked: nothing else knows it while it is off.
    pub(crate) fn keeping(mut self, who: &'a DomainRef, keep: Option<&'a XenRecord>) -> Self {
        self.keep = keep.map(|keep| (who.name.as_str(), keep));
        self
    }

    /// Whether the operation ended, without an effect, because the domain's file had changed.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), Error> {
        let Some(described) = self.described else { return Ok(()) };
        if matches!(self.shelf.load(&described.name), Ok(Some(now)) if now == *described) {
            return Ok(());
        }
        self.stale.store(true, Ordering::Relaxed);
        let message = format!("the file of domain {} was changed meanwhile: try again", described.name);
        Err(Error::new(Kind::Busy, message))
    }
}

#[async_trait]
impl ConfStore for Held<'_> {
    async fn domains(&self) -> Result<Vec<Uuid>, Error> {
        self.store.domains().await
    }

    async fn load(&self, domain: Uuid, name: &SnapshotName) -> Result<Record, Error> {
        self.store.load(domain, name).await
    }

    async fn list(&self, domain: Uuid, visit: &mut (dyn FnMut(Entry) + Send)) -> Result<(), Error> {
        self.store.list(domain, visit).await
    }

    async fn names(&self, domain: Uuid) -> Result<Vec<SnapshotName>, Error> {
        self.store.names(domain).await
    }

    async fn domain_record(&self, domain: Uuid) -> Result<Option<DomainRecord>, Error> {
        self.store.domain_record(domain).await
    }

    async fn journal(&self, domain: Uuid) -> Result<Option<Vec<u8>>, Error> {
        self.store.journal(domain).await
    }

    async fn lock(&self, domain: Uuid, owner: &Owner, wait: Duration) -> Result<Box<dyn DomainLock>, Error> {
        let (mut lock, file) = self.store.lock_with_file(domain, owner, wait).await?;
        self.check()?;
        if let Some((name, keep)) = self.keep {
            let old = self.store.domain_record(domain).await?;
            let new = DomainRecord {
                name: Some(name.to_owned()),
                xen: Some(keep.clone()),
                ..old.clone().unwrap_or_default()
            };
            if old.as_ref() != Some(&new) {
                lock.set_domain_record(&new).await?;
            }
        }
        *self.slot.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(lock)
    }
}
