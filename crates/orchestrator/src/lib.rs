#![doc = include_str!("../README.md")]

mod check;
mod create;
mod delete;
mod error;
mod journal;
mod list;
mod plan;
mod ports;
mod record;
mod recover;
mod report;
mod request;
mod reversibility;
mod revert;
mod session;
mod tree;

pub use check::check;
pub use create::{create, plan_create};
pub use delete::{delete, plan_delete};
pub use error::{Effect, Error, Kind, PortError, PortErrorKind};
pub use journal::{Journal, JournalError};
pub use list::{Listing, Row, list};
pub use plan::{
    Action, CreatePlan, Deed, DeletePlan, DiskPlan, ImageTarget, RevertPlan, RevertWay, SnapshotDeletion,
    overlay_beside,
};
pub use ports::{
    Abilities, Agent, Clock, Disk, Disks, Guest, GuestState, ImageSnapshot, InsideMemory, Interrupt,
    Inventory, Memory, MemoryFiles, MemoryHeader, MemorySave, MemorySurvey, Overlay, Ports, Power, Progress,
    SavedMemory, SnapshotAction, SnapshotId,
};
pub use recover::{recover, recover_without_memory};
pub use report::{
    CheckReport, CreateReport, DeleteReport, Finding, Operation, Outcome, Recovered, Repair, RevertReport,
};
pub use request::{
    CheckRequest, CreateRequest, DeleteRequest, DiskChoice, DomainRef, MemoryPlace, MemoryRequest,
    OverlayFile, RevertRequest, Selection,
};
pub use reversibility::{Reversibility, Undo};
pub use revert::{plan_revert, revert};
pub use tree::{Node, tree};

// What the ports and requests are made of, so that a backend of one's own needs no other crates of the right version.
pub use async_trait::async_trait;
pub use uuid::Uuid;
pub use xlsnap_conf_store as conf_store;
pub use xlsnap_types as types;
