//! Its disks are let go of and taken back while the process lives.

use serde_json::json;
use xlsnap_orchestrator::{Disks, Effect, GuestState, Pause, PortErrorKind, Power, Release, SnapshotId};
use xlsnap_qemu::DiskSpec;
use xlsnap_qemu::Machine;
use xlsnap_qmp_transport::{Client, Options};
use xlsnap_testkit::real::{
    Data, Disk, LiveDisks, Scratch, StorageDaemon, Vm, VmOptions, holds_offline, qemu_img,
};

use crate::rig::{Rig, spec};
use crate::save::internal;

fn id(name: &str) -> SnapshotId {
    SnapshotId { name: name.into(), id: "1".into() }
}

fn data(byte: u8) -> Data {
    Data { byte, offset: 0, len: 64 << 10 }
}

/// Stops the guest, and makes QEMU let go of its disks.
async fn released(machine: &Machine) {
    machine.stop().await.unwrap();
    machine.release().await.unwrap();
}

/// Gives QEMU its disks back, and lets a guest run that was reset or not.
async fn back(machine: &Machine, reset: bool, run: bool) {
    machine.take_back().await.unwrap();
    if reset {
        machine.reset().await.unwrap();
    }
    if run {
        machine.resume().await.unwrap();
    }
}

#[tokio::test]
async fn the_disks_are_reverted_under_a_process_that_lives() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let pid = rig.pid();
    let vda = "vda".parse().unwrap();
    rig.write("vda", 1);
    machine.snapshot(&[internal("vda", "s"), internal("vdb", "s")]).await.unwrap();
    for (reset, run) in [(true, true), (false, true), (true, false), (false, false)] {
        if rig.status() != "running" {
            rig.monitor().must("cont", json!({}));
        }
        rig.write("vda", 2);
        assert_eq!(machine.revert(&vda, &id("s")).await.unwrap_err().kind, PortErrorKind::Refused);
        let error = machine.release().await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "it runs");
        assert_eq!(rig.status(), "running");
        released(&machine).await;
        released(&machine).await;
        assert!(matches!(rig.state(&machine).await, GuestState::On(flags) if flags.paused));
        assert_eq!(machine.inventory().await.unwrap().disks[0].snapshots.len(), 1);
        machine.revert(&vda, &id("s")).await.unwrap();
        back(&machine, reset, run).await;
        machine.take_back().await.unwrap();
        let status = rig.status();
        match (reset, run) {
            (_, true) => assert_eq!(status, "running"),
            // QEMU's own: a guest that was reset has not run yet.
            (true, false) => assert_eq!(status, "prelaunch"),
            (false, false) => assert_eq!(status, "paused"),
        }
        assert_eq!(rig.read("vda"), 1, "{reset} {run}");
        // They are QEMU's again, to write and to take snapshots of.
        rig.write("vda", 3);
        let tag = format!("after-{reset}-{run}");
        machine.snapshot(&[internal("vda", &tag), internal("vdb", &tag)]).await.unwrap();
        let found = &machine.inventory().await.unwrap().disks[0];
        let snapshot = found.snapshots.iter().find(|snapshot| snapshot.name == tag).unwrap();
        let meant = SnapshotId { name: tag, id: snapshot.id.clone() };
        machine.delete(&vda, &meant).await.unwrap();
    }
    assert_eq!((rig.pid(), rig.left().len()), (pid, 0));
}

#[tokio::test]
async fn another_program_goes_on_where_one_has_let_go() {
    let rig = Rig::new();
    let machine = rig.started().await;
    rig.write("vda", 1);
    machine.snapshot(&[internal("vda", "s"), internal("vdb", "s")]).await.unwrap();
    rig.write("vda", 2);
    released(&machine).await;
    drop(machine);
    let fresh = rig.reach_soon().await;
    // As recovery does it: all again.
    released(&fresh).await;
    fresh.revert(&"vda".parse().unwrap(), &id("s")).await.unwrap();
    drop(fresh);
    let fresh = rig.reach_soon().await;
    back(&fresh, true, true).await;
    back(&fresh, false, true).await;
    assert_eq!((rig.status().as_str(), rig.read("vda")), ("running", 1));
}

