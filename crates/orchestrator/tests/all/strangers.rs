//! What others leave: records of other programs, images that were swapped, journals of newer versions.

use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_orchestrator::{
    CheckRequest, Kind, Outcome, Repair, Reversibility, Row, check, list, recover, tree,
};
use xlsnap_testkit::fake::{FakeWorld, Fault, Moment};
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

fn world() -> FakeWorld {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    for disk in ["vda", "vdb"] {
        world.write(disk, 1);
        world.change_disk(disk, |image| image.take("theirs", 5));
        world.write(disk, 2);
    }
    world.store().plant(FakeWorld::UUID, foreign("theirs", &["vda", "vdb"]));
    world
}

#[tokio::test]
async fn anothers_record_is_listed_reverted_and_deleted() {
    let world = world();
    let listing = list(world.store(), FakeWorld::UUID).await.unwrap();
    assert_eq!(listing.rows.len(), 1);
    assert_eq!((listing.rows[0].consistency, listing.rows[0].internal), (None, 2));
    Op::revert("theirs").run(&world).await.unwrap();
    assert_eq!((world.read("vda"), world.read("vdb")), (1, 1));
    Op::delete("theirs").run(&world).await.unwrap();
    assert!(world.tags("vda").is_empty() && world.tags("vdb").is_empty());
    assert!(world.store().records(FakeWorld::UUID).is_empty());
}

#[tokio::test]
async fn a_name_that_is_there_twice_is_refused() {
    let world = world();
    world.change_disk("vdb", |image| image.take("theirs", 6));
    let before = see_bare(&world);
    for op in [Op::revert("theirs"), Op::delete("theirs")] {
        let error = op.run(&world).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(told(&error).contains("vdb") && told(&error).contains("more than one"), "{}", told(&error));
        assert_eq!(see_bare(&world), before);
    }
    assert_eq!(codes(&world, false).await, ["meta-missing", "name-ambiguous/vdb"]);
}

fn see_bare(world: &FakeWorld) -> impl PartialEq + std::fmt::Debug {
    (["vda", "vdb"].map(|disk| (world.tags(disk), world.read(disk))), world.store().records(FakeWorld::UUID))
}

#[tokio::test]
async fn a_hostile_record_is_refused_by_name() {
    let world = world();
    let mut twice = foreign("twice", &["vda", "vda"]);
    world.store().plant(FakeWorld::UUID, twice.clone());
    twice.snapshot.name = Some("odd".to_owned());
    twice.snapshot.disks[0].device = Some("../../etc".to_owned());
    world.store().plant(FakeWorld::UUID, twice);
    let mut memory = foreign("memory", &["vda", "vdb"]);
    memory.snapshot.memory = Some("/etc/passwd".to_owned());
    world.store().plant(FakeWorld::UUID, memory.clone());
    assert!(!Reversibility::of(&memory).delete.is_possible());
    for given in ["twice", "odd", "memory"] {
        for op in [Op::revert(given), Op::delete(given)] {
            let error = op.run(&world).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
            assert!(told(&error).contains(given) && error.advice().is_some(), "{}", told(&error));
        }
    }
    world.store().spoil(FakeWorld::UUID, &name("spoilt"));
    let error = Op::delete("spoilt").run(&world).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    let forget =
        xlsnap_orchestrator::DeleteRequest { name: name("spoilt"), children: false, metadata_only: true };
    Op::Delete(forget).run(&world).await.unwrap();
    assert!(!list(world.store(), FakeWorld::UUID).await.unwrap().rows.is_empty());
}

/// `code/disk` of each finding.
async fn codes(world: &FakeWorld, repair: bool) -> Vec<String> {
    let report = check(&world.ports(), &world.domain(), &CheckRequest { repair }).await.unwrap();
    let code = |finding: &xlsnap_orchestrator::Finding| match &finding.disk {
        Some(disk) => format!("{}/{disk}", finding.code),
        None => finding.code.to_owned(),
    };
    assert!(report.findings.iter().all(|f| !f.what.is_empty() && !f.risk.is_empty() && !f.advice.is_empty()));
    report.findings.iter().filter(|finding| finding.repair != Repair::Done).map(code).collect()
}

