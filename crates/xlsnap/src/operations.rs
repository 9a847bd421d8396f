//! The operations on snapshots: each finds the domain, reaches it, and lets the orchestrator work.

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Record};
use xlsnap_orchestrator::{
    self as orchestrator, CheckReport, CheckRequest, CreatePlan, CreateReport, CreateRequest, DeletePlan,
    DeleteReport, DeleteRequest, DomainRef, Error, Listing, Ports, Recovered, Reversibility, RevertPlan,
    RevertReport, RevertRequest,
};
use xlsnap_types::model::SnapshotName;

use crate::failures::from_store;
use crate::held::Held;
use crate::reach::Reached;
use crate::{Host, Planned, Selector};

/// How often an operation is begun before somebody who keeps changing the domain's file makes it fail.
const MOST_ATTEMPTS: u32 = 10;

/// The snapshots of one domain.
#[derive(Debug)]
pub struct DomainListing {
    /// The domain's name; its uuid as text where nobody knows its name.
    pub domain: String,
    /// Its uuid.
    pub uuid: Uuid,
    /// Its snapshots.
    pub listing: Listing,
}

/// All that is known of one snapshot.
#[derive(Debug)]
pub struct SnapshotDetails {
    /// The domain's name.
    pub domain: String,
    /// Its uuid.
    pub uuid: Uuid,
    /// The record as stored.
    pub record: Record,
    /// Whether it is the one that was made or reverted to last.
    pub current: bool,
    /// Whether it can be reverted to and deleted, and how.
    pub reversibility: Reversibility,
}

