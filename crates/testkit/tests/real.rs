//! The fixtures do what they say, so that a test built on them can fail.

use serde_json::json;
use xlsnap_testkit::real::{
    Attach, Data, Disk, LiveDisks, Scratch, StorageDaemon, Vm, VmOptions, byte_offline, holds_offline,
    qemu_img, snapshots_in,
};

const MIB: u64 = 1 << 20;

#[test]
fn images_hold_what_was_written_and_nothing_else() {
    let scratch = Scratch::new();
    let image = scratch.qcow2_with("a.qcow2", MIB, 3);
    assert!(holds_offline(&image, "qcow2", Data::of(3)));
    assert!(!holds_offline(&image, "qcow2", Data::of(4)));
    assert_eq!((byte_offline(&image, "qcow2", 9), byte_offline(&image, "qcow2", 200_000)), (3, 0));
    let overlay = scratch.qcow2_on("b.qcow2", &image);
    assert!(holds_offline(&overlay, "qcow2", Data::of(3)), "an overlay shows its base");
    qemu_img(&["snapshot", "-c", "one", image.to_str().unwrap()]);
    assert_eq!(snapshots_in(&image), ["one"]);
}

#[test]
fn a_storage_daemon_serves_its_disks_until_it_is_dropped() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.qcow2("a.qcow2", MIB), scratch.raw("b.raw", MIB));
    let daemon = StorageDaemon::start(&scratch, &[Disk::qcow2("vda", &a), Disk::raw("vdb", &b)]);
    daemon.write("vda", Data::of(1));
    daemon.write("vdb", Data::of(2));
    assert!(daemon.holds("vda", Data::of(1)) && daemon.holds("vdb", Data::of(2)));
    assert!(!daemon.holds("vda", Data::of(2)));
    let pid = daemon.pid();
    daemon.quit();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(holds_offline(&a, "qcow2", Data::of(1)) && holds_offline(&b, "raw", Data::of(2)));
}

#[test]
fn a_killed_process_leaves_an_image_that_another_can_open() {
    let scratch = Scratch::new();
    let a = scratch.qcow2("a.qcow2", MIB);
    let mut vm = Vm::start(&scratch, &[Disk::qcow2("vda", &a)], &VmOptions::default());
    vm.kill();
    assert!(!vm.alive());
    let vm = Vm::start(&scratch, &[Disk::qcow2("vda", &a)], &VmOptions::default());
    vm.write("vda", Data::of(9));
    let pid = vm.pid();
    drop(vm);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_machine_has_its_disks_however_they_are_given() {
    for attach in [Attach::Blockdev, Attach::Drive] {
        let scratch = Scratch::new();
        let (a, r) = (scratch.qcow2("a.qcow2", MIB), scratch.raw("cd.raw", MIB));
        let disks = [Disk::qcow2("vda", &a), Disk::cdrom("cd0", &r), Disk::empty_cdrom("cd1")];
        let running = attach == Attach::Drive;
        let vm = Vm::start(&scratch, &disks, &VmOptions { attach, running, ..VmOptions::default() });
        vm.write("vda", Data::of(5).at(64 << 10));
        assert!(!vm.holds("vda", Data::of(6)), "{attach:?}");
        assert_eq!((vm.byte_at("vda", 0), vm.byte_at("vda", 100_000)), (0, 5), "{attach:?}");
        let status = vm.monitor().must("query-status", json!({}));
        assert_eq!(status["running"], running, "{attach:?}");
        vm.quit();
        assert!(holds_offline(&a, "qcow2", Data::of(5).at(64 << 10)), "{attach:?}");
    }
}