#[tokio::test]
async fn a_snapshot_that_was_replaced_is_not_ours() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    Op::create("s").run(&world).await.unwrap();
    world.change_disk("vdb", |image| {
        image.snapshots[0].snapshot.id = "9".to_owned();
        image.snapshots[0].snapshot.date += 3600;
    });
    for op in [Op::revert("s"), Op::delete("s")] {
        let before = see(&world);
        let error = op.run(&world).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        assert_eq!(see(&world), before);
    }
    assert_eq!(codes(&world, true).await, ["id-changed/vdb"], "the dates differ");
    world.change_disk("vdb", |image| image.snapshots[0].snapshot.date -= 3600);
    assert_eq!(codes(&world, false).await, ["id-changed/vdb"]);
    assert!(codes(&world, true).await.is_empty(), "the dates agree");
    assert!(codes(&world, false).await.is_empty());
    Op::revert("s").run(&world).await.unwrap();
}

#[tokio::test]
async fn other_disks_and_images_are_not_reverted_into() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    Op::create("s").run(&world).await.unwrap();
    world.change_disk("vda", |image| image.virtual_size *= 2);
    assert_eq!(codes(&world, true).await, ["size-changed/vda"]);
    let error = Op::revert("s").run(&world).await.unwrap_err();
    assert!(error.kind() == Kind::Refused && told(&error).contains("vda"), "{}", told(&error));

    let swapped = FakeWorld::qcow2(&["vda", "other"]);
    Op::create("s").run(&swapped).await.unwrap();
    use xlsnap_orchestrator::Disks as _;
    swapped.add_file("/images/new.qcow2", xlsnap_testkit::fake::Image::new(ImageFormat::Qcow2));
    swapped.adopt(&crate::common::disk("vda"), "/images/new.qcow2", &ImageFormat::Qcow2).await.unwrap();
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
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    Op::create("s").run(&world).await.unwrap();
    world.change_disk("vdb", |image| image.in_use = true);
    let before = see(&world);
    for op in [Op::create("t"), Op::revert("s"), Op::delete("s")] {
        let error = op.run(&world).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{}", told(&error));
        assert_eq!(see(&world), before);
    }
}

#[tokio::test]
async fn overlays_that_went_missing_are_found() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    Op::create("a").run(&world).await.unwrap();
    Op::external("s", &["vda"]).run(&world).await.unwrap();
    assert!(codes(&world, false).await.is_empty(), "our own external snapshot explains where a is");
    use xlsnap_orchestrator::Disks as _;
    world.adopt(&crate::common::disk("vda"), "/images/vda.qcow2", &ImageFormat::Qcow2).await.unwrap();
    assert_eq!(codes(&world, true).await, ["overlay-unused/vda"]);
    world.remove_file("/images/vda.s.qcow2");
    assert_eq!(codes(&world, true).await, ["overlay-missing/vda", "overlay-unused/vda"]);
}

#[tokio::test]
async fn what_a_record_names_beside_disks_is_compared() {
    let world = FakeWorld::qcow2(&["vda"]);
    Op::create("a").run(&world).await.unwrap();
    Op::create("b").run(&world).await.unwrap();
    world.store().steal(FakeWorld::UUID, &name("a"));
    world.change_disk("vda", |image| image.snapshots.remove(0));
    world.store().plant(FakeWorld::UUID, foreign("gone", &["vdz"]));
    world.store().spoil(FakeWorld::UUID, &name("spoilt"));
    let expected = ["parent-missing", "meta-missing", "disk-missing/vdz", "record-unreadable"];
    assert_eq!(codes(&world, false).await, expected);
    assert_eq!(codes(&world, true).await, expected[1..]);
    world.store().steal(FakeWorld::UUID, &name("b"));
    assert_eq!(codes(&world, false).await[..2], ["current-missing", "orphan-in-image/vda"]);
    assert_eq!(codes(&world, true).await[0], "orphan-in-image/vda");
    assert_eq!(world.store().current(FakeWorld::UUID), None);
    assert_eq!(world.tags("vda"), ["b"], "nobody knows whose it is");
}

#[tokio::test]
async fn a_journal_is_a_finding_and_mended() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    world.start();
    let clean = world.fork();
    Op::create("s").run(&clean).await.unwrap();
    let at = clean.faults().calls().iter().position(|call| call.method == "disks.snapshot").unwrap();
    world.faults().plan(at, Fault::Crash(Moment::After));
    Op::create("s").run(&world).await.unwrap_err();
    world.restart();
    assert_eq!(codes(&world, false).await, ["journal-left"]);
    assert!(codes(&world, true).await.is_empty());
    assert_eq!(world.store().records(FakeWorld::UUID).len(), 1, "it was completed");
}

