//! The comparison, record by record; pure.

use std::collections::{BTreeMap, BTreeSet};

use xlsnap_conf_store::{Entry, Record};
use xlsnap_types::model::{DiskName, SnapshotName};

use super::memory::{self, RecordedMemory};
use crate::layers::{LayerTree, tells_needs};
use crate::orphan::{Held, Named, adopting, deleting, orphans};
use crate::plan::relocating;
use crate::record::{Found, Part, SAME_TIME, find, parts};
use crate::session::chain;
use crate::step::{Does, UndoPoint};
use crate::{Disk, DomainRef, Finding, FindingCode, Inventory, Repair, SnapshotId};

/// An overlay that a record names, to be looked for.
#[derive(Debug)]
pub(super) struct RecordedOverlay {
    file: String,
    disk: DiskName,
    name: SnapshotName,
}

impl RecordedOverlay {
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn missing(&self, domain: &DomainRef) -> Finding {
        Finding {
            code: FindingCode::OverlayMissing,
            disk: Some(self.disk.clone()),
            snapshot: Some(self.name.to_string()),
            what: format!("the overlay {} is not there", self.file),
            risk: "what was written after the snapshot is lost, if the overlay was not merged on purpose"
                .to_owned(),
            repair: Repair::ByHand,
            advice: format!(
                "if it was moved or renamed: {}; else put the file back, or delete the record alone (metadata only)",
                relocating(domain, &self.file)
            ),
        }
    }
}

/// Each with the step of the repair that loses nothing, where there is one.
type Findings = Vec<(Finding, Option<Does>)>;

/// A comparison under way.
pub(super) struct Compared<'a> {
    domain: &'a DomainRef,
    inventory: &'a Inventory,
    layers: &'a LayerTree,
    pending: Option<String>,
    findings: Findings,
    /// Findings that one of our own external snapshots may explain, with the disk, the image it had, and the tag.
    changed: Vec<((DiskName, String), String, Finding)>,
    overlays: Vec<RecordedOverlay>,
    memories: Vec<RecordedMemory>,
    /// What the records met name.
    named: Named,
    parents: BTreeMap<SnapshotName, SnapshotName>,
    /// The images that our own external snapshots moved the disks away from.
    bases: BTreeSet<(DiskName, String)>,
}

impl<'a> Compared<'a> {
    pub(super) fn new(
        domain: &'a DomainRef,
        inventory: &'a Inventory,
        layers: &'a LayerTree,
        pending: Option<String>,
    ) -> Self {
        Self {
            domain,
            inventory,
            layers,
            pending,
            findings: Vec::new(),
            changed: Vec::new(),
            overlays: Vec::new(),
            memories: Vec::new(),
            named: Named::default(),
            parents: BTreeMap::new(),
            bases: BTreeSet::new(),
        }
    }

    /// Compares one record.
    pub(super) fn meet(&mut self, entry: Entry) {
        self.named.meet(self.domain, &entry);
        if self.pending.as_ref() == Some(&entry.name) {
            return;
        }
        let read = match (SnapshotName::new(&entry.name), entry.record) {
            (Ok(name), Ok(record)) => self.compare(&name, &record).map_err(|e| chain(&e)),
            (_, Err(e)) => Err(chain(&e)),
            (Err(e), _) => Err(chain(&e)),
        };
        if let Err(what) = read {
            self.findings.push((
                Finding {
                    code: FindingCode::RecordUnreadable,
                    disk: None,
                    snapshot: Some(entry.name),
                    what,
                    risk: "the snapshot can be neither reverted to nor deleted with its data".to_owned(),
                    repair: Repair::ByHand,
                    advice: "repair the record, or delete it alone (metadata only)".to_owned(),
                },
                None,
            ));
        }
    }

    fn compare(&mut self, name: &SnapshotName, record: &Record) -> Result<(), crate::Error> {
        let parts = parts(self.domain, name, record)?;
        for part in &parts {
            match part.overlay {
                Some(file) => self.external(name, part, file),
                None => {
                    self.internal(name, record, part);
                    self.size(name, part);
                }
            }
        }
        self.memories.extend(memory::of_record(name, record));
        self.findings
            .extend(memory::inside(name, record, self.inventory, self.layers).map(|finding| (finding, None)));
        match &record.meta {
            Some(meta) => {
                self.parents.extend(meta.parent.clone().map(|parent| (name.clone(), parent)));
            }
            None => {
                let (risk, advice) = match tells_needs(record) {
                    true => (
                        "ids and sizes cannot be compared before a revert, and its parent is not known",
                        "nothing need be done: it can be listed, reverted to and deleted",
                    ),
                    false => (
                        "nothing but its overlay's header tells which file holds its state: it cannot be gone back to, and no file of the \
                         domain is merged or removed as long as it is there",
                        "put the file of its record back (snapshotmeta-NAME.json), or delete it",
                    ),
                };
                let what = "only libxl's part of the record is there".to_owned();
                self.find(FindingCode::MetaMissing, name, None, what, risk, advice);
            }
        }
        Ok(())
    }

