#![doc = include_str!("../README.md")]

mod description;
pub mod design;
mod domain;
mod failures;
mod header;
mod held;
mod host;
mod life;
mod operations;
mod planned;
mod reach;
mod registry;
mod selector;
mod user_config;
mod world;
mod xen;

pub use domain::{Domain, FiledDomain};
pub use host::{Host, Options, default_root};
pub use life::{DomainStarted, DomainStatus, DomainStopped, PowerState};
pub use operations::{DomainListing, SnapshotDetails};
pub use planned::{Planned, Step};
pub use reach::Reach;
pub use registry::{AddedDomain, DomainDetails, NewDisk, NewDomain};
pub use selector::Selector;
pub use user_config::create_request;
pub use xen::{ListedXenDomain, XenDomain, XenOptions};
pub use xlsnap_conf_store::{Record, RootInputs};
pub use xlsnap_orchestrator::{
    Action, CheckReport, CheckRequest, CreatePlan, CreateReport, CreateRequest, Deed, DeletePlan,
    DeleteReport, DeleteRequest, DiskChoice, DiskPlan, Effect, Error, Finding, ImageTarget, InsideMemory,
    Interrupt, Kind, Listing, MemoryPlace, MemoryRequest, MemorySave, Node, Operation, Outcome, Progress,
    Recovered, Repair, Reversibility, RevertPlan, RevertReport, RevertRequest, RevertWay, Row, Selection,
    SnapshotAction, SnapshotDeletion, Undo, async_trait, tree,
};
pub use xlsnap_qemu::DiskSpec;
pub use xlsnap_qemu::process::{Bus, MachineSpec, Place, StartOptions, StartSpec, StopOptions, StopWay};
pub use xlsnap_qmp_transport::commands::RunState;

// What requests are made of, so that a user of this crate needs no other crates of the right version.
pub use uuid::Uuid;
pub use xlsnap_types as types;
