//! Orphans: what no record names is found, adopted as any other snapshot, or deleted.

use xlsnap_orchestrator::{
    AdoptReport, AdoptRequest, CheckRequest, Error, Finding, FindingCode, Kind, OrphanRequest, Run, Session,
    Uuid, check, plan_adopt, plan_delete_orphan, recover,
};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};
use xlsnap_types::model::{Consistency, MemoryWay};

use crate::common::{Op, assert_whole, disk, name, refused, see, told};
use crate::sweep::{Power, sweep_from, write};

/// A machine whose disks read 4, with snapshots whose records are gone: of the disks alone (1), with memory in a file (2), and with
/// memory inside (3).
pub(crate) async fn with_orphans(disks: &[&str], power: Power) -> FakeBackend {
    let backend = FakeBackend::qcow2(disks).with_machine();
    backend.start();
    for (content, given, op) in [
        (1, "orphan-disks", Op::create("orphan-disks")),
        (2, "orphan-file", Op::memory("orphan-file", MemoryWay::Background)),
        (3, "orphan-inside", Op::memory("orphan-inside", MemoryWay::Internal)),
    ] {
        write(&backend, content);
        op.run(&backend).await.unwrap();
        Op::forget(given).run(&backend).await.unwrap();
    }
    write(&backend, 4);
    backend.power(power.guest());
    backend.faults().clear();
    backend
}

const ORPHANS: [&str; 3] = ["orphan-disks", "orphan-file", "orphan-inside"];

async fn adopted(backend: &FakeBackend, given: &str, disks: &[&str]) -> Result<AdoptReport, Error> {
    let (ports, domain) = (backend.ports(), backend.domain());
    let request = AdoptRequest { name: name(given), disks: disks.iter().map(|at| disk(at)).collect() };
    let session = Session::open(ports.store, ports.clock, &domain, "adopt").await?;
    session.adopt(&ports, &request, Uuid::from_u128(9)).await
}

async fn findings(backend: &FakeBackend) -> Vec<Finding> {
    check(&backend.ports(), &backend.domain(), &CheckRequest::default()).await.unwrap().findings
}

#[tokio::test]
async fn an_adoption_is_done_or_not() {
    for power in [Power::Running, Power::Off] {
        let start = with_orphans(&["vda", "vdb"], power).await;
        for orphan in ORPHANS {
            sweep_from(&format!("{power:?}"), &start, &Op::adopt(orphan), &[]).await;
        }
    }
}

#[tokio::test]
async fn a_deletion_of_an_orphan_is_done_or_not() {
    for power in [Power::Running, Power::Off] {
        let start = with_orphans(&["vda", "vdb"], power).await;
        for orphan in ["orphan-disks", "orphan-inside", "/saves/orphan-file.save"] {
            sweep_from(&format!("{power:?}"), &start, &Op::delete_orphan(orphan), &[]).await;
        }
    }
}

/// The same, below an external snapshot: the disks write to other files than those that hold the orphans.
async fn below_overlays(disks: &[&str], power: Power) -> FakeBackend {
    let backend = with_orphans(disks, power).await;
    Op::external("above", disks).run(&backend).await.unwrap();
    write(&backend, 5);
    backend.faults().clear();
    backend
}

#[tokio::test]
async fn an_orphan_below_an_overlay_is_adopted_or_deleted_or_not() {
    for power in [Power::Running, Power::Off] {
        let start = below_overlays(&["vda", "vdb"], power).await;
        for op in [Op::adopt("orphan-disks"), Op::adopt("orphan-inside"), Op::delete_orphan("orphan-disks")] {
            sweep_from(&format!("{power:?}, below"), &start, &op, &[]).await;
        }
    }
}

