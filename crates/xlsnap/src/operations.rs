//! The operations on snapshots: each finds the domain, locks it, connects to it, and lets the orchestrator work.

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Record};
use xlsnap_orchestrator::{
    self as orchestrator, AdoptPlan, AdoptReport, AdoptRequest, ChainFile, CheckReport, CheckRequest,
    CreatePlan, CreateReport, CreateRequest, DeletePlan, DeleteReport, DeleteRequest, Error, FlattenPlan,
    FlattenReport, FlattenRequest, GuestState, Listing, OrphanDeletion, OrphanReport, OrphanRequest,
    RecoverPlan, Recovered, RelocatePlan, RelocateReport, RelocateRequest, Reversibility, RevertPlan,
    RevertReport, RevertRequest,
};
use xlsnap_types::model::SnapshotName;

use crate::claims::Writes;
use crate::connect::Connected;
use crate::failures::from_store;
use crate::lock::LockLender;
use crate::{Call, Host, PendingRecovery, Planned, Selector, operation};

/// The snapshots of one domain.
#[derive(Debug)]
pub struct DomainListing {
    /// The domain's name; its uuid as text where its name is not known.
    pub domain: String,
    /// Its uuid.
    pub uuid: Uuid,
    /// Its snapshots.
    pub listing: Listing,
    /// An operation on it that was interrupted.
    pub pending: Option<PendingRecovery>,
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
    /// The files of the chains of its external disks; empty where it has none, and where they could not be looked at.
    pub chains: Vec<ChainFile>,
    /// An operation on the domain that was interrupted.
    pub pending: Option<PendingRecovery>,
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
    pub async fn create(
        &self,
        selector: &Selector,
        request: &CreateRequest,
        call: Call<'_>,
    ) -> Result<CreateReport, Error> {
        if request.memory.is_some() {
            self.files.make_run_directory()?;
        }
        self.on(selector, &operation::Create(request), call).await
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
        self.planned(selector, &operation::Create(request)).await
    }

