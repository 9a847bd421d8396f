//! A store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, DomainLock, Entry, Error, Kind, Owner, Record};
use xlsnap_types::model::{DomainRecord, LayerRecord, Meta, SnapshotName};

use super::Faults;

#[derive(Debug, Clone, Default)]
struct Domain {
    records: BTreeMap<SnapshotName, Record>,
    unreadable: BTreeSet<SnapshotName>,
    record: Option<DomainRecord>,
    journal: Option<Vec<u8>>,
    lock: Arc<tokio::sync::Mutex<()>>,
    owner: Option<Owner>,
}

type Domains = Arc<Mutex<BTreeMap<Uuid, Domain>>>;

/// A store in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemStore {
    domains: Domains,
    faults: Faults,
    waits: bool,
}

fn domains(domains: &Domains) -> MutexGuard<'_, BTreeMap<Uuid, Domain>> {
    domains.lock().expect("no holder panics")
}

fn no_such(name: &SnapshotName) -> Error {
    Error::new(Kind::NotFound, format!("there is no snapshot {name}"))
}

impl MemStore {
    /// An empty store whose calls meet `faults`.
    pub fn with_faults(faults: Faults) -> Self {
        Self { domains: Domains::default(), faults, waits: false }
    }

    /// The same, but it waits for each write as one on a disk does, so that an operation can be left before it.
    #[must_use]
    pub fn that_waits(self) -> Self {
        Self { waits: true, ..self }
    }

    /// A store of its own with what is in this one now, unlocked.
    pub fn fork(&self, faults: Faults) -> Self {
        let mut all = domains(&self.domains).clone();
        for domain in all.values_mut() {
            domain.lock = Arc::default();
            domain.owner = None;
        }
        Self { domains: Arc::new(Mutex::new(all)), faults, waits: self.waits }
    }

    fn with<T>(&self, domain: Uuid, read: impl FnOnce(Option<&Domain>) -> T) -> T {
        read(domains(&self.domains).get(&domain))
    }

    fn change<T>(&self, domain: Uuid, change: impl FnOnce(&mut Domain) -> T) -> T {
        change(domains(&self.domains).entry(domain).or_default())
    }

    /// The records, without a call.
    pub fn records(&self, domain: Uuid) -> BTreeMap<SnapshotName, Record> {
        self.with(domain, |d| d.map(|d| d.records.clone()).unwrap_or_default())
    }

    /// The journal, without a call.
    pub fn left_journal(&self, domain: Uuid) -> Option<Vec<u8>> {
        self.with(domain, |d| d.and_then(|d| d.journal.clone()))
    }

    /// The current snapshot, without a call.
    pub fn current(&self, domain: Uuid) -> Option<SnapshotName> {
        self.with(domain, |d| d?.record.as_ref()?.current.clone())
    }

    /// The ledger of the layers, without a call.
    pub fn layers(&self, domain: Uuid) -> Vec<LayerRecord> {
        self.with(domain, |d| {
            d.and_then(|d| d.record.as_ref()).map(|record| record.layers.clone()).unwrap_or_default()
        })
    }

    /// Puts a record there, as another program would.
    pub fn plant(&self, domain: Uuid, record: Record) {
        let name = name_of(&record).expect("a test gives valid names");
        self.change(domain, |d| d.records.insert(name, record));
    }

    /// Puts a journal there, as another program would.
    pub fn plant_journal(&self, domain: Uuid, journal: Option<Vec<u8>>) {
        self.change(domain, |d| d.journal = journal);
    }

    /// Takes a record away, as another program would.
    pub fn steal(&self, domain: Uuid, name: &SnapshotName) {
        self.change(domain, |d| d.records.remove(name));
    }

    /// Makes a record, there or not, one that cannot be read.
    pub fn spoil(&self, domain: Uuid, name: &SnapshotName) {
        self.change(domain, |d| d.unreadable.insert(name.clone()));
    }
}

fn name_of(record: &Record) -> Result<SnapshotName, Error> {
    SnapshotName::new(record.snapshot.name.clone().unwrap_or_default())
        .map_err(|e| Error::new(Kind::Malformed, "the record has no name to store it under").with_source(e))
}

fn not_newer(what: &str, version: u32, ours: u32) -> Result<(), Error> {
    if version > ours {
        return Err(Error::new(
            Kind::Newer,
            format!("the format {version} of {what} is newer than this version"),
        ));
    }
    Ok(())
}

#[async_trait]
impl ConfStore for MemStore {
    async fn domains(&self) -> Result<Vec<Uuid>, Error> {
        self.faults.store("store.domains", || {
            let all = domains(&self.domains);
            let used = |d: &Domain| {
                !d.records.is_empty() || !d.unreadable.is_empty() || d.record.is_some() || d.journal.is_some()
            };
            Ok(all.iter().filter(|(_, d)| used(d)).map(|(uuid, _)| *uuid).collect())
        })
    }

    async fn load(&self, domain: Uuid, name: &SnapshotName) -> Result<Record, Error> {
        self.faults.store("store.load", || {
            self.with(domain, |d| {
                let domain = d.ok_or_else(|| no_such(name))?;
                if domain.unreadable.contains(name) {
                    return Err(Error::new(
                        Kind::Malformed,
                        format!("the record of snapshot {name} is spoilt"),
                    ));
                }
                domain.records.get(name).cloned().ok_or_else(|| no_such(name))
            })
        })
    }

