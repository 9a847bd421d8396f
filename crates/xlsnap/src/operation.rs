//! One operation on one domain, as a value: what it may write to, and how the orchestrator does it once the domain is reached.

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_orchestrator::{
    self as orchestrator, AdoptPlan, AdoptReport, AdoptRequest, CheckReport, CheckRequest, Commands,
    CreatePlan, CreateReport, CreateRequest, DeletePlan, DeleteReport, DeleteRequest, DomainRef, Error,
    FlattenPlan, FlattenReport, FlattenRequest, OrphanDeletion, OrphanReport, OrphanRequest, PlannedStage,
    Port, Ports, RecoverPlan, Recovered, RelocatePlan, RelocateReport, RelocateRequest, RevertPlan,
    RevertReport, RevertRequest, Session, Stage, planned_stages,
};

use crate::claims::{Neighbours, Writes};
use crate::connect::Connected;
use crate::failures::from_port;
use crate::lock::LockLender;
use crate::own_files::OwnFiles;
use crate::{Call, Host, Planned, Selector};

/// An operation on a domain whose lock is held. A trait and no closure: a closure's future cannot be required to be `Send`.
#[async_trait]
pub(crate) trait Operation: Send + Sync {
    /// What it gives.
    type Report: Send;

    /// What the lock's owner is said to do.
    fn name(&self) -> &'static str;

    /// Which images it may write to, so that they are first compared with those of all other domains.
    fn writes(&self) -> Writes<'_> {
        Writes::Nothing
    }

    /// Does it.
    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<Self::Report, Error>;
}

/// What only plans, and takes no lock.
#[async_trait]
pub(crate) trait DryRun: Send + Sync {
    /// The plan.
    type Plan: Send;

    /// Which images a run may write to.
    fn writes(&self) -> Writes<'_> {
        Writes::Nothing
    }

    /// Plans; gives the stages that a run goes through, too.
    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error>;
}

pub(crate) struct Create<'r>(pub(crate) &'r CreateRequest);
pub(crate) struct Revert<'r>(pub(crate) &'r RevertRequest);
pub(crate) struct Delete<'r>(pub(crate) &'r DeleteRequest);
pub(crate) struct Flatten<'r>(pub(crate) &'r FlattenRequest);
pub(crate) struct Check<'r>(pub(crate) &'r CheckRequest);
pub(crate) struct Adopt<'r>(pub(crate) &'r AdoptRequest);
pub(crate) struct Relocate<'r>(pub(crate) &'r RelocateRequest);
pub(crate) struct DeleteOrphan<'r>(pub(crate) &'r OrphanRequest);
pub(crate) struct Recover {
    /// A revert whose memory cannot be restored is finished with the disks alone.
    pub(crate) without_memory: bool,
}

#[async_trait]
impl Operation for Create<'_> {
    type Report = CreateReport;

    fn name(&self) -> &'static str {
        "create"
    }

    fn writes(&self) -> Writes<'_> {
        Writes::Create(self.0)
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<CreateReport, Error> {
        session.create(ports, self.0, Uuid::new_v4()).await
    }
}

#[async_trait]
impl Operation for Revert<'_> {
    type Report = RevertReport;

    fn name(&self) -> &'static str {
        "revert"
    }

    fn writes(&self) -> Writes<'_> {
        Writes::Revert(self.0)
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<RevertReport, Error> {
        session.revert(ports, self.0, Uuid::new_v4()).await
    }
}

#[async_trait]
impl Operation for Delete<'_> {
    type Report = DeleteReport;

    fn name(&self) -> &'static str {
        "delete"
    }

    fn writes(&self) -> Writes<'_> {
        Writes::Delete(self.0)
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<DeleteReport, Error> {
        session.delete(ports, self.0, Uuid::new_v4()).await
    }
}

#[async_trait]
impl Operation for Flatten<'_> {
    type Report = FlattenReport;

    fn name(&self) -> &'static str {
        "flatten"
    }

    fn writes(&self) -> Writes<'_> {
        Writes::Flatten(self.0)
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<FlattenReport, Error> {
        session.flatten(ports, self.0, Uuid::new_v4()).await
    }
}

