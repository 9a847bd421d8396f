//! The domain's disks found among QEMU's.

use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use rustix::io::{FdFlags, fcntl_setfd};
use xlsnap_orchestrator::{Can, Disks, Effect, PortErrorKind};
use xlsnap_qemu::DiskSpec;
use xlsnap_qemu::process::{Identity, Peer};
use xlsnap_testkit::real::{Attach, Disk as Fixture, Scratch, StorageDaemon, Vm, VmOptions};
use xlsnap_types::model::ImageFormat;

use crate::{
    MIB, attached_by, connect, disk, disks, internal, live, on, spec, tags, text, two_disks, with_arguments,
};

#[tokio::test]
async fn a_disk_is_found_by_its_file_under_any_name() {
    for attach in [Attach::Blockdev, Attach::Drive] {
        let scratch = Scratch::new();
        let fixtures = two_disks(&scratch);
        let [a, b] = fixtures.clone().map(|disk| disk.file.unwrap());
        let link = scratch.path("link.qcow2");
        symlink(&b, &link).unwrap();
        let vm = Vm::start(&scratch, &fixtures, &attached_by(attach));
        // In the description's order and under its names, the second by another path to the same file.
        let live = live(vm.qmp(), vec![spec("data", &link), spec("root", &a)]).await;
        let found = disks(&live).await;
        let names: Vec<(&str, &str)> =
            found.iter().map(|disk| (disk.name.as_str(), disk.image.as_str())).collect();
        assert_eq!(names, [("data", text(&link).as_str()), ("root", text(&a).as_str())]);
        live.snapshot(&[internal("data", "s")]).await.unwrap();
        assert_eq!(tags(&live, "data").await, ["s"]);
        assert_eq!(tags(&live, "root").await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn disks_that_are_not_described_are_not_the_domains() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let daemon = StorageDaemon::start(&scratch, &fixtures);
    let live = live(daemon.qmp(), vec![spec("root", fixtures[1].file.as_ref().unwrap())]).await;
    assert_eq!(disks(&live).await.len(), 1);
}

#[tokio::test]
async fn a_disk_is_found_by_its_node_and_nothing_else_is_taken_for_it() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let [a, b] = fixtures.clone().map(|disk| disk.file.unwrap());
    let vm = Vm::start(&scratch, &fixtures, &VmOptions::default());
    let by_node = |file, node: &str| DiskSpec { node: Some(node.into()), ..spec("root", file) };
    {
        let right = live(vm.qmp(), vec![by_node(&a, "vda")]).await;
        assert_eq!(disk(&right, "root").await.image, text(&a));
    }
    let wrong = live(vm.qmp(), vec![by_node(&b, "vda")]).await;
    let error = wrong.inventory().await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
    let said = error.to_string();
    assert!(said.contains("root") && said.contains(&text(&a)) && said.contains(&text(&b)), "{said}");
}

#[tokio::test]
async fn a_relative_name_is_relative_to_where_qemu_runs() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a.qcow2", MIB);
    for attach in [Some(Attach::Blockdev), Some(Attach::Drive), None] {
        let fixtures = [Fixture::qcow2("vda", "a.qcow2".as_ref())];
        let vm = attach.map(|attach| Vm::start(&scratch, &fixtures, &attached_by(attach)));
        let daemon = attach.is_none().then(|| StorageDaemon::start(&scratch, &fixtures));
        let qmp = vm.as_ref().map(Vm::qmp).or(daemon.as_ref().map(StorageDaemon::qmp)).unwrap();
        for specs in [vec![spec("vda", &image)], Vec::new()] {
            let client = connect(qmp).await;
            let process = Peer::of(&client).process().unwrap();
            assert_eq!(Some(process.pid), client.peer_pid());
            let live = on(client, specs).in_directory_of(&process);
            assert_eq!(disk(&live, "vda").await.image, text(&image), "{attach:?}");
        }
        // Of this process it is not relative, wherever it runs.
        let client = connect(qmp).await;
        let own = Identity::of(std::process::id()).unwrap().unwrap();
        let live = on(client, vec![spec("vda", &image)]).in_directory_of(&own);
        assert_eq!(live.inventory().await.unwrap_err().kind, PortErrorKind::NotFound, "{attach:?}");
    }
}

