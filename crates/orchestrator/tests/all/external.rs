//! External snapshots, their whole life: made, gone back to, deleted wherever they are in the tree.

use std::collections::BTreeMap;

use xlsnap_orchestrator::{
    CheckRequest, Claimed, Claims, DeleteRequest, Doubt, Port, PortError, Ports, async_trait, check,
};
use xlsnap_testkit::fake::{FakeBackend, Image};
use xlsnap_types::model::{ImageFormat, Owner, SnapshotName};

use crate::common::{ORPHAN, Op, assert_whole, disk, name, refused, see, told};
use crate::sweep::{Power, sweep_from, write};

/// A machine whose disks read 4, with the external snapshots a (1), b (2) and c (3), each on the one before.
async fn chain(power: Power) -> FakeBackend {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]).with_machine();
    backend.power(power.guest());
    for (content, given) in [(1, "a"), (2, "b"), (3, "c")] {
        write(&backend, content);
        run(&backend, &Op::external(given, &["vda", "vdb"])).await;
    }
    write(&backend, 4);
    backend.faults().clear();
    backend
}

/// Where the state of each disk of a snapshot is read, by its record.
fn state(backend: &FakeBackend, snapshot: &SnapshotName) -> Vec<u64> {
    let record = backend.store().records(FakeBackend::UUID)[snapshot].clone();
    let disks = record.meta.expect("it is ours").disks;
    disks
        .iter()
        .map(|disk| {
            match record.snapshot.disks.iter().find(|d| d.device.as_deref() == Some(disk.disk.as_str())) {
                Some(part) if part.is_external() => backend.read_image(&disk.image),
                _ => backend.change(&disk.image, |image| {
                    let kept = image.snapshots.iter().find(|kept| kept.snapshot.name == snapshot.as_str());
                    kept.and_then(|kept| kept.content).expect("the record's snapshot is in its image")
                }),
            }
        })
        .collect()
}

/// What every snapshot holds, by its record.
fn states(backend: &FakeBackend) -> BTreeMap<String, Vec<u64>> {
    let records = backend.store().records(FakeBackend::UUID);
    records.keys().map(|name| (name.to_string(), state(backend, name))).collect()
}

async fn run(backend: &FakeBackend, op: &Op) {
    if let Err(error) = op.run(backend).await {
        panic!("{op:?}: {} / {:?}", told(&error), error.advice());
    }
    assert_whole(backend, &format!("{op:?}")).await;
}

fn held(all: &[(&str, u64)]) -> BTreeMap<String, Vec<u64>> {
    all.iter().map(|(name, content)| ((*name).to_owned(), vec![*content; 2])).collect()
}

const POWERS: [Power; 3] = [Power::Running, Power::Paused, Power::Off];

#[tokio::test]
async fn going_back_and_forth_keeps_every_snapshot_and_no_lost_write() {
    for power in POWERS {
        let backend = chain(power).await;
        let files = backend.files().len();
        for (round, given) in
            ["a", "c", "b", "a", "b", "c", "c", "a", "b"].iter().cycle().take(30).enumerate()
        {
            run(&backend, &Op::revert(given)).await;
            let expected = 1 + u64::from(given.as_bytes()[0] - b'a');
            assert!(
                see(&backend).contents.values().all(|read| *read == expected),
                "{power:?} {round} {given}"
            );
            write(&backend, 100 + round as u64);
            assert_eq!(states(&backend), held(&[("a", 1), ("b", 2), ("c", 3)]), "{power:?} {round}");
            assert!(backend.files().len() <= files + 2, "{power:?} {round}: {:?}", backend.files());
        }
        assert_eq!(see(&backend).running, power != Power::Off);
    }
}

#[tokio::test]
async fn a_snapshot_is_deleted_wherever_it_is_and_its_layers_become_one() {
    for power in POWERS {
        for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"], ["b", "c", "a"], ["c", "a", "b"]] {
            let backend = chain(power).await;
            let mut left = BTreeMap::from([("a", 1), ("b", 2), ("c", 3)]);
            for given in order {
                run(&backend, &Op::delete(given)).await;
                left.remove(given);
                let left: Vec<_> = left.iter().map(|(name, content)| (*name, *content)).collect();
                assert_eq!(states(&backend), held(&left), "{power:?} {order:?} {given}");
                assert!(
                    see(&backend).contents.values().all(|read| *read == 4),
                    "{power:?} {order:?} {given}"
                );
            }
            // All is merged down into the domain's own images.
            assert_eq!(
                backend.files().into_iter().collect::<Vec<_>>(),
                ["/images/vda.qcow2", "/images/vdb.qcow2"],
                "{power:?} {order:?}"
            );
            let seen = see(&backend);
            assert_eq!((seen.running, seen.paused), (power != Power::Off, power == Power::Paused));
        }
    }
}