#[tokio::test]
async fn a_journal_that_is_not_understood_is_left_alone() {
    for journal in [&b"garbage"[..], br#"{"version":2,"operation":"teleport"}"#, b"", &[b'['; 1000]] {
        let world = FakeWorld::qcow2(&["vda"]);
        Op::create("a").run(&world).await.unwrap();
        world.store().plant_journal(FakeWorld::UUID, Some(journal.to_vec()));
        let before = see(&world);
        for op in [Op::create("s"), Op::delete("a"), Op::revert("a")] {
            let error = op.run(&world).await.unwrap_err();
            assert_eq!(error.kind(), Kind::RecoveryPending, "{}", told(&error));
            assert_eq!(error.effect(), xlsnap_orchestrator::Effect::None);
        }
        assert_eq!(recover(&world.ports(), &world.domain()).await.unwrap_err().kind(), Kind::RecoveryPending);
        assert_eq!(codes(&world, true).await, ["journal-unreadable"]);
        assert_eq!(see(&world), before);
        assert_eq!(world.store().left_journal(FakeWorld::UUID).as_deref(), Some(journal));
    }
}

/// Past the commit point it is never undone, whatever became of an image since.
#[tokio::test]
async fn a_stored_record_is_never_undone() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    let clean = world.fork();
    Op::create("s").run(&clean).await.unwrap();
    let at = clean.faults().calls().iter().position(|call| call.method == "lock.store").unwrap();
    world.faults().plan(at, Fault::Crash(Moment::After));
    let _ = Op::create("s").run(&world).await;
    world.restart();
    world.change_disk("vda", |image| image.snapshots.clear());
    let recovered = recover(&world.ports(), &world.domain()).await.unwrap().unwrap();
    assert_eq!(recovered.outcome, Outcome::Completed);
    assert_eq!(world.tags("vdb"), ["s"]);
    assert_eq!(codes(&world, false).await, ["snapshot-missing-in-image/vda"]);
}

/// The repeat of a deletion that was cut short says that it is done.
#[tokio::test]
async fn a_repeat_of_a_deletion_finishes_it() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    Op::create("s").run(&world).await.unwrap();
    let clean = world.fork();
    Op::delete("s").run(&clean).await.unwrap();
    let at = clean.faults().calls().iter().position(|call| call.method == "disks.delete").unwrap();
    world.restart();
    world.faults().plan(at, Fault::Refused);
    let error = Op::delete("s").run(&world).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RecoveryPending, "{}", told(&error));
    assert!(told(&error).contains("vda"), "{}", told(&error));
    assert_eq!((world.tags("vda").len(), world.tags("vdb").len()), (1, 0), "all disks were tried");
    world.restart();
    Op::delete("s").run(&world).await.unwrap();
    assert!(world.tags("vda").is_empty() && world.store().records(FakeWorld::UUID).is_empty());
}

#[tokio::test]
async fn what_stays_without_its_record_is_told() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    Op::external("s", &["vdb"]).run(&world).await.unwrap();
    let forget = xlsnap_orchestrator::DeleteRequest { name: name("s"), children: false, metadata_only: true };
    let warnings = Op::Delete(forget).run(&world).await.unwrap();
    assert!(warnings[0].contains("disk vda") && warnings[0].contains("/images/vdb.s.qcow2"), "{warnings:?}");
    assert!(world.store().records(FakeWorld::UUID).is_empty());
    assert_eq!(
        (world.tags("vda"), world.disk("vdb").top),
        (vec!["s".to_owned()], "/images/vdb.s.qcow2".to_owned())
    );
}

#[tokio::test]
async fn ten_thousand_rows_are_compact() {
    assert!(size_of::<Row>() <= 128, "a row has {} bytes", size_of::<Row>());
    let world = FakeWorld::qcow2(&["vda"]);
    for at in 0..10_000u64 {
        let mut record = foreign(&format!("s{at}"), &["vda"]);
        record.snapshot.creation_time = 20_000 - at;
        world.store().plant(FakeWorld::UUID, record);
    }
    let listing = list(world.store(), FakeWorld::UUID).await.unwrap();
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
    let nobody = br#"{"version":1,"id":"00000000-0000-0000-0000-000000000007","operation":"revert","name":"a","disks":[]}"#;
    assert!(matches!(Journal::parse(nobody), Err(JournalError::Contradiction(_))));
}
