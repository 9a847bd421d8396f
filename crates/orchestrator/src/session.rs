//! An operation under way: it holds the domain's lock, and whatever a crash had left is finished.

use std::future::Future;

use tracing::Instrument;
use xlsnap_conf_store::{DomainLock, Owner};
use xlsnap_types::model::{DomainRecord, SnapshotName};

use crate::error::{from_port, from_store};
use crate::journal::Journal;
use crate::{
    DomainRef, Effect, Error, GuestState, ImageTarget, Inventory, Kind, PortError, Ports, Progress, Recovered,
};

pub(crate) struct Session<'a> {
    pub(crate) ports: Ports<'a>,
    pub(crate) domain: &'a DomainRef,
    pub(crate) lock: Box<dyn DomainLock>,
    pub(crate) steps: Steps<'a>,
    /// A revert that was cut short is finished with the disks alone.
    pub(crate) without_memory: bool,
}

/// The steps of an operation, for those who watch and for the log.
pub(crate) struct Steps<'a> {
    progress: &'a dyn Progress,
    number: usize,
    total: usize,
}

impl Steps<'_> {
    /// How many steps are to come.
    pub(crate) fn expect(&mut self, total: usize) {
        self.number = 0;
        self.total = total.max(1);
    }

    /// Runs one step under a span of its own.
    pub(crate) async fn run<T>(&mut self, what: &str, step: impl Future<Output = T>) -> T {
        self.number = (self.number + 1).min(self.total);
        self.progress.step(self.number, self.total, what);
        step.instrument(tracing::info_span!("step", what)).await
    }
}

impl<'a> Session<'a> {
    /// Takes the domain's lock.
    pub(crate) async fn open(
        ports: &Ports<'a>,
        domain: &'a DomainRef,
        operation: &str,
    ) -> Result<Self, Error> {
        let owner =
            Owner { pid: domain.pid, operation: operation.to_owned(), since: ports.clock.epoch_seconds() };
        let lock = ports
            .store
            .lock(domain.uuid, &owner, domain.lock_wait)
            .await
            .map_err(|e| from_store(e, format!("the lock of domain {} cannot be taken", domain.name)))?;
        let steps = Steps { progress: ports.progress, number: 0, total: 1 };
        Ok(Self { ports: *ports, domain, lock, steps, without_memory: false })
    }

    /// Takes the domain's lock and finishes what a crash left.
    pub(crate) async fn open_recovered(
        ports: &Ports<'a>,
        domain: &'a DomainRef,
        operation: &str,
    ) -> Result<(Self, Option<Recovered>), Error> {
        let mut session = Self::open(ports, domain, operation).await?;
        let recovered = crate::recover::finish(&mut session).await?;
        if let Some(recovered) = &recovered {
            tracing::info!(domain = %domain.name, "{recovered}");
        }
        Ok((session, recovered))
    }

    /// All disks as they are now.
    pub(crate) async fn inventory(&self) -> Result<Inventory, Error> {
        inventory(&self.ports, self.domain).await
    }

    /// The guest's state now.
    pub(crate) async fn guest(&self) -> Result<GuestState, Error> {
        guest(&self.ports, self.domain).await
    }

    pub(crate) async fn set_journal(
        &mut self,
        journal: Option<&Journal>,
    ) -> Result<(), xlsnap_conf_store::Error> {
        let bytes = journal.map(Journal::bytes);
        self.lock.set_journal(bytes.as_deref()).await
    }

    /// Journals the intent of an operation that has had no effect yet.
    pub(crate) async fn intend(&mut self, journal: &Journal) -> Result<(), Error> {
        if journal.bytes().len() > Journal::MAX_BYTES {
            let message = format!(
                "snapshot {} of domain {}: too much for one operation",
                journal.name(),
                self.domain.name
            );
            return Err(Error::new(Kind::Refused, Effect::None, message));
        }
        let Err(cause) = self.set_journal(Some(journal)).await else { return Ok(()) };
        let message = format!("the intent to {} cannot be journaled", self.about(journal));
        // The entry may be there although writing it failed; left alone it would be recovered as an operation that ran.
        match self.set_journal(None).await {
            Ok(()) => Err(Error::new(Kind::Failed, Effect::None, message).with_source(cause)),
            Err(_) => Err(self.pending(message, Effect::None).with_source(cause)),
        }
    }