#[tokio::test]
async fn an_image_that_another_process_holds_is_taken_back_later() {
    let rig = Rig::new();
    let machine = rig.started().await;
    for run in [true, false] {
        released(&machine).await;
        let scratch = Scratch::new();
        let file = rig.described.disks()[0].file.clone();
        let holder = StorageDaemon::start(&scratch, &[Disk::qcow2("vda", file.as_ref())]);
        let error = machine.take_back().await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Busy, "{error}");
        // Another client of the monitor tries it meanwhile; of what is written after that QEMU would know nothing.
        rig.monitor().execute("cont", json!({})).unwrap_err();
        assert!(matches!(rig.state(&machine).await, GuestState::On(flags) if flags.paused));
        holder.write("vda", data(9));
        holder.quit();
        back(&machine, false, run).await;
        assert_eq!(rig.status(), if run { "running" } else { "paused" });
        assert_eq!(rig.read("vda"), 9);
    }
}

#[tokio::test]
async fn one_that_others_read_is_kept() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let socket = rig.scratch.path("served");
    let address = json!({"type": "unix", "data": {"path": socket.to_str().unwrap()}});
    let mut monitor = rig.monitor();
    monitor.must("nbd-server-start", json!({"addr": address}));
    monitor.must("block-export-add", json!({"type": "nbd", "id": "e", "node-name": "vda"}));
    let error = machine.release().await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
    assert!(error.to_string().contains("exports vda"), "{error}");
    assert!(matches!(rig.state(&machine).await, GuestState::On(flags) if flags.running));
    monitor.must("block-export-del", json!({"id": "e"}));
    // A server that serves nothing is no obstacle, and serves nothing after.
    released(&machine).await;
    back(&machine, false, false).await;
    assert_eq!(monitor.must("query-block-exports", json!({})), json!([]));
    machine.snapshot(&[internal("vda", "s")]).await.unwrap();
    drop(monitor);
    machine.end().await.unwrap();
    let error = machine.release().await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused, "it is off");
    assert!(holds_offline(rig.described.disks()[0].file.as_ref(), "qcow2", data(0)));
}

#[tokio::test]
async fn an_encrypted_disk_is_reverted_under_a_process_that_lives() {
    let scratch = Scratch::new();
    let (image, key) = (scratch.path("vda.qcow2"), scratch.path("key"));
    std::fs::write(&key, "open sesame").unwrap();
    let secret = format!("secret,id=s,file={}", key.display());
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let name = image.to_str().unwrap();
    qemu_img(&["create", "-q", "--object", &secret, "-f", "qcow2", "-o", options, name, "1M"]);
    // Its QEMU is another program's, which gives it the key.
    let node = format!(
        "driver=qcow2,node-name=vda,encrypt.format=luks,encrypt.key-secret=s,file.driver=file,file.filename={name}"
    );
    let device = "virtio-blk-pci,drive=vda,id=vda";
    let arguments = ["-object", &secret, "-blockdev", &node, "-device", device].map(str::to_owned).to_vec();
    let vm = Vm::start(&scratch, &[], &VmOptions { arguments, ..VmOptions::default() });
    let write = |byte: u8| {
        vm.human(&format!("qemu-io -d /machine/peripheral/vda/virtio-backend \"write -P {byte} 0 65536\""))
    };
    let holds = |byte: u8| {
        let target = format!("driver=qcow2,encrypt.key-secret=s,file.filename={name}");
        let command = format!("read -P {byte} 0 65536");
        let output = std::process::Command::new("qemu-io")
            .args(["-U", "-r", "--object", &secret, "--image-opts", &target, "-c", &command])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains("read 65536/65536"), "{said}");
        !said.contains("failed")
    };
    let rig = Rig::of(Scratch::new(), vec![DiskSpec { key_file: Some(key), ..spec("vda", &image) }]);
    let monitor = Client::connect_unix(vm.qmp(), Options::default()).await.unwrap();
    let machine = rig.parts(Some(monitor), None);
    assert_eq!(write(1), "");
    machine.snapshot(&[internal("vda", "s")]).await.unwrap();
    assert_eq!(write(2), "");
    released(&machine).await;
    assert!(holds(2));
    machine.revert(&"vda".parse().unwrap(), &id("s")).await.unwrap();
    assert!(holds(1));
    back(&machine, true, false).await;
    assert_eq!(write(3), "");
}
