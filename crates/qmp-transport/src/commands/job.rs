//! Background jobs.

use serde::{Deserialize, Serialize};

use super::{Nothing, command};

/// All jobs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryJobs;

/// A job, in the result of [`QueryJobs`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct JobInfo {
    /// Its id.
    pub id: String,
    /// Its type: `commit`, `stream`, `mirror`, `backup`, `snapshot-save`, ...
    #[serde(rename = "type")]
    pub job_type: String,
    /// Where it is.
    pub status: JobStatus,
    /// How much is done, in the job's own unit.
    #[serde(default)]
    pub current_progress: u64,
    /// How much there is to do; it may grow.
    #[serde(default)]
    pub total_progress: u64,
    /// Why it failed, when it did.
    pub error: Option<String>,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JobStatus {
    /// It does not exist any more, or not yet.
    Undefined,
    /// It was made and does not run.
    Created,
    /// It runs.
    Running,
    /// It is paused.
    Paused,
    /// A mirror or active commit waits for `job-complete`.
    Ready,
    /// The same, paused.
    Standby,
    /// It waits for others of its transaction.
    Waiting,
    /// It waits for `job-finalize`.
    Pending,
    /// It failed or was cancelled, and cleans up.
    Aborting,
    /// It is over and waits for `job-dismiss`.
    Concluded,
    /// It goes.
    Null,
    /// One that came after QEMU 10.0.
    #[serde(other)]
    Unknown,
}

/// All block jobs: older than [`QueryJobs`], and only those on disks.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryBlockJobs;

/// A block job, in the result of [`QueryBlockJobs`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct BlockJobInfo {
    /// Its id.
    pub device: String,
    /// Its type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Where it is.
    pub status: JobStatus,
    /// Whether `job-complete` may be executed.
    #[serde(default)]
    pub ready: bool,
    /// How much there is to do, in the job's own unit.
    #[serde(default)]
    pub len: u64,
    /// How much is done.
    #[serde(default)]
    pub offset: u64,
    /// The most bytes that it moves in a second; 0 for as many as it can.
    #[serde(default)]
    pub speed: u64,
    /// Why it failed, when it did.
    pub error: Option<String>,
}

/// Moves what the nodes from `top_node` down to above `base_node` hold into `base_node`: a job. When `top_node` is the disk's own,
/// which takes writes meanwhile, the job gets ready and waits for [`JobComplete`]; then `base_node` takes the writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockCommit {
    /// The job's id.
    pub job_id: String,
    /// The disk's top node, or the drive's id.
    pub device: String,
    /// The upmost node whose data moves; `device` when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_node: Option<String>,
    /// The node that gets the data; the lowest when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_node: Option<String>,
    /// The name for `base_node`'s file in the header of the image above `top_node`: without it QEMU may write one that
    /// no other program understands. Not when `top_node` is the disk's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_file: Option<String>,
    /// The most bytes that it moves in a second; as many as it can when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<u64>,
    /// Whether it takes effect without [`JobFinalize`]; QEMU's default is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_finalize: Option<bool>,
    /// Whether it goes without [`JobDismiss`]; QEMU's default is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_dismiss: Option<bool>,
}

/// Copies what the nodes below `device` hold, down to above `base_node`, into `device`, and puts that on `base_node`: a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockStream {
    /// The job's id.
    pub job_id: String,
    /// The node that gets the data.
    pub device: String,
    /// What `device` stands on afterwards; nothing when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_node: Option<String>,
    /// The name for `base_node`'s file in the header of `device`: without it QEMU may write one that no other program understands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_file: Option<String>,
    /// The most bytes that it moves in a second; as many as it can when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<u64>,
    /// Whether it takes effect without [`JobFinalize`]; QEMU's default is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_finalize: Option<bool>,
    /// Whether it goes without [`JobDismiss`]; QEMU's default is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_dismiss: Option<bool>,
}

/// Changes how fast a job is that moves data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockJobSetSpeed {
    /// The job.
    pub device: String,
    /// The most bytes that it moves in a second; 0 for as many as it can.
    pub speed: u64,
}

/// Lets a concluded job go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobDismiss {
    /// The job.
    pub id: String,
}

/// Lets a ready job come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobComplete {
    /// The job.
    pub id: String,
}

/// Cancels a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobCancel {
    /// The job.
    pub id: String,
}

/// Lets a pending job take effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobFinalize {
    /// The job.
    pub id: String,
}

command! {
    QueryJobs = "query-jobs" -> Vec<JobInfo>;
    QueryBlockJobs = "query-block-jobs" -> Vec<BlockJobInfo>;
    BlockCommit = "block-commit" -> Nothing;
    BlockStream = "block-stream" -> Nothing;
    BlockJobSetSpeed = "block-job-set-speed" -> Nothing;
    JobDismiss = "job-dismiss" -> Nothing;
    JobComplete = "job-complete" -> Nothing;
    JobCancel = "job-cancel" -> Nothing;
    JobFinalize = "job-finalize" -> Nothing;
}