#[async_trait]
impl Operation for Check<'_> {
    type Report = CheckReport;

    fn name(&self) -> &'static str {
        "check"
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<CheckReport, Error> {
        session.check(ports, self.0).await
    }
}

#[async_trait]
impl Operation for Adopt<'_> {
    type Report = AdoptReport;

    fn name(&self) -> &'static str {
        "adopt"
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<AdoptReport, Error> {
        session.adopt(ports, self.0, Uuid::new_v4()).await
    }
}

#[async_trait]
impl Operation for Relocate<'_> {
    type Report = RelocateReport;

    fn name(&self) -> &'static str {
        "relocate"
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<RelocateReport, Error> {
        session.relocate(ports, self.0, Uuid::new_v4()).await
    }
}

#[async_trait]
impl Operation for DeleteOrphan<'_> {
    type Report = OrphanReport;

    fn name(&self) -> &'static str {
        "delete"
    }

    fn writes(&self) -> Writes<'_> {
        Writes::Orphan(self.0)
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<OrphanReport, Error> {
        session.delete_orphan(ports, self.0, Uuid::new_v4()).await
    }
}

#[async_trait]
impl Operation for Recover {
    type Report = Option<Recovered>;

    fn name(&self) -> &'static str {
        "recover"
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<Option<Recovered>, Error> {
        if self.without_memory {
            session.recover_without_memory(ports).await
        } else {
            session.recover(ports).await
        }
    }
}

#[async_trait]
impl DryRun for Create<'_> {
    type Plan = CreatePlan;

    fn writes(&self) -> Writes<'_> {
        Writes::Create(self.0)
    }

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        let plan = orchestrator::plan_create(ports, domain, self.0, Uuid::new_v4()).await?;
        let stages = plan.stages.clone();
        Ok((plan, stages))
    }
}

#[async_trait]
impl DryRun for Revert<'_> {
    type Plan = RevertPlan;

    fn writes(&self) -> Writes<'_> {
        Writes::Revert(self.0)
    }

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        let plan = orchestrator::plan_revert(ports, domain, self.0, Uuid::new_v4()).await?;
        let stages = {
            let safety = plan.safety.iter().flat_map(|safety| &safety.stages);
            safety.chain(&plan.stages).cloned().collect()
        };
        Ok((plan, stages))
    }
}

#[async_trait]
impl DryRun for Delete<'_> {
    type Plan = DeletePlan;

    fn writes(&self) -> Writes<'_> {
        Writes::Delete(self.0)
    }

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        let plan = orchestrator::plan_delete(ports, domain, self.0, Uuid::new_v4()).await?;
        let stages = plan.stages.clone();
        Ok((plan, stages))
    }
}

#[async_trait]
impl DryRun for Flatten<'_> {
    type Plan = FlattenPlan;

    fn writes(&self) -> Writes<'_> {
        Writes::Flatten(self.0)
    }

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        let plan = orchestrator::plan_flatten(ports, domain, self.0, Uuid::new_v4()).await?;
        let stages = plan.stages.clone();
        Ok((plan, stages))
    }
}

#[async_trait]
impl DryRun for Adopt<'_> {
    type Plan = AdoptPlan;

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        let plan = orchestrator::plan_adopt(ports, domain, self.0, Uuid::new_v4()).await?;
        let stages = plan.stages.clone();
        Ok((plan, stages))
    }
}

#[async_trait]
impl DryRun for Relocate<'_> {
    type Plan = RelocatePlan;

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        let plan = orchestrator::plan_relocate(ports, domain, self.0).await?;
        let stages = plan.stages.clone();
        Ok((plan, stages))
    }
}

#[async_trait]
impl DryRun for DeleteOrphan<'_> {
    type Plan = OrphanDeletion;

    fn writes(&self) -> Writes<'_> {
        Writes::Orphan(self.0)
    }

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        let plan = orchestrator::plan_delete_orphan(ports, domain, self.0, Uuid::new_v4()).await?;
        let stages = plan.stages.clone();
        Ok((plan, stages))
    }
}

