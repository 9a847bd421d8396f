//! What operations report.

mod code;

pub use code::FindingCode;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, PassedOver, SnapshotName};

use crate::{ImageTarget, RelocatedFile, RelocatedMemory, Reversibility, RevertWay};

/// A snapshot was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateReport {
    /// Its record, as stored.
    pub record: Record,
    /// The disks it left out, and why.
    pub passed_over: Vec<PassedOver>,
    /// Whether it can be reverted to and deleted, and how.
    pub reversibility: Reversibility,
    /// How long the backend took for the snapshots of all disks. A guest that runs waits for its disks that long at most.
    pub took: Duration,
    /// How long the guest stood still for it; `None` when it did not have to.
    pub pause: Option<Duration>,
    /// Sentences for people: what is worth knowing, although it worked.
    pub warnings: Vec<String>,
    /// What was finished or undone before.
    pub recovered: Option<Recovered>,
}

/// Snapshots were deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteReport {
    /// Their names, in the order of deletion.
    pub deleted: Vec<SnapshotName>,
    /// Sentences for people: what is worth knowing, although it worked.
    pub warnings: Vec<String>,
    /// What was finished or undone before.
    pub recovered: Option<Recovered>,
}

/// Disks were flattened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlattenReport {
    /// The snapshots that were deleted first, in the order of deletion.
    pub deleted: Vec<SnapshotName>,
    /// The disks into whose images data was copied.
    pub disks: Vec<DiskName>,
    /// Sentences for people: what is worth knowing, although it worked.
    pub warnings: Vec<String>,
    /// What was finished or undone before.
    pub recovered: Option<Recovered>,
}

/// An orphan has a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptReport {
    /// The record, as stored.
    pub record: Record,
    /// Whether it can be reverted to and deleted, and how.
    pub reversibility: Reversibility,
    /// Sentences for people: what is not known of it.
    pub warnings: Vec<String>,
    /// What was finished or undone before.
    pub recovered: Option<Recovered>,
}

/// An orphan was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanReport {
    /// Its name, or its file.
    pub orphan: String,
    /// What was deleted inside images.
    pub disks: Vec<ImageTarget>,
    /// The memory file, or the overlay, that was removed.
    pub file: Option<String>,
    /// Sentences for people: what stays.
    pub warnings: Vec<String>,
    /// What was finished or undone before.
    pub recovered: Option<Recovered>,
}

/// What names files that were moved follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelocateReport {
    /// The files of disks' chains; none when recovery had finished it before.
    pub files: Vec<RelocatedFile>,
    /// The memory files; none when recovery had finished it before.
    pub memory: Vec<RelocatedMemory>,
    /// Sentences for people: what is not followed, and what little tells that a file is the one that was moved.
    pub warnings: Vec<String>,
    /// What was finished or undone before.
    pub recovered: Option<Recovered>,
}

/// The domain's disks are as they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevertReport {
    /// The snapshot they are of.
    pub name: SnapshotName,
    /// The disks that were reverted, in the domain's order.
    pub disks: Vec<DiskName>,
    /// The domain's other disks, which are as before, and why.
    pub untouched: Vec<PassedOver>,
    /// What happened to the domain's process.
    pub way: RevertWay,
    /// The safety snapshot that was made first.
    pub safety: Option<CreateReport>,
    /// Sentences for people: what is worth knowing, although it worked.
    pub warnings: Vec<String>,
    /// What was finished or undone before.
    pub recovered: Option<Recovered>,
}

/// An operation that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Operation {
    /// A snapshot is made.
    Create,
    /// Snapshots are deleted.
    Delete,
    /// The disks go back to a snapshot.
    Revert,
    /// What stands in images gets a record.
    Adopt,
    /// Disks stop depending on the files below their images.
    Flatten,
    /// What names files that were moved or renamed follows them.
    Relocate,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Revert => "revert",
            Self::Adopt => "adopt",
            Self::Flatten => "flatten",
            Self::Relocate => "relocate",
        })
    }
}

/// How an interrupted operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is done now.
    Completed,
    /// Everything is as it was before.
    Undone,
}

/// An interrupted operation that was brought to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Which operation.
    pub operation: Operation,
    /// The snapshot it was about; of a flattening the one that the domain was at, of a relocation that word.
    pub name: SnapshotName,
    /// How it ended.
    pub outcome: Outcome,
    /// Sentences for people: what could not be as it should.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Completed => "completed",
            Outcome::Undone => "undone",
        };
        if self.operation == Operation::Flatten {
            return write!(f, "the interrupted flattening of disks was {outcome}");
        }
        if self.operation == Operation::Relocate {
            return write!(f, "the interrupted following of files that were moved was {outcome}");
        }
        write!(f, "the interrupted {} of snapshot {} was {outcome}", self.operation, self.name)
    }
}

/// What a comparison of records, images and journal found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CheckReport {
    /// The findings, by snapshot and disk; empty when all is well.
    pub findings: Vec<Finding>,
    /// What was finished or undone by the repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Recovered>,
}

impl CheckReport {
    /// Whether a finding is left that no repair mended.
    pub fn unmended(&self) -> bool {
        self.findings.iter().any(|finding| finding.repair != Repair::Done)
    }
}

/// Something that is not as it should be. The codes are listed in docs/errors.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub code: FindingCode,
    /// The disk it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskName>,
    /// The snapshot it is about, as it is stored or stands in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What was found.
    pub what: String,
    /// What is at risk.
    pub risk: String,
    /// What a repair ([`crate::CheckRequest::repair`]) does about it.
    pub repair: Repair,
    /// What to do, or what the repair did.
    pub advice: String,
}

/// What a repair does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// It did it.
    Done,
    /// It would mend it, and nothing can be lost by that.
    Possible,
    /// A person has to decide.
    ByHand,
}
