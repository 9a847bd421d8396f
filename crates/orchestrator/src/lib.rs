//! Plans, executes and recovers snapshots of whole machines.
//!
//! Data flows one way: request -> plan (pure) -> executor (effects through ports, journal) -> report. This crate names
//! no QMP command, builds no argument list and touches no path.

mod error;
mod plan;
mod ports;
mod request;

pub use error::{Effect, Error, Kind, PortError, PortErrorKind};
pub use plan::{Action, CreatePlan, DiskPlan};
pub use ports::{
    Clock, Disk, Disks, Guest, GuestState, ImageSnapshot, Inventory, Overlay, Ports, Progress,
    SnapshotAction, SnapshotId,
};
pub use request::{CreateRequest, DiskChoice, DomainRef, Selection};
