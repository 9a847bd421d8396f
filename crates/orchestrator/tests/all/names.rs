//! New files under the names of the disks' images: made, gone back to, deleted; what others start is what the disk writes to.

use std::collections::BTreeMap;

use xlsnap_orchestrator::{CreateRequest, DiskChoice, KeepName, Kind, recover};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};
use xlsnap_types::model::{ImageFormat, Owner, SnapshotName};

use crate::common::{Op, assert_whole, disk, name, refused, see, told};
use crate::sweep::{Power, sweep_from, write};

const DISKS: [&str; 2] = ["vda", "vdb"];
const OWN: [&str; 2] = ["/images/vda.qcow2", "/images/vdb.qcow2"];
const POWERS: [Power; 3] = [Power::Running, Power::Paused, Power::Off];

/// A domain that others start, whose disks read 1.
fn backend(power: Power) -> FakeBackend {
    let backend = FakeBackend::qcow2(&DISKS).with_machine().with_names().started_by_others();
    backend.power(power.guest());
    write(&backend, 1);
    backend.faults().clear();
    backend
}

/// The same with the snapshots a (1), b (2) and c (3), each on the one before; the disks read 4.
pub(crate) async fn chain(power: Power) -> FakeBackend {
    let backend = backend(power);
    for (content, given) in [(1, "a"), (2, "b"), (3, "c")] {
        write(&backend, content);
        run(&backend, &Op::external(given, &DISKS)).await;
    }
    write(&backend, 4);
    backend.faults().clear();
    backend
}

async fn run(backend: &FakeBackend, op: &Op) {
    if let Err(error) = op.run(backend).await {
        panic!("{op:?}: {} / {:?}", told(&error), error.advice());
    }
    assert_whole(backend, &format!("{op:?}")).await;
    for (disk, own) in DISKS.iter().zip(OWN) {
        let found = backend.disk(disk);
        assert_eq!((found.top.as_str(), found.described.as_str()), (own, own), "{op:?}");
    }
}

/// What every snapshot holds, by its record.
fn states(backend: &FakeBackend) -> BTreeMap<String, Vec<u64>> {
    let records = backend.store().records(FakeBackend::UUID);
    let state = |name: &SnapshotName| {
        let record = &records[name];
        let metas = &record.meta.as_ref().expect("it is ours").disks;
        let part = |disk: &str| {
            record.snapshot.disks.iter().find(|part| part.device.as_deref() == Some(disk)).cloned()
        };
        metas
            .iter()
            .map(|meta| {
                let part = part(meta.disk.as_str()).expect("meta and record have the same disks");
                if !part.is_external() {
                    return backend.read_inside(&meta.image, name.as_str());
                }
                let overlay = part.file.expect("an external part has a file");
                let base = backend.change(&overlay, |image| image.base.clone());
                assert_eq!(base.as_ref(), Some(&meta.image), "{name}: {overlay} is on its base");
                backend.read_image(&meta.image)
            })
            .collect()
    };
    records.keys().map(|name| (name.to_string(), state(name))).collect()
}

fn held(all: &[(&str, u64)]) -> BTreeMap<String, Vec<u64>> {
    all.iter().map(|(name, content)| ((*name).to_owned(), vec![*content; 2])).collect()
}

fn reads(backend: &FakeBackend, content: u64) -> bool {
    see(backend).contents.values().all(|read| *read == content)
}