    /// The snapshots of a domain. Its images are not looked at, and no monitor is asked.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when there is no such domain; a record that cannot be read is in the listing.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn list(&self, selector: &Selector) -> Result<DomainListing, Error> {
        let domain = self.known(selector).await?;
        let listing = orchestrator::list(&self.store, domain.uuid).await?;
        let pending = self.pending(domain.uuid, &domain.name).await?;
        Ok(DomainListing { domain: domain.name, uuid: domain.uuid, listing, pending })
    }

    /// The files of the chains of a domain's disks: which file holds which state, and what it takes.
    ///
    /// # Errors
    /// When the domain cannot be reached, or a file cannot be looked at; [`crate::Kind::Busy`] while an operation on it goes on.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn chains(&self, selector: &Selector) -> Result<Vec<ChainFile>, Error> {
        let identified = self.identify(selector).await?;
        let connected = self.connect(selector, identified, LockLender::default()).await?;
        let looked = self.chains_of(&connected).await;
        connected.leave().await;
        looked
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

    /// All that is stored of one snapshot, and whether it could be reverted to now: the domain is looked at unless an operation on
    /// it goes on or was interrupted. Where it cannot be looked at, the record alone tells ([`crate::Basis::Record`]).
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when there is no such domain or snapshot.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn show(&self, selector: &Selector, name: &SnapshotName) -> Result<SnapshotDetails, Error> {
        let domain = self.known(selector).await?;
        let cannot = |e| from_store(e, format!("snapshot {name} of domain {} cannot be shown", domain.name));
        let record = self.store.load(domain.uuid, name).await.map_err(|e| match e.kind() {
            xlsnap_conf_store::Kind::NotFound => {
                crate::failures::not_found(format!("domain {} has no snapshot {name}", domain.name))
                    .with_advice("list those that it has")
            }
            _ => cannot(e),
        })?;
        let of_domain = self.store.domain_record(domain.uuid).await.map_err(cannot)?;
        let current = of_domain.and_then(|of_domain| of_domain.current).as_ref() == Some(name);
        let pending = self.pending(domain.uuid, &domain.name).await?;
        // An operation that goes on needs the monitor, and changes what a look would find.
        let unlooked = if pending.is_some() {
            Some("an operation on the domain was interrupted".to_owned())
        } else {
            let locked = self.store.is_locked(domain.uuid).await.map_err(cannot)?;
            locked.then(|| "an operation on the domain goes on".to_owned())
        };
        let (reversibility, chains) = match unlooked {
            Some(why) => (Reversibility::of(&record, why), Vec::new()),
            None => match self.looked(selector, &record, name).await {
                Ok(looked) => looked,
                Err(e) => (Reversibility::without_look(&record, &e), Vec::new()),
            },
        };
        Ok(SnapshotDetails {
            domain: domain.name,
            uuid: domain.uuid,
            record,
            current,
            reversibility,
            chains,
            pending,
        })
    }

    /// What a revert to the snapshot would find now, and the files of its external disks; none where these cannot be looked at.
    async fn looked(
        &self,
        selector: &Selector,
        record: &Record,
        name: &SnapshotName,
    ) -> Result<(Reversibility, Vec<ChainFile>), Error> {
        let identified = self.identify(selector).await?;
        let connected = self.connect(selector, identified, LockLender::default()).await?;
        let looked = self.reversibility_of(&connected, record, name).await;
        let reversibility = looked.unwrap_or_else(|e| Reversibility::without_look(record, &e));
        let external = || record.snapshot.disks.iter().filter(|part| part.is_external());
        let mut chains = Vec::new();
        if external().next().is_some() {
            chains = self.chains_of(&connected).await.unwrap_or_default();
            chains.retain(|file| external().any(|part| part.device.as_deref() == Some(file.disk.as_str())));
        }
        connected.leave().await;
        Ok((reversibility, chains))
    }

    async fn chains_of(&self, connected: &Connected) -> Result<Vec<ChainFile>, Error> {
        orchestrator::chains(&connected.ports(&self.store, self, Call::new()), &connected.domain).await
    }

    async fn reversibility_of(
        &self,
        connected: &Connected,
        record: &Record,
        name: &SnapshotName,
    ) -> Result<Reversibility, Error> {
        let ports = connected.ports(&self.store, self, Call::new());
        let mut found = Reversibility::look(&ports, &connected.domain, record).await?;
        if found.revert.is_possible() {
            match self.refuse_shared(connected, Writes::Revert(&RevertRequest::new(name.clone()))).await {
                Err(e) if e.kind() == crate::Kind::Refused => found.refuse(&e),
                done => done?,
            }
        }
        Ok(found)
    }

    /// Whether the domain's guest is on now, running or paused: whether it has a memory that could be saved.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] or [`crate::Kind::Busy`] when the domain cannot be reached.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn guest_is_on(&self, selector: &Selector) -> Result<bool, Error> {
        let identified = self.identify(selector).await?;
        let connected = self.connect(selector, identified, LockLender::default()).await?;
        let state = connected.guest().state().await;
        let name = connected.domain.name.clone();
        connected.leave().await;
        let state = state.map_err(|e| {
            Error::new(crate::Kind::Failed, e.effect, format!("the state of domain {name} cannot be told"))
                .with_source(e)
        })?;
        Ok(matches!(state, GuestState::On(_)))
    }

    /// Brings the domain back to a snapshot: its disks, and its guest's memory where that is part of it.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::revert`].
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::revert`]: what it leaves is recovered by the next operation on the domain.
    pub async fn revert(
        &self,
        selector: &Selector,
        request: &RevertRequest,
        call: Call<'_>,
    ) -> Result<RevertReport, Error> {
        self.files.make_run_directory()?;
        self.on(selector, &operation::Revert(request), call).await
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
        self.planned(selector, &operation::Revert(request)).await
    }

    /// Deletes a snapshot: its data in every image, then its record.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::delete`].
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::delete`]: what it leaves is recovered by the next operation on the domain.
    pub async fn delete(
        &self,
        selector: &Selector,
        request: &DeleteRequest,
        call: Call<'_>,
    ) -> Result<DeleteReport, Error> {
        self.on(selector, &operation::Delete(request), call).await
    }

    /// Makes disks stop depending on the files below their images: what is read through them is copied into them, while a guest that
    /// runs goes on. No snapshot is deleted but those that [`FlattenRequest::keep`] means.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::flatten`].
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::flatten`]: what it leaves is recovered by the next operation on the domain.
    pub async fn flatten(
        &self,
        selector: &Selector,
        request: &FlattenRequest,
        call: Call<'_>,
    ) -> Result<FlattenReport, Error> {
        self.on(selector, &operation::Flatten(request), call).await
    }

    /// What [`Host::flatten`] would do. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::flatten`] before its first effect.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_flatten(
        &self,
        selector: &Selector,
        request: &FlattenRequest,
    ) -> Result<Planned<FlattenPlan>, Error> {
        self.planned(selector, &operation::Flatten(request)).await
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
        self.planned(selector, &operation::Delete(request)).await
    }

    /// Compares records, images and the journal, and does the safe repairs if asked.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::check`]; what it finds is no error.
    ///
    /// # Cancel safety
    /// Without repair it only looks; a repair is done or not.
    pub async fn check(
        &self,
        selector: &Selector,
        request: &CheckRequest,
        call: Call<'_>,
    ) -> Result<CheckReport, Error> {
        self.on(selector, &operation::Check(request), call).await
    }

    /// What [`Host::check`] finds and would repair. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::check`].
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_check(
        &self,
        selector: &Selector,
        request: &CheckRequest,
    ) -> Result<Planned<CheckReport>, Error> {
        self.planned(selector, &operation::Check(request)).await
    }

    /// Makes a record of a snapshot that stands in the domain's images and that no record names. No image is changed.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::Session::adopt`].
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::Session::adopt`]: what it leaves is recovered by the next operation on the domain.
    pub async fn adopt(
        &self,
        selector: &Selector,
        request: &AdoptRequest,
        call: Call<'_>,
    ) -> Result<AdoptReport, Error> {
        self.on(selector, &operation::Adopt(request), call).await
    }

    /// What [`Host::adopt`] would do. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::adopt`] before its first effect.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_adopt(
        &self,
        selector: &Selector,
        request: &AdoptRequest,
    ) -> Result<Planned<AdoptPlan>, Error> {
        self.planned(selector, &operation::Adopt(request)).await
    }

    /// Makes everything that names files of the domain's chains follow them, after the user moved or renamed them: headers, records, the
    /// ledger and the domain's file. No file is moved, and no data written.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::Session::relocate`].
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::Session::relocate`]: what it leaves is recovered by the next operation on the domain.
    pub async fn relocate(
        &self,
        selector: &Selector,
        request: &RelocateRequest,
        call: Call<'_>,
    ) -> Result<RelocateReport, Error> {
        self.on(selector, &operation::Relocate(request), call).await
    }

    /// What [`Host::relocate`] would do. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::relocate`] before its first effect.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_relocate(
        &self,
        selector: &Selector,
        request: &RelocateRequest,
    ) -> Result<Planned<RelocatePlan>, Error> {
        self.planned(selector, &operation::Relocate(request)).await
    }

    /// Deletes what no record names: a snapshot inside images, a memory file of the domain's, or an overlay on one of its
    /// layers.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::Session::delete_orphan`].
    ///
    /// # Cancel safety
    /// As [`xlsnap_orchestrator::Session::delete_orphan`]: what it leaves is recovered by the next operation on the domain.
    pub async fn delete_orphan(
        &self,
        selector: &Selector,
        request: &OrphanRequest,
        call: Call<'_>,
    ) -> Result<OrphanReport, Error> {
        self.on(selector, &operation::DeleteOrphan(request), call).await
    }

    /// What [`Host::delete_orphan`] would do. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::delete_orphan`] before its first effect.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_delete_orphan(
        &self,
        selector: &Selector,
        request: &OrphanRequest,
    ) -> Result<Planned<OrphanDeletion>, Error> {
        self.planned(selector, &operation::DeleteOrphan(request)).await
    }

    /// What [`Host::recover`] would do, or [`Host::recover_without_memory`]; a plan of `None` when nothing was left. Changes
    /// nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Host::recover`] before its first effect.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn plan_recover(
        &self,
        selector: &Selector,
        without_memory: bool,
    ) -> Result<Planned<Option<RecoverPlan>>, Error> {
        self.planned(selector, &operation::Recover { without_memory }).await
    }

    /// Completes or undoes what a crash left; `None` when nothing was left.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::recover`].
    ///
    /// # Cancel safety
    /// It can be done again.
    pub async fn recover(&self, selector: &Selector, call: Call<'_>) -> Result<Option<Recovered>, Error> {
        // No monitor is asked of a domain that has nothing to recover. One without a file may be known to its monitor only.
        if let Some(domain) = self.find(selector)? {
            let journal = self.store.journal(domain.uuid).await;
            let left = journal
                .map_err(|e| from_store(e, format!("the journal of domain {selector} cannot be read")))?;
            if left.is_none() {
                return Ok(None);
            }
        }
        self.on(selector, &operation::Recover { without_memory: false }, call).await
    }

    /// As [`Host::recover`], but a revert whose memory cannot be restored is finished with the disks alone; the domain is off then.
    ///
    /// # Errors
    /// See [`xlsnap_orchestrator::recover_without_memory`].
    ///
    /// # Cancel safety
    /// It can be done again.
    pub async fn recover_without_memory(
        &self,
        selector: &Selector,
        call: Call<'_>,
    ) -> Result<Option<Recovered>, Error> {
        self.on(selector, &operation::Recover { without_memory: true }, call).await
    }
}
