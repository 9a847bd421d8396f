//! What a backend's looks say of a later revert, and what planning makes of it.

use uuid::Uuid;
use xlsnap_orchestrator::{
    Bitmap, Can, CreatePlan, CreateRequest, Disk, DiskChoice, Error, Inventory, MemoryPlace, MemoryRequest,
    Port, Ports, RevertPlan, RevertRequest, SnapshotAction, Undescribed, UndescribedKind, create,
    plan_create, plan_revert,
};
use xlsnap_testkit::fake::FakeBackend;
use xlsnap_types::model::{Hypervisor, ImageFormat};

use crate::common::{Op, disk, name, refused, see};
use crate::mocks::MockBackend;
use crate::sweep::{Power, with_snapshots};

/// A backend with one disk, of which another backend says what it says after `change`.
async fn looked(backend: &FakeBackend, change: impl FnOnce(&mut Inventory)) -> MockBackend {
    let mut inventory = backend.ports().disks.inventory().await.unwrap();
    change(&mut inventory);
    let mut disks = MockBackend::new();
    disks.expect_inventory().returning(move || Ok(inventory.clone()));
    disks.expect_exists().returning(|_| Ok(false));
    disks.expect_beside().returning(|_| Ok(Vec::new()));
    disks.expect_place().returning(|_, file| {
        let lost = file.starts_with("/dev/").then_some("/dev is in memory and is lost at a reboot");
        Ok(Can::unless(lost))
    });
    disks
}

async fn creation(request: &CreateRequest, change: impl FnOnce(&mut Inventory)) -> Result<CreatePlan, Error> {
    let backend = FakeBackend::qcow2(&["vda"]).with_machine();
    backend.power(xlsnap_orchestrator::GuestState::On(running()));
    let disks = looked(&backend, change).await;
    let ports = Ports { disks: &disks, overlays: Port::Has(&disks), ..backend.ports() };
    plan_create(&ports, &backend.domain(), request, Uuid::from_u128(7)).await
}

/// Of a domain that runs, to a snapshot of its disk alone.
async fn reversion(offline: bool, change: impl FnOnce(&mut Inventory)) -> Result<RevertPlan, Error> {
    let backend = FakeBackend::qcow2(&["vda"]).with_machine();
    backend.power(xlsnap_orchestrator::GuestState::On(running()));
    let wanted = CreateRequest { name: Some(name("s")), ..CreateRequest::default() };
    create(&backend.ports(), &backend.domain(), &wanted, Uuid::from_u128(7)).await.unwrap();
    let disks = looked(&backend, change).await;
    let ports = Ports { disks: &disks, overlays: Port::Has(&disks), ..backend.ports() };
    let request = RevertRequest { offline, ..RevertRequest::new(name("s")) };
    plan_revert(&ports, &backend.domain(), &request, Uuid::from_u128(8)).await
}

fn running() -> xlsnap_types::model::StateFlags {
    xlsnap_types::model::StateFlags { running: true, ..Default::default() }
}

fn request() -> CreateRequest {
    CreateRequest { name: Some(name("s")), ..CreateRequest::default() }
}

fn first(inventory: &mut Inventory) -> &mut Disk {
    &mut inventory.disks[0]
}

fn besides(kind: UndescribedKind) -> Undescribed {
    Undescribed { name: disk("vdz"), image: "/images/z".to_owned(), kind }
}

#[tokio::test]
async fn a_disk_that_could_not_be_reverted_is_neither_taken_nor_reverted() {
    let locked = |inventory: &mut Inventory| first(inventory).revert = Can::no("its image is locked");
    refused(creation(&request(), locked).await, &["vda", "its image is locked", "--exclude vda"]);
    refused(reversion(false, locked).await, &["vda", "its image is locked"]);

    // What the process loads itself needs no other program on the image.
    let memory = MemoryRequest { place: MemoryPlace::Inside, ..MemoryRequest::default() };
    let inside = CreateRequest { memory: Some(memory), ..request() };
    creation(&inside, locked).await.unwrap();
    let external = DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
    creation(&CreateRequest { default_choice: external, ..request() }, locked).await.unwrap();
}

#[tokio::test]
async fn bitmaps_are_told_at_creation_and_refused_at_the_revert() {
    let with = |persistent| {
        move |inventory: &mut Inventory| {
            first(inventory).bitmaps = vec![Bitmap { name: "nightly".to_owned(), persistent }];
        }
    };
    let plan = creation(&request(), with(true)).await.unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.contains("nightly")), "{:?}", plan.warnings);
    for persistent in [true, false] {
        refused(reversion(false, with(persistent)).await, &["vda", "nightly", "--drop-bitmaps"]);
    }
    refused(reversion(true, with(true)).await, &["nightly"]);
    reversion(true, with(false)).await.expect("it ends with the process");
}

