//! Files that were moved: what names them follows, whatever fails and crashes meanwhile.

use std::collections::BTreeMap;

use xlsnap_orchestrator::{
    Error, FileMove, Kind, RelocateReport, RelocateRequest, Session, Uuid, plan_relocate, planned_stages,
    recover,
};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};
use xlsnap_types::model::{LayerRecord, MemoryWay, SnapshotName};

use crate::common::{Op, assert_whole, refused, told};
use crate::sweep::{Power, write};

/// Disks that read 3, with the external snapshots a (1) and b (2) of both, and c inside what they write to, with memory in a file;
/// off.
async fn chains() -> FakeBackend {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]).with_machine();
    backend.start();
    for (content, given) in [(1, "a"), (2, "b")] {
        write(&backend, content);
        // Each layer of a disk has a stamp of its own.
        ["vda", "vdb"]
            .into_iter()
            .for_each(|disk| backend.change_disk(disk, |image| image.modified += content));
        Op::external(given, &["vda", "vdb"]).run(&backend).await.unwrap();
    }
    write(&backend, 3);
    Op::memory("c", MemoryWay::Background).run(&backend).await.unwrap();
    backend.power(Power::Off.guest());
    backend.faults().clear();
    backend
}

fn request(moves: &[(&str, &str)]) -> RelocateRequest {
    let moves = moves.iter().map(|(old, new)| FileMove { old: (*old).to_owned(), new: (*new).to_owned() });
    RelocateRequest { moves: moves.collect(), ..RelocateRequest::default() }
}

async fn relocate(backend: &FakeBackend, request: &RelocateRequest) -> Result<RelocateReport, Error> {
    let (ports, domain) = (backend.ports(), backend.domain());
    let session = Session::open(ports.store, ports.clock, &domain, "relocate").await?;
    session.relocate(&ports, request, Uuid::from_u128(9)).await
}

/// The overlay, the image and the file that was made, of a part of a record.
type Part = (Option<String>, String, Option<String>);

/// All that names a file.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    described: Vec<String>,
    headers: BTreeMap<String, Option<String>>,
    records: BTreeMap<SnapshotName, Vec<Part>>,
    /// The memory file in both parts of each record.
    memory: BTreeMap<SnapshotName, [Option<String>; 2]>,
    ledger: Vec<LayerRecord>,
}

fn names(backend: &FakeBackend) -> Names {
    let described = backend.disk_names();
    let headers = backend.files().into_iter().map(|file| {
        let base = backend.change(&file, |image| image.base.clone());
        (file, base)
    });
    let all = backend.store().records(FakeBackend::UUID);
    let memory = all.iter().map(|(name, record)| {
        let meta = record.meta.as_ref().unwrap().memory.as_ref();
        let in_meta = meta.and_then(|memory| memory.file().map(str::to_owned));
        (name.clone(), [record.snapshot.memory.clone().filter(|file| !file.is_empty()), in_meta])
    });
    let memory = memory.collect();
    let records = all.into_iter().map(|(name, record)| {
        let meta = record.meta.unwrap();
        let parts = record.snapshot.disks.into_iter().zip(meta.disks);
        (name, parts.map(|(part, meta)| (part.file, meta.image, meta.made)).collect())
    });
    let mut ledger = backend.store().layers(FakeBackend::UUID);
    ledger.sort_by(|a, b| a.file.cmp(&b.file));
    Names {
        described: described.iter().map(|disk| backend.disk(disk.as_str()).described).collect(),
        headers: headers.collect(),
        records: records.collect(),
        memory,
        ledger,
    }
}

