//! What others leave: records of other programs, images that were swapped, journals of newer versions.

use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_orchestrator::{
    CheckRequest, ImageFile, Kind, Outcome, Repair, Reversibility, Row, check, list, recover, tree,
};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};
use xlsnap_types::libxl;
use xlsnap_types::model::{ImageFormat, SnapshotName};

use crate::common::{Op, name, see, told};

/// A record as another program stores it: no meta.
fn foreign(given: &str, disks: &[&str]) -> Record {
    let disks = disks.iter().map(|at| libxl::DiskSnapshot {
        device: Some((*at).to_owned()),
        name: Some(given.to_owned()),
        ..libxl::DiskSnapshot::default()
    });
    let snapshot = libxl::DomainSnapshot {
        name: Some(given.to_owned()),
        creation_time: 5,
        disks: disks.collect(),
        ..libxl::DomainSnapshot::default()
    };
    Record { snapshot, meta: None }
}

fn backend() -> FakeBackend {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    for disk in ["vda", "vdb"] {
        backend.write(disk, 1);
        backend.change_disk(disk, |image| image.take("theirs", 5));
        backend.write(disk, 2);
    }
    backend.store().plant(FakeBackend::UUID, foreign("theirs", &["vda", "vdb"]));
    backend
}

#[tokio::test]
async fn anothers_record_is_listed_reverted_and_deleted() {
    let backend = backend();
    let listing = list(backend.store(), FakeBackend::UUID).await.unwrap();
    assert_eq!(listing.rows.len(), 1);
    assert_eq!((listing.rows[0].consistency, listing.rows[0].internal), (None, 2));
    Op::revert("theirs").run(&backend).await.unwrap();
    assert_eq!((backend.read("vda"), backend.read("vdb")), (1, 1));
    Op::delete("theirs").run(&backend).await.unwrap();
    assert!(backend.tags("vda").is_empty() && backend.tags("vdb").is_empty());
    assert!(backend.store().records(FakeBackend::UUID).is_empty());
}

#[tokio::test]
async fn a_name_that_is_there_twice_is_refused() {
    let backend = backend();
    backend.change_disk("vdb", |image| image.take("theirs", 6));
    let before = see_bare(&backend);
    for op in [Op::revert("theirs"), Op::delete("theirs")] {
        let error = op.run(&backend).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(told(&error).contains("vdb") && told(&error).contains("more than one"), "{}", told(&error));
        assert_eq!(see_bare(&backend), before);
    }
    assert_eq!(codes(&backend, false).await, ["meta-missing", "name-ambiguous/vdb"]);
}

fn see_bare(backend: &FakeBackend) -> impl PartialEq + std::fmt::Debug {
    (
        ["vda", "vdb"].map(|disk| (backend.tags(disk), backend.read(disk))),
        backend.store().records(FakeBackend::UUID),
    )
}

#[tokio::test]
async fn a_hostile_record_is_refused_by_name() {
    let backend = backend();
    let mut twice = foreign("twice", &["vda", "vda"]);
    backend.store().plant(FakeBackend::UUID, twice.clone());
    twice.snapshot.name = Some("odd".to_owned());
    twice.snapshot.disks[0].device = Some("../../etc".to_owned());
    backend.store().plant(FakeBackend::UUID, twice);
    let mut memory = foreign("memory", &["vda", "vdb"]);
    memory.snapshot.memory = Some("/etc/passwd".to_owned());
    backend.store().plant(FakeBackend::UUID, memory.clone());
    assert!(!Reversibility::of(&memory, "only the record is known").delete.is_possible());
    for given in ["twice", "odd", "memory"] {
        for op in [Op::revert(given), Op::delete(given)] {
            let error = op.run(&backend).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
            assert!(told(&error).contains(given) && error.advice().is_some(), "{}", told(&error));
        }
    }
    backend.store().spoil(FakeBackend::UUID, &name("spoilt"));
    let error = Op::delete("spoilt").run(&backend).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    let forget = xlsnap_orchestrator::DeleteRequest {
        metadata_only: true,
        ..xlsnap_orchestrator::DeleteRequest::new(name("spoilt"))
    };
    Op::Delete(forget).run(&backend).await.unwrap();
    assert!(!list(backend.store(), FakeBackend::UUID).await.unwrap().rows.is_empty());
}

