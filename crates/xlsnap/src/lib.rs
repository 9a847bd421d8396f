#![doc = include_str!("../README.md")]

mod call;
mod claims;
mod clock;
mod connect;
mod description;
pub mod design;
mod domain;
mod failures;
mod forget;
mod header;
mod host;
mod identify;
mod life;
mod lock;
mod operation;
mod operations;
mod own_files;
mod pending;
mod planned;
mod records_only;
mod registry;
mod selector;
mod user_config;
mod xen;

pub use call::Call;
pub use connect::Connection;
pub use domain::{Domain, FiledDomain};
pub use forget::ForgottenDomain;
pub use host::{Host, Options, default_root};
pub use life::{DomainStarted, DomainStatus, DomainStopped, PowerState};
pub use operations::{DomainListing, SnapshotDetails};
pub use pending::PendingRecovery;
pub use planned::Planned;
pub use registry::{AddedDomain, DomainDetails, NewDisk, NewDomain, RemovedDomain};
pub use selector::Selector;
pub use user_config::create_request;
pub use xen::{ListedXenDomain, XenDomain, XenOptions};
pub use xlsnap_conf_store::{Record, RootInputs};
pub use xlsnap_orchestrator::{
    AdoptPlan, AdoptReport, AdoptRequest, Basis, ChainFile, ChainProblem, CheckReport, CheckRequest, Command,
    CreatePlan, CreateReport, CreateRequest, DeletePlan, DeleteReport, DeleteRequest, DiskChoice, DiskPlan,
    Effect, Error, FileMove, Finding, FindingCode, FlattenPlan, FlattenReport, FlattenRequest, FlattenedDisk,
    ImageTarget, Interrupt, KeepName, Kind, Listing, MemoryInside, MemoryPlace, MemoryRequest, MemorySave,
    Node, Operation, OrphanDeletion, OrphanReport, OrphanRequest, Outcome, PlannedStage, Progress,
    RecoverPlan, Recovered, RelocatePlan, RelocateReport, RelocateRequest, RelocatedFile, RelocatedMemory,
    Repair, Reversibility, RevertPlan, RevertReport, RevertRequest, RevertWay, Row, Run, SaveTo, Selection,
    SnapshotAction, SnapshotDeletion, StepText, Undo, async_trait, tree,
};
pub use xlsnap_qemu::DiskSpec;
pub use xlsnap_qemu::process::{Bus, MachineSpec, Place, StartOptions, StartSpec, StopOptions, StopWay};
pub use xlsnap_qmp_transport::commands::RunState;

// What requests are made of, so that a user of this crate needs no other crates of the right version.
pub use uuid::Uuid;
pub use xlsnap_types as types;