/// What stands on what, is described and is recorded, whatever the files are called: by their inodes.
fn structure(backend: &FakeBackend) -> impl PartialEq + std::fmt::Debug {
    let inode = |file: &str| backend.change(file, |image| image.inode);
    let Names { described, headers, records, ledger, .. } = names(backend);
    let mut headers: Vec<_> =
        headers.iter().map(|(file, base)| (inode(file), base.as_deref().map(inode))).collect();
    headers.sort_unstable();
    let mut ledger: Vec<_> =
        ledger.iter().map(|entry| (inode(&entry.file), entry.base.as_deref().map(inode))).collect();
    ledger.sort_unstable();
    let part = |(overlay, image, made): Part| {
        (
            overlay.as_deref().filter(|file| !file.is_empty()).map(inode),
            inode(&image),
            made.as_deref().map(inode),
        )
    };
    let records: Vec<_> = records
        .into_iter()
        .map(|(name, parts)| (name, parts.into_iter().map(part).collect::<Vec<_>>()))
        .collect();
    (described.iter().map(|file| inode(file)).collect::<Vec<_>>(), headers, records, ledger)
}

/// A base of `vda`, what `vdb` writes to, and the memory file of c, by its directory.
fn move_files(backend: &FakeBackend) -> RelocateRequest {
    let base = "/images/vda.qcow2";
    let top = backend.disk("vdb").described;
    backend.move_file(base, "/images/base");
    backend.move_file(&top, "/new/top");
    backend.move_memory_file("/saves/c.save", "/kept/c.save");
    request(&[(base, "/images/base"), (&top, "/new/top"), ("/saves", "/kept")])
}

/// Files that get the names of others: the user renamed each aside, and then to its new name.
fn rename_in_a_ring(backend: &FakeBackend, ring: &[&str]) -> RelocateRequest {
    let aside = |file: &str| format!("{file}.aside");
    for file in ring {
        backend.move_file(file, &aside(file));
    }
    let pairs: Vec<(&str, &str)> = ring.iter().copied().zip(ring.iter().copied().cycle().skip(1)).collect();
    for (old, new) in &pairs {
        backend.move_file(&aside(old), new);
    }
    request(&pairs)
}

/// The same of two memory files.
fn exchange_memory(backend: &FakeBackend, (a, b): (&str, &str)) -> RelocateRequest {
    backend.move_memory_file(a, "/saves/aside");
    backend.move_memory_file(b, a);
    backend.move_memory_file("/saves/aside", b);
    request(&[(a, b), (b, a)])
}

#[tokio::test]
async fn everything_follows_or_nothing_whatever_fails() {
    let chains = chains().await;
    let start = chains.fork();
    let request = move_files(&start);
    let followed = follows_or_not(&start, &request).await;
    assert_eq!(structure(&followed), structure(&chains));
}

#[tokio::test]
async fn exchanged_names_follow_or_nothing_whatever_fails() {
    let [base, other] = ["/images/vda.qcow2", "/images/vdb.qcow2"];
    let chains = chains().await;
    let [vda, vdb] = ["vda", "vdb"].map(|disk| chains.disk(disk).described);
    let below = chains.change(&vda, |image| image.base.clone()).unwrap();
    for ring in [
        // Of one chain: what stands on one of both, and what stands on the other.
        [base, below.as_str()].as_slice(),
        &[base, vda.as_str()],
        &[below.as_str(), vda.as_str()],
        // Of two disks: what both write to, and a rotation.
        &[vda.as_str(), vdb.as_str()],
        &[base, other, vdb.as_str()],
        &[base, below.as_str(), vda.as_str()],
    ] {
        let start = chains.fork();
        let request = rename_in_a_ring(&start, ring);
        let followed = follows_or_not(&start, &request).await;
        assert_eq!(structure(&followed), structure(&chains), "{ring:?}");
    }
}

#[tokio::test]
async fn a_name_that_another_file_left_is_taken() {
    let chains = chains().await;
    let start = chains.fork();
    let (base, vda) = ("/images/vda.qcow2", start.disk("vda").described);
    start.move_file(base, "/images/away");
    start.move_file(&vda, base);
    let followed = follows_or_not(&start, &request(&[(base, "/images/away"), (&vda, base)])).await;
    assert_eq!(structure(&followed), structure(&chains));
}

