//! The design's four functions on a snapshot's configuration file (its section 2.1), on any store.
//!
//! They take the domain's uuid where the design takes a domid, which only a toolstack can resolve. Of a [`crate::Record`]
//! they see libxl's struct alone.

use std::time::Duration;

use uuid::Uuid;
use xlsnap_types::libxl::DomainSnapshot;
use xlsnap_types::model::{Snapshot, SnapshotName};

use crate::{ConfStore, Error, Kind, Owner, Record};

/// What [`list_dom_snapshot`] found.
#[derive(Debug, Default)]
pub struct Listing {
    /// The snapshots, in no order.
    pub snapshots: Vec<DomainSnapshot>,
    /// The names of the others, and why they cannot be read.
    pub unreadable: Vec<(String, Error)>,
}

/// `libxl_load_dom_snapshot_conf`: the snapshot `name` of `domain`.
///
/// # Errors
/// [`Kind::NotFound`] when there is none; [`Kind::Malformed`] when its record cannot be read, or `name` is no name.
pub async fn load_dom_snapshot_conf(
    store: &dyn ConfStore,
    domain: Uuid,
    name: &str,
) -> Result<DomainSnapshot, Error> {
    Ok(store.load(domain, &checked(name)?).await?.snapshot)
}

/// `libxl_store_dom_snapshot_conf`: stores `snapshot` under its name, in the place of one of that name if there is one,
/// and leaves as it is what else is known of that one. Holds the domain's lock meanwhile, and waits for it up to `wait`.
///
/// Cancel safety: dropped before the lock is taken, nothing has happened; later, see the store's own promise.
///
/// # Errors
/// [`Kind::Malformed`], the design's `ERROR_INVAL`, when the struct is no [`Snapshot`] (a name that is empty or not valid, a disk
/// without a device or with one that is a path, a device that stands twice, an external snapshot of no format) or could not be
/// read again; else what the store reports. A struct that is not valid is refused before the lock is taken.
pub async fn store_dom_snapshot_conf(
    store: &dyn ConfStore,
    domain: Uuid,
    snapshot: &DomainSnapshot,
    owner: &Owner,
    wait: Duration,
) -> Result<(), Error> {
    let valid = Snapshot::try_from(snapshot)
        .map_err(|why| Error::new(Kind::Malformed, "that is no snapshot of a domain").with_source(why))?;
    let name = valid.name;
    let mut lock = store.lock(domain, owner, wait).await?;
    let meta = match store.load(domain, &name).await {
        Ok(record) => record.meta,
        // A record that cannot be read is replaced, as the design's function would.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Malformed) => None,
        Err(error) => return Err(error),
    };
    lock.store(&Record { snapshot: snapshot.clone(), meta }, true).await
}

/// `libxl_delete_dom_snapshot_conf`: deletes the record of the snapshot `name`. Holds the domain's lock meanwhile, and
/// waits for it up to `wait`.
///
/// Cancel safety: as [`store_dom_snapshot_conf`].
///
/// # Errors
/// [`Kind::NotFound`] when there is none; [`Kind::Malformed`] when `name` is no name.
pub async fn delete_dom_snapshot_conf(
    store: &dyn ConfStore,
    domain: Uuid,
    name: &str,
    owner: &Owner,
    wait: Duration,
) -> Result<(), Error> {
    let name = checked(name)?;
    // Looked for first, for taking the lock of an unknown domain would make it known.
    store.names(domain).await?.iter().find(|there| **there == name).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("domain {domain} has no snapshot {:?}", name.as_str()))
    })?;
    store.lock(domain, owner, wait).await?.delete(&name).await
}

/// `libxl_list_dom_snapshot`: all snapshots of `domain`. None is no error: the C function returns NULL then.
///
/// Cancel safety: it only reads.
///
/// # Errors
/// What the store reports when it cannot be listed at all.
pub async fn list_dom_snapshot(store: &dyn ConfStore, domain: Uuid) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let mut visit = |entry: crate::Entry| match entry.record {
        Ok(record) => listing.snapshots.push(record.snapshot),
        Err(error) => listing.unreadable.push((entry.name, error)),
    };
    store.list(domain, &mut visit).await?;
    Ok(listing)
}

fn checked(name: &str) -> Result<SnapshotName, Error> {
    SnapshotName::new(name).map_err(|error| {
        Error::new(Kind::Malformed, "that cannot be the name of a snapshot").with_source(error)
    })
}
