//! The disks through the adapter, in a real QEMU and as files.

use std::os::unix::fs::symlink;

use xlsnap_orchestrator::{
    Disks, Effect, Guest, GuestState, Health, ImageHealth, Inventory, Overlay, PortErrorKind, Power,
    SnapshotAction, SnapshotId,
};
use xlsnap_testkit::real::{Data, LiveDisks, holds_offline, snapshots_in};
use xlsnap_testkit::wire::{Script, WireServer};
use xlsnap_types::model::ImageFormat;

use crate::rig::Rig;
use crate::store::{PV, Store};

fn internal(disk: &str, tag: &str) -> SnapshotAction {
    SnapshotAction::Internal { disk: disk.parse().unwrap(), tag: tag.into(), image: String::new() }
}

fn both(tag: &str) -> [SnapshotAction; 2] {
    [internal("xvda", tag), internal("xvdb", tag)]
}

fn of(inventory: &Inventory, disk: &str) -> SnapshotId {
    let disk = inventory.disks.iter().find(|of| of.name.as_str() == disk).unwrap();
    let found = disk.snapshots.first().unwrap();
    SnapshotId { name: found.name.clone(), id: found.id.clone() }
}

#[tokio::test]
async fn a_running_domain_is_taken_by_its_monitor_and_reverted_when_it_is_off() {
    let rig = Rig::running();
    let domain = rig.domain(None);
    assert!(matches!(domain.state().await.unwrap(), GuestState::On(flags) if flags.blocked));
    let inventory = domain.inventory().await.unwrap();
    let names: Vec<_> = inventory.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["xvda", "xvdb"]);
    assert!(
        inventory
            .disks
            .iter()
            .all(|disk| disk.internal.is_yes() && disk.external.is_yes() && disk.swap.is_yes())
    );
    assert!(inventory.disks.iter().all(|disk| !disk.adopt.is_yes() && disk.jobs.is_yes()));
    assert!(inventory.disks.iter().all(|disk| disk.revert.is_yes() && disk.identity.is_some()));
    let identities: Vec<_> = inventory.disks.iter().map(|disk| disk.identity).collect();
    assert!(inventory.hypervisor.qemu.is_some());

    domain.snapshot(&both("s1")).await.unwrap();
    let inventory = domain.inventory().await.unwrap();
    assert_eq!(of(&inventory, "xvdb").name, "s1");
    rig.vm.lock().unwrap().as_ref().unwrap().write("xvda-qcow2", Data::of(2));
    let id = of(&inventory, "xvda");
    let error = domain.revert(&"xvda".parse().unwrap(), &id).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));

    let kept = domain.to_keep().await.unwrap();
    domain.end().await.unwrap();
    // As the next command would find it.
    let domain = rig.domain(kept);
    assert_eq!(domain.state().await.unwrap(), GuestState::Off);
    let inventory = domain.inventory().await.unwrap();
    assert_eq!(of(&inventory, "xvda"), id);
    assert_eq!(inventory.disks.iter().map(|disk| disk.identity).collect::<Vec<_>>(), identities);
    domain.revert(&"xvda".parse().unwrap(), &id).await.unwrap();
    assert!(holds_offline(&rig.image("xvda"), "qcow2", Data::of(1)));
    domain.delete(&"xvda".parse().unwrap(), &id).await.unwrap();
    assert!(snapshots_in(&rig.image("xvda")).is_empty());
    assert_eq!(snapshots_in(&rig.image("xvdb")), ["s1"]);
}

#[tokio::test]
async fn a_snapshot_is_deleted_while_the_domain_runs() {
    let rig = Rig::running();
    let domain = rig.domain(None);
    domain.snapshot(&both("s1")).await.unwrap();
    let id = of(&domain.inventory().await.unwrap(), "xvda");
    domain.delete(&"xvda".parse().unwrap(), &id).await.unwrap();
    assert!(domain.inventory().await.unwrap().disks[0].snapshots.is_empty());
    let again = domain.delete(&"xvda".parse().unwrap(), &id).await.unwrap_err();
    assert_eq!(again.kind, PortErrorKind::NotFound);
}

