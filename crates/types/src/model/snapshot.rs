//! A snapshot of a whole domain.

use serde::{Deserialize, Serialize};

use super::{DiskSnapshot, SnapshotName};

/// A domain's state, as `libxl_dominfo` has it: independent flags; all false is runnable or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct StateFlags {
    /// Some virtual CPU ran.
    pub running: bool,
    /// All virtual CPUs were blocked.
    pub blocked: bool,
    /// The domain was paused.
    pub paused: bool,
    /// The domain had shut down.
    pub shutdown: bool,
    /// The domain was dying.
    pub dying: bool,
}

impl StateFlags {
    /// Whether the guest runs or is ready to: it is not paused, has not shut down and is not dying. Of libxl's flags all false
    /// is runnable.
    pub fn can_run(self) -> bool {
        !(self.paused || self.shutdown || self.dying)
    }
}

/// A snapshot of a whole domain, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// What its maker wrote about it; may be empty.
    pub description: String,
    /// Seconds since 1970-01-01 UTC.
    pub creation_time: u64,
    /// The file with the domain's memory; `None` for a disk-only snapshot.
    pub memory: Option<String>,
    /// The domain's state before it.
    pub state: StateFlags,
    /// Its disks, each named once.
    pub disks: Vec<DiskSnapshot>,
}
