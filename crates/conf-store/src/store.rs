//! The trait, and what goes through it.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xlsnap_types::libxl;
use xlsnap_types::model::{DomainRecord, Meta, SnapshotName};

use crate::Error;

/// One snapshot as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// libxl's struct; its name is the record's key, and `path` of its disks is empty.
    pub snapshot: libxl::DomainSnapshot,
    /// What the struct cannot hold; `None` for a record that another program made.
    pub meta: Option<Meta>,
}

/// One record met while listing; one that cannot be read does not hide the others.
#[derive(Debug)]
pub struct Entry {
    /// Its name as stored.
    pub name: String,
    /// The record, or why it cannot be read.
    pub record: Result<Record, Error>,
}

/// The process that holds a lock, for those that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its process.
    pub pid: u32,
    /// What it does: `create`, `delete`.
    pub operation: String,
    /// Since when, in seconds since 1970-01-01 UTC.
    pub since: u64,
}

/// A store of snapshot records, by domain uuid and snapshot name. Reading needs no lock and sees whole records only.
///
/// # Cancel safety
/// Reading changes nothing, and dropping the future of [`ConfStore::lock`] takes no lock.
#[async_trait]
pub trait ConfStore: Send + Sync {
    /// The domains that have something stored.
    async fn domains(&self) -> Result<Vec<Uuid>, Error>;

    /// The record `name`. [`crate::Kind::NotFound`] when there is none.
    async fn load(&self, domain: Uuid, name: &SnapshotName) -> Result<Record, Error>;

    /// Calls `visit` with each record, in no order, one at a time so that ten thousand need no memory but that of their names. It may be
    /// called on other threads, until this returns.
    /// A domain that is not known has none.
    async fn list(&self, domain: Uuid, visit: &mut (dyn FnMut(Entry) + Send)) -> Result<(), Error>;

    /// The names of all records, readable or not, without reading them, in no order.
    async fn names(&self, domain: Uuid) -> Result<Vec<SnapshotName>, Error>;

    /// What is kept of the domain itself.
    async fn domain_record(&self, domain: Uuid) -> Result<Option<DomainRecord>, Error>;

    /// The journal entry that an operation left, or that one which goes on has written.
    async fn journal(&self, domain: Uuid) -> Result<Option<Vec<u8>>, Error>;

    /// Whether a living operation holds the domain's lock now: then a journal entry is that operation's, and not left over.
    async fn is_locked(&self, domain: Uuid) -> Result<bool, Error>;

    /// Takes the domain's lock, waiting up to `wait` for it. [`crate::Kind::Busy`] names the owner.
    async fn lock(&self, domain: Uuid, owner: &Owner, wait: Duration) -> Result<Box<dyn DomainLock>, Error>;
}

/// The domain's lock: the only way to change what is stored. Dropping it releases the lock.
///
/// # Cancel safety
/// Each method is durable and atomic: when it returns `Ok`, the change survives a power cut, and a crash within it, or
/// dropping its future, leaves the old or the new. When it fails, [`Error::effect`] tells which.
#[async_trait]
#[must_use = "dropping it releases the domain's lock"]
pub trait DomainLock: Send + Sync {
    /// Stores a record under its name; `replace` allows one of that name to be there, which is replaced with both its
    /// parts: a record without meta is stored without it. The commit point is one atomic step: before it both parts of
    /// the old record are seen, after it both of the new. The `path` of each disk is stored empty.
    ///
    /// Errors: [`crate::Kind::AlreadyExists`]; [`crate::Kind::Malformed`] when the struct has no valid name or could not be
    /// read again; [`crate::Kind::Newer`] when the meta that is there, or the given one, has a higher format version than
    /// [`Meta::FORMAT_VERSION`]. Readable or not, a record of that name counts as being there.
    async fn store(&mut self, record: &Record, replace: bool) -> Result<(), Error>;

    /// Deletes the record `name` with both its parts, readable or not. [`crate::Kind::NotFound`] when there is none.
    async fn delete(&mut self, name: &SnapshotName) -> Result<(), Error>;

    /// Replaces what is kept of the domain itself. [`crate::Kind::Newer`] as for [`DomainLock::store`].
    async fn set_domain_record(&mut self, record: &DomainRecord) -> Result<(), Error>;

    /// Says what the holder does now, to those that find the domain locked. Nothing depends on it, so it cannot fail.
    fn tell(&mut self, doing: Option<&str>) {
        let _ = doing;
    }

    /// Replaces the journal entry, or removes it; removing what is not there is no error.
    async fn set_journal(&mut self, entry: Option<&[u8]>) -> Result<(), Error>;

    /// Deletes all that is stored of the domain: records, what is kept of the domain itself, the journal entry. Releases the
    /// lock, and gives the names of what lies with these and is not the store's: the domain has nothing stored then, but that
    /// stays.
    ///
    /// One that was cut off has deleted some records, each with both its parts; again deletes the others.
    async fn forget(self: Box<Self>) -> Result<Vec<String>, Error>;
}