#[tokio::test]
async fn the_new_file_takes_the_name_and_the_records_follow() {
    for power in POWERS {
        let backend = chain(power).await;
        assert_eq!(states(&backend), held(&[("a", 1), ("b", 2), ("c", 3)]), "{power:?}");
        let files: Vec<String> = backend.files().into_iter().filter(|file| file.contains("vda")).collect();
        let expected = ["/images/vda.a-1.qcow2", "/images/vda.b-1.qcow2", "/images/vda.c-1.qcow2", OWN[0]];
        assert_eq!(files, expected, "{power:?}");
        let ledger = backend.store().layers(FakeBackend::UUID);
        let of = |file: &str| ledger.iter().find(|layer| layer.file == file).unwrap().clone();
        assert_eq!((of(OWN[0]).owner, of(OWN[0]).stamp, of(OWN[0]).named), (Owner::Made, None, None));
        let first = of(expected[0]);
        assert_eq!((first.owner, first.named.as_deref()), (Owner::Domain, Some(OWN[0])));
        assert!(first.stamp.is_some());
        assert_eq!(of(expected[1]).owner, Owner::Made);
        // The file of each part is an overlay of its base still.
        let overlays: Vec<_> = ["a", "b", "c"]
            .map(|at| {
                backend.store().records(FakeBackend::UUID)[&name(at)].snapshot.disks[0].file.clone().unwrap()
            })
            .into();
        assert_eq!(overlays, [expected[1], expected[2], OWN[0]], "{power:?}");
        let seen = see(&backend);
        assert_eq!((seen.running, seen.paused), (power != Power::Off, power == Power::Paused));
    }
}

#[tokio::test]
async fn going_back_and_forth_keeps_the_name() {
    for power in POWERS {
        let backend = chain(power).await;
        let files = backend.files().len();
        for (round, (given, content)) in
            [("a", 1), ("c", 3), ("b", 2), ("b", 2), ("a", 1)].iter().cycle().take(15).enumerate()
        {
            run(&backend, &Op::revert(given)).await;
            assert!(reads(&backend, *content), "{power:?} {round} {given}");
            write(&backend, 100 + round as u64);
            assert_eq!(states(&backend), held(&[("a", 1), ("b", 2), ("c", 3)]), "{power:?} {round}");
            assert!(backend.files().len() <= files + 2, "{power:?} {round}: {:?}", backend.files());
        }
    }
}

#[tokio::test]
async fn a_deletion_ends_under_the_name_of_the_domains_own_image() {
    for power in POWERS {
        for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"], ["b", "c", "a"], ["c", "a", "b"]] {
            let backend = chain(power).await;
            let mut left = BTreeMap::from([("a", 1), ("b", 2), ("c", 3)]);
            for given in order {
                run(&backend, &Op::delete(given)).await;
                left.remove(given);
                let left: Vec<_> = left.iter().map(|(name, content)| (*name, *content)).collect();
                assert_eq!(states(&backend), held(&left), "{power:?} {order:?} {given}");
                assert!(reads(&backend, 4), "{power:?} {order:?} {given}");
            }
            assert_eq!(backend.files().into_iter().collect::<Vec<_>>(), OWN, "{power:?} {order:?}");
            let seen = see(&backend);
            assert_eq!((seen.running, seen.paused), (power != Power::Off, power == Power::Paused));
            // And from the beginning.
            run(&backend, &Op::external("d", &DISKS)).await;
            write(&backend, 5);
            run(&backend, &Op::revert("d")).await;
            assert!(reads(&backend, 4));
            run(&backend, &Op::delete("d")).await;
            assert_eq!(backend.files().into_iter().collect::<Vec<_>>(), OWN, "{power:?} {order:?}");
        }
    }
}