/// `code/disk` of each finding.
async fn codes(backend: &FakeBackend, repair: bool) -> Vec<String> {
    let report =
        check(&backend.ports(), &backend.domain(), &CheckRequest { repair, ..CheckRequest::default() })
            .await
            .unwrap();
    let code = |finding: &xlsnap_orchestrator::Finding| match &finding.disk {
        Some(disk) => format!("{}/{disk}", finding.code),
        None => finding.code.to_string(),
    };
    assert!(report.findings.iter().all(|f| !f.what.is_empty() && !f.risk.is_empty() && !f.advice.is_empty()));
    report.findings.iter().filter(|finding| finding.repair != Repair::Done).map(code).collect()
}

#[tokio::test]
async fn a_snapshot_that_was_replaced_is_not_ours() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    Op::create("s").run(&backend).await.unwrap();
    backend.change_disk("vdb", |image| {
        image.snapshots[0].snapshot.id = "9".to_owned();
        image.snapshots[0].snapshot.date += 3600;
    });
    for op in [Op::revert("s"), Op::delete("s")] {
        let before = see(&backend);
        let error = op.run(&backend).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        assert_eq!(see(&backend), before);
    }
    assert_eq!(codes(&backend, true).await, ["id-changed/vdb"], "the dates differ");
    backend.change_disk("vdb", |image| image.snapshots[0].snapshot.date -= 3600);
    assert_eq!(codes(&backend, false).await, ["id-changed/vdb"]);
    assert!(codes(&backend, true).await.is_empty(), "the dates agree");
    assert!(codes(&backend, false).await.is_empty());
    Op::revert("s").run(&backend).await.unwrap();
}

#[tokio::test]
async fn other_disks_and_images_are_not_reverted_into() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    Op::create("s").run(&backend).await.unwrap();
    backend.change_disk("vda", |image| image.virtual_size *= 2);
    assert_eq!(codes(&backend, true).await, ["size-changed/vda"]);
    let error = Op::revert("s").run(&backend).await.unwrap_err();
    assert!(error.kind() == Kind::Refused && told(&error).contains("vda"), "{}", told(&error));

    let swapped = FakeBackend::qcow2(&["vda", "other"]);
    Op::create("s").run(&swapped).await.unwrap();
    use xlsnap_orchestrator::Overlays as _;
    swapped.add_file("/images/new.qcow2", xlsnap_testkit::fake::Image::new(ImageFormat::Qcow2));
    swapped
        .adopt(&[(crate::common::disk("vda"), ImageFile::new("/images/new.qcow2", ImageFormat::Qcow2))])
        .await
        .unwrap();
    assert_eq!(codes(&swapped, true).await, ["image-changed/vda"]);
    for op in [Op::revert("s"), Op::delete("s")] {
        let error = op.run(&swapped).await.unwrap_err();
        assert!(
            error.kind() == Kind::Refused && told(&error).contains("/images/new.qcow2"),
            "{}",
            told(&error)
        );
    }
}

#[tokio::test]
async fn an_image_in_use_changes_nothing() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    Op::create("s").run(&backend).await.unwrap();
    backend.change_disk("vdb", |image| image.in_use = true);
    let before = see(&backend);
    for op in [Op::create("t"), Op::revert("s"), Op::delete("s")] {
        let error = op.run(&backend).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{}", told(&error));
        assert_eq!(see(&backend), before);
    }
}

#[tokio::test]
async fn overlays_that_went_missing_are_found() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    Op::create("a").run(&backend).await.unwrap();
    Op::external("s", &["vda"]).run(&backend).await.unwrap();
    assert!(codes(&backend, false).await.is_empty(), "our own external snapshot explains where a is");
    use xlsnap_orchestrator::Overlays as _;
    backend
        .adopt(&[(crate::common::disk("vda"), ImageFile::new("/images/vda.qcow2", ImageFormat::Qcow2))])
        .await
        .unwrap();
    assert_eq!(codes(&backend, true).await, ["overlay-unused/vda"]);
    backend.remove_file("/images/vda.s-1.qcow2");
    assert_eq!(codes(&backend, true).await, ["overlay-missing/vda", "overlay-unused/vda"]);
}

