//! Its disks are let go of and taken back while the process lives.

use serde_json::json;
use xlsnap_orchestrator::{Disks, Effect, GuestState, PortErrorKind, Power, SnapshotId};
use xlsnap_testkit::real::{Data, Disk, LiveDisks, Scratch, StorageDaemon, holds_offline};

use crate::rig::Rig;
use crate::save::internal;

fn id(name: &str) -> SnapshotId {
    SnapshotId { name: name.into(), id: "1".into() }
}

fn data(byte: u8) -> Data {
    Data { byte, offset: 0, len: 64 << 10 }
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
        machine.release().await.unwrap();
        machine.release().await.unwrap();
        assert!(matches!(rig.state(&machine).await, GuestState::On(flags) if flags.paused));
        assert_eq!(machine.inventory().await.unwrap().disks[0].snapshots.len(), 1);
        machine.revert(&vda, &id("s")).await.unwrap();
        machine.take_back(reset, run).await.unwrap();
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
    machine.release().await.unwrap();
    drop(machine);
    let fresh = rig.reach_soon().await;
    // As recovery does it: all again.
    fresh.release().await.unwrap();
    fresh.revert(&"vda".parse().unwrap(), &id("s")).await.unwrap();
    drop(fresh);
    let fresh = rig.reach_soon().await;
    fresh.take_back(true, true).await.unwrap();
    fresh.take_back(false, true).await.unwrap();
    assert_eq!((rig.status().as_str(), rig.read("vda")), ("running", 1));
}

#[tokio::test]
async fn an_image_that_somebody_holds_is_taken_back_later() {
    let rig = Rig::new();
    let machine = rig.started().await;
    for run in [true, false] {
        machine.release().await.unwrap();
        let scratch = Scratch::new();
        let file = rig.described.disks()[0].file.clone();
        let holder = StorageDaemon::start(&scratch, &[Disk::qcow2("vda", file.as_ref())]);
        let error = machine.take_back(false, run).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Busy, "{error}");
        // Somebody tries it behind our back; of what is written after that QEMU would know nothing.
        rig.monitor().execute("cont", json!({})).unwrap_err();
        assert!(matches!(rig.state(&machine).await, GuestState::On(flags) if flags.paused));
        holder.write("vda", data(9));
        holder.quit();
        machine.take_back(false, run).await.unwrap();
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
    machine.release().await.unwrap();
    machine.take_back(false, false).await.unwrap();
    assert_eq!(monitor.must("query-block-exports", json!({})), json!([]));
    machine.snapshot(&[internal("vda", "s")]).await.unwrap();
    drop(monitor);
    machine.destroy().await.unwrap();
    let error = machine.release().await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused, "it is off");
    assert!(holds_offline(rig.described.disks()[0].file.as_ref(), "qcow2", data(0)));
}
