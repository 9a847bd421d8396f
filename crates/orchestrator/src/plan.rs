//! Plans: what an operation will do, as data.

use xlsnap_types::model::{DiskName, PassedOver, SnapshotName};

use crate::SnapshotAction;

/// What is planned for one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlan {
    /// The disk.
    pub disk: DiskName,
    /// Its image now.
    pub image: String,
    /// What is done to it.
    pub action: SnapshotAction,
}

/// How a snapshot will be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatePlan {
    /// Its name.
    pub name: SnapshotName,
    /// The disks it takes, in the domain's order.
    pub disks: Vec<DiskPlan>,
    /// The disks it leaves out, and why.
    pub passed_over: Vec<PassedOver>,
}

/// One line of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What is done, in words of the domain.
    pub what: String,
    /// The image or file that it touches.
    pub touches: Option<String>,
}
