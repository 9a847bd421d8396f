//! A save that is given up, by the one who began it or by the next program, at every stage.

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use xlsnap_orchestrator::{Disks, GuestState, Memory, MemoryFiles, MemorySave, Power, Run};
use xlsnap_qemu::Machine;
use xlsnap_testkit::real::wait_until;
use xlsnap_types::model::MemoryWay;

use crate::rig::{Rig, Unwatched, told};
use crate::save::{begins, files, internal, settings, whole};

/// How far a save has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Stage {
    Nothing,
    Beginning(u64),
    Begun,
    Taken,
    Resuming(u64),
    Resumed,
    Finishing(u64),
    Finished,
}

const STAGES: [Stage; 14] = [
    Stage::Nothing,
    Stage::Beginning(0),
    Stage::Beginning(1),
    Stage::Beginning(3),
    Stage::Begun,
    Stage::Taken,
    Stage::Resuming(0),
    Stage::Resuming(1),
    Stage::Resuming(5),
    Stage::Resuming(20),
    Stage::Resumed,
    Stage::Finishing(0),
    Stage::Finishing(10),
    Stage::Finished,
];

/// Polls for so many milliseconds, and drops it then; whether it was done.
async fn cut<T>(milliseconds: u64, future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(milliseconds), future).await.is_ok()
}

async fn until(machine: &Machine, save: &MemorySave, stage: Stage, tag: &str) {
    if stage == Stage::Nothing {
        return;
    }
    if let Stage::Beginning(at) = stage {
        cut(at, machine.begin(save, &Unwatched)).await;
        return;
    }
    let stopped = machine.begin(save, &Unwatched).await.unwrap();
    if stage == Stage::Begun {
        return;
    }
    machine.snapshot(&[internal("vda", tag), internal("vdb", tag)]).await.unwrap();
    if stage == Stage::Taken {
        return;
    }
    if let Stage::Resuming(at) = stage {
        cut(at, stopped.run_on()).await;
        return;
    }
    let (_, unfinished) = stopped.run_on().await.unwrap();
    if stage == Stage::Resumed {
        return;
    }
    if let Stage::Finishing(at) = stage {
        cut(at, unfinished.finish()).await;
        return;
    }
    unfinished.finish().await.unwrap();
}

#[tokio::test]
async fn the_guest_runs_and_nothing_is_left() {
    for fresh in [false, true] {
        let (mut rig, mut machine, mut before) = limited().await;
        for (at, (way, stage)) in
            files().into_iter().flat_map(|way| STAGES.map(|stage| (way, stage))).enumerate()
        {
            if way == MemoryWay::Background && has_lost_its_input(&machine).await {
                (rig, machine, before) = limited().await;
            }
            let save = rig.save(way);
            until(&machine, &save, stage, &format!("s{at}")).await;
            if fresh {
                drop(machine);
                machine = rig.reach_soon().await;
            }
            let about = format!("{way:?} {stage:?} {}", if fresh { "by another" } else { "by itself" });
            machine.abandon(&save).await.unwrap_or_else(|e| panic!("{about}: {}", told(&e)));
            assert_eq!(rig.status(), "running", "{about}");
            assert_eq!(rig.left(), Vec::<String>::new(), "{about}");
            assert_eq!(settings(&rig), before, "{about}");
            machine.abandon(&save).await.unwrap_or_else(|e| panic!("{about}: again: {}", told(&e)));
            // The disks are QEMU's: on an inactive one it would end.
            machine
                .snapshot(&[internal("vda", &format!("a{at}"))])
                .await
                .unwrap_or_else(|e| panic!("{about}: {}", told(&e)));
        }
        if has_lost_its_input(&machine).await {
            (rig, machine, _) = limited().await;
        }
        for way in files() {
            whole(&machine, &rig.save(way), way.word()).await;
        }
    }
}

/// A guest whose memory is saved slowly, and what its QEMU's migration is set up with.
async fn limited() -> (Rig, Machine, Value) {
    let rig = Rig::new();
    let machine = rig.started().await;
    rig.monitor().must("migrate-set-parameters", json!({"max-bandwidth": 99 << 20}));
    let before = settings(&rig);
    (rig, machine, before)
}