#[tokio::test]
async fn a_snapshot_with_several_children_stays_a_layer_until_one_is_left() {
    for power in POWERS {
        let backend = chain(power).await;
        // Two branches on b.
        run(&backend, &Op::revert("b")).await;
        write(&backend, 5);
        run(&backend, &Op::external("d", &["vda", "vdb"])).await;
        write(&backend, 6);
        run(&backend, &Op::delete("b")).await;
        assert_eq!(states(&backend), held(&[("a", 1), ("c", 3), ("d", 5)]));
        run(&backend, &Op::revert("c")).await;
        assert_eq!(states(&backend), held(&[("a", 1), ("c", 3), ("d", 5)]));
        write(&backend, 7);
        run(&backend, &Op::branch("d")).await;
        assert_eq!(states(&backend), held(&[("a", 1), ("c", 3)]));
        run(&backend, &Op::branch("a")).await;
        assert!(states(&backend).is_empty());
        assert!(see(&backend).contents.values().all(|read| *read == 7));
        assert_eq!(backend.files().len(), 2, "{power:?}: {:?}", backend.files());
    }
}

/// A machine whose disks read 4, with the internal snapshots a (1) and b (2), the external c (3) above them, and the internal d (4)
/// in the overlay.
async fn mixed(power: Power) -> FakeBackend {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]).with_machine();
    backend.power(power.guest());
    for (content, op) in [
        (1, Op::create("a")),
        (2, Op::create("b")),
        (3, Op::external("c", &["vda", "vdb"])),
        (4, Op::create("d")),
    ] {
        write(&backend, content);
        run(&backend, &op).await;
    }
    backend.faults().clear();
    backend
}