/// A directory in the one that the files left; a file that came there before, and one of its old name that stays.
#[tokio::test]
async fn what_has_arrived_in_a_directory_below_is_not_meant_again() {
    let chains = chains().await;
    let start = chains.fork();
    let (base, top, arrived) = ("/images/vda.qcow2", start.disk("vda").described, "/images/slow/vda.qcow2");
    start.move_file(base, arrived);
    start.move_file(&top, base);
    let first = follows_or_not(&start, &request(&[(base, arrived), (&top, base)])).await;
    let other = first.disk("vdb").described;
    let moved = other.replace("/images/", "/images/slow/");
    first.move_file(&other, &moved);
    relocate(&first, &request(&[("/images", "/images/slow")])).await.unwrap();
    assert_eq!(first.disk("vdb").described, moved);
    assert_eq!(structure(&first), structure(&chains));
    assert_whole(&first, "what came later").await;
}

#[tokio::test]
async fn memory_files_that_exchanged_their_names_are_followed() {
    let start = chains().await;
    start.power(Power::Running.guest());
    write(&start, 4);
    Op::memory("d", MemoryWay::Background).run(&start).await.unwrap();
    start.power(Power::Off.guest());
    start.faults().clear();
    let request = exchange_memory(&start, ("/saves/c.save", "/saves/d.save"));
    let backend = start.fork();
    relocate(&backend, &request).await.unwrap();
    for (given, content) in [("c", 3), ("d", 4)] {
        Op::revert(given).run(&backend).await.unwrap();
        assert_eq!(backend.read("vda"), content, "{given}");
    }
    let error = relocate(&backend, &request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{}", told(&error));
}

/// Each is proved by what is known of it, or all stay.
#[tokio::test]
async fn an_exchange_that_nothing_proves_is_refused_by_name() {
    let chains = chains().await;
    let (base, vda) = ("/images/vda.qcow2", chains.disk("vda").described);
    let below = chains.change(&vda, |image| image.base.clone()).unwrap();
    let given = request(&[(base, &below), (&below, base)]);
    // They are where they were.
    let error = relocate(&chains.fork(), &given).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{}", told(&error));
    assert!(told(&error).contains("is there still"), "{}", told(&error));
    // One of both is not named.
    let backend = chains.fork();
    rename_in_a_ring(&backend, &[base, &below]);
    refused(relocate(&backend, &request(&[(base, &below)])).await, &[base, "is there still"]);
    // A copy with its times, and one whose times tell nothing.
    backend.change(base, |image| image.inode += 1000);
    relocate(&backend.fork(), &given).await.unwrap();
    backend.change(base, |image| image.modified += 1);
    refused(relocate(&backend, &given).await, &[base, "nothing proves that", &below]);
    let kept = RelocateRequest { keep_base: ["vda".parse().unwrap()].into(), ..given };
    refused(relocate(&backend, &kept).await, &[base, "nothing proves that", "a name that none of them had"]);
    // Two of one length, written to at one time.
    let backend = chains.fork();
    let given = rename_in_a_ring(&backend, &[base, "/images/vdb.qcow2"]);
    relocate(&backend.fork(), &given).await.unwrap();
    backend.change(base, |image| image.inode += 1000);
    refused(relocate(&backend, &given).await, &[base, "nothing proves that", "/images/vdb.qcow2"]);
    // What a disk writes to has no stamp.
    let backend = chains.fork();
    let given = rename_in_a_ring(&backend, &[base, &vda]);
    backend.change(base, |image| image.inode += 1000);
    refused(relocate(&backend, &given).await, &[base, "nothing proves that", &vda]);
}

/// What a header names may be one file or the other: the ledger says which.
#[tokio::test]
async fn a_header_that_names_an_exchanged_file_is_read_by_the_ledger() {
    let chains = chains().await;
    let [vda, vdb] = ["vda", "vdb"].map(|disk| chains.disk(disk).described);
    let below = |top: &str| chains.change(top, |image| image.base.clone()).unwrap();
    let base = "/images/vda.qcow2";
    // The user has put it right.
    let backend = chains.fork();
    let given = rename_in_a_ring(&backend, &[base, &below(&vda)]);
    backend.change(&vda, |image| image.base = Some(base.to_owned()));
    let followed = follows_or_not(&backend, &given).await;
    assert_eq!(structure(&followed), structure(&chains));
    // The user has made it stand on a file of another disk.
    let backend = chains.fork();
    let given = rename_in_a_ring(&backend, &["/images/vdb.qcow2", &below(&vdb)]);
    backend.change(&vda, |image| image.base = Some("/images/vdb.qcow2".to_owned()));
    refused(relocate(&backend, &given).await, &["which of the files", &vda, "/images/vdb.qcow2"]);
}

/// Without a ledger there is nothing that tells one image from another.
#[tokio::test]
async fn images_without_a_ledger_exchange_no_names() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    Op::create("a").run(&backend).await.unwrap();
    backend.power(Power::Off.guest());
    let request = rename_in_a_ring(&backend, &["/images/vda.qcow2", "/images/vdb.qcow2"]);
    refused(relocate(&backend, &request).await, &["nothing proves that", "the ledger does not have it"]);
}