#[tokio::test]
async fn internal_snapshots_follow_the_file_that_they_are_inside() {
    for power in POWERS {
        let backend = backend(power);
        for (content, op) in [
            (1, Op::create("a")),
            (2, Op::external("b", &DISKS)),
            (3, Op::create("c")),
            (4, Op::external("d", &DISKS)),
        ] {
            write(&backend, content);
            run(&backend, &op).await;
        }
        write(&backend, 5);
        let all = held(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
        assert_eq!(states(&backend), all, "{power:?}");
        for (given, content) in [("a", 1), ("d", 4), ("c", 3), ("b", 2)] {
            run(&backend, &Op::revert(given)).await;
            assert!(reads(&backend, content), "{power:?} {given}");
            assert_eq!(states(&backend), all, "{power:?} {given}");
        }
        run(&backend, &Op::delete("d")).await;
        run(&backend, &Op::delete("b")).await;
        assert_eq!(states(&backend), held(&[("a", 1), ("c", 3)]), "{power:?}");
        assert!(reads(&backend, 2));
    }
}

#[tokio::test]
async fn the_deletion_of_the_last_leaves_internal_snapshots_inside_the_image() {
    for power in POWERS {
        let backend = backend(power);
        run(&backend, &Op::create("a")).await;
        write(&backend, 2);
        run(&backend, &Op::external("b", &DISKS)).await;
        write(&backend, 3);
        run(&backend, &Op::delete("b")).await;
        assert_eq!(states(&backend), held(&[("a", 1)]), "{power:?}");
        assert_eq!(backend.files().into_iter().collect::<Vec<_>>(), OWN, "{power:?}");
        run(&backend, &Op::revert("a")).await;
        assert!(reads(&backend, 1));
    }
}

fn request(keep_name: KeepName, file: Option<&str>) -> CreateRequest {
    let choice = DiskChoice::External { file: file.map(str::to_owned), format: ImageFormat::Qcow2 };
    CreateRequest {
        name: Some(name("s")),
        disks: [(disk("vda"), choice)].into(),
        keep_name,
        ..CreateRequest::default()
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_kept_is_refused_by_name_or_told() {
    let raw =
        || FakeBackend::new(&[("vda", ImageFormat::Raw)]).with_machine().with_names().started_by_others();
    let qcow2 = || FakeBackend::qcow2(&["vda"]).with_machine().with_names().started_by_others();
    let serving = qcow2();
    serving.power(Power::Serving.guest());
    for (backend, file, why) in [
        (raw(), None, "its format is raw"),
        (qcow2(), Some("/over/vda.qcow2"), "in another directory"),
        (serving, None, "its process cannot be given another image"),
        (FakeBackend::qcow2(&["vda"]).with_machine(), None, "does not rename"),
    ] {
        let before = see(&backend);
        let op = Op::Create(Box::new(request(KeepName::Yes, file)));
        refused(op.run(&backend).await, &["vda", why, "--no-keep-name"]);
        assert_eq!(see(&backend), before);
    }
    let backend = raw();
    let warnings = Op::Create(Box::new(request(KeepName::default(), None))).run(&backend).await.unwrap();
    let told =
        warnings.iter().find(|warning| warning.starts_with("what starts domain fake has to name")).unwrap();
    for words in [
        "/images/vda.s-1.qcow2 for disk vda",
        "in place of /images/vda.raw",
        "its format is raw",
        "nothing refuses",
    ] {
        assert!(told.contains(words), "{words} is not in {told}");
    }
}

#[tokio::test]
async fn that_writes_to_a_block_device_are_not_found_is_told() {
    let backend = FakeBackend::new(&[("vda", ImageFormat::Raw), ("vdb", ImageFormat::Raw)]).with_machine();
    backend.change_disk("vda", |image| image.inode = 0);
    let warnings = Op::external("s", &DISKS).run(&backend).await.unwrap();
    let told: Vec<&String> = warnings.iter().filter(|warning| warning.contains("block device")).collect();
    assert_eq!(told.len(), 1, "{warnings:?}");
    assert!(told[0].starts_with("disk vda: /images/vda.raw is a block device"), "{told:?}");
}

#[tokio::test]
async fn a_name_is_kept_where_others_start_the_domain_or_where_it_is_asked_for() {
    for (others, keep, kept) in [
        (true, KeepName::WhereOthersStart, true),
        (true, KeepName::No, false),
        (false, KeepName::WhereOthersStart, false),
        (false, KeepName::Yes, true),
    ] {
        let backend = FakeBackend::qcow2(&["vda"]).with_machine().with_names();
        let backend = if others { backend.started_by_others() } else { backend };
        Op::Create(Box::new(request(keep, None))).run(&backend).await.unwrap();
        assert_whole(&backend, &format!("{others} {keep:?}")).await;
        let image = backend.disk("vda").described;
        assert_eq!(image == OWN[0], kept, "{others} {keep:?}: {image}");
        // What follows keeps to it.
        let again = CreateRequest { name: Some(name("t")), ..request(keep, None) };
        let again = Op::Create(Box::new(again));
        for op in [Op::revert("s"), again, Op::revert("s"), Op::delete("t"), Op::delete("s")] {
            op.run(&backend).await.unwrap();
            assert_whole(&backend, &format!("{others} {keep:?} {op:?}")).await;
            let is_kept = backend.disk("vda").described == OWN[0];
            assert!(is_kept || !kept, "{others} {keep:?} {op:?}");
        }
        assert_eq!(backend.files().into_iter().collect::<Vec<_>>(), [OWN[0]], "{others} {keep:?}");
    }
}

#[tokio::test]
async fn sweeps_of_creations() {
    for power in POWERS {
        let start = backend(power);
        write(&start, 4);
        start.faults().clear();
        sweep_from(&format!("{power:?}"), &start, &Op::external("s", &DISKS), &[]).await;
    }
}

/// The guest must not run on files that are about to go, when its memory is given up.
#[tokio::test]
async fn a_creation_with_memory_that_is_cut_short_loses_no_write() {
    let start = backend(Power::Running);
    let op = Op::external_memory("s", &DISKS);
    let calls = {
        let clean = start.fork();
        op.run(&clean).await.unwrap();
        clean.faults().calls().len()
    };
    for at in 0..calls {
        for fault in [
            Fault::Refused,
            Fault::Lost(Moment::After),
            Fault::Crash(Moment::Before),
            Fault::Crash(Moment::After),
        ] {
            let about = format!("call {at} meets {fault:?}");
            let backend = start.fork();
            backend.faults().plan(at, fault);
            let _ = op.run(&backend).await;
            backend.restart();
            recover(&backend.ports(), &backend.domain())
                .await
                .unwrap_or_else(|e| panic!("{about}: {}", told(&e)));
            write(&backend, 7);
            assert_whole(&backend, &about).await;
            assert!(reads(&backend, 7), "{about}");
            let images = DISKS.map(|disk| backend.disk(disk));
            assert!(
                images.iter().zip(OWN).all(|(disk, own)| disk.top == own && disk.described == own),
                "{about}"
            );
            backend.stop();
            assert!(reads(&backend, 7), "{about}: {images:?}");
        }
    }
}

#[tokio::test]
async fn sweeps_of_a_second_creation_and_a_mixed_one() {
    for power in [Power::Running, Power::Off] {
        let start = chain(power).await;
        sweep_from(&format!("{power:?}"), &start, &Op::external("s", &["vda"]), &[]).await;
    }
}

#[tokio::test]
async fn sweeps_of_reverts() {
    for power in POWERS {
        let start = chain(power).await;
        sweep_from(&format!("{power:?}"), &start, &Op::revert("a"), &[]).await;
    }
}

/// A domain whose toolstack names these images for good.
fn toolstack(power: Power) -> FakeBackend {
    let backend = FakeBackend::qcow2(&DISKS).with_machine().with_names().started_by_toolstack();
    backend.power(power.guest());
    write(&backend, 1);
    backend.faults().clear();
    backend
}

async fn toolstack_chain(power: Power) -> FakeBackend {
    let backend = toolstack(power);
    for (content, given) in [(1, "a"), (2, "b")] {
        write(&backend, content);
        run(&backend, &Op::external(given, &DISKS)).await;
    }
    write(&backend, 3);
    backend.faults().clear();
    backend
}

#[tokio::test]
async fn where_a_toolstack_names_the_image_for_good_no_other_name_is_planned() {
    for power in POWERS {
        let backend = toolstack(power);
        let before = see(&backend);
        let no = Op::Create(Box::new(request(KeepName::No, None)));
        refused(no.run(&backend).await, &["vda", "goes on naming", "--keep-name"]);
        let file = Op::Create(Box::new(request(KeepName::default(), Some("/images/mine.qcow2"))));
        refused(file.run(&backend).await, &["/images/mine.qcow2", "goes on naming", "--keep-name"]);
        for keep in [KeepName::default(), KeepName::Yes] {
            let raw = FakeBackend::new(&[("vda", ImageFormat::Raw)]).with_names().started_by_toolstack();
            let op = Op::Create(Box::new(request(keep, None)));
            refused(op.run(&raw).await, &["its format is raw", "takes no external snapshot"]);
        }
        assert_eq!(see(&backend), before);
        run(&backend, &Op::Create(Box::new(request(KeepName::default(), None)))).await;
        assert_eq!(backend.disk("vda").top, OWN[0]);
    }
}

#[tokio::test]
async fn of_a_toolstacks_domain_the_name_is_kept_back_and_forth_and_the_layers_merge_when_it_is_off() {
    for power in POWERS {
        let backend = toolstack_chain(power).await;
        for (given, content) in [("a", 1), ("b", 2), ("b", 2), ("a", 1), ("b", 2)] {
            run(&backend, &Op::revert(given)).await;
            assert!(reads(&backend, content), "{power:?} {given}");
            assert_eq!(states(&backend), held(&[("a", 1), ("b", 2)]), "{power:?} {given}");
        }
        write(&backend, 5);
        run(&backend, &Op::delete("a")).await;
        if power != Power::Off {
            assert!(backend.files().contains("/images/vda.a-1.qcow2"), "{:?}", backend.files());
            refused(
                Op::flatten(&["vda"]).run(&backend).await,
                &["vda", "moves no data", "shut the domain down"],
            );
        }
        backend.stop();
        run(&backend, &Op::delete("b")).await;
        assert!(reads(&backend, 5), "{power:?}");
        assert_eq!(backend.files().into_iter().collect::<Vec<_>>(), OWN, "{power:?}");
    }
}

/// Under a guest whose toolstack cannot be told of another name layers merge, or the guest waits for recovery: it writes to no file to which
/// nothing leads.
#[tokio::test]
async fn a_guest_waits_where_a_name_cannot_be_taken_and_no_other_can_be_told() {
    let start = toolstack_chain(Power::Running).await.moving_data();
    sweep_from("flatten", &start, &Op::flatten(&["vda"]), &[]).await;
    let clean = start.fork();
    run(&clean, &Op::delete("b")).await;
    let calls = clean.faults().calls();
    let mut waited = 0;
    for (at, call) in calls.iter().enumerate() {
        if !["names.detach", "names.rename"].contains(&call.method) {
            continue;
        }
        let (backend, about) = (start.fork(), format!("call {at} ({})", call.method));
        backend.faults().plan(at, Fault::Refused);
        let error = Op::delete("b").run(&backend).await.expect_err(&about);
        assert_eq!(error.kind(), Kind::RecoveryPending, "{about}: {}", told(&error));
        assert!(told(&error).contains("its guest stands still"), "{about}: {}", told(&error));
        assert!(see(&backend).paused, "{about}");
        backend.restart();
        recover(&backend.ports(), &backend.domain()).await.unwrap();
        assert_eq!(see(&backend), see(&clean), "{about}");
        waited += 1;
    }
    assert!(waited >= 2, "{calls:?}");
}

#[tokio::test]
async fn sweeps_of_a_toolstacks_domain() {
    for power in [Power::Running, Power::Off] {
        let start = toolstack_chain(power).await;
        for op in [Op::external("s", &["vda"]), Op::revert("a")] {
            sweep_from(&format!("{power:?}"), &start, &op, &[]).await;
        }
    }
}