#[tokio::test]
async fn an_internal_snapshot_that_a_frozen_layer_holds_is_copied_out() {
    for power in POWERS {
        let backend = mixed(power).await;
        let all = held(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
        for (round, (given, content)) in
            [("b", 2), ("d", 4), ("a", 1), ("c", 3), ("a", 1), ("b", 2), ("d", 4)]
                .iter()
                .cycle()
                .take(21)
                .enumerate()
        {
            run(&backend, &Op::revert(given)).await;
            assert!(see(&backend).contents.values().all(|read| read == content), "{power:?} {round} {given}");
            write(&backend, 100 + round as u64);
            assert_eq!(states(&backend), all, "{power:?} {round} {given}");
            assert!(backend.files().len() <= 6, "{power:?} {round}: {:?}", backend.files());
        }
    }
}

#[tokio::test]
async fn a_layer_with_internal_snapshots_is_pinned() {
    for power in POWERS {
        let backend = mixed(power).await;
        // d reads through to the image below, which keeps a and b too.
        let warnings = Op::delete("c").run(&backend).await.unwrap();
        assert!(warnings.iter().any(|warning| warning.contains("internal snapshots")), "{warnings:?}");
        assert_whole(&backend, "pinned").await;
        assert_eq!(states(&backend), held(&[("a", 1), ("b", 2), ("d", 4)]));
        run(&backend, &Op::delete("d")).await;
        assert_eq!(states(&backend), held(&[("a", 1), ("b", 2)]));
        assert!(see(&backend).contents.values().all(|read| *read == 4));
    }
}

/// The process lets go of the layer, and its guest goes on as it was.
#[tokio::test]
async fn an_internal_snapshot_that_a_frozen_layer_holds_is_deleted() {
    for power in POWERS {
        let backend = mixed(power).await;
        let seen = see(&backend);
        run(&backend, &Op::delete("a")).await;
        assert_eq!(states(&backend), held(&[("b", 2), ("c", 3), ("d", 4)]), "{power:?}");
        run(&backend, &Op::revert("c")).await;
        // d is in a layer that stands beside.
        run(&backend, &Op::delete("d")).await;
        assert_eq!(states(&backend), held(&[("b", 2), ("c", 3)]), "{power:?}");
        run(&backend, &Op::branch("b")).await;
        assert!(states(&backend).is_empty());
        let now = see(&backend);
        assert_eq!((now.running, now.paused), (seen.running, seen.paused), "{power:?}");
        assert!(now.contents.values().all(|read| *read == 3), "{power:?}");
        assert_eq!(backend.files().len(), 2, "{power:?}: {:?}", backend.files());
    }
}

#[tokio::test]
async fn an_internal_snapshot_in_a_layer_that_was_written_is_not_deleted() {
    let backend = mixed(Power::Off).await;
    backend.change("/images/vda.qcow2", |image| image.modified += 1);
    refused(
        Op::delete("a").run(&backend).await,
        &["/images/vda.qcow2", "written to", "xlsnap check", "--metadata-only"],
    );
}

#[tokio::test]
async fn sweeps_of_deletions_inside_frozen_layers() {
    for power in POWERS {
        let backend = mixed(power).await;
        let branch = DeleteRequest { children: true, no_merge: true, ..DeleteRequest::new(name("b")) };
        for op in [Op::delete("a"), Op::Delete(branch)] {
            sweep_from(&format!("{power:?}"), &backend, &op, &[]).await;
        }
    }
}

#[tokio::test]
async fn the_ledger_says_whose_each_file_is() {
    let backend = chain(Power::Off).await;
    let ledger = backend.store().layers(FakeBackend::UUID);
    let owner = |file: &str| ledger.iter().find(|layer| layer.file == file).map(|layer| layer.owner);
    assert_eq!(owner("/images/vda.qcow2"), Some(Owner::Domain));
    assert_eq!(owner("/images/vda.a-1.qcow2"), Some(Owner::Made));
    let frozen = ledger.iter().filter(|layer| layer.stamp.is_some()).count();
    assert_eq!((ledger.len(), frozen), (8, 6));
}

#[tokio::test]
async fn a_base_that_was_written_is_named_and_neither_gone_back_to_nor_merged() {
    let backend = chain(Power::Off).await;
    backend.change("/images/vda.a-1.qcow2", |image| image.modified += 1);
    let error = Op::revert("b").run(&backend).await.unwrap_err();
    assert!(told(&error).contains("/images/vda.a-1.qcow2 was written to"), "{}", told(&error));
    Op::revert("c").run(&backend).await.unwrap();
    let warnings = Op::delete("b").run(&backend).await.unwrap();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("/images/vda.a-1.qcow2") && warning.contains("written")),
        "{warnings:?}"
    );
    assert!(backend.files().contains("/images/vda.b-1.qcow2"));
    // Taken for what it holds now, it is a layer like the others.
    let accept = CheckRequest { keep_base: [disk("vda")].into(), ..CheckRequest::default() };
    let report = check(&backend.ports(), &backend.domain(), &accept).await.unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert_whole(&backend, "accepted").await;
    run(&backend, &Op::delete("c")).await;
    run(&backend, &Op::delete("a")).await;
    assert_eq!(backend.files().len(), 2, "{:?}", backend.files());
}

#[tokio::test]
async fn a_file_that_took_a_layers_name_is_neither_written_nor_removed() {
    let backend = chain(Power::Off).await;
    let copy = backend.change("/images/vda.c-1.qcow2", |image| image.clone());
    let mut other = Image::new(ImageFormat::Qcow2);
    other.base = copy.base.clone();
    other.content = Some(99);
    backend.remove_file("/images/vda.c-1.qcow2");
    backend.add_file("/images/vda.c-1.qcow2", other);
    Op::revert("a").run(&backend).await.unwrap();
    assert_eq!(backend.read_image("/images/vda.c-1.qcow2"), 99);
}

#[tokio::test]
async fn without_room_the_layers_stay_and_that_is_told() {
    let backend = chain(Power::Off).await;
    backend.set_room(1000);
    let warnings = Op::delete("b").run(&backend).await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("room for 1000")), "{warnings:?}");
    assert_eq!(states(&backend), held(&[("a", 1), ("c", 3)]));
    backend.set_room(u64::MAX);
    // A later deletion makes up for it.
    run(&backend, &Op::delete("c")).await;
    assert_eq!(states(&backend), held(&[("a", 1)]));
    assert_eq!(backend.files().len(), 4, "{:?}", backend.files());
    assert_eq!(name("a").as_str(), "a");
}

