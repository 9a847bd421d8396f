//! What the tests on the fake backend share: operations as data, and the whole state as a value to compare.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use xlsnap_orchestrator::{
    AdoptRequest, CheckRequest, CreateRequest, DeleteRequest, DiskChoice, DomainRef, Error, FindingCode,
    FlattenRequest, GuestState, Kind, MemoryPlace, MemoryRequest, OrphanRequest, Ports, RevertRequest, Run,
    Session, check, create, delete, flatten, revert,
};
use xlsnap_testkit::fake::FakeBackend;
use xlsnap_types::model::{DiskName, ImageFormat, MemoryWay, SnapshotName, StateFlags};

pub(crate) fn name(name: &str) -> SnapshotName {
    SnapshotName::new(name).unwrap()
}

/// How the names of snapshots begin whose records a test takes away.
pub(crate) const ORPHAN: &str = "orphan-";

pub(crate) fn disk(name: &str) -> DiskName {
    DiskName::new(name).unwrap()
}

/// An operation, to be run on a backend.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create(Box<CreateRequest>),
    Delete(DeleteRequest),
    Revert(RevertRequest),
    Adopt(AdoptRequest),
    DeleteOrphan(OrphanRequest),
    Flatten(FlattenRequest),
}

impl Op {
    pub(crate) fn create(given: &str) -> Self {
        Self::Create(Box::new(CreateRequest { name: Some(name(given)), ..CreateRequest::default() }))
    }

    /// With the guest's memory, in this way.
    pub(crate) fn memory(given: &str, way: MemoryWay) -> Self {
        let inside = way == MemoryWay::Internal;
        let place = if inside { MemoryPlace::Inside } else { MemoryPlace::Default };
        let memory = MemoryRequest { place, way: Some(way), ..MemoryRequest::default() };
        Self::Create(Box::new(CreateRequest {
            name: Some(name(given)),
            memory: Some(memory),
            ..CreateRequest::default()
        }))
    }

    /// With the guest's file systems frozen.
    pub(crate) fn quiesced(given: &str) -> Self {
        let quiesce = Some(std::time::Duration::from_secs(5));
        Self::Create(Box::new(CreateRequest { name: Some(name(given)), quiesce, ..CreateRequest::default() }))
    }

    pub(crate) fn external(given: &str, disks: &[&str]) -> Self {
        let choice = DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
        let disks = disks.iter().map(|at| (disk(at), choice.clone())).collect();
        Self::Create(Box::new(CreateRequest { name: Some(name(given)), disks, ..CreateRequest::default() }))
    }

    /// External, with the guest's memory in a file.
    pub(crate) fn external_memory(given: &str, disks: &[&str]) -> Self {
        let Self::Create(mut request) = Self::external(given, disks) else {
            unreachable!("it is a creation")
        };
        request.memory = Some(MemoryRequest::default());
        Self::Create(request)
    }

    pub(crate) fn delete(given: &str) -> Self {
        Self::Delete(DeleteRequest::new(name(given)))
    }

    pub(crate) fn branch(given: &str) -> Self {
        Self::Delete(DeleteRequest { children: true, ..DeleteRequest::new(name(given)) })
    }

    pub(crate) fn revert(given: &str) -> Self {
        Self::Revert(RevertRequest::new(name(given)))
    }

    pub(crate) fn safe_revert(given: &str, safety: &str) -> Self {
        Self::Revert(RevertRequest { safety: Some(name(safety)), ..RevertRequest::new(name(given)) })
    }

    /// Ending the domain's process and starting it again.
    pub(crate) fn offline_revert(given: &str) -> Self {
        Self::Revert(RevertRequest { offline: true, ..RevertRequest::new(name(given)) })
    }

    /// To a guest that runs afterwards, or stands still.
    pub(crate) fn revert_to(given: &str, run: Run) -> Self {
        Self::Revert(RevertRequest { run: Some(run), ..RevertRequest::new(name(given)) })
    }