#[tokio::test]
async fn what_cannot_be_taken_is_named_with_what_could_be_done() {
    let rig = Rig::running();
    let raw = rig.scratch.raw("c.raw", 1 << 20);
    let backend = "/local/domain/0/backend/qdisk/1/51744";
    let phy = "/local/domain/0/backend/vbd/1/51760";
    rig.store.set("/libxl/1/device/vbd/51744/backend", backend).set("/libxl/1/device/vbd/51760/backend", phy);
    let params = format!("aio:{}", raw.display());
    for (key, value) in [("dev", "xvdc"), ("params", params.as_str()), ("mode", "w"), ("state", "4")] {
        rig.store.set(&format!("{backend}/{key}"), value);
    }
    for (key, value) in
        [("dev", "xvdd"), ("params", "/dev/loop0"), ("type", "phy"), ("mode", "w"), ("state", "4")]
    {
        rig.store.set(&format!("{phy}/{key}"), value);
    }
    let inventory = rig.domain(None).inventory().await.unwrap();
    let why: Vec<_> =
        inventory.disks.iter().map(|disk| disk.internal.why().unwrap_or_default().to_owned()).collect();
    assert_eq!(why[..2], ["", ""]);
    assert!(inventory.disks[2..].iter().all(|disk| !disk.revert.is_yes()));
    assert!(why[2].contains("has not opened"), "{why:?}");
    assert!(why[3].contains("phy") && why[3].contains("backendtype=qdisk"), "{why:?}");

    rig.store.set(&format!("{backend}/mode"), "r");
    let inventory = rig.domain(None).inventory().await.unwrap();
    assert!(inventory.disks[2].read_only);
    let overlay = Overlay {
        disk: "xvda".parse().unwrap(),
        file: rig.scratch.path("o.qcow2").to_str().unwrap().to_owned(),
        format: ImageFormat::Qcow2,
        base: "/a".into(),
        base_format: ImageFormat::Qcow2,
        virtual_size: 1,
        token: "t".into(),
    };
    let domain = rig.domain(None);
    let error = domain.snapshot(&[SnapshotAction::External(overlay)]).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
}