#[tokio::test]
async fn what_a_record_names_beside_disks_is_compared() {
    let backend = FakeBackend::qcow2(&["vda"]);
    Op::create("a").run(&backend).await.unwrap();
    Op::create("b").run(&backend).await.unwrap();
    backend.store().steal(FakeBackend::UUID, &name("a"));
    backend.change_disk("vda", |image| image.snapshots.remove(0));
    backend.store().plant(FakeBackend::UUID, foreign("gone", &["vdz"]));
    backend.store().spoil(FakeBackend::UUID, &name("spoilt"));
    let expected = ["parent-missing", "meta-missing", "disk-missing/vdz", "record-unreadable"];
    assert_eq!(codes(&backend, false).await, expected);
    assert_eq!(codes(&backend, true).await, expected[1..]);
    backend.store().steal(FakeBackend::UUID, &name("b"));
    assert_eq!(codes(&backend, false).await[..2], ["current-missing", "orphan-in-image/vda"]);
    assert_eq!(codes(&backend, true).await[0], "orphan-in-image/vda");
    assert_eq!(backend.store().current(FakeBackend::UUID), None);
    assert_eq!(backend.tags("vda"), ["b"], "no record tells which program made it");
}

#[tokio::test]
async fn a_journal_is_a_finding_and_mended() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    backend.start();
    let clean = backend.fork();
    Op::create("s").run(&clean).await.unwrap();
    let at = clean.faults().calls().iter().position(|call| call.method == "disks.snapshot").unwrap();
    backend.faults().plan(at, Fault::Crash(Moment::After));
    Op::create("s").run(&backend).await.unwrap_err();
    backend.restart();
    assert_eq!(codes(&backend, false).await, ["journal-left"]);
    assert!(codes(&backend, true).await.is_empty());
    assert_eq!(backend.store().records(FakeBackend::UUID).len(), 1, "it was completed");
}

#[tokio::test]
async fn a_journal_that_is_not_understood_is_left_alone() {
    for journal in [&b"garbage"[..], br#"{"version":2,"operation":"teleport"}"#, b"", &[b'['; 1000]] {
        let backend = FakeBackend::qcow2(&["vda"]);
        Op::create("a").run(&backend).await.unwrap();
        backend.store().plant_journal(FakeBackend::UUID, Some(journal.to_vec()));
        let before = see(&backend);
        for op in [Op::create("s"), Op::delete("a"), Op::revert("a")] {
            let error = op.run(&backend).await.unwrap_err();
            assert_eq!(error.kind(), Kind::RecoveryPending, "{}", told(&error));
            assert_eq!(error.effect(), xlsnap_orchestrator::Effect::None);
        }
        assert_eq!(
            recover(&backend.ports(), &backend.domain()).await.unwrap_err().kind(),
            Kind::RecoveryPending
        );
        assert_eq!(codes(&backend, true).await, ["journal-unreadable"]);
        assert_eq!(see(&backend), before);
        assert_eq!(backend.store().left_journal(FakeBackend::UUID).as_deref(), Some(journal));
    }
}

/// Past the commit point it is never undone, whatever became of an image since.
#[tokio::test]
async fn a_stored_record_is_never_undone() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    let clean = backend.fork();
    Op::create("s").run(&clean).await.unwrap();
    let at = clean.faults().calls().iter().position(|call| call.method == "lock.store").unwrap();
    backend.faults().plan(at, Fault::Crash(Moment::After));
    let _ = Op::create("s").run(&backend).await;
    backend.restart();
    backend.change_disk("vda", |image| image.snapshots.clear());
    let recovered = recover(&backend.ports(), &backend.domain()).await.unwrap().unwrap();
    assert_eq!(recovered.outcome, Outcome::Completed);
    assert_eq!(backend.tags("vdb"), ["s"]);
    assert_eq!(codes(&backend, false).await, ["snapshot-missing-in-image/vda"]);
}

/// The repeat of a deletion that was cut short says that it is done.
#[tokio::test]
async fn a_repeat_of_a_deletion_finishes_it() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    Op::create("s").run(&backend).await.unwrap();
    let clean = backend.fork();
    Op::delete("s").run(&clean).await.unwrap();
    let at = clean.faults().calls().iter().position(|call| call.method == "disks.delete").unwrap();
    backend.restart();
    backend.faults().plan(at, Fault::Refused);
    let error = Op::delete("s").run(&backend).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RecoveryPending, "{}", told(&error));
    assert!(told(&error).contains("vda"), "{}", told(&error));
    assert_eq!((backend.tags("vda").len(), backend.tags("vdb").len()), (1, 0), "all disks were tried");
    backend.restart();
    Op::delete("s").run(&backend).await.unwrap();
    assert!(backend.tags("vda").is_empty() && backend.store().records(FakeBackend::UUID).is_empty());
}

