//! Snapshots with the machine's memory inside the images. Each command starts a job ([`super::QueryJobs`]) that tells what
//! went wrong only in its `error`, and has to be dismissed; while it works, the monitor answers nothing.

use serde::Serialize;

use super::{Nothing, command};

/// Takes a snapshot of all `devices`, with the memory. A guest that runs stands still meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotSave {
    /// The job's id.
    pub job_id: String,
    /// The snapshot's name.
    pub tag: String,
    /// The node that the memory is saved in; also one of `devices`.
    pub vmstate: String,
    /// The nodes.
    pub devices: Vec<String>,
}

/// Goes back to a snapshot. When it fails, a guest that ran stands still (`restore-vm`), and needs `cont`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotLoad {
    /// The job's id.
    pub job_id: String,
    /// The snapshot's name.
    pub tag: String,
    /// The node that holds the memory; also one of `devices`.
    pub vmstate: String,
    /// The nodes.
    pub devices: Vec<String>,
}

/// Deletes a snapshot. One that is not there is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotDelete {
    /// The job's id.
    pub job_id: String,
    /// The snapshot's name.
    pub tag: String,
    /// The nodes.
    pub devices: Vec<String>,
}

command! {
    SnapshotSave = "snapshot-save" -> Nothing;
    SnapshotLoad = "snapshot-load" -> Nothing;
    SnapshotDelete = "snapshot-delete" -> Nothing;
}