#[tokio::test]
async fn a_domain_that_is_another_one_by_now_is_not_taken() {
    let rig = Rig::running();
    let domain = rig.domain(None);
    domain.inventory().await.unwrap();
    let before = Store::of("");
    before.again(&rig.store, 1, 1);
    rig.store.end(1);
    let error = domain.snapshot(&both("s1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Unreachable, Effect::None));
    rig.store.again(&before, 1, 5);
    let error = domain.snapshot(&both("s1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None), "{error}");
    assert!(snapshots_in(&rig.image("xvda")).is_empty());
}

#[tokio::test]
async fn the_second_monitor_is_asked_where_the_first_is_held() {
    let rig = Rig::running();
    let held = WireServer::start([Script::new()]);
    let qmp = rig.scratch.path("qmp-libxl-1");
    std::fs::rename(&qmp, rig.scratch.path("qmp-libxenstat-1")).unwrap();
    let holder = tokio::net::UnixStream::connect(held.path()).await.unwrap();
    symlink(held.path(), &qmp).unwrap();
    let domain = rig.domain(None);
    domain.snapshot(&both("s1")).await.unwrap();
    assert_eq!(snapshots_in(&rig.image("xvdb")), ["s1"]);

    std::fs::remove_file(rig.scratch.path("qmp-libxenstat-1")).unwrap();
    symlink(held.path(), rig.scratch.path("qmp-libxenstat-1")).unwrap();
    let error = rig.domain(None).inventory().await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Busy);
    assert!(error.to_string().contains("held by other clients"), "{error}");
    drop(holder);
}

#[tokio::test]
async fn a_domain_whose_qemu_has_ended_is_looked_at_and_not_taken() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    let inventory = domain.inventory().await.unwrap();
    assert!(inventory.disks.iter().all(|disk| disk.internal.why().unwrap().contains("QEMU has ended")));
    let error = domain.snapshot(&both("s1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
}

#[tokio::test]
async fn an_image_that_is_in_use_is_not_written() {
    let rig = Rig::off();
    let kept = rig.domain(None).to_keep().await.unwrap();
    let name = "xvda".parse().unwrap();
    let id = SnapshotId { name: "s1".into(), id: "1".into() };
    rig.store.end(1);
    let domain = rig.domain(kept.clone());
    domain.snapshot(&both("s1")).await.unwrap();
    // Another domain has the image, by another name.
    let link = rig.scratch.path("link.qcow2");
    std::fs::hard_link(rig.image("xvda"), &link).unwrap();
    rig.store.again(&Store::of(PV), 1, 9);
    rig.store.set("/local/domain/9/vm", "/vm/00000000-0000-0000-0000-000000000009");
    rig.store.set("/local/domain/9/name", "thief");
    rig.store.set("/local/domain/0/backend/qdisk/9/51712/params", format!("qcow2:{}", link.display()));
    let error = domain.revert(&name, &id).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None));
    assert!(error.to_string().contains("thief"), "{error}");
    assert_eq!(domain.delete(&name, &id).await.unwrap_err().kind, PortErrorKind::Busy);
    assert_eq!(domain.snapshot(&both("s2")).await.unwrap_err().kind, PortErrorKind::Busy);
    assert_eq!(domain.inventory().await.unwrap_err().kind, PortErrorKind::Busy);
    rig.store.end(9);
    // A process has it open for writing, without any lock: as the QEMU of a PV guest.
    let mut writer = std::process::Command::new("sh")
        .args(["-c", "exec 3<>\"$1\"; echo ready; read line", "sh"])
        .arg(rig.image("xvda"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(writer.stdout.take().unwrap()), &mut ready)
        .unwrap();
    let error = domain.revert(&name, &id).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Busy);
    assert!(error.to_string().contains(&writer.id().to_string()), "{error}");
    drop(writer.stdin.take());
    writer.wait().unwrap();
    domain.revert(&name, &id).await.unwrap();
}

/// Marks a cluster as used that belongs to nothing, as a QEMU that was killed leaves it (qcow2.txt: the header has the refcount table's
/// place at byte 48, the table the first block's, the block 16 bits a cluster).
fn leak_a_cluster(image: &std::path::Path) {
    const CLUSTER: usize = 64 << 10;
    let mut bytes = std::fs::read(image).unwrap();
    let number_at = |bytes: &[u8], at: usize| -> usize {
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()).try_into().unwrap()
    };
    let block = number_at(&bytes, number_at(&bytes, 48));
    let cluster = bytes.len().div_ceil(CLUSTER);
    bytes.resize((cluster + 1) * CLUSTER, 0);
    bytes[block + 2 * cluster + 1] = 1;
    std::fs::write(image, bytes).unwrap();
}

#[tokio::test]
async fn an_image_is_checked_and_mended_while_nothing_uses_it() {
    let rig = Rig::off();
    let kept = rig.domain(None).to_keep().await.unwrap();
    let name = "xvda".parse().unwrap();
    leak_a_cluster(&rig.image("xvda"));
    assert_eq!(rig.domain(kept.clone()).examine(&name).await.unwrap(), None, "the domain is on");
    let error = rig.domain(kept.clone()).mend(&name).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None));
    rig.store.end(1);
    let domain = rig.domain(kept);
    let found = domain.examine(&name).await.unwrap().unwrap();
    assert!(found.leaks > 0 && found.corruptions == 0, "{found:?}");
    domain.mend(&name).await.unwrap();
    assert_eq!(domain.examine(&name).await.unwrap(), Some(ImageHealth::default()));
    assert!(domain.examine(&"xvdz".parse().unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_domain_that_is_off_and_of_which_nothing_was_kept_is_not_known() {
    let rig = Rig::off();
    rig.store.end(1);
    let error = rig.domain(None).inventory().await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    assert!(error.to_string().contains("pv1"), "{error}");
}
