//! The memory that a record names, against what is there.

use xlsnap_conf_store::Record;
use xlsnap_types::model::{MemoryWay, SnapshotName};

use crate::error::from_port;
use crate::{DomainRef, Error, Finding, Inventory, Ports, Repair};

/// A memory file that a record names, to be looked for.
#[derive(Debug)]
pub(super) struct RecordedMemory {
    file: String,
    bytes: u64,
    name: SnapshotName,
}

/// The memory file that a record of ours names; one that another program's record names is not ours to judge.
pub(super) fn of_record(name: &SnapshotName, record: &Record) -> Option<RecordedMemory> {
    let memory = record.meta.as_ref()?.memory.as_ref()?;
    Some(RecordedMemory { file: memory.file.clone()?, bytes: memory.bytes, name: name.clone() })
}

/// Whether an image holds the memory that a record says is inside.
pub(super) fn inside(name: &SnapshotName, record: &Record, inventory: &Inventory) -> Option<Finding> {
    let memory = record.meta.as_ref()?.memory.as_ref()?;
    let mut snapshots = inventory.disks.iter().flat_map(|disk| &disk.snapshots);
    let there = snapshots.any(|snapshot| snapshot.name == name.as_str() && snapshot.vm_state_size > 0);
    (memory.way == MemoryWay::Internal && !there)
        .then(|| finding("memory-missing", name, "no image holds the guest's memory".to_owned()))
}

impl RecordedMemory {
    /// Looks for it. Its contents are read by a revert.
    pub(super) async fn look(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<Option<Finding>, Error> {
        let Some(files) = ports.memory_files else { return Ok(None) };
        let size = files.size(&self.file).await;
        let size = size.map_err(|e| {
            from_port(
                e,
                format!("the memory file {} of domain {} cannot be looked for", self.file, domain.name),
            )
        })?;
        Ok(match size {
            Some(bytes) if bytes == self.bytes => None,
            Some(bytes) => {
                let what = format!("the memory file {} has {bytes} bytes, and had {}", self.file, self.bytes);
                Some(finding("memory-changed", &self.name, what))
            }
            None => Some(finding(
                "memory-missing",
                &self.name,
                format!("the memory file {} is not there", self.file),
            )),
        })
    }
}

fn finding(code: &'static str, name: &SnapshotName, what: String) -> Finding {
    Finding {
        code,
        disk: None,
        snapshot: Some(name.to_string()),
        what,
        risk: "the snapshot cannot be reverted to: its memory is lost".to_owned(),
        repair: Repair::ByHand,
        advice: "put the file back, or delete the snapshot".to_owned(),
    }
}