/// What lies below is listed as what does not, and is a snapshot as any other when it is adopted.
#[tokio::test]
async fn an_orphan_below_an_overlay_is_found_reverted_to_and_deleted() {
    let backend = with_orphans(&["vda", "vdb"], Power::Off).await;
    backend.change_disk("vda", |image| image.take("twice", 1));
    Op::external("above", &["vda", "vdb"]).run(&backend).await.unwrap();
    backend.change_disk("vda", |image| image.take("twice", 2));
    write(&backend, 5);
    let found = findings(&backend).await;
    let on = |tag: &str| {
        let mut images: Vec<String> = found
            .iter()
            .filter(|finding| finding.code == FindingCode::OrphanInImage)
            .filter(|finding| finding.snapshot.as_deref() == Some(tag))
            .map(|finding| finding.what.split(' ').next().unwrap().to_owned())
            .collect();
        images.sort();
        images
    };
    for tag in ["orphan-inside", "orphan-disks"] {
        assert_eq!(on(tag), ["/images/vda.qcow2", "/images/vdb.qcow2"]);
    }
    assert_eq!(on("twice").len(), 2);

    // The uppermost gets the record.
    let report = adopted(&backend, "twice", &[]).await.unwrap();
    assert!(
        report.warnings.iter().any(|told| told.contains("/images/vda.qcow2 (disk vda) holds")),
        "{report:?}"
    );
    assert_ne!(report.record.meta.unwrap().disks[0].image, "/images/vda.qcow2");
    Op::delete_orphan("twice").run(&backend).await.unwrap();
    assert_eq!(backend.tags("vda"), ["twice"]);

    let report = adopted(&backend, "orphan-disks", &[]).await.unwrap();
    let can = &report.reversibility;
    assert!(can.revert.is_possible() && can.delete.is_possible(), "{can:?}");
    let images: Vec<String> =
        report.record.meta.clone().unwrap().disks.iter().map(|at| at.image.clone()).collect();
    assert_eq!(images, ["/images/vda.qcow2", "/images/vdb.qcow2"]);
    Op::revert("orphan-disks").run(&backend).await.unwrap();
    assert_eq!((backend.read("vda"), backend.read("vdb")), (1, 1));
    Op::delete("orphan-disks").run(&backend).await.unwrap();
    let tags: Vec<_> = findings(&backend).await.into_iter().filter_map(|finding| finding.snapshot).collect();
    assert!(tags.iter().all(|tag| tag != "orphan-disks" && tag != "twice"), "{tags:?}");
}

/// A finding has the lines that adopt or delete it.
#[tokio::test]
async fn a_finding_has_the_lines_to_copy() {
    let backend = with_orphans(&["vda"], Power::Running).await;
    backend.change_disk("vda", |image| image.take("it's here/", 1));
    let advice: Vec<String> = findings(&backend).await.into_iter().map(|finding| finding.advice).collect();
    assert_eq!(
        advice,
        [
            "give it a record with the snapshot orphan-file: xlsnap check fake --adopt orphan-file; or delete it: xlsnap check fake --delete-orphan /saves/orphan-file.save",
            r"delete it, if it is not needed: xlsnap check fake --delete-orphan 'it'\''s here/'",
            "give it a record: xlsnap check fake --adopt orphan-disks; or delete it: xlsnap check fake --delete-orphan orphan-disks",
            "give it a record: xlsnap check fake --adopt orphan-file; or delete it: xlsnap check fake --delete-orphan orphan-file",
            "give it a record: xlsnap check fake --adopt orphan-inside; or delete it: xlsnap check fake --delete-orphan orphan-inside",
        ]
    );
}

/// What was adopted is a snapshot as any other.
#[tokio::test]
async fn what_is_adopted_is_reverted_to_and_deleted() {
    let backend = with_orphans(&["vda", "vdb"], Power::Running).await;
    for (content, orphan) in [(1, "orphan-disks"), (2, "orphan-file"), (3, "orphan-inside")] {
        let report = adopted(&backend, orphan, &[]).await.unwrap();
        let meta = report.record.meta.clone().unwrap();
        assert!(report.reversibility.revert.is_possible() && report.reversibility.delete.is_possible());
        let memory = meta.memory.as_ref().map(|memory| (memory.way(), memory.file()));
        match orphan {
            "orphan-disks" => assert_eq!((meta.consistency, memory), (Consistency::Crash, None)),
            "orphan-file" => {
                assert_eq!(memory, Some((MemoryWay::Unknown, Some("/saves/orphan-file.save"))));
            }
            _ => assert_eq!(memory, Some((MemoryWay::Internal, None))),
        }
        Op::revert(orphan).run(&backend).await.unwrap_or_else(|e| panic!("{orphan}: {}", told(&e)));
        assert_eq!((backend.read("vda"), backend.read("vdb")), (content, content), "{orphan}");
        assert!(backend.agrees(), "{orphan}: disks and memory are of one time");
    }
    assert_eq!(findings(&backend).await, []);
    for orphan in ORPHANS {
        Op::delete(orphan).run(&backend).await.unwrap();
    }
    assert_whole(&backend, "all are deleted").await;
    assert!(backend.tags("vda").is_empty() && backend.memory_files().is_empty());
}