    /// Removes the journal after the operation's commit point; a failure is worth a warning only, because recovery
    /// finds nothing left to do.
    pub(crate) async fn close_journal(&mut self, warnings: &mut Vec<String>) {
        if let Err(error) = self.set_journal(None).await {
            warnings.push(format!(
                "the journal entry could not be removed ({}); the next operation on the domain does it",
                chain(&error)
            ));
        }
    }

    /// Ends an operation that failed and changed nothing: there is nothing to recover, unless the journal stays.
    pub(crate) async fn give_up(&mut self, cause: Error) -> Error {
        match self.set_journal(None).await {
            Ok(()) => cause,
            Err(e) => self
                .pending(format!("{}; and the journal cannot be removed", chain(&cause)), Effect::None)
                .with_source(e),
        }
    }

    /// Makes `name` the domain's current snapshot.
    pub(crate) async fn set_current(
        &mut self,
        name: Option<&SnapshotName>,
    ) -> Result<(), xlsnap_conf_store::Error> {
        let old = self.ports.store.domain_record(self.domain.uuid).await?;
        let record = DomainRecord {
            name: Some(self.domain.name.clone()),
            current: name.cloned(),
            // What others keep there is theirs.
            ..old.clone().unwrap_or_default()
        };
        if old.as_ref() == Some(&record) {
            return Ok(());
        }
        self.lock.set_domain_record(&record).await
    }

    /// "delete snapshot s of domain d".
    pub(crate) fn about(&self, journal: &Journal) -> String {
        format!("{} snapshot {} of domain {}", journal.operation(), journal.name(), self.domain.name)
    }

    /// An error that leaves work to `recover`.
    pub(crate) fn pending(&self, message: impl Into<String>, effect: Effect) -> Error {
        Error::new(Kind::RecoveryPending, effect, message)
            .with_advice("remove the cause, then run recover; the next operation on the domain does it too")
    }
}

pub(crate) async fn inventory(ports: &Ports<'_>, domain: &DomainRef) -> Result<Inventory, Error> {
    let looked = ports.disks.inventory().await;
    looked.map_err(|e| from_port(e, format!("the disks of domain {} cannot be looked at", domain.name)))
}

pub(crate) async fn guest(ports: &Ports<'_>, domain: &DomainRef) -> Result<GuestState, Error> {
    let asked = ports.guest.state().await;
    asked.map_err(|e| from_port(e, format!("the state of domain {} cannot be told", domain.name)))
}

/// Refuses a dry run while an operation is to be recovered: its plan would be of a state that does not last.
pub(crate) async fn refuse_pending(ports: &Ports<'_>, domain: &DomainRef) -> Result<(), Error> {
    let journal = ports
        .store
        .journal(domain.uuid)
        .await
        .map_err(|e| from_store(e, format!("the journal of domain {} cannot be read", domain.name)))?;
    if journal.is_none() {
        return Ok(());
    }
    let message = format!(
        "an operation on domain {} goes on or was interrupted; no plan is certain before its end",
        domain.name
    );
    Err(Error::new(Kind::RecoveryPending, Effect::None, message).with_advice("wait for it, or run recover"))
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The disks on which something failed, as a list in one line. Why the first failed is not in it: that becomes the source of
/// the error whose message this is.
pub(crate) fn places(failed: &[(&ImageTarget, PortError)], place: impl Fn(&ImageTarget) -> String) -> String {
    let mut places = Vec::with_capacity(failed.len());
    for (at, (target, e)) in failed.iter().enumerate() {
        let place = place(target);
        places.push(if at == 0 { place } else { format!("{place}: {}", chain(e)) });
    }
    places.join("; ")
}
