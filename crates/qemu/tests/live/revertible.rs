//! What an inventory of a running QEMU says of a later revert.

use std::path::Path;

use serde_json::json;
use xlsnap_orchestrator::{Bitmap, Can, Disks, Undescribed, UndescribedKind};
use xlsnap_qemu::process::Peer;
use xlsnap_qemu::{DiskSpec, Live};
use xlsnap_testkit::real::{Disk as Fixture, Scratch, Vm, VmOptions, qemu_img};

use crate::{MIB, connect, disk, disk_name, on, spec, text, two_disks, with_arguments};

/// The adapter as the facade makes it: with the process at the other end.
async fn reached(vm: &Vm, specs: Vec<DiskSpec>) -> Live {
    let client = connect(vm.qmp()).await;
    let process = Peer::of(&client).process().unwrap();
    on(client, specs).in_directory_of(&process)
}

async fn no_revert(vm: &Vm, specs: Vec<DiskSpec>, name: &str) -> String {
    disk(&reached(vm, specs).await, name).await.revert.why().unwrap_or_default().to_owned()
}

fn vm_with(scratch: &Scratch, image: &str) -> Vm {
    let arguments = ["-blockdev", image, "-device", "virtio-blk-pci,drive=odd,id=odd"];
    Vm::start(scratch, &[], &with_arguments(&arguments))
}

#[tokio::test]
async fn a_plain_image_can_be_reverted() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let vm = Vm::start(&scratch, &fixtures, &VmOptions::default());
    assert_eq!(no_revert(&vm, Vec::new(), "vda").await, "");
    let file = fixtures[0].file.clone().unwrap();
    assert_eq!(no_revert(&vm, vec![spec("root", &file)], "root").await, "");
}

#[tokio::test]
async fn a_file_that_was_replaced_under_qemu_is_told() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let vm = Vm::start(&scratch, &fixtures, &VmOptions::default());
    let file = fixtures[0].file.clone().unwrap();
    std::fs::copy(&file, scratch.path("copy")).unwrap();
    std::fs::rename(scratch.path("copy"), &file).unwrap();
    let specs = vec![DiskSpec { node: Some("vda".into()), ..spec("vda", &file) }];
    let why = no_revert(&vm, specs, "vda").await;
    assert!(why.contains("replaced"), "{why}");
    assert_eq!(no_revert(&vm, Vec::new(), "vdb").await, "");
    std::fs::remove_file(&file).unwrap();
    let why = no_revert(&vm, Vec::new(), "vda").await;
    assert!(why.contains("is not there"), "{why}");
}

#[tokio::test]
async fn an_image_in_a_descriptor_or_at_an_offset_is_told() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a.qcow2", MIB);
    {
        // What a shell gives to QEMU as descriptor 9, as libvirt does through its monitor.
        let script = format!(
            "exec 9<>{0} && exec qemu-system-x86_64 -machine q35,accel=tcg -m 64 -nodefaults -display none -S \
             -qmp unix:{1},server=on,wait=off -add-fd fd=9,set=7 \
             -blockdev driver=qcow2,node-name=odd,file.driver=file,file.filename=/dev/fdset/7 \
             -device virtio-blk-pci,drive=odd,id=odd",
            image.display(),
            scratch.path("fd.qmp").display()
        );
        let mut process = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let qmp = scratch.path("fd.qmp");
        xlsnap_testkit::real::wait_until("QEMU listens", || {
            std::os::unix::net::UnixStream::connect(&qmp).ok().map(drop)
        });
        let client = connect(&qmp).await;
        let process_of_qemu = Peer::of(&client).process().unwrap();
        let live = on(client, Vec::new()).in_directory_of(&process_of_qemu);
        let found = disk(&live, "odd").await.revert.why().unwrap_or_default().to_owned();
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(found.contains("/dev/fdset/7"), "{found}");
    }
    let shifted = scratch.path("shifted");
    let bytes = [vec![0; 65536], std::fs::read(&image).unwrap()].concat();
    std::fs::write(&shifted, bytes).unwrap();
    let image = format!(
        "driver=qcow2,node-name=odd,file.driver=raw,file.offset=65536,file.file.driver=file,file.file.filename={}",
        shifted.display()
    );
    let vm = vm_with(&scratch, &image);
    let why = no_revert(&vm, Vec::new(), "odd").await;
    assert!(why.contains("offset"), "{why}");
}

