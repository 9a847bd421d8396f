//! The memory that a record names, against what is there.

use xlsnap_conf_store::Record;
use xlsnap_types::model::{MemoryMeta, MemoryWay, SnapshotName};

use crate::error::from_port;
use crate::layers::LayerTree;
use crate::orphan::{Named, adopting, deleting};
use crate::plan::relocating;
use crate::{DomainRef, Error, Finding, FindingCode, Inventory, PortErrorKind, Ports, Repair};

/// A memory file that a record names, to be looked for.
#[derive(Debug)]
pub(super) struct RecordedMemory {
    memory: MemoryMeta,
    name: SnapshotName,
}

/// The memory file that a record of ours names; one that another program's record names is not ours to judge.
pub(super) fn of_record(name: &SnapshotName, record: &Record) -> Option<RecordedMemory> {
    let memory = record.meta.as_ref()?.memory.as_ref()?;
    memory.file()?;
    Some(RecordedMemory { memory: memory.clone(), name: name.clone() })
}

/// Whether an image holds the memory that a record says is inside.
pub(super) fn inside(
    name: &SnapshotName,
    record: &Record,
    inventory: &Inventory,
    layers: &LayerTree,
) -> Option<Finding> {
    let memory = record.meta.as_ref()?.memory.as_ref()?;
    let in_layers = layers.nodes().iter().flat_map(|node| &node.layer.snapshots);
    let mut snapshots = inventory.disks.iter().flat_map(|disk| &disk.snapshots).chain(in_layers);
    let there = snapshots.any(|snapshot| snapshot.name == name.as_str() && snapshot.vm_state_size > 0);
    (memory.way() == MemoryWay::Internal && !there)
        .then(|| finding(FindingCode::MemoryMissing, name, "no image holds the guest's memory".to_owned()))
}

impl RecordedMemory {
    /// Looks for it; with `deep` it is read as a whole.
    pub(super) async fn look(
        &self,
        ports: &Ports<'_>,
        domain: &DomainRef,
        deep: bool,
    ) -> Result<Option<Finding>, Error> {
        let Some(files) = ports.memory_files.get() else { return Ok(None) };
        let file = self.memory.file().unwrap_or_default();
        let about = format!("the memory file {file} of domain {}", domain.name);
        let size = files.size(file).await;
        let size = size.map_err(|e| from_port(e, format!("{about} cannot be looked for")))?;
        Ok(match size {
            Some(bytes) if bytes == self.memory.bytes && deep => {
                match files.verify(&self.memory, ports.progress).await {
                    Ok(_) => None,
                    Err(e) if matches!(e.kind, PortErrorKind::Corrupt | PortErrorKind::Refused) => {
                        let what = format!("the memory file {file} is not what was saved ({e})");
                        Some(finding(FindingCode::MemoryDamaged, &self.name, what))
                    }
                    Err(e) => return Err(from_port(e, format!("{about} cannot be read"))),
                }
            }
            Some(bytes) if bytes == self.memory.bytes => None,
            Some(bytes) => {
                let what = format!("the memory file {file} has {bytes} bytes, and had {}", self.memory.bytes);
                Some(finding(FindingCode::MemoryChanged, &self.name, what))
            }
            None => {
                let what = format!("the memory file {file} is not there");
                let missing = finding(FindingCode::MemoryMissing, &self.name, what);
                let advice = format!(
                    "if it was moved or renamed: {}; else {}",
                    relocating(domain, file),
                    missing.advice
                );
                Some(Finding { advice, ..missing })
            }
        })
    }
}

fn finding(code: FindingCode, name: &SnapshotName, what: String) -> Finding {
    Finding {
        code,
        disk: None,
        snapshot: Some(name.to_string()),
        what,
        risk: "the guest's memory cannot be restored".to_owned(),
        repair: Repair::ByHand,
        advice:
            "put the file back, or revert the disks alone (revert --without-memory), or delete the snapshot"
                .to_owned(),
    }
}

/// The memory files in the domain's own directory that no record names.
pub(super) async fn orphans(
    ports: &Ports<'_>,
    domain: &DomainRef,
    inventory: &Inventory,
    layers: &LayerTree,
    named: &Named,
) -> Result<Vec<Finding>, Error> {
    let Some(files) = ports.memory_files.get() else { return Ok(Vec::new()) };
    let there = files.list().await;
    let there = there
        .map_err(|e| from_port(e, format!("the memory files of domain {} cannot be listed", domain.name)))?;
    let orphans = there.into_iter().filter(|file| named.is_orphan_file(file));
    let inside = crate::orphan::orphans(inventory, layers, named);
    // A snapshot in the images that has its name, and no record either.
    let owner = |file: &String| {
        inside.iter().find_map(|held| {
            let name = SnapshotName::new(held.snapshot.name.as_str()).ok()?;
            let is_it = !named.has_record(name.as_str()) && files.place(&name) == *file;
            is_it.then_some(name)
        })
    };
    let advice = |file: &String| {
        let delete = deleting(domain, file);
        match owner(file) {
            Some(name) => {
                format!(
                    "give it a record with the snapshot {name}: {}; or delete it: {delete}",
                    adopting(domain, &name)
                )
            }
            None => format!("delete it, if it is not needed: {delete}"),
        }
    };
    Ok(orphans
        .map(|file| Finding {
            code: FindingCode::MemoryOrphan,
            disk: None,
            snapshot: None,
            what: format!("no record names the memory file {file}"),
            risk: "it takes space".to_owned(),
            repair: Repair::ByHand,
            advice: advice(&file),
        })
        .collect())
}