    async fn list(&self, domain: Uuid, visit: &mut (dyn FnMut(Entry) + Send)) -> Result<(), Error> {
        let found =
            self.faults.store("store.list", || Ok(self.with(domain, |d| d.cloned().unwrap_or_default())))?;
        for (name, record) in found.records {
            if !found.unreadable.contains(&name) {
                visit(Entry { name: name.to_string(), record: Ok(record) });
            }
        }
        for name in found.unreadable {
            let error = Error::new(Kind::Malformed, format!("the record of snapshot {name} is spoilt"));
            visit(Entry { name: name.to_string(), record: Err(error) });
        }
        Ok(())
    }

    async fn names(&self, domain: Uuid) -> Result<Vec<SnapshotName>, Error> {
        self.faults.store("store.names", || {
            let found = self.with(domain, |d| d.cloned().unwrap_or_default());
            let readable: BTreeSet<_> = found.records.into_keys().chain(found.unreadable).collect();
            Ok(readable.into_iter().collect())
        })
    }

    async fn domain_record(&self, domain: Uuid) -> Result<Option<DomainRecord>, Error> {
        self.faults
            .store("store.domain_record", || Ok(self.with(domain, |d| d.and_then(|d| d.record.clone()))))
    }

    async fn journal(&self, domain: Uuid) -> Result<Option<Vec<u8>>, Error> {
        self.faults.store("store.journal", || Ok(self.left_journal(domain)))
    }

    async fn is_locked(&self, domain: Uuid) -> Result<bool, Error> {
        self.faults.store("store.is_locked", || {
            Ok(self.with(domain, |d| d.is_some_and(|d| d.lock.try_lock().is_err())))
        })
    }

    async fn lock(&self, domain: Uuid, owner: &Owner, wait: Duration) -> Result<Box<dyn DomainLock>, Error> {
        self.faults.store("store.lock", || Ok(()))?;
        let lock = self.change(domain, |d| d.lock.clone());
        let held = match lock.clone().try_lock_owned() {
            Ok(held) => Ok(held),
            Err(_) if wait.is_zero() => Err(()),
            Err(_) => tokio::time::timeout(wait, lock.lock_owned()).await.map_err(drop),
        };
        let Ok(held) = held else {
            let holder = self.with(domain, |d| d.and_then(|d| d.owner.clone()));
            let holder = holder.map_or("a process that is not known".to_owned(), |o| {
                format!("process {}, which does {}", o.pid, o.operation)
            });
            return Err(Error::new(Kind::Busy, format!("the domain {domain} is held by {holder}")));
        };
        self.change(domain, |d| d.owner = Some(owner.clone()));
        let Self { domains, faults, waits } = self.clone();
        Ok(Box::new(MemLock { domain, domains, faults, waits, held }))
    }
}

struct MemLock {
    domain: Uuid,
    domains: Domains,
    faults: Faults,
    waits: bool,
    #[expect(dead_code, reason = "it holds the lock until it is dropped")]
    held: OwnedMutexGuard<()>,
}

impl MemLock {
    async fn wait(&self) {
        if self.waits {
            tokio::task::yield_now().await;
        }
    }

    fn change<T>(
        &self,
        method: &'static str,
        change: impl FnOnce(&mut Domain) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.faults.store(method, || change(domains(&self.domains).entry(self.domain).or_default()))
    }
}

#[async_trait]
impl DomainLock for MemLock {
    async fn store(&mut self, record: &Record, replace: bool) -> Result<(), Error> {
        let name = name_of(record)?;
        let version = record.meta.as_ref().map_or(0, |meta| meta.format_version);
        not_newer("the snapshot", version, Meta::FORMAT_VERSION)?;
        let mut record = record.clone();
        for disk in &mut record.snapshot.disks {
            disk.path = Some(String::new());
        }
        self.wait().await;
        self.change("lock.store", |d| {
            if !replace && (d.records.contains_key(&name) || d.unreadable.contains(&name)) {
                return Err(Error::new(Kind::AlreadyExists, format!("there is a snapshot {name} already")));
            }
            d.unreadable.remove(&name);
            d.records.insert(name, record);
            Ok(())
        })
    }

    async fn delete(&mut self, name: &SnapshotName) -> Result<(), Error> {
        self.wait().await;
        self.change("lock.delete", |d| {
            let spoilt = d.unreadable.remove(name);
            let there = d.records.remove(name).is_some();
            if spoilt || there { Ok(()) } else { Err(no_such(name)) }
        })
    }

    async fn set_domain_record(&mut self, record: &DomainRecord) -> Result<(), Error> {
        not_newer("the domain", record.format_version, DomainRecord::FORMAT_VERSION)?;
        self.wait().await;
        self.change("lock.set_domain_record", |d| {
            d.record = Some(record.clone());
            Ok(())
        })
    }

    async fn set_journal(&mut self, entry: Option<&[u8]>) -> Result<(), Error> {
        self.change("lock.set_journal", |d| {
            d.journal = entry.map(<[u8]>::to_vec);
            Ok(())
        })
    }

    async fn forget(self: Box<Self>) -> Result<Vec<String>, Error> {
        self.change("lock.forget", |d| {
            *d = Domain { lock: d.lock.clone(), owner: d.owner.clone(), ..Domain::default() };
            Ok(Vec::new())
        })
    }
}