    /// Its record alone is deleted.
    pub(crate) fn forget(given: &str) -> Self {
        Self::Delete(DeleteRequest { metadata_only: true, ..DeleteRequest::new(name(given)) })
    }

    pub(crate) fn adopt(given: &str) -> Self {
        Self::Adopt(AdoptRequest { name: name(given), disks: BTreeSet::new() })
    }

    pub(crate) fn delete_orphan(orphan: &str) -> Self {
        Self::DeleteOrphan(OrphanRequest { orphan: orphan.to_owned(), disks: BTreeSet::new() })
    }

    /// Of these disks, or of all when there are none.
    pub(crate) fn flatten(disks: &[&str]) -> Self {
        Self::Flatten(FlattenRequest {
            disks: disks.iter().map(|at| disk(at)).collect(),
            ..FlattenRequest::default()
        })
    }

    /// Of these disks, into a file that is not the domain's.
    pub(crate) fn flatten_into(given: &[&str], base: &str) -> Self {
        Self::Flatten(FlattenRequest {
            disks: given.iter().map(|name| disk(name)).collect(),
            into_base: [base.to_owned()].into(),
            ..FlattenRequest::default()
        })
    }

    /// Of all disks, after the deletion of all ancestors but so many.
    pub(crate) fn flatten_keep(keep: usize) -> Self {
        Self::Flatten(FlattenRequest { keep: Some(keep), ..FlattenRequest::default() })
    }

    /// Runs it, and gives the warnings.
    pub(crate) async fn run(&self, backend: &FakeBackend) -> Result<Vec<String>, Error> {
        self.run_with(&backend.ports(), &backend.domain()).await
    }

    /// The same with these ports.
    pub(crate) async fn run_with(&self, ports: &Ports<'_>, domain: &DomainRef) -> Result<Vec<String>, Error> {
        self.run_as(ports, domain, Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0)).await
    }

    /// The same as the operation with this id.
    pub(crate) async fn run_as(
        &self,
        ports: &Ports<'_>,
        domain: &DomainRef,
        id: Uuid,
    ) -> Result<Vec<String>, Error> {
        match self {
            Self::Create(request) => Ok(create(ports, domain, request, id).await?.warnings),
            Self::Delete(request) => Ok(delete(ports, domain, request, id).await?.warnings),
            Self::Adopt(request) => {
                let session = Session::open(ports.store, ports.clock, domain, "adopt").await?;
                Ok(session.adopt(ports, request, id).await?.warnings)
            }
            Self::DeleteOrphan(request) => {
                let session = Session::open(ports.store, ports.clock, domain, "delete").await?;
                Ok(session.delete_orphan(ports, request, id).await?.warnings)
            }
            Self::Flatten(request) => Ok(flatten(ports, domain, request, id).await?.warnings),
            Self::Revert(request) => {
                let report = revert(ports, domain, request, id).await?;
                Ok(report
                    .safety
                    .into_iter()
                    .flat_map(|safety| safety.warnings)
                    .chain(report.warnings)
                    .collect())
            }
        }
    }
}

/// Everything that matters of a backend, without ids and times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Each record with its parent.
    pub(crate) records: BTreeMap<SnapshotName, Option<SnapshotName>>,
    pub(crate) current: Option<SnapshotName>,
    pub(crate) journal: bool,
    /// What each disk reads.
    pub(crate) contents: BTreeMap<DiskName, u64>,
    /// The image that each disk writes to, and the one that its description names.
    pub(crate) images: BTreeMap<DiskName, (String, String)>,
    /// Each file with the snapshots inside and what they keep.
    pub(crate) files: BTreeMap<String, BTreeMap<String, Option<u64>>>,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    /// Whether its file systems are frozen, or its process has let go of its disks.
    pub(crate) held: bool,
    /// Whether the guest finds its disks as it remembers them.
    pub(crate) agrees: bool,
    /// The memory files.
    pub(crate) memory_files: BTreeSet<String>,
}

