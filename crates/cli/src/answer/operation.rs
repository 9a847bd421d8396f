//! What the operations answer: `xlsnap.plan/2`, `xlsnap.create/1`, `xlsnap.delete/1`, `xlsnap.flatten/1`, `xlsnap.adopt/1`, `xlsnap.delete-orphan/1`, `xlsnap.revert/1`,
//! `xlsnap.check/1`, `xlsnap.recover/1`, `xlsnap.repair-plan/1`, `xlsnap.recover-plan/1`.

use serde::Serialize;
use xlsnap::{
    AdoptReport, CheckReport, Command, CreateReport, DeleteReport, FlattenReport, Operation, OrphanReport,
    Outcome, Planned, PlannedStage, RecoverPlan, Recovered, RelocateReport, RelocatedFile, RelocatedMemory,
    RevertReport,
};
use xlsnap_types::model::{DiskName, PassedOver, SnapshotName};

use super::SnapshotForm;

#[derive(Serialize)]
pub(crate) struct PlanAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    operation: Operation,
    name: &'a str,
    snapshot: Option<&'a SnapshotForm<'a>>,
    stages: Vec<StageForm<'a>>,
    passed_over: &'a [PassedOver],
    warnings: &'a [String],
}

/// One stage of a plan.
#[derive(Serialize)]
pub(crate) struct StageForm<'a> {
    steps: Vec<StepForm<'a>>,
    commands: &'a [Command],
}

#[derive(Serialize)]
struct StepForm<'a> {
    what: &'a str,
    touches: &'a [String],
}

impl<'a> StageForm<'a> {
    pub(crate) fn of(stage: &'a PlannedStage) -> Self {
        let steps = stage.steps.iter().map(|step| StepForm { what: &step.what, touches: &step.touches });
        Self { steps: steps.collect(), commands: &stage.commands }
    }
}

impl<'a> PlanAnswer<'a> {
    pub(crate) fn new(
        domain: &'a str,
        operation: Operation,
        name: &'a str,
        snapshot: Option<&'a SnapshotForm<'a>>,
        stages: &'a [PlannedStage],
        passed_over: &'a [PassedOver],
        warnings: &'a [String],
    ) -> Self {
        let stages = stages.iter().map(StageForm::of).collect();
        Self { schema: "xlsnap.plan/2", domain, operation, name, snapshot, stages, passed_over, warnings }
    }
}

#[derive(Serialize)]
pub(crate) struct CreateAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    pub(crate) snapshot: SnapshotForm<'a>,
    took_us: u64,
    warnings: &'a [String],
    recovered: Option<&'a Recovered>,
}