#[tokio::test]
async fn what_stays_without_its_record_is_told() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    Op::external("s", &["vdb"]).run(&backend).await.unwrap();
    let forget = xlsnap_orchestrator::DeleteRequest {
        metadata_only: true,
        ..xlsnap_orchestrator::DeleteRequest::new(name("s"))
    };
    let warnings = Op::Delete(forget).run(&backend).await.unwrap();
    assert!(
        warnings[0].contains("disk vda") && warnings[0].contains("/images/vdb.s-1.qcow2"),
        "{warnings:?}"
    );
    assert!(backend.store().records(FakeBackend::UUID).is_empty());
    assert_eq!(
        (backend.tags("vda"), backend.disk("vdb").top),
        (vec!["s".to_owned()], "/images/vdb.s-1.qcow2".to_owned())
    );
}

#[tokio::test]
async fn ten_thousand_rows_are_compact() {
    assert!(size_of::<Row>() <= 128, "a row has {} bytes", size_of::<Row>());
    let backend = FakeBackend::qcow2(&["vda"]);
    for at in 0..10_000u64 {
        let mut record = foreign(&format!("s{at}"), &["vda"]);
        record.snapshot.creation_time = 20_000 - at;
        backend.store().plant(FakeBackend::UUID, record);
    }
    let listing = list(backend.store(), FakeBackend::UUID).await.unwrap();
    assert_eq!(listing.rows.len(), 10_000);
    assert!(listing.rows.is_sorted_by_key(|row| row.creation_time));
    assert_eq!(listing.rows[0].name, name("s9999"));
}

#[test]
fn trees() {
    let row = |given: &str, parent: Option<&str>| Row {
        name: name(given),
        creation_time: 0,
        parent: parent.map(name),
        state: Default::default(),
        consistency: None,
        internal: 1,
        external: 0,
        memory: false,
    };
    let drawn = |rows: &[Row], current: Option<&SnapshotName>| -> String {
        let nodes = tree(rows, current);
        assert_eq!(nodes.len(), rows.len(), "each row is there once");
        let line = |node: &xlsnap_orchestrator::Node| {
            let marks = (if node.last { "'" } else { "+" }, if node.here { "*" } else { "" });
            format!("{}{}{}{}\n", " ".repeat(node.depth), marks.0, rows[node.row].name, marks.1)
        };
        nodes.iter().map(line).collect()
    };
    let rows = [
        row("a", None),
        row("b", Some("a")),
        row("c", Some("a")),
        row("d", Some("b")),
        row("e", Some("gone")),
    ];
    assert_eq!(drawn(&rows, Some(&name("d"))), "+a\n +b\n  'd*\n 'c\n'e\n");
    // Circles of parents: a damaged store.
    let circle = [row("a", Some("b")), row("b", Some("a")), row("c", Some("c")), row("d", None)];
    assert_eq!(drawn(&circle, None).lines().count(), 4);
    assert_eq!(drawn(&[], None), "");
    let deep: Vec<Row> = (0..10_000)
        .map(|at| row(&format!("s{at}"), (at > 0).then(|| format!("s{}", at - 1)).as_deref()))
        .collect();
    let nodes = tree(&deep, None);
    assert_eq!(nodes.last().map(|node| node.depth), Some(9_999));
}

#[test]
fn journals_are_read_as_they_were_written() {
    use xlsnap_orchestrator::{Journal, JournalError, Operation};
    let written =
        br#"{"version":1,"id":"00000000-0000-0000-0000-000000000007","operation":"delete","snapshots":[
        {"name":"b","parent":"a","disks":[{"disk":"vda","image":"/i","snapshot":{"name":"b","id":"2"}}]}]}"#;
    let journal = Journal::parse(written).unwrap();
    assert_eq!(
        (journal.operation(), journal.name(), journal.id()),
        (Operation::Delete, &name("b"), Uuid::from_u128(7))
    );
    let newer = Journal::parse(br#"{"version":7}"#).unwrap_err();
    assert!(matches!(newer, JournalError::Newer { found: 7 }), "{newer}");
    let large = vec![b' '; Journal::MAX_BYTES + 1];
    assert!(matches!(Journal::parse(&large), Err(JournalError::TooLarge { .. })));
    let no_disk = br#"{"version":1,"id":"00000000-0000-0000-0000-000000000007","operation":"revert","name":"a","disks":[]}"#;
    assert!(matches!(Journal::parse(no_disk), Err(JournalError::Contradiction(_))));
}
