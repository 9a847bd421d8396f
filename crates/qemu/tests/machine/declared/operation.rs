//! Operations as data.

use std::collections::BTreeSet;

use xlsnap_orchestrator::{
    AdoptRequest, CreateRequest, DeleteRequest, DiskChoice, FlattenRequest, KeepName, MemoryPlace,
    MemoryRequest, OrphanRequest, RevertRequest, Run,
};
use xlsnap_types::model::{DiskName, ImageFormat, MemoryWay, SnapshotName};

#[derive(Debug, Clone)]
pub(super) enum Op {
    Create(Box<CreateRequest>),
    Delete(DeleteRequest),
    Revert(RevertRequest),
    Adopt(AdoptRequest),
    DeleteOrphan(OrphanRequest),
    Flatten(FlattenRequest),
}

pub(super) fn name(name: &str) -> SnapshotName {
    SnapshotName::new(name).unwrap()
}

fn named(given: &str) -> CreateRequest {
    CreateRequest { name: Some(name(given)), ..CreateRequest::default() }
}

impl Op {
    pub(super) fn create(given: &str) -> Self {
        Self::Create(Box::new(named(given)))
    }

    pub(super) fn memory(given: &str, way: MemoryWay) -> Self {
        let inside = way == MemoryWay::Internal;
        let place = if inside { MemoryPlace::Inside } else { MemoryPlace::Default };
        let memory = MemoryRequest { place, way: Some(way), ..MemoryRequest::default() };
        Self::Create(Box::new(CreateRequest { memory: Some(memory), ..named(given) }))
    }

    pub(super) fn external(given: &str, disks: &[&str]) -> Self {
        let choice = DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
        let disks = disks.iter().map(|at| (DiskName::new(*at).unwrap(), choice.clone())).collect();
        Self::Create(Box::new(CreateRequest { disks, ..named(given) }))
    }

    /// External, under the names of the images.
    pub(super) fn kept(given: &str, disks: &[&str]) -> Self {
        let Self::Create(mut request) = Self::external(given, disks) else {
            unreachable!("it is a creation")
        };
        request.keep_name = KeepName::Yes;
        Self::Create(request)
    }

    /// The same with the guest's memory in a file.
    pub(super) fn kept_memory(given: &str, way: MemoryWay) -> Self {
        let Self::Create(mut request) = Self::kept(given, &["vda", "vdb"]) else {
            unreachable!("it is a creation")
        };
        request.memory = Some(MemoryRequest { way: Some(way), ..MemoryRequest::default() });
        Self::Create(request)
    }

    pub(super) fn delete(given: &str, children: bool) -> Self {
        Self::Delete(DeleteRequest { children, ..DeleteRequest::new(name(given)) })
    }

    /// Its record alone is deleted.
    pub(super) fn forget(given: &str) -> Self {
        Self::Delete(DeleteRequest { metadata_only: true, ..DeleteRequest::new(name(given)) })
    }

    pub(super) fn adopt(given: &str) -> Self {
        Self::Adopt(AdoptRequest { name: name(given), disks: BTreeSet::new() })
    }

    pub(super) fn delete_orphan(orphan: &str) -> Self {
        Self::DeleteOrphan(OrphanRequest { orphan: orphan.to_owned(), disks: BTreeSet::new() })
    }

    pub(super) fn flatten(disks: &[&str], keep: Option<usize>) -> Self {
        let disks = disks.iter().map(|at| DiskName::new(*at).unwrap()).collect();
        Self::Flatten(FlattenRequest { disks, keep, ..FlattenRequest::default() })
    }

    pub(super) fn revert(given: &str) -> Self {
        Self::Revert(RevertRequest::new(name(given)))
    }

    pub(super) fn revert_to(given: &str, run: Run) -> Self {
        Self::Revert(RevertRequest { run: Some(run), ..RevertRequest::new(name(given)) })
    }

    pub(super) fn offline_revert(given: &str) -> Self {
        Self::Revert(RevertRequest { offline: true, ..RevertRequest::new(name(given)) })
    }

    pub(super) fn safe_revert(given: &str, safety: &str) -> Self {
        Self::Revert(RevertRequest { safety: Some(name(safety)), ..RevertRequest::new(name(given)) })
    }
}
