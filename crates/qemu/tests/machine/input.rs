//! A background snapshot that ends early closes the descriptor 0 of its QEMU: none is begun where that could be a disk.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use xlsnap_orchestrator::{Disks, Effect, Memory, PortErrorKind, Power, Run};
use xlsnap_qmp_transport::commands::{
    Cont, Getfd, Migrate, MigrateSetCapabilities, MigrationCapability, MigrationStatus, QueryMigrate, Stop,
};
use xlsnap_qmp_transport::{Client, Options, QmpExt};
use xlsnap_testkit::real::{DEADLINE, qemu_version, wait_until};
use xlsnap_types::model::MemoryWay;

use crate::rig::Rig;
use crate::save::{begins, files, internal, whole};

/// Stops the guest, and has a background snapshot end before QEMU tracks the guest's writes: its stream has no other end. A
/// QEMU that does not close its descriptor 0 then has the fault no more, and what is done about it can go.
async fn ends_early(rig: &Rig, fixture: &Client) {
    let set = |state| MigrateSetCapabilities {
        capabilities: vec![MigrationCapability { capability: "background-snapshot".into(), state }],
    };
    fixture.execute(set(true)).await.unwrap();
    fixture.execute(Stop).await.unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    fixture.execute_with(Getfd { fdname: "f".into() }, theirs.into()).await.unwrap();
    drop(ours);
    fixture.execute(Migrate { uri: "fd:f".into() }).await.unwrap();
    let start = Instant::now();
    while fixture.execute(QueryMigrate).await.unwrap().status != Some(MigrationStatus::Failed) {
        assert!(start.elapsed() < DEADLINE, "the snapshot does not fail");
    }
    // That is told a moment before.
    wait_until("the descriptor is closed", || input(rig).is_none().then_some(()));
    fixture.execute(set(false)).await.unwrap();
}

fn input(rig: &Rig) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{}/fd/0", rig.pid().unwrap())).ok()
}

/// Those QEMUs that have background snapshots and the fault.
fn has_the_fault() -> bool {
    qemu_version() >= (8, 1)
}

#[tokio::test]
async fn what_was_closed_is_filled_before_the_next_one() {
    if !has_the_fault() {
        return;
    }
    let rig = Rig::new();
    let machine = rig.started().await;
    let fixture = Client::connect_unix(rig.scratch.path("f.qmp"), Options::default()).await.unwrap();
    for at in 0..3 {
        assert_eq!(input(&rig).unwrap(), PathBuf::from("/dev/null"));
        ends_early(&rig, &fixture).await;
        let survey = machine.survey(None).await.unwrap();
        assert_eq!((survey.ways[0], survey.mendable), (MemoryWay::Background, None));
        let save = rig.of_paused(MemoryWay::Background);
        begins(&machine, &save).await.unwrap();
        assert_eq!(input(&rig).unwrap(), PathBuf::from("/dev/null"));
        machine.abandon(&save).await.unwrap();
        fixture.execute(Cont).await.unwrap();
        machine.snapshot(&[internal("vda", &format!("s{at}"))]).await.unwrap();
    }
    fixture.close().await;
    whole(&machine, &rig.save(MemoryWay::Background), "whole").await;
}

#[tokio::test]
async fn where_something_else_has_its_place_none_is_begun() {
    if !has_the_fault() {
        return;
    }
    let rig = Rig::new();
    let machine = rig.started().await;
    let fixture = Client::connect_unix(rig.scratch.path("f.qmp"), Options::default()).await.unwrap();
    ends_early(&rig, &fixture).await;
    fixture.execute(Cont).await.unwrap();
    fixture.close().await;
    // What a device is woken by has its place now, or the next client's connection.
    machine.close().await;
    let machine = rig.reach_soon().await;
    let taken = input(&rig).unwrap();
    assert_ne!(taken, PathBuf::from("/dev/null"));
    let survey = machine.survey(None).await.unwrap();
    let others: Vec<MemoryWay> = files().into_iter().filter(|way| *way != MemoryWay::Background).collect();
    assert_eq!(survey.ways[..others.len()], others);
    let (way, why) = &survey.lacking[0];
    assert_eq!(*way, MemoryWay::Background);
    assert!(why.contains(taken.to_str().unwrap()) && why.contains("stop the domain and start it"), "{why}");
    assert!(survey.mendable.unwrap().contains("the guest stands still for longer"));
    let error = begins(&machine, &rig.save(MemoryWay::Background)).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{error}");
    assert_eq!((rig.status().as_str(), rig.left().len()), ("running", 0));
    whole(&machine, &rig.save(others[0]), "other").await;
    // The advice leads out.
    machine.end().await.unwrap();
    machine.start(Run::Runs).await.unwrap();
    assert_eq!(machine.survey(None).await.unwrap().ways[0], MemoryWay::Background);
    whole(&machine, &rig.save(MemoryWay::Background), "again").await;
}
