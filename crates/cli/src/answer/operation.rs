//! What the operations answer: `xlsnap.plan/1`, `xlsnap.create/1`, `xlsnap.delete/1`, `xlsnap.revert/1`,
//! `xlsnap.check/1`, `xlsnap.recover/1`.

use serde::Serialize;
use xlsnap::{CheckReport, CreateReport, DeleteReport, Operation, Recovered, RevertReport, Step};
use xlsnap_types::model::{DiskName, PassedOver, SnapshotName};

use super::SnapshotForm;

#[derive(Serialize)]
pub(crate) struct PlanAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    operation: Operation,
    name: &'a SnapshotName,
    actions: Vec<ActionForm<'a>>,
    passed_over: &'a [PassedOver],
    warnings: &'a [String],
}

#[derive(Serialize)]
struct ActionForm<'a> {
    what: &'a str,
    touches: Option<&'a str>,
    by: &'a str,
}

impl<'a> PlanAnswer<'a> {
    pub(crate) fn new(
        domain: &'a str,
        operation: Operation,
        name: &'a SnapshotName,
        steps: &'a [Step],
        passed_over: &'a [PassedOver],
        warnings: &'a [String],
    ) -> Self {
        let form =
            |step: &'a Step| ActionForm { what: &step.what, touches: step.touches.as_deref(), by: step.by };
        let actions = steps.iter().map(form).collect();
        Self { schema: "xlsnap.plan/1", domain, operation, name, actions, passed_over, warnings }
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
