//! Deleting snapshots inside open images.

use serde_json::json;
use xlsnap_orchestrator::{Disks, Effect, PortErrorKind, SnapshotId};
use xlsnap_qemu::DiskSpec;
use xlsnap_testkit::real::{
    Disk as Fixture, Scratch, StorageDaemon, Vm, VmOptions, qemu_img, qemu_version, snapshots_in,
};

use crate::{MIB, disk_name, internal, live, spec, tags, two_disks};

fn id(name: &str, id: &str) -> SnapshotId {
    SnapshotId { name: name.into(), id: id.into() }
}

#[tokio::test]
async fn exactly_the_named_one_is_deleted() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let daemon = StorageDaemon::start(&scratch, &fixtures);
    let live = live(daemon.qmp(), Vec::new()).await;
    for tag in ["one", "2", "three"] {
        live.snapshot(&[internal("vda", tag)]).await.unwrap();
    }
    let vda = disk_name("vda");
    // The name "2" has the id 2, and the id 1 the name "one": both must match.
    for wrong in [id("nope", "1"), id("one", "2"), id("2", "1"), id("", "1"), id("one", "")] {
        let error = live.delete(&vda, &wrong).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::NotFound, Effect::None), "{wrong:?}");
    }
    live.delete(&vda, &id("2", "2")).await.unwrap();
    assert_eq!(tags(&live, "vda").await, ["one", "three"]);
    assert_eq!(live.delete(&vda, &id("2", "2")).await.unwrap_err().kind, PortErrorKind::NotFound);
    let unknown = live.delete(&disk_name("vdz"), &id("one", "1")).await.unwrap_err();
    assert_eq!(unknown.kind, PortErrorKind::NotFound);
}

#[tokio::test]
async fn a_snapshot_out_of_reach_does_not_count_as_gone() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a.qcow2", MIB);
    let vm = Vm::start(&scratch, &[Fixture::empty_cdrom("vda")], &VmOptions::default());
    let described = live(vm.qmp(), vec![spec("vda", &image)]).await;
    let error = described.delete(&disk_name("vda"), &id("s", "1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Failed, Effect::None));
    drop(described);
    let ejected = DiskSpec { removable: true, ..spec("vda", &image) };
    let described = live(vm.qmp(), vec![ejected]).await;
    let error = described.delete(&disk_name("vda"), &id("s", "1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
}

/// As after a migration: the one way of QEMU 7.2, which does not say so of each image.
#[tokio::test]
async fn the_images_of_a_machine_that_went_are_left_alone_and_qemu_lives() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a.qcow2", MIB);
    qemu_img(&["snapshot", "-c", "s", image.to_str().unwrap()]);
    let mut vm = Vm::start(&scratch, &[Fixture::qcow2("vda", &image)], &VmOptions::default());
    let live = live(vm.qmp(), Vec::new()).await;
    assert_eq!(tags(&live, "vda").await, ["s"]);
    vm.migrate_away();
    let error = live.delete(&disk_name("vda"), &id("s", "1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{error}");
    let error = live.snapshot(&[internal("vda", "t")]).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{error}");
    assert!(vm.alive());
    vm.monitor().must("cont", json!({}));
    live.delete(&disk_name("vda"), &id("s", "1")).await.unwrap();
    vm.quit();
    assert!(snapshots_in(&image).is_empty());
}

#[tokio::test]
async fn an_inactive_image_is_left_alone_and_qemu_lives() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a.qcow2", MIB);
    qemu_img(&["snapshot", "-c", "s", image.to_str().unwrap()]);
    let mut vm = Vm::start(&scratch, &[Fixture::qcow2("vda", &image)], &VmOptions::default());
    let live = live(vm.qmp(), Vec::new()).await;
    assert_eq!(tags(&live, "vda").await, ["s"]);
    // After the adapter has looked: it must not go by what it remembers.
    let done = vm.monitor().execute("blockdev-set-active", json!({"node-name": "vda", "active": false}));
    if qemu_version() < (10, 0) {
        assert_eq!(done, Err("The command blockdev-set-active has not been found".into()));
        return;
    }
    done.unwrap();
    let error = live.delete(&disk_name("vda"), &id("s", "1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
    assert!(vm.alive());
    vm.monitor().must("blockdev-set-active", json!({"node-name": "vda", "active": true}));
    live.delete(&disk_name("vda"), &id("s", "1")).await.unwrap();
    vm.quit();
    assert!(snapshots_in(&image).is_empty());
}

#[tokio::test]
async fn a_read_only_image_keeps_its_snapshot_in_qemus_list_too() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a.qcow2", MIB);
    qemu_img(&["snapshot", "-c", "s", image.to_str().unwrap()]);
    let daemon = StorageDaemon::start(&scratch, &[Fixture::qcow2("vda", &image).read_only()]);
    let live = live(daemon.qmp(), Vec::new()).await;
    let error = live.delete(&disk_name("vda"), &id("s", "1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
    assert_eq!(tags(&live, "vda").await, ["s"]);
}

#[tokio::test]
async fn under_a_job_it_is_busy() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let daemon = StorageDaemon::start(&scratch, &fixtures);
    let live = live(daemon.qmp(), Vec::new()).await;
    live.snapshot(&[internal("vda", "s")]).await.unwrap();
    let target = scratch.path("copy.qcow2");
    let mirror = json!({"device": "vda", "job-id": "j", "target": target, "sync": "full", "format": "qcow2"});
    daemon.monitor().must("drive-mirror", mirror);
    let error = live.delete(&disk_name("vda"), &id("s", "1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None), "{error}");
    let error = live.snapshot(&[internal("vda", "t")]).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None), "{error}");
}

#[tokio::test]
async fn a_live_disk_is_not_reverted() {
    let scratch = Scratch::new();
    let daemon = StorageDaemon::start(&scratch, &two_disks(&scratch));
    let live = live(daemon.qmp(), Vec::new()).await;
    live.snapshot(&[internal("vda", "s")]).await.unwrap();
    let error = live.revert(&disk_name("vda"), &id("s", "1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
}