pub(crate) fn see(backend: &FakeBackend) -> Seen {
    let records = backend.store().records(FakeBackend::UUID);
    let parents = records.iter().map(|(name, record)| {
        (name.clone(), record.meta.as_ref().expect("all records here are ours").parent.clone())
    });
    let names: BTreeSet<DiskName> = backend.disk_names().into_iter().collect();
    let at = |disk: &DiskName| backend.disk(disk.as_str());
    let files = backend.files().into_iter().map(|file| {
        let kept = backend.change(&file, |image| {
            image
                .snapshots
                .iter()
                .map(|kept| (kept.snapshot.name.clone(), kept.content))
                .collect::<BTreeMap<_, _>>()
        });
        (file, kept)
    });
    Seen {
        records: parents.collect(),
        current: backend.store().current(FakeBackend::UUID),
        journal: backend.store().left_journal(FakeBackend::UUID).is_some(),
        contents: names.iter().map(|disk| (disk.clone(), backend.read(disk.as_str()))).collect(),
        images: names.iter().map(|disk| (disk.clone(), (at(disk).top, at(disk).described))).collect(),
        files: files.collect(),
        running: backend.guest_state() != GuestState::Off,
        paused: matches!(backend.guest_state(), GuestState::On(StateFlags { paused: true, .. })),
        held: backend.is_held(),
        agrees: backend.agrees(),
        memory_files: backend.memory_files().into_keys().collect(),
    }
}

/// The one invariant, on a backend where nothing is left to recover: a record is there exactly when every one of its disks has
/// the snapshot, and nothing half-made remains.
pub(crate) async fn assert_whole(backend: &FakeBackend, about: &str) {
    assert_eq!(backend.store().left_journal(FakeBackend::UUID), None, "{about}: a journal is left");
    let report = check(&backend.ports(), &backend.domain(), &CheckRequest::default()).await;
    let mut findings = report.unwrap_or_else(|e| panic!("{about}: no check: {e}")).findings;
    // What a test leaves without a record has such a name.
    findings.retain(|finding| {
        let is_orphan = matches!(finding.code, FindingCode::OrphanInImage | FindingCode::MemoryOrphan);
        !(is_orphan && finding.what.contains(ORPHAN))
    });
    assert!(findings.is_empty(), "{about}: {findings:#?}");
    let records = backend.store().records(FakeBackend::UUID);
    let parts: Vec<_> =
        records.values().flat_map(|record| record.meta.as_ref().unwrap().disks.clone()).collect();
    let made: BTreeSet<String> = parts.iter().filter_map(|part| part.made.clone()).collect();
    let ledger = backend.store().layers(FakeBackend::UUID);
    for file in backend.files().iter().filter(|file| file.matches('.').count() > 1) {
        let noted = ledger.iter().any(|layer| layer.file == *file);
        assert!(
            made.contains(file) || noted,
            "{about}: neither a record nor the ledger names the overlay {file}"
        );
    }
    for layer in &ledger {
        assert!(
            backend.files().contains(&layer.file),
            "{about}: the ledger names {}, which is gone",
            layer.file
        );
    }
    for file in backend.memory_files().keys().filter(|file| !file.contains(ORPHAN)) {
        let named = records.values().any(|record| record.snapshot.memory.as_ref() == Some(file));
        assert!(named, "{about}: no record names the memory file {file}");
    }
    assert!(backend.agrees(), "{about}: the guest's memory and its disks are of different times");
    assert!(!backend.is_held(), "{about}: the guest is held");
    for file in &made {
        assert!(backend.files().contains(file), "{about}: the overlay {file} is gone");
    }
}

/// An error with its causes.
pub(crate) fn told(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// It is refused, and the message or the advice holds these words.
#[track_caller]
pub(crate) fn refused(result: Result<impl std::fmt::Debug, Error>, words: &[&str]) {
    let error = result.expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    let text = format!("{} / {}", told(&error), error.advice().unwrap_or("no advice"));
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}