/// Cuts a relocation short at each call, and recovers.
async fn follows_or_not(start: &FakeBackend, request: &RelocateRequest) -> FakeBackend {
    let clean = start.fork();
    relocate(&clean, request).await.unwrap_or_else(|e| panic!("{request:?}: {}", told(&e)));
    assert_whole(&clean, "sound").await;
    let (before, after) = (names(start), names(&clean));
    assert_ne!(before, after);
    let calls = clean.faults().calls();
    let mut completed = 0;
    for (at, call) in calls.iter().enumerate() {
        for fault in [
            Fault::Refused,
            Fault::Lost(Moment::Before),
            Fault::Lost(Moment::After),
            Fault::Crash(Moment::Before),
            Fault::Crash(Moment::After),
        ] {
            let about = format!("call {at} ({}) meets {fault:?}", call.method);
            let backend = start.fork();
            backend.faults().plan(at, fault);
            let result = relocate(&backend, request).await;
            if let Err(error) = &result
                && !backend.faults().crashed()
                && error.kind() != Kind::RecoveryPending
            {
                assert_eq!(names(&backend), before, "{about}: {}", told(error));
            }
            backend.restart();
            let left = backend.fork();
            let recovered = recover(&backend.ports(), &backend.domain()).await;
            let recovered =
                recovered.unwrap_or_else(|e| panic!("{about}: it does not recover: {}", told(&e)));
            completed += usize::from(recovered.is_some());
            let now = names(&backend);
            assert!(now == before || now == after, "{about}: {now:#?}");
            // The repeat finishes it.
            match relocate(&left, request).await {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{about}: {}", told(&error)),
            }
            assert_eq!(names(&left), after, "{about}");
            assert_whole(&left, &about).await;
            for (disk, content) in [("vda", 3), ("vdb", 3)] {
                assert_eq!(left.read(disk), content, "{about}");
            }
        }
    }
    assert!(completed > 5, "{completed}");
    clean
}

/// The domain goes on: each snapshot is gone back to, and all go.
#[tokio::test]
async fn what_was_followed_is_as_any_other() {
    let backend = chains().await;
    let report = relocate(&backend, &move_files(&backend)).await.unwrap();
    let files: Vec<&str> = report.files.iter().map(|file| file.to.as_str()).collect();
    assert_eq!(files, ["/images/base", "/new/top"]);
    let memory: Vec<_> = report.memory.iter().map(|file| (file.from.as_str(), file.to.as_str())).collect();
    assert_eq!(memory, [("/saves/c.save", "/kept/c.save")]);
    for (given, content) in [("a", 1), ("b", 2), ("c", 3)] {
        Op::revert(given).run(&backend).await.unwrap();
        assert_eq!((backend.read("vda"), backend.read("vdb")), (content, content), "{given}");
        assert_whole(&backend, given).await;
    }
    for given in ["b", "a", "c"] {
        Op::delete(given).run(&backend).await.unwrap();
        assert_whole(&backend, given).await;
    }
    assert!(backend.memory_files().is_empty());
}