#[tokio::test]
async fn an_encrypted_image_is_told_and_its_key_is_taken_from_the_description() {
    let scratch = Scratch::new();
    let (image, key) = (scratch.path("locked"), scratch.path("key"));
    std::fs::write(&key, "open sesame").unwrap();
    let secret = format!("secret,id=s,file={}", key.display());
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    qemu_img(&["create", "-q", "--object", &secret, "-f", "qcow2", "-o", options, &text(&image), "1M"]);
    let node = format!(
        "driver=qcow2,node-name=odd,encrypt.format=luks,encrypt.key-secret=s,file.driver=file,file.filename={}",
        image.display()
    );
    let arguments = ["-object", &secret, "-blockdev", &node, "-device", "virtio-blk-pci,drive=odd,id=odd"];
    let vm = Vm::start(&scratch, &[], &with_arguments(&arguments));
    let without = disk(&reached(&vm, vec![spec("vda", &image)]).await, "vda").await;
    assert!(without.encrypted);
    assert!(without.revert.why().unwrap_or_default().contains("key-file"), "{without:?}");
    assert!(without.external.why().unwrap_or_default().contains("encrypted"), "{without:?}");
    assert_eq!(without.internal, Can::Yes);
    let with = DiskSpec { key_file: Some(key), ..spec("vda", &image) };
    assert_eq!(no_revert(&vm, vec![with], "vda").await, "");
}

#[tokio::test]
async fn bitmaps_are_told_and_can_be_dropped() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let vm = Vm::start(&scratch, &fixtures, &VmOptions::default());
    for (name, persistent) in [("kept", true), ("passing", false)] {
        let bitmap = json!({"node": "vda", "name": name, "persistent": persistent});
        vm.monitor().must("block-dirty-bitmap-add", bitmap);
    }
    let live = reached(&vm, Vec::new()).await;
    let mut found = disk(&live, "vda").await.bitmaps;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let bitmap = |name: &str, persistent| Bitmap { name: name.to_owned(), persistent };
    assert_eq!(found, [bitmap("kept", true), bitmap("passing", false)]);
    assert_eq!(disk(&live, "vdb").await.bitmaps, []);
    for (name, persistent) in [("kept", true), ("passing", false), ("passing", false)] {
        live.drop_bitmap(&disk_name("vda"), &bitmap(name, persistent)).await.unwrap();
    }
    assert_eq!(disk(&live, "vda").await.bitmaps, []);
}

fn flash(scratch: &Scratch) -> (String, String) {
    let (code, variables) = (scratch.path("code.fd"), scratch.path("vars.fd"));
    std::fs::write(&code, [0xf4; 128 << 10]).unwrap();
    std::fs::write(&variables, [0xff; 128 << 10]).unwrap();
    (text(&code), text(&variables))
}

#[tokio::test]
async fn what_the_guest_writes_to_besides_is_told_by_its_kind() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let (code, variables) = flash(&scratch);
    let drives = [
        format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        format!("if=pflash,unit=1,format=raw,file={variables}"),
        // A drive that no device uses is not the guest's.
        format!("if=none,id=idle,format=qcow2,file={}", text(&scratch.qcow2("idle", MIB))),
    ];
    let arguments: Vec<&str> = drives.iter().flat_map(|drive| ["-drive", drive]).collect();
    let cdrom = Fixture::cdrom("cd", &scratch.raw("iso", MIB));
    let disks = [fixtures.to_vec(), vec![cdrom]].concat();
    let vm = Vm::start(&scratch, &disks, &with_arguments(&arguments));
    let file = |at: usize| -> &Path { fixtures[at].file.as_ref().unwrap() };
    // The description's word for one disk is QEMU's for the other.
    let live = reached(&vm, vec![spec("vdb", file(0))]).await;
    let undescribed = live.inventory().await.unwrap().undescribed;
    let expected = [
        Undescribed { name: disk_name("pflash1"), image: variables, kind: UndescribedKind::Nvram },
        Undescribed { name: disk_name("vdb-2"), image: text(file(1)), kind: UndescribedKind::Disk },
    ];
    assert_eq!(undescribed, expected);
    drop(live);
    let all = reached(&vm, Vec::new()).await.inventory().await.unwrap();
    assert_eq!(all.undescribed, [], "without a description every disk is the domain's");
}

#[tokio::test]
async fn flash_that_is_a_node_of_the_machine_is_nvram_too() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let (code, variables) = flash(&scratch);
    let nodes = [("code", &code, "on"), ("vars", &variables, "off")].map(|(name, file, read_only)| {
        format!("driver=raw,node-name={name},read-only={read_only},file.driver=file,file.filename={file}")
    });
    let arguments = ["-blockdev", &nodes[0], "-blockdev", &nodes[1], "-machine", "pflash0=code,pflash1=vars"];
    let vm = Vm::start(&scratch, &fixtures[..1], &with_arguments(&arguments));
    let live = reached(&vm, vec![spec("vda", fixtures[0].file.as_ref().unwrap())]).await;
    let undescribed = live.inventory().await.unwrap().undescribed;
    assert_eq!(undescribed.len(), 1);
    assert_eq!((undescribed[0].kind, undescribed[0].image.as_str()), (UndescribedKind::Nvram, &*variables));
}