#[tokio::test]
async fn sweeps_of_reverts() {
    for power in POWERS {
        let start = chain(power).await;
        for op in [Op::revert("a"), Op::offline_revert("b")] {
            sweep_from(&format!("{power:?}"), &start, &op, &[]).await;
        }
        sweep_from(&format!("{power:?}, copied out"), &mixed(power).await, &Op::revert("b"), &[]).await;
    }
}

#[tokio::test]
async fn sweeps_of_reverts_to_a_mixed_one() {
    for power in POWERS {
        let backend = FakeBackend::qcow2(&["vda", "vdb"]).with_machine();
        backend.power(power.guest());
        for (content, given) in [(1, "a"), (2, "b")] {
            write(&backend, content);
            run(&backend, &Op::external(given, &["vdb"])).await;
        }
        write(&backend, 4);
        backend.faults().clear();
        for op in [Op::revert("a"), Op::revert("b"), Op::offline_revert("a")] {
            sweep_from(&format!("{power:?}"), &backend, &op, &[]).await;
        }
    }
}

fn base_of(backend: &FakeBackend, disk: &str) -> Option<String> {
    backend.change_disk(disk, |image| image.base.clone())
}

#[tokio::test]
async fn a_flattened_disk_stands_on_nothing_and_every_snapshot_stays() {
    for power in POWERS {
        let backend = chain(power).await;
        run(&backend, &Op::flatten(&["vda"])).await;
        assert_eq!(base_of(&backend, "vda"), None);
        assert_eq!(base_of(&backend, "vdb").as_deref(), Some("/images/vdb.b-1.qcow2"));
        let warnings = Op::flatten(&[]).run(&backend).await.unwrap();
        assert!(warnings.iter().any(|warning| warning.contains("bytes are copied into")), "{warnings:?}");
        assert_whole(&backend, "flattened").await;
        assert_eq!(base_of(&backend, "vdb"), None);
        let seen = see(&backend);
        assert!(seen.contents.values().all(|read| *read == 4), "{power:?}");
        assert_eq!((seen.running, seen.paused), (power != Power::Off, power == Power::Paused));
        let all = held(&[("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(states(&backend), all);
        write(&backend, 5);
        run(&backend, &Op::external("d", &["vda", "vdb"])).await;
        for (given, content) in [("b", 2), ("c", 3), ("d", 5), ("a", 1), ("d", 5)] {
            run(&backend, &Op::revert(given)).await;
            assert!(see(&backend).contents.values().all(|read| *read == content), "{power:?} {given}");
        }
        for given in ["c", "a", "b", "d"] {
            run(&backend, &Op::delete(given)).await;
            assert!(see(&backend).contents.values().all(|read| *read == 5), "{power:?} {given}");
        }
        // The domain's own images, and what has the data now.
        assert_eq!(backend.files().len(), 4, "{power:?}: {:?}", backend.files());
    }
}

#[tokio::test]
async fn flattening_deletes_the_ancestors_that_are_not_kept() {
    for power in POWERS {
        let backend = chain(power).await;
        run(&backend, &Op::flatten_keep(1)).await;
        assert_eq!(states(&backend), held(&[("c", 3)]), "{power:?}");
        assert_eq!(base_of(&backend, "vda"), None);
        assert!(see(&backend).contents.values().all(|read| *read == 4), "{power:?}");
        run(&backend, &Op::flatten_keep(0)).await;
        assert!(states(&backend).is_empty());
        // Without snapshots merging is all that there is to do.
        let backend = chain(power).await;
        run(&backend, &Op::flatten_keep(0)).await;
        assert!(see(&backend).contents.values().all(|read| *read == 4), "{power:?}");
        assert_eq!(backend.files().len(), 2, "{power:?}: {:?}", backend.files());
    }
}

#[tokio::test]
async fn flattening_merges_what_deletions_left() {
    for power in POWERS {
        let backend = chain(power).await;
        for given in ["b", "a"] {
            let request = DeleteRequest { no_merge: true, ..DeleteRequest::new(name(given)) };
            run(&backend, &Op::Delete(request)).await;
        }
        assert_eq!(backend.files().len(), 8);
        run(&backend, &Op::flatten(&[])).await;
        // Of each disk the domain's image with what c holds, an overlay on it, and what the disk writes to.
        assert_eq!(backend.files().len(), 6, "{power:?}: {:?}", backend.files());
        assert_eq!(states(&backend), held(&[("c", 3)]));
        assert!(see(&backend).contents.values().all(|read| *read == 4), "{power:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_flattened_is_refused_by_name() {
    let backend = mixed(Power::Running).await;
    refused(
        Op::flatten(&[]).run(&backend).await,
        &["/images/vda.c-1.qcow2", "internal snapshots (d)", "--external vda"],
    );
    run(&backend, &Op::external("e", &["vda", "vdb"])).await;
    run(&backend, &Op::flatten(&[])).await;
    assert_eq!(states(&backend), held(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 4)]));
    let backend = chain(Power::Off).await;
    backend.set_room(1000);
    refused(Op::flatten(&["vdb"]).run(&backend).await, &["disk vdb", "room for 1000"]);
    backend.set_room(u64::MAX);
    backend.change("/images/vda.a-1.qcow2", |image| image.modified += 1);
    refused(
        Op::flatten(&["vda"]).run(&backend).await,
        &["/images/vda.a-1.qcow2 was written to", "xlsnap check"],
    );
    Op::flatten(&["vdb"]).run(&backend).await.unwrap();
    backend.remove_file("/images/vda.qcow2");
    refused(Op::flatten(&["vda"]).run(&backend).await, &["/images/vda.a-1.qcow2"]);
    let error = Op::flatten(&["vdz"]).run(&backend).await.unwrap_err();
    assert!(told(&error).contains("no disk vdz"), "{}", told(&error));
}

#[tokio::test]
async fn sweeps_of_flattenings() {
    for power in POWERS {
        let start = chain(power).await;
        sweep_from(&format!("{power:?}"), &start, &Op::flatten(&["vda"]), &[]).await;
        sweep_from(&format!("{power:?}"), &start, &Op::flatten(&[]), &[Op::flatten(&["vda"])]).await;
    }
}

/// A raw image that the disk has outgrown takes no data from above: its own goes up.
#[tokio::test]
async fn data_goes_up_where_it_cannot_go_down() {
    for power in POWERS {
        let backend =
            FakeBackend::new(&[("vda", ImageFormat::Raw), ("vdb", ImageFormat::Qcow2)]).with_machine();
        backend.power(power.guest());
        write(&backend, 1);
        run(&backend, &Op::external("a", &["vda", "vdb"])).await;
        run(&backend, &Op::external("b", &["vda", "vdb"])).await;
        backend.change("/images/vda.a-1.qcow2", |image| image.virtual_size *= 2);
        backend.change_disk("vda", |image| image.virtual_size *= 2);
        let accept = CheckRequest { keep_base: [disk("vda")].into(), ..CheckRequest::default() };
        check(&backend.ports(), &backend.domain(), &accept).await.unwrap();
        let warnings = Op::delete("a").run(&backend).await.unwrap();
        assert!(
            warnings
                .iter()
                .any(|w| w.contains("/images/vda.raw") && w.contains("nothing is read from it any more")),
            "{power:?}: {warnings:?}"
        );
        assert_whole(&backend, "gone up").await;
        assert_eq!(backend.change("/images/vda.a-1.qcow2", |image| image.base.clone()), None, "{power:?}");
        assert_eq!(backend.read_image("/images/vda.a-1.qcow2"), 1, "{power:?}");
    }
}

/// Another domain's word that it needs a file.
struct Needed(&'static str);

#[async_trait]
impl Claims for Needed {
    async fn of(&self, files: &[String]) -> Result<Claimed, PortError> {
        let is_it = |file: &&String| **file == self.0;
        let files = files.iter().filter(is_it);
        let files = files.map(|file| (file.clone(), "domain other stands on it".to_owned())).collect();
        Ok(Claimed { files, doubt: None })
    }
}

/// What another domain stands on is neither written nor removed: its data goes up, unless what is above it holds snapshots.
#[tokio::test]
async fn data_goes_up_from_what_another_domain_needs() {
    for power in POWERS {
        let backend = chain(power).await;
        let claimed = Needed("/images/vda.a-1.qcow2");
        let ports = Ports { claims: Port::Has(&claimed), ..backend.ports() };
        let warnings = Op::delete("b").run_with(&ports, &backend.domain()).await.unwrap();
        let stays = |warning: &String| {
            warning.contains("/images/vda.a-1.qcow2") && warning.contains("domain other stands on it")
        };
        assert!(warnings.iter().any(stays), "{warnings:?}");
        assert_whole(&backend, "gone up").await;
        let base = |file: &str| backend.change(file, |image| image.base.clone());
        assert_eq!(base("/images/vda.b-1.qcow2").as_deref(), Some("/images/vda.qcow2"), "{power:?}");
        assert_eq!(base("/images/vda.a-1.qcow2").as_deref(), Some("/images/vda.qcow2"), "{power:?}");
        assert_eq!(states(&backend), held(&[("a", 1), ("c", 3)]), "{power:?}");
        assert!(see(&backend).contents.values().all(|read| *read == 4), "{power:?}");

        let backend = mixed(power).await;
        let claimed = Needed("/images/vda.qcow2");
        let ports = Ports { claims: Port::Has(&claimed), ..backend.ports() };
        let warnings = Op::delete("c").run_with(&ports, &backend.domain()).await.unwrap();
        assert!(warnings.iter().any(|warning| warning.contains("internal snapshots")), "{warnings:?}");
        assert_eq!(base_of(&backend, "vda").as_deref(), Some("/images/vda.qcow2"), "{power:?}");
    }
}

/// A domain of which something cannot be read.
struct Unreadable;

#[async_trait]
impl Claims for Unreadable {
    async fn of(&self, _files: &[String]) -> Result<Claimed, PortError> {
        let why = "domain db may need it, whose file cannot be read".to_owned();
        Ok(Claimed { files: Vec::new(), doubt: Some(Doubt { why, advice: "repair the file".to_owned() }) })
    }
}

/// While something of another domain cannot be read, that may need each file: none is changed but by what a disk writes.
#[tokio::test]
async fn what_cannot_be_read_may_need_each_file() {
    for power in POWERS {
        let backend = chain(power).await;
        let ports = Ports { claims: Port::Has(&Unreadable), ..backend.ports() };
        let before = backend.files();
        let warnings = Op::delete("b").run_with(&ports, &backend.domain()).await.unwrap();
        assert!(warnings.iter().any(|warning| warning.contains("domain db may need it")), "{warnings:?}");
        assert_eq!(backend.files(), before, "{power:?}");
        Op::revert("a").run_with(&ports, &backend.domain()).await.unwrap();
        assert!(backend.files().is_superset(&before), "{power:?}");
        assert_eq!(states(&backend), held(&[("a", 1), ("c", 3)]), "{power:?}");
        // To copy out of them changes none.
        let before = backend.files();
        Op::flatten(&[]).run_with(&ports, &backend.domain()).await.unwrap();
        assert!(backend.files().is_superset(&before), "{power:?}");
        // What nothing needs goes with the next deletion.
        run(&backend, &Op::delete("c")).await;
        assert_whole(&backend, "all can be read").await;
        assert_eq!(states(&backend), held(&[("a", 1)]), "{power:?}");
        assert!(see(&backend).contents.values().all(|read| *read == 1), "{power:?}");
    }
}

/// A base that many share is copied from by flattening alone, never by a deletion.
#[tokio::test]
async fn a_shared_base_is_left_only_by_flattening() {
    for power in POWERS {
        let backend = FakeBackend::qcow2(&["vda", "vdb"]).with_machine();
        let mut golden = Image::new(ImageFormat::Qcow2);
        golden.content = Some(7);
        backend.add_file("/golden.qcow2", golden);
        backend.change_disk("vda", |image| {
            (image.content, image.base) = (None, Some("/golden.qcow2".to_owned()))
        });
        backend.power(power.guest());
        run(&backend, &Op::external("a", &["vda", "vdb"])).await;
        run(&backend, &Op::delete("a")).await;
        assert_eq!(base_of(&backend, "vda").as_deref(), Some("/golden.qcow2"), "{power:?}");
        run(&backend, &Op::flatten(&[])).await;
        assert_eq!((base_of(&backend, "vda"), backend.read("vda")), (None, 7), "{power:?}");
        assert_eq!(backend.disk("vda").top, "/images/vda.qcow2");
        assert!(backend.files().contains("/golden.qcow2"));
    }
}

/// Disks that stand on one file, which somebody else made.
fn on_one_base(base: &str, format: ImageFormat, disks: &[&str]) -> FakeBackend {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]).with_machine().with_names();
    let mut golden = Image::new(format);
    golden.content = Some(7);
    backend.add_file(base, golden);
    for disk in disks {
        backend.change_disk(disk, |image| image.base = Some(base.to_owned()));
    }
    backend
}

/// What the disk has written goes down into a base that somebody else made, where that is asked for, and whatever cuts it off.
#[tokio::test]
async fn a_named_base_takes_what_the_disk_has_written() {
    let base = format!("/{ORPHAN}.qcow2");
    for power in POWERS {
        let backend = on_one_base(&base, ImageFormat::Qcow2, &["vda"]);
        backend.change(&base, |image| image.take(ORPHAN, 1));
        backend.power(power.guest());
        write(&backend, 1);
        sweep_from(&format!("{power:?}"), &backend, &Op::flatten_into(&["vda"], &base), &[]).await;

        run(&backend, &Op::flatten_into(&["vda"], &base)).await;
        assert_eq!((backend.disk("vda").top.as_str(), backend.read("vda")), (base.as_str(), 1), "{power:?}");
        assert_eq!(backend.read_inside(&base, ORPHAN), 7);
        assert!(!backend.files().contains("/images/vda.qcow2"), "{power:?}");
    }
}

/// Where what starts the domain goes on naming the image, the base takes that name.
#[tokio::test]
async fn a_named_base_takes_the_name_that_a_toolstack_has() {
    let base = format!("/images/{ORPHAN}.qcow2");
    for power in [Power::Running, Power::Off] {
        let backend = on_one_base(&base, ImageFormat::Qcow2, &["vda"]).started_by_toolstack().moving_data();
        backend.power(power.guest());
        write(&backend, 1);
        sweep_from(&format!("{power:?}"), &backend, &Op::flatten_into(&["vda"], &base), &[]).await;

        let told = Op::flatten_into(&["vda"], &base).run(&backend).await.unwrap();
        assert!(told.iter().any(|told| told.contains("has the name /images/vda.qcow2")), "{told:?}");
        assert_eq!((backend.disk("vda").top.as_str(), backend.read("vda")), ("/images/vda.qcow2", 1));
        assert!(!backend.files().contains(&base));
        // It is the domain's own from then on.
        run(&backend, &Op::external("a", &["vda", "vdb"])).await;
        write(&backend, 2);
        run(&backend, &Op::delete("a")).await;
        assert_eq!((base_of(&backend, "vda"), backend.read("vda")), (None, 2));
    }
    for (base, format, why) in [
        ("/elsewhere/base.qcow2", ImageFormat::Qcow2, "lies in another directory"),
        ("/images/base.raw", ImageFormat::Raw, "/images/base.raw is raw"),
    ] {
        let backend = on_one_base(base, format, &["vda"]).started_by_toolstack();
        backend.power(Power::Off.guest());
        let error = Op::flatten_into(&["vda"], base).run(&backend).await;
        refused(error, &["goes on naming the image", why]);
    }
}

/// Of two disks on a named base one takes what is in it, and the other is it.
#[tokio::test]
async fn a_named_base_of_two_disks_is_the_last_ones() {
    let base = "/images/base.qcow2";
    for power in [Power::Running, Power::Off] {
        for by_toolstack in [false, true] {
            let about = format!("{power:?}, toolstack {by_toolstack}");
            let mut backend = on_one_base(base, ImageFormat::Qcow2, &["vda", "vdb"]);
            if by_toolstack {
                backend = backend.started_by_toolstack().moving_data();
            }
            backend.power(power.guest());
            write(&backend, 1);
            let op = Op::flatten_into(&["vda", "vdb"], base);
            sweep_from(&about, &backend, &op, &[]).await;
            run(&backend, &op).await;
            let top = if by_toolstack { "/images/vdb.qcow2" } else { base };
            assert_eq!(backend.disk("vda").top, "/images/vda.qcow2", "{about}");
            assert_eq!(backend.disk("vdb").top, top, "{about}");
            assert_eq!((backend.read("vda"), backend.read("vdb")), (1, 1), "{about}");
            assert_whole(&backend, &about).await;
        }
    }
}

/// What is kept of now before a revert can be had back, although the disks write to other images then.
#[tokio::test]
async fn a_safety_snapshot_of_now_can_be_gone_back_to() {
    for power in POWERS {
        let backend = chain(power).await;
        run(&backend, &Op::safe_revert("a", "safe")).await;
        write(&backend, 5);
        run(&backend, &Op::revert("safe")).await;
        assert!(see(&backend).contents.values().all(|read| *read == 4), "{power:?}");
        run(&backend, &Op::revert("b")).await;
        run(&backend, &Op::delete("safe")).await;
        assert_eq!(states(&backend), held(&[("a", 1), ("b", 2), ("c", 3)]), "{power:?}");
    }
}
