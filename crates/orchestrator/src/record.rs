//! Records against images: what a record says of a disk, and where that is now.

use xlsnap_conf_store::Record;
use xlsnap_types::libxl;
use xlsnap_types::model::{DiskMeta, DiskName, ImageFormat, MemoryMeta, SavedIn, SnapshotName};

use crate::journal::Draft;
use crate::{
    Disk, DomainRef, Effect, Error, Inventory, Kind, MemorySave, SaveTo, SavedMemory, SnapshotAction,
    SnapshotId,
};

/// How far, in seconds, the dates of what is one snapshot may be apart: the record's is taken before the snapshot, and the time that
/// many full disks take lies between.
pub(crate) const SAME_TIME: u64 = 60;

/// One disk of a record.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) disk: DiskName,
    /// The snapshot's name in the image.
    pub(crate) tag: &'a str,
    /// The overlay's file, of an external one.
    pub(crate) overlay: Option<&'a str>,
    pub(crate) meta: Option<&'a DiskMeta>,
}

/// Where the internal snapshot of a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found<'i> {
    Here(&'i Disk, SnapshotId),
    /// The domain has no such disk.
    NoDisk,
    /// It is not in the disk's image.
    Missing(&'i Disk),
    /// It is not in the disk's image, which is another one than the record says.
    OtherImage(&'i Disk),
    /// One of that name is there, with another id than the record says.
    OtherId(&'i Disk, Vec<SnapshotId>),
    /// More than one of that name is there, and the record does not tell which.
    Ambiguous(&'i Disk),
}

/// The disks of a record, which another program may have written.
pub(crate) fn parts<'a>(
    domain: &DomainRef,
    name: &'a SnapshotName,
    record: &'a Record,
) -> Result<Vec<Part<'a>>, Error> {
    let mut parts: Vec<Part<'_>> = Vec::with_capacity(record.snapshot.disks.len());
    for disk in &record.snapshot.disks {
        let device = disk.device.clone().unwrap_or_default();
        let malformed = |what: &str| {
            let message = format!("the record of snapshot {name} of domain {}: {what}", domain.name);
            Error::new(Kind::Refused, Effect::None, message)
                .with_advice("repair the record, or delete it alone (metadata only)")
        };
        let disk_name =
            DiskName::new(device).map_err(|e| malformed("a disk has no valid name").with_source(e))?;
        if parts.iter().any(|part| part.disk == disk_name) {
            return Err(malformed(&format!("it names disk {disk_name} twice")));
        }
        let meta = record.meta.as_ref().and_then(|meta| meta.disks.iter().find(|d| d.disk == disk_name));
        let given = |text: &'a Option<String>| text.as_deref().filter(|text| !text.is_empty());
        parts.push(Part {
            disk: disk_name,
            tag: given(&disk.name).unwrap_or(name.as_str()),
            overlay: given(&disk.file),
            meta,
        });
    }
    Ok(parts)
}

/// Looks for the internal snapshot of a part. With an id in the record, name and id must match: an id is reused, and a
/// name may stand twice in an image that another program wrote.
pub(crate) fn find<'i>(part: &Part<'_>, inventory: &'i Inventory) -> Found<'i> {
    let Some(disk) = inventory.disk(&part.disk) else { return Found::NoDisk };
    let named: Vec<SnapshotId> = disk.named(part.tag).collect();
    let id = part.meta.and_then(|meta| meta.id.as_ref());
    match (id, named.as_slice()) {
        (_, []) if part.meta.is_some_and(|meta| meta.image != disk.image) => Found::OtherImage(disk),
        (_, []) => Found::Missing(disk),
        (Some(id), _) => match named.iter().find(|snapshot| snapshot.id == *id) {
            Some(snapshot) => Found::Here(disk, snapshot.clone()),
            None => Found::OtherId(disk, named),
        },
        (None, [snapshot]) => Found::Here(disk, snapshot.clone()),
        (None, _) => Found::Ambiguous(disk),
    }
}

/// Why the image of a disk cannot go back to a snapshot inside it, as a clause, and what to do; `None` when it can. What a
/// creation promises, what `show` says and what a revert refuses all come from here.
pub(crate) fn cannot_go_back(disk: &Disk, drop_bitmaps: bool) -> Option<(String, String)> {
    if disk.read_only {
        return Some(("it is read-only now".to_owned(), "make the disk writable first".to_owned()));
    }
    if let Some(why) = disk.revert.why() {
        return Some((why.to_owned(), "mend that, then revert".to_owned()));
    }
    let bitmap = disk.bitmaps.first().filter(|_| !drop_bitmaps)?;
    let kept = if bitmap.persistent {
        "a disk with a dirty bitmap in its image is not reverted"
    } else {
        "the next incremental backup would be silently wrong"
    };
    Some((
        format!("it has the dirty bitmap {}, and {kept}", bitmap.name),
        "revert --drop-bitmaps removes it, and the next backup has to be a full one".to_owned(),
    ))
}

impl Draft {
    /// The record, with the ids that the images gave.
    pub(crate) fn record(&self, inventory: Option<&Inventory>, saved: Option<&SavedMemory>) -> Record {
        let mut meta = self.meta.clone();
        if let Some(save) = &self.memory {
            meta.memory = Some(self.memory_meta(save, inventory, saved));
        }
        for (disk, action) in meta.disks.iter_mut().zip(&self.actions) {
            if let SnapshotAction::Internal { tag, .. } = action {
                let found = inventory.and_then(|inventory| inventory.disk(&disk.disk)?.named(tag).next());
                disk.id = found.map(|snapshot| snapshot.id).or(disk.id.take());
            }
        }
        let disks = self.actions.iter().zip(&self.meta.disks).map(|(action, disk)| match action {
            SnapshotAction::Internal { disk, tag, .. } => libxl::DiskSnapshot {
                device: Some(disk.to_string()),
                name: Some(tag.clone()),
                file: Some(String::new()),
                // As every store keeps it: the design has the path empty on disk.
                path: Some(String::new()),
                ..libxl::DiskSnapshot::default()
            },
            SnapshotAction::External(overlay) => libxl::DiskSnapshot {
                device: Some(overlay.disk.to_string()),
                name: Some(self.name.to_string()),
                file: Some(disk.made.clone().unwrap_or_else(|| overlay.file.clone())),
                format: libxl_format(&overlay.format),
                path: Some(String::new()),
            },
        });
        let snapshot = libxl::DomainSnapshot {
            name: Some(self.name.to_string()),
            // The design wants "" where there is nothing, not NULL: in the description, the memory and the file.
            description: Some(self.description.clone()),
            creation_time: self.creation_time,
            memory: Some(
                meta.memory.as_ref().and_then(|memory| memory.file().map(str::to_owned)).unwrap_or_default(),
            ),
            running: self.state.running,
            blocked: self.state.blocked,
            paused: self.state.paused,
            shutdown: self.state.shutdown,
            dying: self.state.dying,
            disks: disks.collect(),
        };
        Record { snapshot, meta: Some(meta) }
    }

    fn memory_meta(
        &self,
        save: &MemorySave,
        inventory: Option<&Inventory>,
        saved: Option<&SavedMemory>,
    ) -> MemoryMeta {
        let inside = inventory
            .into_iter()
            .flat_map(|inventory| &inventory.disks)
            .flat_map(|disk| &disk.snapshots)
            .filter(|snapshot| snapshot.name == self.name.as_str())
            .map(|snapshot| snapshot.vm_state_size)
            .max();
        MemoryMeta {
            place: match &save.to {
                SaveTo::Inside => SavedIn::Inside,
                SaveTo::File { file, way, compression } => SavedIn::File {
                    file: file.to_string(),
                    way: *way,
                    checksum: saved.and_then(|saved| saved.checksum.clone()),
                    compression: *compression,
                },
            },
            bytes: saved.map_or(inside.unwrap_or_default(), |saved| saved.bytes),
        }
    }
}

pub(crate) fn libxl_format(format: &ImageFormat) -> libxl::DiskFormat {
    match format {
        ImageFormat::Qcow2 => libxl::DiskFormat::Qcow2,
        ImageFormat::Raw => libxl::DiskFormat::Raw,
        ImageFormat::Qcow => libxl::DiskFormat::Qcow,
        ImageFormat::Qed => libxl::DiskFormat::Qed,
        ImageFormat::Vpc => libxl::DiskFormat::Vhd,
        _ => libxl::DiskFormat::Unknown,
    }
}
