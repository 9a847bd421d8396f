//! `xlsnap.show/1`, and a snapshot as it stands in other answers.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;
use xlsnap::{Basis, ChainFile, Record, Reversibility, SnapshotDetails, Undo};
use xlsnap_types::libxl;
use xlsnap_types::model::{Consistency, Hypervisor, MemoryMeta, Meta, PassedOver, SnapshotName, StateFlags};

use super::PendingForm;
use crate::render::time::rfc3339;

#[derive(Serialize)]
pub(crate) struct ShowAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    uuid: Uuid,
    current: bool,
    pub(crate) snapshot: SnapshotForm<'a>,
    chains: &'a [ChainFile],
    /// An operation on the domain that waits for recovery.
    pending: Option<PendingForm<'a>>,
}

impl<'a> ShowAnswer<'a> {
    pub(crate) fn new(of: &'a SnapshotDetails) -> Self {
        Self {
            schema: "xlsnap.show/1",
            domain: &of.domain,
            uuid: of.uuid,
            current: of.current,
            snapshot: SnapshotForm::new(&of.record, &of.reversibility),
            chains: &of.chains,
            pending: of.pending.as_ref().map(PendingForm::new),
        }
    }
}

/// A record and what is known beside it, put together.
#[derive(Serialize)]
pub(crate) struct SnapshotForm<'a> {
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) creation_time: u64,
    created: Option<String>,
    /// The file with the memory.
    pub(crate) memory: Option<&'a str>,
    /// What is known of it.
    pub(crate) saved_memory: Option<&'a MemoryMeta>,
    pub(crate) state: StateFlags,
    pub(crate) consistency: Option<Consistency>,
    pub(crate) parent: Option<&'a SnapshotName>,
    pub(crate) disks: Vec<DiskForm<'a>>,
    pub(crate) passed_over: &'a [PassedOver],
    pub(crate) hypervisor: Option<&'a Hypervisor>,
    pub(crate) pause_us: Option<u64>,
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    pub(crate) expires: Option<u64>,
    pub(crate) revert: &'a Undo,
    pub(crate) delete: &'a Undo,
    /// What the two are told by.
    pub(crate) basis: &'a Basis,
}

/// One disk of a snapshot.
#[derive(Serialize)]
pub(crate) struct DiskForm<'a> {
    pub(crate) disk: &'a str,
    /// The snapshot's name in the image.
    pub(crate) tag: &'a str,
    /// `internal` or `external`.
    pub(crate) kind: &'static str,
    /// The overlay of an external one.
    pub(crate) file: Option<&'a str>,
    pub(crate) format: Option<&'static str>,
    /// The image that holds the state.
    pub(crate) image: Option<&'a str>,
    image_format: Option<&'a str>,
    /// The id of the internal snapshot.
    pub(crate) id: Option<&'a str>,
    pub(crate) virtual_size: Option<u64>,
    /// The file that was made for it.
    made: Option<&'a str>,
}

impl<'a> SnapshotForm<'a> {
    pub(crate) fn new(record: &'a Record, reversibility: &'a Reversibility) -> Self {
        let Record { snapshot, meta } = record;
        let meta = meta.as_ref();
        Self {
            name: snapshot.name.as_deref().unwrap_or_default(),
            description: snapshot.description.as_deref().unwrap_or_default(),
            creation_time: snapshot.creation_time,
            created: rfc3339(snapshot.creation_time),
            memory: filled(&snapshot.memory),
            saved_memory: meta.and_then(|meta| meta.memory.as_ref()),
            state: snapshot.into(),
            consistency: meta.map(|meta| meta.consistency),
            parent: meta.and_then(|meta| meta.parent.as_ref()),
            disks: snapshot.disks.iter().map(|disk| DiskForm::new(disk, meta)).collect(),
            passed_over: meta.map_or(&[], |meta| &meta.passed_over),
            hypervisor: meta.map(|meta| &meta.hypervisor),
            pause_us: meta.and_then(|meta| meta.pause_us),
            labels: meta.map(|meta| &meta.labels),
            expires: meta.and_then(|meta| meta.expires),
            revert: &reversibility.revert,
            delete: &reversibility.delete,
            basis: &reversibility.basis,
        }
    }
}

impl<'a> DiskForm<'a> {
    fn new(disk: &'a libxl::DiskSnapshot, meta: Option<&'a Meta>) -> Self {
        let name = disk.device.as_deref().unwrap_or_default();
        let file = filled(&disk.file);
        let meta = meta.and_then(|meta| meta.disks.iter().find(|of| of.disk.as_str() == name));
        Self {
            disk: name,
            tag: disk.name.as_deref().unwrap_or_default(),
            kind: if file.is_some() { "external" } else { "internal" },
            file,
            format: file.map(|_| disk.format.name()),
            image: meta.map(|meta| meta.image.as_str()),
            image_format: meta.map(|meta| meta.format.driver()),
            id: meta.and_then(|meta| meta.id.as_deref()),
            virtual_size: meta.map(|meta| meta.virtual_size),
            made: meta.and_then(|meta| meta.made.as_deref()),
        }
    }
}

/// An empty string of libxl's struct means that there is none.
fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}