/// A snapshot of some disks is a record of these.
#[tokio::test]
async fn only_the_disks_that_hold_it_are_in_the_record() {
    let backend = FakeBackend::qcow2(&["vda", "vdb", "vdc"]);
    for at in ["vda", "vdc"] {
        backend.change_disk(at, |image| image.take("theirs", 100));
    }
    let of = |report: &AdoptReport| {
        let meta = report.record.meta.clone().unwrap();
        let disks: Vec<String> = meta.disks.iter().map(|at| at.disk.to_string()).collect();
        let others: Vec<String> =
            meta.passed_over.iter().map(|at| format!("{}: {}", at.disk, at.why)).collect();
        (disks, others)
    };
    let whole = adopted(&backend, "theirs", &[]).await.unwrap();
    let others = vec!["vdb: /images/vdb.qcow2 holds no snapshot theirs".to_owned()];
    assert_eq!(of(&whole), (vec!["vda".to_owned(), "vdc".to_owned()], others));
    assert_eq!(whole.record.snapshot.creation_time, 100);
    Op::forget("theirs").run(&backend).await.unwrap();

    let one = adopted(&backend, "theirs", &["vdc"]).await.unwrap();
    assert_eq!(of(&one).0, ["vdc"]);
    // The other disk's is an orphan still; its name is a record's, so it can only be deleted.
    let left = findings(&backend).await;
    assert!(left.len() == 1 && left[0].advice.starts_with("delete it"), "{left:?}");
    Op::delete_orphan("theirs").run(&backend).await.unwrap();
    assert!(backend.tags("vda").is_empty() && backend.tags("vdc") == ["theirs"]);
    assert_whole(&backend, "the record's own snapshot stays").await;
}