impl<'a> CreateAnswer<'a> {
    pub(crate) fn new(domain: &'a str, report: &'a CreateReport) -> Self {
        Self {
            schema: "xlsnap.create/1",
            domain,
            snapshot: SnapshotForm::new(&report.record, &report.reversibility),
            took_us: u64::try_from(report.took.as_micros()).unwrap_or(u64::MAX),
            warnings: &report.warnings,
            recovered: report.recovered.as_ref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DeleteAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    deleted: &'a [SnapshotName],
    warnings: &'a [String],
    recovered: Option<&'a Recovered>,
}

impl<'a> DeleteAnswer<'a> {
    pub(crate) fn new(domain: &'a str, report: &'a DeleteReport) -> Self {
        Self {
            schema: "xlsnap.delete/1",
            domain,
            deleted: &report.deleted,
            warnings: &report.warnings,
            recovered: report.recovered.as_ref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct FlattenAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    deleted: &'a [SnapshotName],
    disks: &'a [DiskName],
    warnings: &'a [String],
    recovered: Option<&'a Recovered>,
}

impl<'a> FlattenAnswer<'a> {
    pub(crate) fn new(domain: &'a str, report: &'a FlattenReport) -> Self {
        Self {
            schema: "xlsnap.flatten/1",
            domain,
            deleted: &report.deleted,
            disks: &report.disks,
            warnings: &report.warnings,
            recovered: report.recovered.as_ref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct AdoptAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    pub(crate) snapshot: SnapshotForm<'a>,
    warnings: &'a [String],
    recovered: Option<&'a Recovered>,
}

impl<'a> AdoptAnswer<'a> {
    pub(crate) fn new(domain: &'a str, report: &'a AdoptReport) -> Self {
        Self {
            schema: "xlsnap.adopt/1",
            domain,
            snapshot: SnapshotForm::new(&report.record, &report.reversibility),
            warnings: &report.warnings,
            recovered: report.recovered.as_ref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct OrphanAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    orphan: &'a str,
    disks: Vec<OrphanDisk<'a>>,
    file: Option<&'a str>,
    warnings: &'a [String],
    recovered: Option<&'a Recovered>,
}

#[derive(Serialize)]
struct OrphanDisk<'a> {
    disk: &'a DiskName,
    image: &'a str,
    id: &'a str,
}

impl<'a> OrphanAnswer<'a> {
    pub(crate) fn new(domain: &'a str, report: &'a OrphanReport) -> Self {
        let disks = report.disks.iter().map(|target| OrphanDisk {
            disk: &target.disk,
            image: &target.image,
            id: &target.snapshot.id,
        });
        Self {
            schema: "xlsnap.delete-orphan/1",
            domain,
            orphan: &report.orphan,
            disks: disks.collect(),
            file: report.file.as_deref(),
            warnings: &report.warnings,
            recovered: report.recovered.as_ref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct RelocateAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    files: &'a [RelocatedFile],
    memory: &'a [RelocatedMemory],
    warnings: &'a [String],
    recovered: Option<&'a Recovered>,
}

impl<'a> RelocateAnswer<'a> {
    pub(crate) fn new(domain: &'a str, report: &'a RelocateReport) -> Self {
        Self {
            schema: "xlsnap.relocate/1",
            domain,
            files: &report.files,
            memory: &report.memory,
            warnings: &report.warnings,
            recovered: report.recovered.as_ref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct RevertAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    name: &'a SnapshotName,
    disks: &'a [DiskName],
    untouched: &'a [PassedOver],
    safety: Option<&'a str>,
    way: &'static str,
    warnings: &'a [String],
    recovered: Option<&'a Recovered>,
}

impl<'a> RevertAnswer<'a> {
    pub(crate) fn new(domain: &'a str, report: &'a RevertReport) -> Self {
        let safety = report.safety.as_ref().and_then(|safety| safety.record.snapshot.name.as_deref());
        Self {
            schema: "xlsnap.revert/1",
            domain,
            name: &report.name,
            disks: &report.disks,
            untouched: &report.untouched,
            safety,
            way: report.way.word(),
            warnings: &report.warnings,
            recovered: report.recovered.as_ref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct CheckAnswer {
    schema: &'static str,
    domains: Vec<CheckOfDomain>,
}

#[derive(Serialize)]
pub(crate) struct CheckOfDomain {
    pub(crate) domain: String,
    #[serde(flatten)]
    pub(crate) report: CheckReport,
}

impl CheckAnswer {
    pub(crate) fn new(domains: Vec<CheckOfDomain>) -> Self {
        Self { schema: "xlsnap.check/1", domains }
    }

    pub(crate) fn domains(&self) -> &[CheckOfDomain] {
        &self.domains
    }
}

#[derive(Serialize)]
pub(crate) struct RecoverAnswer {
    schema: &'static str,
    domains: Vec<RecoverOfDomain>,
}

#[derive(Serialize)]
pub(crate) struct RecoverOfDomain {
    pub(crate) domain: String,
    pub(crate) recovered: Option<Recovered>,
}

impl RecoverAnswer {
    pub(crate) fn new(domains: Vec<RecoverOfDomain>) -> Self {
        Self { schema: "xlsnap.recover/1", domains }
    }

    pub(crate) fn domains(&self) -> &[RecoverOfDomain] {
        &self.domains
    }
}

/// What `check --repair --dry-run` answers.
#[derive(Serialize)]
pub(crate) struct RepairPlanAnswer<'a> {
    schema: &'static str,
    domains: Vec<RepairPlanOfDomain<'a>>,
}

#[derive(Serialize)]
struct RepairPlanOfDomain<'a> {
    domain: &'a str,
    #[serde(flatten)]
    report: &'a CheckReport,
    stages: Vec<StageForm<'a>>,
}

impl<'a> RepairPlanAnswer<'a> {
    pub(crate) fn new(domains: &'a [(String, Planned<CheckReport>)]) -> Self {
        let of_domain = |(domain, planned): &'a (String, Planned<CheckReport>)| RepairPlanOfDomain {
            domain,
            report: &planned.plan,
            stages: planned.stages.iter().map(StageForm::of).collect(),
        };
        Self { schema: "xlsnap.repair-plan/1", domains: domains.iter().map(of_domain).collect() }
    }
}

/// What `recover --dry-run` answers.
#[derive(Serialize)]
pub(crate) struct RecoverPlanAnswer<'a> {
    schema: &'static str,
    domains: Vec<RecoverPlanOfDomain<'a>>,
}

#[derive(Serialize)]
struct RecoverPlanOfDomain<'a> {
    domain: &'a str,
    operation: Option<Operation>,
    name: Option<&'a SnapshotName>,
    outcome: Option<Outcome>,
    stages: Vec<StageForm<'a>>,
    warnings: &'a [String],
}

impl<'a> RecoverPlanAnswer<'a> {
    pub(crate) fn new(domains: &'a [(String, Planned<Option<RecoverPlan>>)]) -> Self {
        let of_domain = |(domain, planned): &'a (String, Planned<Option<RecoverPlan>>)| {
            let plan = planned.plan.as_ref();
            RecoverPlanOfDomain {
                domain,
                operation: plan.map(|plan| plan.operation),
                name: plan.map(|plan| &plan.name),
                outcome: plan.map(|plan| plan.outcome),
                stages: planned.stages.iter().map(StageForm::of).collect(),
                warnings: plan.map(|plan| plan.warnings.as_slice()).unwrap_or_default(),
            }
        };
        Self { schema: "xlsnap.recover-plan/1", domains: domains.iter().map(of_domain).collect() }
    }
}