    fn find(
        &mut self,
        code: FindingCode,
        name: &SnapshotName,
        disk: Option<&DiskName>,
        what: String,
        risk: &str,
        advice: &str,
    ) {
        let finding = Finding {
            code,
            disk: disk.cloned(),
            snapshot: Some(name.to_string()),
            what,
            risk: risk.to_owned(),
            repair: Repair::ByHand,
            advice: advice.to_owned(),
        };
        self.findings.push((finding, None));
    }

    fn internal(&mut self, name: &SnapshotName, record: &Record, part: &Part<'_>) {
        const NO_REVERT: &str = "the snapshot cannot be reverted to";
        if self.layers.holds(part) {
            return;
        }
        let disk = Some(&part.disk);
        match find(part, self.inventory) {
            Found::Here(..) => {}
            Found::NoDisk => self.find(
                FindingCode::DiskMissing,
                name,
                disk,
                format!("the domain has no disk {} any more", part.disk),
                NO_REVERT,
                "give the domain its disk back, or delete the record alone (metadata only)",
            ),
            Found::Missing(found) => self.find(
                FindingCode::SnapshotMissingInImage,
                name,
                disk,
                format!("{} does not hold the snapshot {}", found.image, part.tag),
                NO_REVERT,
                "delete the snapshot: what is gone counts as deleted",
            ),
            Found::OtherImage(found) => {
                let recorded = part.meta.map(|meta| meta.image.clone()).unwrap_or_default();
                let what = format!(
                    "the disk's image is {} and does not hold the snapshot; the record names {recorded}",
                    found.image,
                );
                let finding = Finding {
                    code: FindingCode::ImageChanged,
                    disk: disk.cloned(),
                    snapshot: Some(name.to_string()),
                    what,
                    risk: NO_REVERT.to_owned(),
                    repair: Repair::ByHand,
                    advice:
                        "give the domain its earlier image back, or delete the record alone (metadata only)"
                            .to_owned(),
                };
                self.changed.push(((part.disk.clone(), recorded), part.tag.to_owned(), finding));
            }
            Found::Ambiguous(found) => self.find(
                FindingCode::NameAmbiguous,
                name,
                disk,
                format!("{} holds more than one snapshot {}", found.image, part.tag),
                "it cannot be told which one belongs to the record",
                "delete the wrong one from the image by its id",
            ),
            Found::OtherId(found, named) => self.other_id(name, record, part, found, &named),
        }
    }

    fn other_id(
        &mut self,
        name: &SnapshotName,
        record: &Record,
        part: &Part<'_>,
        found: &Disk,
        named: &[SnapshotId],
    ) {
        let date =
            |id: &str| found.snapshots.iter().find(|s| s.id == id && s.name == part.tag).map(|s| s.date);
        let same = match named {
            [one]
                if date(&one.id)
                    .is_some_and(|date| date.abs_diff(record.snapshot.creation_time) <= SAME_TIME) =>
            {
                Some(one.id.clone())
            }
            _ => None,
        };
        let ids: Vec<&str> = named.iter().map(|snapshot| snapshot.id.as_str()).collect();
        let recorded = part.meta.and_then(|meta| meta.id.as_deref()).unwrap_or_default();
        let what =
            format!("{} holds {} with id {}, not {recorded}", found.image, part.tag, ids.join(" and "));
        let risk = "it may be another snapshot of the same name, so it is neither reverted to nor deleted";
        let (repair, advice) = match &same {
            Some(_) => (Repair::Possible, "a repair corrects the record: the dates agree"),
            None => {
                (Repair::ByHand, "see which it is; delete the record alone (metadata only) if it is another")
            }
        };
        let finding = Finding {
            code: FindingCode::IdChanged,
            disk: Some(part.disk.clone()),
            snapshot: Some(name.to_string()),
            what,
            risk: risk.to_owned(),
            repair,
            advice: advice.to_owned(),
        };
        let fix = same.map(|id| Does::SetSnapshotId { snapshot: name.clone(), disk: part.disk.clone(), id });
        self.findings.push((finding, fix));
    }

    fn external(&mut self, name: &SnapshotName, part: &Part<'_>, file: &str) {
        let overlay = RecordedOverlay { file: file.to_owned(), disk: part.disk.clone(), name: name.clone() };
        self.overlays.push(overlay);
        let Some(meta) = part.meta else { return };
        self.bases.insert((part.disk.clone(), meta.image.clone()));
        if self.inventory.disk(&part.disk).is_some_and(|disk| disk.image == meta.image) {
            self.find(
                FindingCode::OverlayUnused,
                name,
                Some(&part.disk),
                format!("the disk writes to {}, which holds the snapshot's state, and not to {file}", meta.image),
                "the snapshot's state is overwritten, and what is in the overlay is out of sight",
                "shut the domain down and let its description name the overlay, unless it was merged on purpose",
            );
        }
    }