#[tokio::test]
async fn what_is_no_one_snapshot_is_refused() {
    let start = FakeBackend::qcow2(&["vda", "vdb"]);
    let refuses = async |change: &dyn Fn(&FakeBackend), words: &[&str]| {
        let backend = start.fork();
        change(&backend);
        let before = see(&backend);
        refused(adopted(&backend, "theirs", &[]).await, words);
        assert_eq!(see(&backend), before);
    };
    let take = |backend: &FakeBackend, at: &str, date| {
        backend.change_disk(at, |image| image.take("theirs", date));
    };
    refuses(
        &|backend| {
            take(backend, "vda", 100);
            take(backend, "vdb", 200);
        },
        &["not of one time", "disk vda (id 1)", "100 s older", "--disk"],
    )
    .await;
    refuses(
        &|backend| {
            for at in ["vda", "vdb"] {
                take(backend, at, 100);
                backend.change_disk(at, |image| image.snapshots[0].snapshot.vm_state_size = 7);
            }
        },
        &["two machines' states", "disk vda", "disk vdb"],
    )
    .await;
    refuses(
        &|backend| {
            take(backend, "vda", 100);
            take(backend, "vda", 100);
        },
        &["more than one snapshot theirs", "qemu-img snapshot -d ID"],
    )
    .await;
    refuses(
        &|backend| {
            take(backend, "vda", 100);
            backend.change_disk("vdb", |image| {
                image.take("other", 100);
                image.snapshots[0].snapshot.id = "theirs".to_owned();
            });
        },
        &["is the id of another snapshot", "/images/vdb.qcow2"],
    )
    .await;
    let backend = start.fork();
    take(&backend, "vda", 100);
    refused(adopted(&backend, "theirs", &["sda"]).await, &["no disk sda", "vda, vdb"]);
    Op::create("ours").run(&backend).await.unwrap();
    refused(adopted(&backend, "ours", &[]).await, &["has a record", "xlsnap show fake ours"]);
    let error = adopted(&backend, "nothing", &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    refused(adopted(&backend, "xlsnap-undo-1", &[]).await, &["the mark of a revert", "check --repair"]);
    refused(Op::delete_orphan("xlsnap-undo-1").run(&backend).await, &["the mark of a revert"]);
    for orphan in ["ours", "nothing", "/saves/nothing.save", "/images/vda.qcow2"] {
        let error = Op::delete_orphan(orphan).run(&backend).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{orphan}: {}", told(&error));
    }
    assert_eq!(backend.tags("vda"), ["theirs", "ours"]);
}

/// The memory of another instant does not come to the disks.
#[tokio::test]
async fn a_memory_file_that_is_not_its_own_stays_out() {
    let start = with_orphans(&["vda"], Power::Off).await;
    let of_disks = async |change: &dyn Fn(&FakeBackend)| {
        let backend = start.fork();
        change(&backend);
        let report = adopted(&backend, "orphan-file", &[]).await.unwrap();
        assert_eq!(report.record.meta.unwrap().memory, None);
        assert!(report.warnings.iter().any(|warning| warning.contains("/saves/orphan-file.save")));
        Op::revert("orphan-file").run(&backend).await.unwrap();
        assert_eq!(backend.read("vda"), 2);
    };
    let later = |backend: &FakeBackend| {
        backend.change_disk("vda", |image| {
            image.snapshots.iter_mut().for_each(|kept| kept.snapshot.date += 1_000_000);
        });
    };
    of_disks(&later).await;
    of_disks(&|backend| backend.add_memory_file("/saves/orphan-file.save")).await;

    // With the machine's state inside it is not needed.
    let backend = start.fork();
    backend.add_memory_file("/saves/orphan-inside.save");
    let report = adopted(&backend, "orphan-inside", &[]).await.unwrap();
    assert!(report.reversibility.revert.is_possible(), "{:?}", report.reversibility);
    assert!(report.reversibility.delete.is_possible(), "{:?}", report.reversibility);
}

/// While an operation is to be recovered nothing is planned; a repeat finds the work done.
#[tokio::test]
async fn what_was_cut_short_is_finished_first() {
    let start = with_orphans(&["vda"], Power::Off).await;
    let adopt = AdoptRequest { name: name("orphan-disks"), disks: [].into() };
    let orphan = OrphanRequest { orphan: "orphan-disks".to_owned(), disks: [].into() };
    for op in [Op::adopt("orphan-disks"), Op::delete_orphan("orphan-disks")] {
        let clean = start.fork();
        op.run(&clean).await.unwrap();
        let after = see(&clean);
        for at in 0..clean.faults().calls().len() {
            let backend = start.fork();
            backend.faults().plan(at, Fault::Crash(Moment::After));
            let _ = op.run(&backend).await;
            backend.restart();
            if see(&backend).journal {
                let (ports, domain) = (backend.ports(), backend.domain());
                let errors = [
                    plan_adopt(&ports, &domain, &adopt, Uuid::nil()).await.unwrap_err(),
                    plan_delete_orphan(&ports, &domain, &orphan, Uuid::nil()).await.unwrap_err(),
                ];
                assert!(errors.iter().all(|error| error.kind() == Kind::RecoveryPending));
                op.run(&backend).await.unwrap_or_else(|e| panic!("{op:?}, call {at}: {}", told(&e)));
                assert_eq!(see(&backend), after, "{op:?}: call {at}");
            } else {
                assert_eq!(recover(&backend.ports(), &backend.domain()).await.unwrap(), None);
            }
        }
    }
}

/// A record that cannot be read may name the file.
#[tokio::test]
async fn a_file_stays_while_a_record_cannot_be_read() {
    let backend = with_orphans(&["vda"], Power::Off).await;
    Op::create("spoilt").run(&backend).await.unwrap();
    backend.store().spoil(FakeBackend::UUID, &name("spoilt"));
    let file = "/saves/orphan-file.save";
    refused(Op::delete_orphan(file).run(&backend).await, &["spoilt", "cannot be read"]);
    assert!(backend.memory_files().contains_key(file));
    Op::delete_orphan("orphan-file").run(&backend).await.unwrap();
}

#[tokio::test]
async fn a_guest_of_an_adopted_memory_runs_unless_told_otherwise() {
    let backend = with_orphans(&["vda"], Power::Off).await;
    adopted(&backend, "orphan-file", &[]).await.unwrap();
    Op::revert("orphan-file").run(&backend).await.unwrap();
    assert!(see(&backend).running && !see(&backend).paused);
    Op::revert_to("orphan-file", Run::Waits).run(&backend).await.unwrap();
    assert!(see(&backend).paused);
}
