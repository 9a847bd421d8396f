#![doc = include_str!("../README.md")]

mod can;
mod chains;
mod check;
mod error;
mod execute;
mod journal;
mod layers;
mod list;
mod look;
mod operation;
mod orphan;
mod plan;
mod ports;
mod record;
mod report;
mod request;
mod reversibility;
mod session;
mod step;
mod tree;

pub use can::{Can, Port, Why};
pub use chains::{ChainFile, ChainProblem, chains};
pub use check::{check, plan_check};
pub use error::{Effect, Error, Kind, PortError, PortErrorKind};
pub use journal::{Draft, Journal, JournalError};
pub use layers::PartFiles;
pub use list::{Listing, Row, list};
pub use operation::{
    DiskTake, DiskTarget, TakeHow, create, delete, flatten, plan_adopt, plan_create, plan_delete,
    plan_delete_orphan, plan_flatten, plan_recover, plan_relocate, plan_revert, recover,
    recover_without_memory, revert,
};
pub use plan::{
    AdoptPlan, CreatePlan, DeletePlan, DiskPlan, FlattenPlan, FlattenedDisk, MadeTop, NewTop, OrphanDeletion,
    PlannedStage, RecoverPlan, RelocatePlan, RelocatedFile, RelocatedMemory, RevertPlan, RevertWay,
    SnapshotDeletion, planned_stages,
};
pub use ports::{
    Abilities, Agent, Below, Bitmap, Claimed, Claims, Clock, Command, Commands, CopyOut, Disk, Disks, Doubt,
    FileIdentity, FoundMemory, Guest, GuestState, Health, ImageHealth, ImageSnapshot, InsideMemory,
    Interrupt, Inventory, Layer, LayerFile, LayerSnapshot, LayerStat, Layers, Memory, MemoryFiles,
    MemoryHeader, MemoryInside, MemorySave, MemorySign, MemorySurvey, Merge, NameSwap, Names, Overlay,
    Overlays, Pause, Ports, Power, Progress, Release, Run, SaveTo, SavedMemory, SnapshotAction, SnapshotId,
    StoppedGuest, Stream, Undescribed, UndescribedKind, UnfinishedMemory,
};
pub use report::{
    AdoptReport, CheckReport, CreateReport, DeleteReport, Finding, FindingCode, FlattenReport, Operation,
    OrphanReport, Outcome, Recovered, RelocateReport, Repair, RevertReport,
};
pub use request::{
    AdoptRequest, CheckRequest, CreateRequest, DeleteRequest, DiskChoice, DomainRef, FileMove,
    FlattenRequest, KeepName, MemoryPlace, MemoryRequest, OrphanRequest, RelocateRequest, RevertRequest,
    Selection,
};
pub use reversibility::{Basis, Reversibility, Undo};
pub use session::Session;
pub use step::{
    Adoption, Does, Ended, Expected, ImageFile, ImageTarget, LayerNote, Stage, Step, StepText, UndoPoint,
};
pub use tree::{Node, tree};

// What the ports and requests are made of, so that a backend of one's own needs no other crates of the right version.
pub use async_trait::async_trait;
pub use uuid::Uuid;
pub use xlsnap_conf_store as conf_store;
pub use xlsnap_types as types;
