//! Memory inside the images.

use std::time::Duration;

use serde_json::json;
use xlsnap_orchestrator::{
    Disks, Effect, GuestState, InsideMemory, MemoryInside, PortErrorKind, Power, Run, SnapshotAction,
};
use xlsnap_testkit::real::snapshots_in;
use xlsnap_types::model::MemoryWay;

use crate::rig::{Rig, Unwatched};
use crate::save::internal;

fn inside(tag: &str) -> MemoryInside {
    let [state, other] = ["vda", "vdb"].map(|name| name.parse().unwrap());
    MemoryInside { tag: tag.into(), disks: vec![state, other], state: "vda".parse().unwrap() }
}

fn both(tag: &str) -> [SnapshotAction; 2] {
    [internal("vda", tag), internal("vdb", tag)]
}

#[tokio::test]
async fn it_comes_back_into_the_process_that_runs() {
    let rig = Rig::new();
    let machine = rig.started().await;
    rig.write("vdb", 7);
    let pause = machine.take_inside(&rig.save(MemoryWay::Internal), &both("s"), &Unwatched).await.unwrap();
    assert!(!pause.is_zero() && rig.status() == "running");
    let disks = machine.inventory().await.unwrap().disks;
    assert!(disks[0].snapshots[0].vm_state_size > 8 << 20 && disks[1].snapshots[0].vm_state_size == 0);
    rig.write("vdb", 8);
    machine.end().await.unwrap();
    rig.next_pattern(2);
    machine.start(Run::Runs).await.unwrap();
    assert!(rig.remembers(2));
    for run in [Run::Runs, Run::Waits] {
        let pid = rig.pid();
        machine.load(&inside("s"), run, &Unwatched).await.unwrap();
        assert_eq!(rig.pid(), pid, "the process is the same");
        assert_eq!(rig.status(), if run.runs() { "running" } else { "paused" });
        assert!(rig.remembers(1) && rig.read("vdb") == 7);
        rig.write("vdb", 9);
    }
    // And from off.
    machine.end().await.unwrap();
    let error = machine.load(&inside("s"), Run::Runs, &Unwatched).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "it is started first");
    machine.start(Run::Waits).await.unwrap();
    machine.load(&inside("s"), Run::Runs, &Unwatched).await.unwrap();
    assert!(rig.remembers(1) && rig.read("vdb") == 7 && rig.status() == "running");
}

#[tokio::test]
async fn a_paused_guest_stays_so() {
    let rig = Rig::new();
    let machine = rig.started().await;
    rig.monitor().must("stop", json!({}));
    let save = rig.of_paused(MemoryWay::Internal);
    assert!(machine.take_inside(&save, &both("s"), &Unwatched).await.unwrap().is_zero());
    assert_eq!(rig.status(), "paused");
    machine.abandon_inside(&save).await.unwrap();
    assert_eq!(rig.status(), "paused");
}

#[tokio::test]
async fn a_refused_load_lets_the_guest_go_on() {
    let rig = Rig::new();
    let machine = rig.started().await;
    machine.snapshot(&both("disks")).await.unwrap();
    for (tag, kind) in [("nope", PortErrorKind::NotFound), ("disks", PortErrorKind::Refused)] {
        let error = machine.load(&inside(tag), Run::Runs, &Unwatched).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (kind, Effect::None), "{tag}");
        assert_eq!(rig.status(), "running", "{tag}");
    }
    rig.monitor().must("stop", json!({}));
    machine.load(&inside("nope"), Run::Runs, &Unwatched).await.unwrap_err();
    assert_eq!(rig.status(), "paused");
    machine.end().await.unwrap();
    machine.start(Run::Waits).await.unwrap();
    let error = machine.load(&inside("nope"), Run::Runs, &Unwatched).await.unwrap_err();
    assert_eq!((error.effect, rig.status().as_str()), (Effect::None, "prelaunch"));
    machine.end().await.unwrap();
    assert_eq!((rig.state(&machine).await, rig.pid()), (GuestState::Off, None));
}

#[tokio::test]
async fn a_refused_snapshot_is_on_no_disk() {
    let rig = Rig::new();
    let machine = rig.started().await;
    machine.snapshot(&[internal("vdb", "s")]).await.unwrap();
    let error =
        machine.take_inside(&rig.save(MemoryWay::Internal), &both("s"), &Unwatched).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::AlreadyExists, Effect::None), "{error}");
    assert_eq!(rig.status(), "running");
    let files = rig.described.disks();
    assert!(snapshots_in(files[0].file.as_ref()).is_empty());
    let mixed = [internal("vda", "t"), internal("vdb", "u")];
    for (actions, kind) in [
        (&mixed[..], PortErrorKind::Refused),
        (&[], PortErrorKind::Refused),
        (&[internal("vdz", "t")], PortErrorKind::NotFound),
    ] {
        let error =
            machine.take_inside(&rig.save(MemoryWay::Internal), actions, &Unwatched).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (kind, Effect::None), "{error}");
    }
    // No job of ours is left to be seen.
    assert_eq!(rig.monitor().must("query-jobs", json!({})), json!([]));
}

#[tokio::test]
async fn one_that_was_cut_short_is_brought_to_its_end() {
    let rig = Rig::new();
    let mut machine = rig.started().await;
    for (at, wait) in [0, 1, 3, 6, 12, 25].into_iter().enumerate() {
        let save = rig.save(MemoryWay::Internal);
        let actions = both(&format!("s{at}"));
        let taking = machine.take_inside(&save, &actions, &Unwatched);
        let _ = tokio::time::timeout(Duration::from_millis(wait), taking).await;
        drop(machine);
        machine = rig.reach_soon().await;
        machine.abandon_inside(&save).await.unwrap();
        machine.abandon_inside(&save).await.unwrap();
        assert_eq!(rig.status(), "running", "after {wait} ms");
        assert_eq!(rig.monitor().must("query-jobs", json!({})), json!([]));
        // On both disks or on none.
        let disks = machine.inventory().await.unwrap().disks;
        assert_eq!(disks[0].snapshots.len(), disks[1].snapshots.len(), "after {wait} ms");
    }
}
