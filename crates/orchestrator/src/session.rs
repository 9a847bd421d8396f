//! The lock of a domain: only its holder may change what is stored of the domain. A leaf: it knows no operation.

use futures_util::lock::Mutex;
use xlsnap_conf_store::{ConfStore, DomainLock, Owner, Record};
use xlsnap_types::model::{DomainRecord, LayerRecord, SnapshotName};

use crate::error::from_store;
use crate::journal::{Journal, parse};
use crate::{Clock, DomainRef, Effect, Error, Kind};

/// A domain whose lock is held. It is opened before the domain's description is read and its backend reached, so that both stay
/// true; the operations are methods of it, and take the ports.
///
/// Dropping it releases the lock.
#[must_use = "dropping it releases the domain's lock"]
pub struct Session<'a> {
    pub(crate) store: &'a dyn ConfStore,
    pub(crate) domain: &'a DomainRef,
    lock: Mutex<Box<dyn DomainLock>>,
}

impl<'a> Session<'a> {
    /// Takes the domain's lock, waiting for it as long as `domain` says. `operation` is a word for the processes that wait meanwhile.
    ///
    /// # Errors
    /// [`Kind::Busy`] names the process that holds it.
    ///
    /// # Cancel safety
    /// Dropped, it has taken no lock.
    pub async fn open(
        store: &'a dyn ConfStore,
        clock: &dyn Clock,
        domain: &'a DomainRef,
        operation: &str,
    ) -> Result<Self, Error> {
        let owner = Owner { pid: domain.pid, operation: operation.to_owned(), since: clock.epoch_seconds() };
        let lock = store.lock(domain.uuid, &owner, domain.lock_wait).await;
        let lock =
            lock.map_err(|e| from_store(e, format!("the lock of domain {} cannot be taken", domain.name)))?;
        Ok(Self::of_lock(store, domain, lock))
    }

    /// The session of a lock that was taken already.
    pub fn of_lock(store: &'a dyn ConfStore, domain: &'a DomainRef, lock: Box<dyn DomainLock>) -> Self {
        Self { store, domain, lock: Mutex::new(lock) }
    }

    /// Replaces what is kept of the domain itself.
    ///
    /// # Errors
    /// As [`DomainLock::set_domain_record`].
    ///
    /// # Cancel safety
    /// As [`DomainLock`].
    pub async fn set_domain_record(&self, record: &DomainRecord) -> Result<(), xlsnap_conf_store::Error> {
        self.lock.lock().await.set_domain_record(record).await
    }

    /// Says what is done now, to those that wait for the lock; where the lock is being used just now, it is not said.
    pub(crate) fn tell(&self, doing: &str) {
        if let Some(mut lock) = self.lock.try_lock() {
            lock.tell(Some(doing));
        }
    }

    pub(crate) async fn set_journal(
        &self,
        journal: Option<&Journal>,
    ) -> Result<(), xlsnap_conf_store::Error> {
        let bytes = journal.map(Journal::bytes);
        self.lock.lock().await.set_journal(bytes.as_deref()).await
    }

    pub(crate) async fn store_record(
        &self,
        record: &Record,
        replace: bool,
    ) -> Result<(), xlsnap_conf_store::Error> {
        self.lock.lock().await.store(record, replace).await
    }

    pub(crate) async fn delete_record(&self, name: &SnapshotName) -> Result<(), xlsnap_conf_store::Error> {
        self.lock.lock().await.delete(name).await
    }

    /// The journal that a crash left, if any.
    pub(crate) async fn left_journal(&self) -> Result<Option<Journal>, Error> {
        left_journal(self.store, self.domain).await
    }

    /// Journals the intent of an operation that has had no effect yet.
    pub(crate) async fn intend(&self, journal: &Journal) -> Result<(), Error> {
        if journal.bytes().len() > Journal::MAX_BYTES {
            let message = format!("{}: too much for one operation", journal.about(&self.domain.name));
            return Err(Error::new(Kind::Refused, Effect::None, message).with_advice(
                "do it in parts: name fewer disks, or delete from the leaves on without --children",
            ));
        }
        let Err(cause) = self.set_journal(Some(journal)).await else { return Ok(()) };
        let message = format!("the intent to {} cannot be journaled", journal.about(&self.domain.name));
        // The entry may be there although writing it failed; left alone it would be recovered as an operation that ran.
        match self.set_journal(None).await {
            Ok(()) => Err(Error::new(Kind::Failed, Effect::None, message).with_source(cause)),
            Err(_) => Err(pending(message, Effect::None).with_source(cause)),
        }
    }

    /// Removes the journal of an operation that is done; a failure is worth a warning only, because recovery finds nothing left
    /// to do.
    pub(crate) async fn close_journal(&self, warnings: &mut Vec<String>) {
        if let Err(error) = self.set_journal(None).await {
            warnings.push(format!(
                "the journal entry cannot be removed ({}); the next operation on the domain removes it",
                chain(&error)
            ));
        }
    }

    /// Changes the ledger of the domain's layers.
    pub(crate) async fn set_layers(
        &self,
        change: impl FnOnce(&mut Vec<LayerRecord>),
    ) -> Result<(), xlsnap_conf_store::Error> {
        let old = self.store.domain_record(self.domain.uuid).await?.unwrap_or_default();
        let mut layers = old.layers.clone();
        change(&mut layers);
        let record = DomainRecord { name: Some(self.domain.name.clone()), layers, ..old };
        self.set_domain_record(&record).await
    }

    /// Makes `name` the domain's current snapshot.
    pub(crate) async fn set_current(
        &self,
        name: Option<&SnapshotName>,
    ) -> Result<(), xlsnap_conf_store::Error> {
        let old = self.store.domain_record(self.domain.uuid).await?;
        let record = DomainRecord {
            name: Some(self.domain.name.clone()),
            current: name.cloned(),
            // What adapters keep there is theirs.
            ..old.unwrap_or_default()
        };
        self.set_domain_record(&record).await
    }
}

/// The journal that a crash left, if any; one that an operation under way has written looks the same to those without the lock.
pub(crate) async fn left_journal(
    store: &dyn ConfStore,
    domain: &DomainRef,
) -> Result<Option<Journal>, Error> {
    let bytes = store.journal(domain.uuid).await;
    let bytes =
        bytes.map_err(|e| from_store(e, format!("the journal of domain {} cannot be read", domain.name)))?;
    let Some(bytes) = bytes else { return Ok(None) };
    parse(&bytes).map(Some).map_err(|e| {
        let message = format!(
            "an operation on domain {} was interrupted, and what its journal says is not understood",
            domain.name
        );
        Error::new(Kind::RecoveryPending, Effect::None, message)
            .with_source(e)
            .with_advice("recover with the version of xlsnap that wrote it; nothing was touched")
    })
}

/// An error that leaves work to `recover`.
pub(crate) fn pending(message: impl Into<String>, effect: Effect) -> Error {
    Error::new(Kind::RecoveryPending, effect, message)
        .with_advice("remove the cause, then run recover; the next operation on the domain does it too")
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
