//! Answers for programs: plain structs, documented field by field in docs/json.md. A schema's number grows when a field
//! goes or changes its meaning; new fields may come at any time.

mod domain;
mod life;
mod list;
mod operation;
mod pending;
mod snapshot;

pub(crate) use domain::{
    DiskForm as DomainDiskForm, DomainAddedAnswer, DomainAnswer, DomainForgottenAnswer, DomainRemovedAnswer,
    DomainsAnswer,
};
pub(crate) use life::{DomainStartedAnswer, DomainStatusAnswer, DomainStoppedAnswer};
pub(crate) use list::{ListAnswer, chain};
pub(crate) use operation::{
    AdoptAnswer, CheckAnswer, CheckOfDomain, CreateAnswer, DeleteAnswer, FlattenAnswer, OrphanAnswer,
    PlanAnswer, RecoverAnswer, RecoverOfDomain, RecoverPlanAnswer, RelocateAnswer, RepairPlanAnswer,
    RevertAnswer,
};
use pending::PendingForm;
pub(crate) use snapshot::{DiskForm as SnapshotDiskForm, ShowAnswer, SnapshotForm};