impl Host {
    /// Makes a snapshot: all chosen disks at one instant.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::create`], and [`crate::Kind::NotFound`] or [`crate::Kind::Busy`] when the domain cannot be
    /// reached.
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::create`]: what it leaves is recovered by the next operation on the domain.
    pub async fn create(&self, selector: &Selector, request: &CreateRequest) -> Result<CreateReport, Error> {
        if request.memory.is_some() {
            self.shelf.make_run_directory()?;
        }
        self.on(selector, async |ports, who| orchestrator::create(ports, who, request, Uuid::new_v4()).await)
            .await
    }

    /// What [`Host::create`] would do. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::create`] before its first effect.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_create(
        &self,
        selector: &Selector,
        request: &CreateRequest,
    ) -> Result<Planned<CreatePlan>, Error> {
        self.planned(selector, async |ports, who| {
            orchestrator::plan_create(ports, who, request, Uuid::new_v4()).await
        })
        .await
    }

    /// The snapshots of a domain. Its images are not looked at, and no monitor is asked.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when there is no such domain; a record that cannot be read is in the listing.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn list(&self, selector: &Selector) -> Result<DomainListing, Error> {
        let who = self.known(selector).await?;
        let listing = orchestrator::list(&self.store, who.uuid).await?;
        Ok(DomainListing { domain: who.name, uuid: who.uuid, listing })
    }

    /// The selectors of all domains: those that a file describes, then those that only have something stored.
    ///
    /// # Errors
    /// When the domain files or the store cannot be listed.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn domains(&self) -> Result<Vec<Selector>, Error> {
        self.all_domains().await
    }

    /// All that is stored of one snapshot.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when there is no such domain or snapshot.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn show(&self, selector: &Selector, name: &SnapshotName) -> Result<SnapshotDetails, Error> {
        let who = self.known(selector).await?;
        let cannot = |e| from_store(e, format!("snapshot {name} of domain {} cannot be shown", who.name));
        let record = self.store.load(who.uuid, name).await.map_err(|e| match e.kind() {
            xlsnap_conf_store::Kind::NotFound => {
                crate::failures::not_found(format!("domain {} has no snapshot {name}", who.name))
                    .with_advice("list those that it has")
            }
            _ => cannot(e),
        })?;
        let of_domain = self.store.domain_record(who.uuid).await.map_err(cannot)?;
        let current = of_domain.and_then(|of_domain| of_domain.current).as_ref() == Some(name);
        let reversibility = Reversibility::of(&record);
        Ok(SnapshotDetails { domain: who.name, uuid: who.uuid, record, current, reversibility })
    }

    /// Brings the domain back to a snapshot: its disks, and its guest's memory where that is part of it.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::revert`].
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::revert`]: what it leaves is recovered by the next operation on the domain.
    pub async fn revert(&self, selector: &Selector, request: &RevertRequest) -> Result<RevertReport, Error> {
        self.shelf.make_run_directory()?;
        self.on(selector, async |ports, who| orchestrator::revert(ports, who, request, Uuid::new_v4()).await)
            .await
    }

    /// What [`Host::revert`] would do. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::revert`] before its first effect.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_revert(
        &self,
        selector: &Selector,
        request: &RevertRequest,
    ) -> Result<Planned<RevertPlan>, Error> {
        self.planned(selector, async |ports, who| {
            orchestrator::plan_revert(ports, who, request, Uuid::new_v4()).await
        })
        .await
    }

    /// Deletes a snapshot: its data in every image, then its record.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::delete`].
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::delete`]: what it leaves is recovered by the next operation on the domain.
    pub async fn delete(&self, selector: &Selector, request: &DeleteRequest) -> Result<DeleteReport, Error> {
        self.on(selector, async |ports, who| orchestrator::delete(ports, who, request, Uuid::new_v4()).await)
            .await
    }

    /// What [`Host::delete`] would do. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::delete`] before its first effect.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_delete(
        &self,
        selector: &Selector,
        request: &DeleteRequest,
    ) -> Result<Planned<DeletePlan>, Error> {
        self.planned(selector, async |ports, who| {
            orchestrator::plan_delete(ports, who, request, Uuid::new_v4()).await
        })
        .await
    }

    /// Compares records, images and the journal, and does the safe repairs if asked.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::check`]; what it finds is no error.
    ///
    /// # Cancel safety
    /// Without repair it only looks; a repair is done or not.
    pub async fn check(&self, selector: &Selector, request: &CheckRequest) -> Result<CheckReport, Error> {
        self.on(selector, async |ports, who| orchestrator::check(ports, who, request).await).await
    }

    /// Completes or undoes what a crash left; `None` when nothing was left.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::recover`].
    ///
    /// # Cancel safety
    /// It can be done again.
    pub async fn recover(&self, selector: &Selector) -> Result<Option<Recovered>, Error> {
        // No monitor is asked of a domain that has nothing to recover. One without a file may be known to its monitor only.
        if let Some(domain) = self.find(selector)? {
            let journal = self.store.journal(domain.uuid).await;
            let left = journal
                .map_err(|e| from_store(e, format!("the journal of domain {selector} cannot be read")))?;
            if left.is_none() {
                return Ok(None);
            }
        }
        self.on(selector, async |ports, who| orchestrator::recover(ports, who).await).await
    }

    /// As [`Host::recover`], but a revert whose memory cannot be restored is finished with the disks alone; the domain is off then.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::recover_without_memory`].
    ///
    /// # Cancel safety
    /// It can be done again.
    pub async fn recover_without_memory(&self, selector: &Selector) -> Result<Option<Recovered>, Error> {
        self.on(selector, async |ports, who| orchestrator::recover_without_memory(ports, who).await).await
    }

    /// Reaches the domain, lets `operation` work on it, and leaves its monitor clean for the next client.
    pub(crate) async fn on<T>(
        &self,
        selector: &Selector,
        operation: impl AsyncFn(&Ports<'_>, &DomainRef) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut attempts = 0;
        loop {
            let reached = self.reach(selector).await?;
            let store = self.held(&reached);
            let result = operation(&reached.ports(&store, self), &reached.who).await;
            let stale = store.is_stale();
            reached.leave().await;
            attempts += 1;
            if !stale || attempts == MOST_ATTEMPTS {
                return result;
            }
        }
    }

    /// As [`Host::on`], for what only plans.
    async fn planned<P>(
        &self,
        selector: &Selector,
        operation: impl AsyncFnOnce(&Ports<'_>, &DomainRef) -> Result<P, Error>,
    ) -> Result<Planned<P>, Error> {
        let reached = self.reach(selector).await?;
        let store = self.held(&reached);
        let result = operation(&reached.ports(&store, self), &reached.who).await;
        let (reach, file) = (reached.reach.clone(), reached.file.clone());
        let records = self.records_of(reached.who.uuid);
        reached.leave().await;
        result.map(|plan| Planned { plan, reach, records, file })
    }

    fn held<'a>(&'a self, reached: &'a Reached) -> Held<'a> {
        Held::new(&self.store, &self.shelf, reached.described.as_ref(), &reached.lock_file)
            .keeping(&reached.who, reached.keep.as_ref())
    }
}
