//! What is read off a QEMU without a description.

use std::path::Path;

use xlsnap_orchestrator::{Can, Disk, Disks, Guest, GuestState};
use xlsnap_testkit::real::{
    Attach, Disk as Fixture, Scratch, StorageDaemon, Vm, VmOptions, qemu_img, qemu_version, wait_until,
};
use xlsnap_types::model::{ImageFormat, StateFlags};

use crate::{MIB, attached_by, disk, disks, live, text, two_disks, with_arguments};

fn disk_of<'a>(disks: &'a [Disk], name: &str) -> &'a Disk {
    disks.iter().find(|disk| disk.name.as_str() == name).unwrap()
}

#[tokio::test]
async fn a_machine_has_every_disk_under_its_own_name() {
    for attach in [Attach::Blockdev, Attach::Drive] {
        let scratch = Scratch::new();
        let (image, raw) = (scratch.qcow2("a.qcow2", 4 * MIB), scratch.raw("b.raw", MIB));
        let read_only = scratch.qcow2("c.qcow2", 2 * MIB);
        let iso = scratch.raw("d.iso", MIB);
        qemu_img(&["snapshot", "-c", "old", image.to_str().unwrap()]);
        let fixtures = [
            Fixture::qcow2("vda", &image),
            Fixture::raw("vdb", &raw),
            Fixture::qcow2("vdc", &read_only).read_only(),
            Fixture::cdrom("cd0", &iso),
            Fixture::empty_cdrom("cd1"),
        ];
        let vm = Vm::start(&scratch, &fixtures, &attached_by(attach));
        let live = live(vm.qmp(), Vec::new()).await;
        let inventory = live.inventory().await.unwrap();
        assert_eq!(inventory.disks.len(), 5, "{attach:?}: {:?}", inventory.disks);
        let named = |name: &str| disk_of(&inventory.disks, name);

        let vda = named("vda");
        assert_eq!(vda.image, text(&image));
        assert_eq!((vda.format.clone(), vda.virtual_size), (ImageFormat::Qcow2, 4 * MIB));
        assert_eq!((vda.read_only, vda.removable), (false, false));
        assert_eq!((vda.internal.clone(), vda.external.clone()), (Can::Yes, Can::Yes));
        assert_eq!(vda.snapshots.len(), 1);
        assert_eq!((vda.snapshots[0].name.as_str(), vda.snapshots[0].id.as_str()), ("old", "1"));
        assert!(vda.snapshots[0].date > 1_600_000_000);

        assert_eq!(named("vdb").internal.why(), Some("its format is raw"));
        assert_eq!(named("vdb").external, Can::Yes);
        assert!(named("vdc").read_only && named("vdc").external.why().is_some());
        assert!(named("cd0").read_only && named("cd0").removable);
        assert!(named("cd1").read_only && named("cd1").removable && named("cd1").image.is_empty());
        assert_eq!(named("cd1").internal.why(), Some("its drive is empty"));

        let machine = inventory.hypervisor.machine.unwrap();
        assert!(machine.starts_with("pc-q35-") && !machine.ends_with("machine"), "{machine}");
        assert!(inventory.hypervisor.qemu.unwrap().split('.').count() == 3);
    }
}

#[tokio::test]
async fn a_storage_daemon_has_the_disks_that_it_exports() {
    let scratch = Scratch::new();
    let other = scratch.qcow2("other.qcow2", MIB);
    let hidden = format!("driver=qcow2,node-name=hidden,file.driver=file,file.filename={}", text(&other));
    let daemon = StorageDaemon::start_with(&scratch, &two_disks(&scratch), &["--blockdev", &hidden]);
    let live = live(daemon.qmp(), Vec::new()).await;
    let inventory = live.inventory().await.unwrap();
    let mut names: Vec<&str> = inventory.disks.iter().map(|disk| disk.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["hidden", "vda", "vdb"]);
    assert!(inventory.disks.iter().all(|disk| disk.internal.is_yes()), "{:?}", inventory.disks);
    let external: Vec<bool> =
        names.iter().map(|name| disk_of(&inventory.disks, name).external.is_yes()).collect();
    assert_eq!(external, [false, true, true], "an overlay would take the hidden one's name from it");
    assert_eq!(inventory.hypervisor.machine, None);
    assert_eq!(live.state().await.unwrap(), GuestState::Serving);
}

#[tokio::test]
async fn the_guest_state_is_qemus() {
    let scratch = Scratch::new();
    let disks = two_disks(&scratch);
    let vm = Vm::start(&scratch, &disks, &VmOptions { running: true, ..VmOptions::default() });
    let live = live(vm.qmp(), Vec::new()).await;
    let running = StateFlags { running: true, ..StateFlags::default() };
    assert_eq!(live.state().await.unwrap(), GuestState::On(running));
    vm.human("stop");
    let paused = StateFlags { paused: true, ..StateFlags::default() };
    assert_eq!(live.state().await.unwrap(), GuestState::On(paused));
}

#[tokio::test]
async fn a_data_file_is_an_obstacle_inside_only() {
    let scratch = Scratch::new();
    let image = scratch.qcow2_with_data_file("a.qcow2", MIB);
    let vm = Vm::start(&scratch, &[Fixture::qcow2("vda", &image)], &VmOptions::default());
    let live = live(vm.qmp(), Vec::new()).await;
    let vda = disk(&live, "vda").await;
    assert_eq!(vda.internal.why(), Some("its image keeps the data in another file"));
    assert_eq!(vda.external, Can::Yes);
}