#[async_trait]
impl DryRun for Recover {
    type Plan = Option<RecoverPlan>;

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        let plan = orchestrator::plan_recover(ports, domain, self.without_memory).await?;
        let stages = plan.as_ref().map(|plan| plan.stages.clone()).unwrap_or_default();
        Ok((plan, stages))
    }
}

#[async_trait]
impl DryRun for Check<'_> {
    type Plan = CheckReport;

    async fn plan(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(Self::Plan, Vec<Stage>), Error> {
        orchestrator::plan_check(ports, domain, self.0).await
    }
}

impl Host {
    /// Finds the domain, takes its lock, connects to it, lets the operation work on it, and leaves its monitor clean for the next
    /// client. What was read before the lock was taken serves to find the domain alone.
    pub(crate) async fn on<O: Operation>(
        &self,
        selector: &Selector,
        operation: &O,
        call: Call<'_>,
    ) -> Result<O::Report, Error> {
        let identified = self.identify(selector).await?;
        let (lock, lender) = match self.lock_domain(&identified.domain, operation.name()).await {
            Ok(taken) => taken,
            Err(error) => {
                identified.leave().await;
                return Err(error);
            }
        };
        let locked = identified.domain.clone();
        // Held until the monitor is closed, so that the next operation does not find it in use.
        let session = Session::of_lock(&self.store, &locked, lock);
        let connected = self.connect(selector, identified, lender).await?;
        let result = self.run_on(&connected, &session, operation, call).await;
        connected.leave().await;
        result
    }

    async fn run_on<O: Operation>(
        &self,
        connected: &Connected,
        session: &Session<'_>,
        operation: &O,
        call: Call<'_>,
    ) -> Result<O::Report, Error> {
        if let Some(keep) = &connected.keep {
            self.keep_xen(session, &connected.domain, keep).await?;
        }
        self.refuse_shared(connected, operation.writes()).await?;
        let neighbours =
            Neighbours { host: self, domain: connected.domain.uuid, name: &connected.domain.name };
        let ports = connected.ports(&self.store, self, call);
        operation.run(session, &Ports { claims: Port::Has(&neighbours), ..ports }).await
    }

    /// As [`Host::on`], for what only plans, and takes no lock.
    pub(crate) async fn planned<D: DryRun>(
        &self,
        selector: &Selector,
        operation: &D,
    ) -> Result<Planned<D::Plan>, Error> {
        let identified = self.identify(selector).await?;
        let connected = self.connect(selector, identified, LockLender::default()).await?;
        let result = self.plan_on(&connected, operation).await;
        let (connection, file) = (connected.connection.clone(), connected.file.clone());
        let records = self.records_of(connected.domain.uuid);
        connected.leave().await;
        result.map(|(plan, stages)| Planned { plan, stages, connection, records, file })
    }

    async fn plan_on<D: DryRun>(
        &self,
        connected: &Connected,
        operation: &D,
    ) -> Result<(D::Plan, Vec<PlannedStage>), Error> {
        self.refuse_shared(connected, operation.writes()).await?;
        let neighbours =
            Neighbours { host: self, domain: connected.domain.uuid, name: &connected.domain.name };
        let ports = connected.ports(&self.store, self, Call::new());
        let ports = Ports { claims: Port::Has(&neighbours), ..ports };
        let (plan, stages) = operation.plan(&ports, &connected.domain).await?;
        let records = self.records_of(connected.domain.uuid);
        let own;
        let commands: Port<'_, dyn Commands> = match ports.commands {
            Port::Has(backend) => {
                own = OwnFiles { backend, file: connected.file.as_deref(), records: &records };
                Port::Has(&own)
            }
            Port::Lacks(why) => Port::Lacks(why),
        };
        let stages = planned_stages(commands, &stages).await.map_err(|e| {
            from_port(e, format!("what would be done to domain {} cannot be told", connected.domain.name))
        })?;
        Ok((plan, stages))
    }
}