#[tokio::test]
async fn a_dry_run_says_what_a_run_does() {
    let backend = chains().await;
    let request = move_files(&backend);
    let before = names(&backend);
    let plan = plan_relocate(&backend.ports(), &backend.domain(), &request).await.unwrap();
    assert_eq!(names(&backend), before);
    let declared = planned_stages(backend.ports().commands, &plan.stages).await.unwrap();
    let declared: Vec<String> =
        declared.into_iter().flat_map(|stage| stage.commands).map(|command| command.command).collect();
    backend.faults().clear();
    relocate(&backend, &request).await.unwrap();
    let done: Vec<&str> = backend.faults().calls().into_iter().map(|call| call.method).collect();
    let effects = ["layers.reheader", "overlays.adopt", "lock.store", "lock.set_domain_record"];
    let done: Vec<&str> = done.into_iter().filter(|method| effects.contains(method)).collect();
    assert_eq!(done, declared);
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_by_name() {
    let start = chains().await;
    let base = "/images/vda.qcow2";
    let given = request(&[(base, "/images/base")]);
    let there = start.fork();
    refused(relocate(&there, &given).await, &[base, "is there still"]);
    let backend = start.fork();
    backend.move_file(base, "/images/base");
    refused(relocate(&backend, &request(&[(base, "/images/other")])).await, &["is not at /images/other"]);
    let top = backend.disk("vda").described;
    refused(relocate(&backend, &request(&[(base, &top)])).await, &[&top, "already"]);
    let error = relocate(&backend, &request(&[("/images/unknown", "/images/base")])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{}", told(&error));

    // Another file of another length and time.
    backend.change("/images/base", |image| {
        image.inode += 1000;
        image.modified += 1;
    });
    refused(
        relocate(&backend, &given).await,
        &["/images/base is not /images/vda.qcow2", "cp -p", "--keep-base vda"],
    );
    // The same file, written to.
    let backend = start.fork();
    backend.move_file(base, "/images/base");
    backend.change("/images/base", |image| image.modified += 1);
    refused(relocate(&backend, &given).await, &["was written to since", "--keep-base vda"]);
    // Of another size.
    backend.change("/images/base", |image| image.virtual_size += 512);
    refused(relocate(&backend, &given).await, &["bytes for a guest"]);

    let backend = start.fork();
    backend.move_file(base, "/images/base");
    for power in [Power::Running, Power::Paused, Power::Serving] {
        backend.power(power.guest());
        let error = relocate(&backend, &given).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{}", told(&error));
        assert!(told(&error).contains("/images/vda.qcow2 open"), "{}", told(&error));
    }
}

/// The memory file alone: of a domain that is on, too, since no process has it open.
#[tokio::test]
async fn a_memory_file_is_followed_or_refused_by_name() {
    let start = chains().await;
    let (old, new) = ("/saves/c.save", "/kept/c.save");
    let given = request(&[(old, new)]);
    refused(relocate(&start.fork(), &given).await, &[old, "the memory of snapshot c", "is there still"]);
    let backend = start.fork();
    backend.lose_memory_file(old);
    refused(relocate(&backend, &given).await, &[old, "is not at /kept/c.save"]);
    backend.add_memory_file(new);
    refused(relocate(&backend, &given).await, &["/kept/c.save is not /saves/c.save"]);

    for power in [Power::Off, Power::Running, Power::Paused] {
        let backend = start.fork();
        backend.move_memory_file(old, new);
        backend.power(power.guest());
        let before = names(&backend);
        relocate(&backend, &given).await.unwrap();
        let after = names(&backend);
        assert_eq!(
            after.memory[&SnapshotName::new("c").unwrap()],
            [Some(new.to_owned()), Some(new.to_owned())]
        );
        assert_eq!(Names { memory: before.memory.clone(), ..after }, before);
        assert_whole(&backend, "followed").await;
        let error = relocate(&backend, &given).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{}", told(&error));
    }

    // Another snapshot's.
    let backend = start.fork();
    backend.power(Power::Running.guest());
    Op::memory("d", MemoryWay::Background).run(&backend).await.unwrap();
    backend.lose_memory_file(old);
    refused(
        relocate(&backend, &request(&[(old, "/saves/d.save")])).await,
        &["/saves/d.save", "it is that of snapshot d"],
    );
}