/// Whether QEMU's standard input is another thing by now, as a save in the background leaves it that is cut short very early: `input.rs`.
async fn has_lost_its_input(machine: &Machine) -> bool {
    machine.survey(None).await.unwrap().mendable.is_some_and(|why| why.contains("standard input"))
}

#[tokio::test]
async fn another_ones_file_and_migration_stay() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let save = rig.save(MemoryWay::Stopped);
    let file = save.file().unwrap().to_owned();
    // Nothing of ours has begun, and another operation has both.
    std::fs::write(&file, "QEVM of another").unwrap();
    rig.monitor().must("migrate-set-parameters", json!({"max-bandwidth": 4096}));
    rig.monitor().must("migrate", json!({"uri": "exec:cat >/dev/null"}));
    wait_until("it migrates", || (migration(&rig) == "active").then_some(()));
    assert!(machine.survey(None).await.unwrap().ways.is_empty());
    let error = begins(&machine, &save).await.unwrap_err();
    assert_eq!(error.kind, xlsnap_orchestrator::PortErrorKind::Busy);
    let fresh = {
        drop(machine);
        rig.reach_soon().await
    };
    fresh.abandon(&save).await.unwrap();
    assert_eq!((migration(&rig).as_str(), rig.status().as_str()), ("active", "running"));
    assert_eq!(std::fs::read(&file).unwrap(), b"QEVM of another");
    rig.monitor().must("migrate_cancel", json!({}));
    wait_until("it ends", || (migration(&rig) == "cancelled").then_some(()));
    // One that comes to be while the memory is saved stays too.
    std::fs::remove_file(&file).unwrap();
    let stopped = fresh.begin(&save, &Unwatched).await.unwrap();
    std::fs::write(&file, "another's").unwrap();
    let (_, unfinished) = stopped.run_on().await.unwrap();
    let error = unfinished.finish().await.unwrap_err();
    assert_eq!(error.kind, xlsnap_orchestrator::PortErrorKind::AlreadyExists, "{error}");
    assert_eq!(rig.status(), "running");
    fresh.abandon(&save).await.unwrap();
    assert_eq!(rig.left(), [format!("{}.save", save.token)]);
    assert_eq!(std::fs::read(&file).unwrap(), b"another's");
}

fn migration(rig: &Rig) -> String {
    rig.monitor().must("query-migrate", json!({}))["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_qemu_that_is_killed_leaves_files_that_go() {
    for way in files() {
        for stage in [Stage::Begun, Stage::Resuming(5), Stage::Resumed, Stage::Finishing(5), Stage::Finished]
        {
            for fresh in [false, true] {
                let rig = Rig::new();
                let mut machine = rig.started().await;
                let save = rig.save(way);
                until(&machine, &save, stage, "s").await;
                rig.kill();
                if fresh {
                    drop(machine);
                    machine = rig.reach().await;
                }
                machine.abandon(&save).await.unwrap_or_else(|e| panic!("{way:?} {stage:?}: {}", told(&e)));
                machine.abandon(&save).await.unwrap();
                assert_eq!(rig.left(), Vec::<String>::new(), "{way:?} {stage:?}");
                assert_eq!(rig.state(&machine).await, GuestState::Off);
                machine.start(Run::Runs).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_qemu_that_dies_meanwhile_is_an_error() {
    for way in files() {
        let rig = Rig::new();
        let machine = rig.started().await;
        let save = rig.save(way);
        let stopped = machine.begin(&save, &Unwatched).await.unwrap();
        rig.kill();
        let error = stopped.run_on().await.map(drop).unwrap_err();
        assert_ne!(error.effect, xlsnap_orchestrator::Effect::Done, "{error}");
        machine.abandon(&save).await.unwrap();
        assert_eq!(rig.left(), Vec::<String>::new());
        let save = rig.save(way);
        machine.start(Run::Runs).await.unwrap();
        let stopped = machine.begin(&save, &Unwatched).await.unwrap();
        let (_, unfinished) = stopped.run_on().await.unwrap();
        rig.kill();
        // What it had sent may have been the whole.
        let finished = unfinished.finish().await;
        machine.abandon(&save).await.unwrap();
        let size = machine.size(save.file().unwrap()).await.unwrap();
        assert_eq!(size, None, "{finished:?}");
    }
}