#[tokio::test]
async fn a_filter_on_top_is_an_obstacle() {
    let scratch = Scratch::new();
    let image = text(&scratch.qcow2("a.qcow2", MIB));
    let throttled = format!(
        "driver=throttle,node-name=slow,throttle-group=tg,file.driver=qcow2,file.file.driver=file,\
         file.file.filename={image}"
    );
    let group = "throttle-group,id=tg,x-iops-total=1000";
    let options = with_arguments(&[
        "-object",
        group,
        "-blockdev",
        &throttled,
        "-device",
        "virtio-blk-pci,drive=slow,id=vda",
    ]);
    let vm = Vm::start(&scratch, &[], &options);
    let machine = live(vm.qmp(), Vec::new()).await;
    let vda = disk(&machine, "vda").await;
    assert_eq!((vda.image.as_str(), vda.format.clone()), (image.as_str(), ImageFormat::Qcow2));
    assert_eq!(vda.internal.why(), Some("QEMU has a filter (throttle) on top of it"));
    assert_eq!(vda.external, vda.internal);
    vm.quit();

    let daemon = StorageDaemon::start_with(&scratch, &[], &["--object", group, "--blockdev", &throttled]);
    let daemon_live = live(daemon.qmp(), Vec::new()).await;
    let slow = disk(&daemon_live, "slow").await;
    assert_eq!((slow.image.as_str(), slow.format.clone()), (image.as_str(), ImageFormat::Qcow2));
    assert_eq!(slow.internal, vda.internal);
}

#[tokio::test]
async fn a_job_is_an_obstacle_for_its_own_disk_only() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let target = text(&scratch.path("copy.qcow2"));
    let mirror = serde_json::json!({
        "device": "vda", "job-id": "copying", "target": target, "sync": "full", "format": "qcow2",
    });
    let why = Some("the block job \"copying\" (mirror) works on it");

    let vm = Vm::start(&scratch, &fixtures, &VmOptions::default());
    vm.monitor().must("drive-mirror", mirror.clone());
    let machine = live(vm.qmp(), Vec::new()).await;
    assert_eq!(disk(&machine, "vda").await.internal.why(), why);
    assert_eq!(disk(&machine, "vdb").await.internal, Can::Yes);
    vm.human("block_job_cancel -f copying");
    wait_until("the job is gone", || {
        let jobs = vm.monitor().must("query-block-jobs", serde_json::json!({}));
        jobs.as_array().unwrap().is_empty().then_some(())
    });
    assert_eq!(disk(&machine, "vda").await.internal, Can::Yes);
    vm.quit();

    let daemon = StorageDaemon::start(&scratch, &fixtures);
    std::fs::remove_file(&target).unwrap();
    daemon.monitor().must("drive-mirror", mirror);
    let daemon_live = live(daemon.qmp(), Vec::new()).await;
    let vda = disk(&daemon_live, "vda").await;
    assert_eq!(vda.internal.why(), why);
    assert_eq!(vda.image, text(fixtures[0].file.as_ref().unwrap()));
    assert_eq!(disk(&daemon_live, "vdb").await.internal, Can::Yes);
}

#[tokio::test]
async fn an_inactive_image_is_an_obstacle() {
    let scratch = Scratch::new();
    let vm = Vm::start(&scratch, &two_disks(&scratch), &VmOptions::default());
    vm.migrate_away();
    is_inactive(vm.qmp()).await;
    vm.quit();
    // An older daemon has no way to become so.
    if qemu_version() >= (10, 0) {
        let daemon = StorageDaemon::start_with(&scratch, &[], &inactive_node(&scratch));
        is_inactive(daemon.qmp()).await;
    }
}

async fn is_inactive(qmp: &Path) {
    let found = disks(&live(qmp, Vec::new()).await).await;
    let why = found[0].internal.why().unwrap();
    assert!(why.contains("inactive"), "{why}");
    assert_eq!(found[0].external.why(), Some(why));
}

fn inactive_node(scratch: &Scratch) -> [&'static str; 2] {
    let node = format!(
        "driver=qcow2,node-name=vda,active=off,file.driver=file,file.filename={}",
        text(&scratch.qcow2("a.qcow2", MIB))
    );
    ["--blockdev", node.leak()]
}

#[tokio::test]
async fn names_that_collide_are_numbered() {
    let scratch = Scratch::new();
    let [a, b] = two_disks(&scratch).map(|disk| text(disk.file.as_ref().unwrap()));
    let node = |name: &str, file: &str| {
        format!("driver=qcow2,node-name={name},file.driver=file,file.filename={file}")
    };
    // The second device's id is the first drive's, and both are disks.
    let options = with_arguments(&[
        "-drive",
        &format!("if=virtio,id=same,format=qcow2,file={a}"),
        "-blockdev",
        &node("n", &b),
        "-device",
        "virtio-blk-pci,drive=n,id=same",
    ]);
    let vm = Vm::start(&scratch, &[], &options);
    let live = live(vm.qmp(), Vec::new()).await;
    let found = disks(&live).await;
    let names: Vec<&str> = found.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["same", "same-2"]);
}