/// The socket is this process's, which hands it on as libvirt does, and QEMU's name is another. QEMU calls listen(2) on it once
/// more, so that the kernel tells QEMU's pid.
#[tokio::test]
async fn the_process_that_serves_a_monitor_is_found() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a.qcow2", MIB);
    let path = scratch.path("handed.qmp");
    let listener = UnixListener::bind(&path).unwrap();
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    let chardev = format!("socket,id=handed,server=on,wait=off,fd={}", listener.as_raw_fd());
    let options =
        with_arguments(&["-name", "process=other", "-chardev", &chardev, "-mon", "handed,mode=control"]);
    let vm = Vm::start(&scratch, &[Fixture::qcow2("vda", "a.qcow2".as_ref())], &options);
    let client = connect(&path).await;
    assert_eq!(client.peer_pid(), Some(vm.pid()));
    let peer = Peer::of(&client);
    let process = peer.process().unwrap();
    assert_eq!(process.pid, vm.pid());
    assert!(peer.is(&process) && !peer.is(&Identity::of(std::process::id()).unwrap().unwrap()));
    let live = on(client, vec![spec("vda", &image)]).in_directory_of(&process);
    assert_eq!(disk(&live, "vda").await.image, text(&image));
}

#[tokio::test]
async fn a_description_that_is_wrong_is_said_to_be() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let a = fixtures[0].file.clone().unwrap();
    let absent = scratch.qcow2("absent.qcow2", MIB);
    let daemon = StorageDaemon::start(&scratch, &fixtures);
    let raw = DiskSpec { format: ImageFormat::Raw, ..spec("vda", &a) };
    for (specs, kind, word) in [
        (vec![spec("vda", &a), spec("vdz", &absent)], PortErrorKind::NotFound, "vdz"),
        (vec![raw], PortErrorKind::Refused, "raw"),
        (vec![spec("vda", &a), spec("vdb", &a)], PortErrorKind::Refused, "vdb"),
    ] {
        let live = live(daemon.qmp(), specs).await;
        let error = live.inventory().await.unwrap_err();
        assert_eq!((error.kind, error.effect), (kind, Effect::None), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_removable_disk_may_be_out_of_its_drive() {
    let scratch = Scratch::new();
    let iso = scratch.raw("a.iso", MIB);
    let vm = Vm::start(&scratch, &[Fixture::empty_cdrom("cd0")], &VmOptions::default());
    let out = DiskSpec { removable: true, format: ImageFormat::Raw, ..spec("hdc", &iso) };
    let empty = DiskSpec { file: String::new(), node: Some("cd0".into()), ..out.clone() };
    for spec in [out, empty] {
        let live = live(vm.qmp(), vec![spec]).await;
        let hdc = disk(&live, "hdc").await;
        assert!(hdc.removable && hdc.internal.why().is_some() && hdc.external.why().is_some());
    }
}

#[tokio::test]
async fn a_described_base_is_the_disk_of_the_overlay_that_took_its_place() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base.qcow2", 4 * MIB);
    let middle = scratch.qcow2_on("middle.qcow2", &base);
    let top = scratch.qcow2_on("top.qcow2", &middle);
    for attach in [Some(Attach::Blockdev), Some(Attach::Drive), None] {
        let fixtures = [Fixture::qcow2("vda", &top)];
        let vm = attach.map(|attach| Vm::start(&scratch, &fixtures, &attached_by(attach)));
        let daemon = attach.is_none().then(|| StorageDaemon::start(&scratch, &fixtures));
        let qmp = vm.as_ref().map(Vm::qmp).or(daemon.as_ref().map(StorageDaemon::qmp)).unwrap();
        let live = live(qmp, vec![spec("vda", &base)]).await;
        let vda = disk(&live, "vda").await;
        assert_eq!(vda.image, text(&top), "{attach:?}");
        assert_eq!(vda.internal, Can::Yes);
    }
}

#[tokio::test]
async fn a_temporary_overlay_takes_no_snapshot() {
    let scratch = Scratch::new();
    let a = scratch.qcow2("a.qcow2", MIB);
    let options =
        with_arguments(&["-drive", &format!("if=virtio,id=vda,format=qcow2,snapshot=on,file={}", text(&a))]);
    let vm = Vm::start(&scratch, &[], &options);
    let live = live(vm.qmp(), vec![spec("vda", &a)]).await;
    let vda = disk(&live, "vda").await;
    let why = vda.internal.why().unwrap();
    assert!(why.contains("temporary"), "{why}");
}