#[tokio::test]
async fn an_undescribed_disk_has_to_be_left_out_by_name_and_nvram_is_told() {
    let plugged = |kind| move |inventory: &mut Inventory| inventory.undescribed = vec![besides(kind)];
    refused(
        creation(&request(), plugged(UndescribedKind::Disk)).await,
        &["vdz", "/images/z", "--exclude vdz"],
    );
    refused(reversion(false, plugged(UndescribedKind::Disk)).await, &["vdz", "/images/z"]);

    let mut excluding = request();
    excluding.selection.except.insert(disk("vdz"));
    let mut only = request();
    only.selection.only.insert(disk("vda"));
    for (request, why) in [(&excluding, "it was excluded"), (&only, "it was not asked for")] {
        let plan = creation(request, plugged(UndescribedKind::Disk)).await.unwrap();
        assert_eq!((plan.passed_over[0].disk.as_str(), plan.passed_over[0].why.as_str()), ("vdz", why));
    }

    let plan = creation(&request(), plugged(UndescribedKind::Nvram)).await.unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.contains("NVRAM")), "{:?}", plan.warnings);
    assert_eq!(plan.passed_over[0].disk.as_str(), "vdz");
    let plan = reversion(false, plugged(UndescribedKind::Nvram)).await.unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.contains("NVRAM")), "{:?}", plan.warnings);
}

#[tokio::test]
async fn what_was_left_out_of_the_snapshot_by_name_stays_as_it_is() {
    let backend = FakeBackend::qcow2(&["vda"]);
    Op::create("s").run(&backend).await.unwrap();
    let passed = xlsnap_types::model::PassedOver { disk: disk("vdz"), why: "it was excluded".to_owned() };
    backend.change_record("s", |meta| meta.passed_over.push(passed));
    let disks =
        looked(&backend, |inventory| inventory.undescribed = vec![besides(UndescribedKind::Disk)]).await;
    let ports = Ports { disks: &disks, overlays: Port::Has(&disks), ..backend.ports() };
    let request = RevertRequest::new(name("s"));
    plan_revert(&ports, &backend.domain(), &request, Uuid::from_u128(8)).await.unwrap();
}

#[tokio::test]
async fn an_overlay_is_made_in_the_directory_for_overlays_and_never_where_it_is_lost() {
    let external = DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
    let request = CreateRequest { default_choice: external, ..request() };
    let on_device = |inventory: &mut Inventory| first(inventory).image = "/dev/vg/root".to_owned();
    refused(
        creation(&request, on_device).await,
        &["vda", "/dev/vg/root.s-1.qcow2", "reboot", "--external vda=FILE"],
    );
    let plan = creation(&request, |inventory| {
        on_device(inventory);
        first(inventory).overlays = Some("/srv/over/".to_owned());
    });
    let SnapshotAction::External(overlay) = plan.await.unwrap().disks.remove(0).action else {
        panic!("it is external");
    };
    assert_eq!(overlay.base, "/dev/vg/root");
    assert!(
        overlay.file.starts_with("/srv/over/") && overlay.file.ends_with("-vda.s-1.qcow2"),
        "{}",
        overlay.file
    );
}

/// Memory fits only the machine that it was saved of, whether it is in a file or inside the images.
#[tokio::test]
async fn memory_of_another_machine_is_refused_in_either_way() {
    let of = |machine: &str, mib: u64, device: &str, qemu: &str| Hypervisor {
        machine: Some(machine.to_owned()),
        memory_bytes: Some(mib << 20),
        devices: vec![device.to_owned()],
        qemu: Some(qemu.to_owned()),
    };
    let then = of("pc-q35-7.2", 64, "vda (virtio-blk)", "10.0.2");
    let cases = [
        (then.clone(), None),
        (of("pc-q35-10.0", 64, "vda (virtio-blk)", "10.0.2"), Some(["pc-q35-7.2", "pc-q35-10.0"])),
        (of("pc-q35-7.2", 128, "vda (virtio-blk)", "10.0.2"), Some(["64 MiB", "128 MiB"])),
        (of("pc-q35-7.2", 64, "vda (nvme)", "10.0.2"), Some(["vda (virtio-blk)", "devices"])),
        (of("pc-q35-7.2", 64, "vda (virtio-blk)", "7.2.22"), Some(["10.0.2", "7.2.22"])),
    ];
    for power in [Power::Running, Power::Off] {
        for given in ["b", "c"] {
            for (now, expected) in &cases {
                let backend = with_snapshots(&["vda", "vdb"], power).await;
                backend.change_record(given, |meta| meta.hypervisor = then.clone());
                backend.abilities(|abilities| abilities.hypervisor = now.clone());
                let before = see(&backend);
                let reverted = Op::revert(given).run(&backend).await;
                let Some(words) = expected else {
                    reverted.unwrap();
                    continue;
                };
                refused(reverted, &["the guest's memory cannot be restored", words[0], words[1]]);
                assert_eq!(see(&backend), before, "{power:?} {given}");
            }
        }
    }
}
