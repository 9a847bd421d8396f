//! The four functions on a snapshot's configuration file (the design's section 2.1).

use xlsnap_conf_store::{Kind as StoreKind, Owner, dom_snapshot_conf as conf};
use xlsnap_orchestrator::Clock;
use xlsnap_types::libxl::DomainSnapshot;
use xlsnap_types::model::{Snapshot, SnapshotName};

use super::{Code, Failure};
use crate::failures::from_store;
use crate::xen::Numbered;
use crate::{Host, Kind};

/// `libxl_load_dom_snapshot_conf`: what is stored of the snapshot `name`.
///
/// # Errors
/// [`Code::Inval`] when `name` is no name; [`Code::NotFound`]; [`Code::Fail`] when what is stored cannot be read.
pub async fn load_dom_snapshot_conf(host: &Host, domid: u32, name: &str) -> Result<DomainSnapshot, Failure> {
    let name = checked(name)?;
    let domain = domain(host, domid).await?;
    conf::load_dom_snapshot_conf(&host.store, domain.uuid, name.as_str())
        .await
        .map_err(|e| failed(&domain, &format!("snapshot {name} cannot be loaded"), e))
}

/// `libxl_store_dom_snapshot_conf`: stores `snapshot` under its name, in the place of one of that name if there is one.
///
/// # Errors
/// [`Code::Inval`] when the struct is no [`Snapshot`]: its name is missing, empty or not valid; a disk has no device, one that is a
/// path, or that of another disk; an external snapshot has no format of a file. Also when the store could not read it again.
/// [`Code::LockFail`].
///
/// # Cancel safety
/// Dropped, it has stored the whole or nothing.
pub async fn store_dom_snapshot_conf(
    host: &Host,
    domid: u32,
    snapshot: &DomainSnapshot,
) -> Result<(), Failure> {
    let valid = Snapshot::try_from(snapshot);
    let name = valid.map_err(|why| Failure::invalid("that is no snapshot of a domain").because(why))?.name;
    let domain = domain(host, domid).await?;
    let owner = owner(host, "store_dom_snapshot_conf");
    let stored =
        conf::store_dom_snapshot_conf(&host.store, domain.uuid, snapshot, &owner, host.options.lock_wait);
    stored.await.map_err(|e| {
        let invalid = e.kind() == StoreKind::Malformed;
        let failure = failed(&domain, &format!("snapshot {name} cannot be stored"), e);
        if invalid { Failure { code: Code::Inval, ..failure } } else { failure }
    })
}

/// `libxl_delete_dom_snapshot_conf`: deletes what is stored of the snapshot `name`. The disks keep theirs.
///
/// # Errors
/// [`Code::Inval`] when `name` is no name; [`Code::NotFound`]; [`Code::LockFail`].
///
/// # Cancel safety
/// Dropped, it has deleted all of it or nothing.
pub async fn delete_dom_snapshot_conf(host: &Host, domid: u32, name: &str) -> Result<(), Failure> {
    let name = checked(name)?;
    let domain = domain(host, domid).await?;
    let owner = owner(host, "delete_dom_snapshot_conf");
    let wait = host.options.lock_wait;
    conf::delete_dom_snapshot_conf(&host.store, domain.uuid, name.as_str(), &owner, wait)
        .await
        .map_err(|e| failed(&domain, &format!("the record of snapshot {name} cannot be deleted"), e))
}

/// `libxl_list_dom_snapshot`: all snapshots whose record can be read, by creation time, then name.
///
/// # Errors
/// When the store cannot be listed. A record that cannot be read is left out, and logged.
pub async fn list_dom_snapshot(host: &Host, domid: u32) -> Result<Vec<DomainSnapshot>, Failure> {
    let domain = domain(host, domid).await?;
    let listing = conf::list_dom_snapshot(&host.store, domain.uuid).await;
    let mut listing = listing.map_err(|e| failed(&domain, "the snapshots cannot be listed", e))?;
    for (name, why) in &listing.unreadable {
        tracing::warn!(error = %why, "the record of snapshot {name} of domain {} cannot be read", domain.name);
    }
    listing.snapshots.sort_by(|a, b| (a.creation_time, &a.name).cmp(&(b.creation_time, &b.name)));
    Ok(listing.snapshots)
}

/// The domain of a domid.
pub(super) async fn domain(host: &Host, domid: u32) -> Result<Numbered, Failure> {
    host.numbered(domid).await.map_err(|error| {
        let code = if error.kind() == Kind::NotFound { Code::DomainNotFound } else { Code::of(&error) };
        Failure { code, error }
    })
}

/// A name that a snapshot may have.
fn checked(name: &str) -> Result<SnapshotName, Failure> {
    SnapshotName::new(name)
        .map_err(|why| Failure::invalid(format!("{name:?} cannot be the name of a snapshot")).because(why))
}

/// This process as the owner of a lock.
fn owner(host: &Host, function: &str) -> Owner {
    let since = host.clock.epoch_seconds();
    Owner { pid: std::process::id(), operation: function.to_owned(), since }
}

fn failed(domain: &Numbered, what: &str, error: xlsnap_conf_store::Error) -> Failure {
    let unknown = error.effect() == xlsnap_conf_store::Effect::Unknown;
    let failure = Failure::from(from_store(error, format!("domain {}: {what}", domain.name)));
    if unknown { Failure { code: Code::BadFail, ..failure } } else { failure }
}