    fn size(&mut self, name: &SnapshotName, part: &Part<'_>) {
        let (Some(meta), Some(disk)) = (part.meta, self.inventory.disk(&part.disk)) else { return };
        if meta.virtual_size != disk.virtual_size {
            self.find(
                FindingCode::SizeChanged,
                name,
                Some(&part.disk),
                format!(
                    "the disk has {} bytes, and had {} in the snapshot",
                    disk.virtual_size, meta.virtual_size
                ),
                "a revert would change the disk's size, and is refused",
                "give the disk its earlier size back before a revert",
            );
        }
    }

    /// What only all records together can tell.
    pub(super) fn end(
        mut self,
        current: Option<SnapshotName>,
    ) -> (Findings, Vec<RecordedOverlay>, Vec<RecordedMemory>, Named) {
        for (name, parent) in &self.parents {
            if !self.named.has_record(parent.as_str()) {
                let finding = Finding {
                    code: FindingCode::ParentMissing,
                    disk: None,
                    snapshot: Some(name.to_string()),
                    what: format!("its parent {parent} is not there"),
                    risk: "the tree of snapshots shows it as a root".to_owned(),
                    repair: Repair::Possible,
                    advice: "a repair makes it a root in its record too".to_owned(),
                };
                self.findings.push((finding, Some(Does::SetParent { snapshot: name.clone(), parent: None })));
            }
        }
        if let Some(current) = current.filter(|current| !self.named.has_record(current.as_str())) {
            let fix = Does::SetCurrent { to: None, from: Some(current.clone()) };
            let finding = Finding {
                code: FindingCode::CurrentMissing,
                disk: None,
                snapshot: Some(current.to_string()),
                what: "the domain's current snapshot is not there".to_owned(),
                risk: "the next snapshot has no parent".to_owned(),
                repair: Repair::Possible,
                advice: "a repair notes that there is none".to_owned(),
            };
            self.findings.push((finding, Some(fix)));
        }
        // A layer that the disk does not write to now holds its snapshots as before.
        let held = |file: &str, tag: &str| {
            self.layers.get(file).is_some_and(|node| node.layer.snapshots.iter().any(|held| held.name == tag))
        };
        let unexplained =
            self.changed.drain(..).filter(|(at, tag, _)| !self.bases.contains(at) && !held(&at.1, tag));
        self.findings.extend(unexplained.map(|(_, _, finding)| (finding, None)));
        self.orphans();
        (self.findings, self.overlays, self.memories, self.named)
    }

    /// Snapshots inside images that no record names. They stay: `qemu-img` or a program with records of its own made them,
    /// or a record was deleted alone, and nothing tells which.
    fn orphans(&mut self) {
        // Of a revert that goes on or was interrupted a mark is no finding of its own.
        if self.pending.is_none() {
            for disk in &self.inventory.disks {
                let left = disk.snapshots.iter().filter(|snapshot| UndoPoint::is_one(&snapshot.name));
                self.findings.extend(left.map(|snapshot| undo_point_left(disk, &snapshot.name)));
            }
        }
        for Held { disk, image, layer, snapshot, .. } in orphans(self.inventory, self.layers, &self.named) {
            if self.pending.as_ref() == Some(&snapshot.name) {
                continue;
            }
            let machine = if snapshot.vm_state_size > 0 { ", with a machine's state" } else { "" };
            let risk = match layer {
                None => "it takes space, and its name cannot be used",
                Some(_) => "it takes space, and keeps the layer from being merged with what stands on it",
            };
            let finding = Finding {
                code: FindingCode::OrphanInImage,
                disk: Some(disk.clone()),
                snapshot: Some(snapshot.name.clone()),
                what: format!(
                    "{image} holds a snapshot {:?} (id {}){machine} that no record names",
                    snapshot.name, snapshot.id
                ),
                risk: risk.to_owned(),
                repair: Repair::ByHand,
                advice: self.orphan_advice(&snapshot.name),
            };
            self.findings.push((finding, None));
        }
    }
}

impl Compared<'_> {
    /// The lines to copy: what has a record's name already, or no name that a record can have, is not adopted.
    fn orphan_advice(&self, tag: &str) -> String {
        let delete = deleting(self.domain, tag);
        match SnapshotName::new(tag) {
            Ok(name) if !self.named.has_record(tag) => {
                format!("give it a record: {}; or delete it: {delete}", adopting(self.domain, &name))
            }
            _ => format!("delete it, if it is not needed: {delete}"),
        }
    }
}

/// A mark of a revert that has ended: nothing leads back to it any more.
fn undo_point_left(disk: &Disk, tag: &str) -> (Finding, Option<Does>) {
    let finding = Finding {
        code: FindingCode::UndoPointLeft,
        disk: Some(disk.name.clone()),
        snapshot: Some(tag.to_owned()),
        what: format!("{} holds the mark {tag} of a revert that has ended", disk.image),
        risk: "it takes space".to_owned(),
        repair: Repair::Possible,
        advice: "a repair removes it".to_owned(),
    };
    let point = UndoPoint {
        disk: disk.name.clone(),
        image: disk.image.clone(),
        tag: tag.to_owned(),
        virtual_size: disk.virtual_size,
    };
    (finding, Some(Does::DropUndo(point)))
}
