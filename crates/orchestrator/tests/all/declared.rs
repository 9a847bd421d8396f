//! A dry run says what a run does: the calls with an effect are those that the plan's steps declare, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use uuid::Uuid;
use xlsnap_orchestrator::{
    Does, MemoryPlace, Ports, Progress, Run, Stage, plan_adopt, plan_create, plan_delete, plan_delete_orphan,
    plan_flatten, plan_recover, plan_revert, planned_stages, recover,
};
use xlsnap_testkit::fake::{FakeBackend, Fault, Image, Moment};
use xlsnap_types::model::MemoryWay;

use crate::common::{Op, see};
use crate::orphans::with_orphans;
use crate::sweep::{Power, with_snapshots};

/// The calls since the last time that they were forgotten, without looks. The journal is how every operation is kept, and no step
/// of one, but for the commit point.
fn effects(backend: &FakeBackend) -> Vec<String> {
    let looks = [
        "guest.state",
        "disks.inventory",
        "overlays.exists",
        "overlays.place",
        "overlays.beside",
        "names.movable",
        "layers.look",
        "layers.room",
        "memory.survey",
        "memory_files.size",
        "memory_files.list",
        "memory_files.verify",
        "memory_files.examine",
        "power.abilities",
        "lock.set_journal",
    ];
    let calls = backend.faults().calls().into_iter().map(|call| call.method);
    calls
        .filter(|method| !looks.contains(method) && !method.starts_with("store."))
        .map(str::to_owned)
        .collect()
}

async fn declared(backend: &FakeBackend, lists: &[&[Stage]]) -> Vec<String> {
    let mut declared = Vec::new();
    for stages in lists {
        let planned = planned_stages(backend.ports().commands, stages).await.unwrap();
        declared.extend(planned.into_iter().flat_map(|stage| stage.commands).map(|command| command.command));
    }
    declared.retain(|command| command != "lock.set_journal");
    declared
}

/// The lists of an operation's dry run.
async fn dry_run(backend: &FakeBackend, op: &Op) -> Vec<Vec<Stage>> {
    let (ports, domain, id) = (backend.ports(), backend.domain(), Uuid::from_u128(7));
    match op {
        Op::Create(request) => vec![plan_create(&ports, &domain, request, id).await.unwrap().stages],
        Op::Delete(request) => vec![plan_delete(&ports, &domain, request, id).await.unwrap().stages],
        Op::Adopt(request) => vec![plan_adopt(&ports, &domain, request, id).await.unwrap().stages],
        Op::DeleteOrphan(request) => {
            vec![plan_delete_orphan(&ports, &domain, request, id).await.unwrap().stages]
        }
        Op::Flatten(request) => vec![plan_flatten(&ports, &domain, request, id).await.unwrap().stages],
        Op::Revert(request) => {
            let plan = plan_revert(&ports, &domain, request, id).await.unwrap();
            plan.safety.map(|safety| safety.stages).into_iter().chain([plan.stages]).collect()
        }
    }
}

/// What the dry run of an operation declares.
async fn of_dry_run(backend: &FakeBackend, op: &Op) -> Vec<String> {
    let before = see(backend);
    let lists = dry_run(backend, op).await;
    assert_eq!(see(backend), before, "{op:?}: a dry run changed something");
    assert!(
        !backend.faults().calls().iter().any(|call| call.method.starts_with("lock.")),
        "{op:?}: it took the lock"
    );
    let lists: Vec<&[Stage]> = lists.iter().map(Vec::as_slice).collect();
    declared(backend, &lists).await
}

async fn backend(power: Power) -> FakeBackend {
    with_snapshots(&["vda", "vdb"], power).await
}

fn operations() -> Vec<(Power, Op)> {
    let mut all = Vec::new();
    for power in [Power::Running, Power::Paused, Power::Off] {
        all.extend([
            (power, Op::create("s")),
            (power, Op::external("s", &["vda"])),
            (power, Op::external("s", &["vda", "vdb"])),
            (power, Op::quiesced("s")),
            (power, Op::revert("a")),
            (power, Op::revert_to("a", Run::Runs)),
            (power, Op::offline_revert("a")),
            (power, Op::revert("b")),
            (power, Op::revert_to("b", Run::Waits)),
            (power, Op::revert("c")),
            (power, Op::safe_revert("a", "safe")),
            (power, Op::safe_revert("b", "safe")),
            (power, Op::safe_revert("c", "safe")),
            (power, Op::delete("a")),
            (power, Op::delete("b")),
            (power, Op::delete("c")),
            (power, Op::branch("a")),
        ]);
        if power != Power::Off {
            for way in [MemoryWay::Background, MemoryWay::Switchover, MemoryWay::Stopped, MemoryWay::Internal]
            {
                all.push((power, Op::memory("s", way)));
            }
        }
    }
    all
}

#[tokio::test]
async fn a_run_does_what_its_dry_run_says() {
    for (power, op) in operations() {
        let backend = backend(power).await;
        let said = of_dry_run(&backend, &op).await;
        assert!(said.len() > 1, "{power:?} {op:?}: {said:?}");
        backend.faults().clear();
        op.run(&backend).await.unwrap();
        assert_eq!(effects(&backend), said, "{power:?} {op:?}");
    }
}

/// The same where new files take the names of the disks' images, and of recoveries of that.
#[tokio::test]
async fn what_keeps_names_does_what_its_dry_run_says() {
    let both = ["vda", "vdb"];
    for power in [Power::Running, Power::Paused, Power::Off] {
        for op in [
            Op::external("s", &both),
            Op::external("s", &["vda"]),
            Op::external_memory("s", &both),
            Op::revert("a"),
            Op::revert("c"),
            Op::delete("a"),
            Op::delete("c"),
            Op::branch("b"),
            Op::branch("a"),
        ] {
            if power == Power::Off && matches!(&op, Op::Create(request) if request.memory.is_some()) {
                continue;
            }
            let start = crate::names::chain(power).await;
            let backend = start.fork();
            let said = of_dry_run(&backend, &op).await;
            backend.faults().clear();
            op.run(&backend).await.unwrap();
            assert_eq!(effects(&backend), said, "{power:?} {op:?}");
            // Of others the same is compared elsewhere.
            let calls = if matches!(op, Op::Create(_)) { backend.faults().calls().len() } else { 0 };
            for at in 0..calls {
                let backend = start.fork();
                backend.faults().plan(at, Fault::Crash(Moment::After));
                let _ = op.run(&backend).await;
                backend.restart();
                let plan = plan_recover(&backend.ports(), &backend.domain(), false).await.unwrap();
                let said = match &plan {
                    None => Vec::new(),
                    Some(plan) => declared(&backend, &[&plan.stages]).await,
                };
                backend.faults().clear();
                recover(&backend.ports(), &backend.domain()).await.unwrap();
                // What is noted already is not noted again, which only the store knows.
                let of_backend = |calls: Vec<String>| -> Vec<String> {
                    calls.into_iter().filter(|call| !call.starts_with("lock.")).collect()
                };
                let done = of_backend(effects(&backend));
                assert_eq!(done, of_backend(said), "{power:?} {op:?}: crash after call {at}");
            }
        }
    }
}

/// The same of what no record names.
#[tokio::test]
async fn a_run_on_an_orphan_does_what_its_dry_run_says() {
    for power in [Power::Running, Power::Off] {
        for (op, calls) in [
            (Op::adopt("orphan-disks"), vec!["lock.store"]),
            (Op::adopt("orphan-file"), vec!["lock.store"]),
            (Op::adopt("orphan-inside"), vec!["lock.store"]),
            (Op::delete_orphan("orphan-disks"), vec!["disks.delete"; 2]),
            (Op::delete_orphan("/saves/orphan-file.save"), vec!["memory_files.remove"]),
        ] {
            let backend = with_orphans(&["vda", "vdb"], power).await;
            assert_eq!(of_dry_run(&backend, &op).await, calls, "{power:?} {op:?}");
            backend.faults().clear();
            op.run(&backend).await.unwrap();
            assert_eq!(effects(&backend), calls, "{power:?} {op:?}");
        }
    }
}

/// The same of what lies below the images that the disks write to.
#[tokio::test]
async fn a_run_on_an_orphan_below_an_overlay_does_what_its_dry_run_says() {
    for power in [Power::Running, Power::Off] {
        let backend = with_orphans(&["vda", "vdb"], power).await;
        Op::external("above", &["vda", "vdb"]).run(&backend).await.unwrap();
        backend.faults().clear();
        let op = Op::delete_orphan("orphan-disks");
        let said = of_dry_run(&backend, &op).await;
        assert_eq!(said.iter().filter(|call| **call == "layers.delete_inside").count(), 2, "{said:?}");
        backend.faults().clear();
        op.run(&backend).await.unwrap();
        assert_eq!(effects(&backend), said, "{power:?}");
    }
}

/// The same of recoveries, whatever was left.
#[tokio::test]
async fn a_recovery_does_what_its_dry_run_says() {
    let mut met = 0;
    for (power, op) in operations() {
        let calls = {
            let clean = backend(power).await;
            op.run(&clean).await.unwrap();
            clean.faults().calls().len()
        };
        for at in 0..calls {
            let backend = backend(power).await;
            backend.faults().plan(at, Fault::Crash(Moment::After));
            let _ = op.run(&backend).await;
            backend.restart();
            let plan = plan_recover(&backend.ports(), &backend.domain(), false).await.unwrap();
            let said = match &plan {
                None => Vec::new(),
                Some(plan) => declared(&backend, &[&plan.stages]).await,
            };
            backend.faults().clear();
            recover(&backend.ports(), &backend.domain()).await.unwrap();
            assert_eq!(effects(&backend), said, "{power:?} {op:?}: crash after call {at}");
            met += usize::from(plan.is_some());
        }
    }
    assert!(met > 100, "there was something to recover: {met}");
}

/// Memory inside the images is one step with its disks, and a dry run says so.
#[tokio::test]
async fn memory_inside_is_no_transaction_of_its_own() {
    let backend = backend(Power::Running).await;
    let op = Op::memory("s", MemoryWay::Internal);
    let Op::Create(request) = &op else { unreachable!("it is a creation") };
    assert_eq!(request.memory.as_ref().unwrap().place, MemoryPlace::Inside);
    let said = of_dry_run(&backend, &op).await;
    assert_eq!(said, ["inside.take_inside", "lock.store", "lock.set_domain_record"]);
}

/// A file that a run changes is one that a step of its dry run touches.
#[tokio::test]
async fn a_dry_run_names_every_file_that_the_run_changes() {
    for (power, op) in operations() {
        let backend = backend(power).await;
        let lists = dry_run(&backend, &op).await;
        let mut touched: BTreeSet<String> = BTreeSet::new();
        for step in lists.iter().flatten().flat_map(Stage::steps) {
            let touches = step.text().map(|text| text.touches).unwrap_or_default();
            let writes = matches!(step.does, Does::Take(_) | Does::TakeInside { .. } | Does::Load { .. });
            assert!(!writes || !touches.is_empty(), "{power:?} {op:?}: it touches nothing: {step:?}");
            // Names of files, which a program can go by, and no words.
            assert!(touches.iter().all(|file| file.starts_with('/')), "{power:?} {op:?}: {touches:?}");
            touched.extend(touches);
        }
        let files = || -> BTreeMap<String, Image> {
            let image = |file: &String| backend.change(file, |image| image.clone());
            backend.files().iter().map(|file| (file.clone(), image(file))).collect()
        };
        let before = (files(), backend.memory_files());
        op.run(&backend).await.unwrap();
        let after = (files(), backend.memory_files());
        let differs = |file: &&String| {
            before.0.get(*file) != after.0.get(*file) || before.1.get(*file) != after.1.get(*file)
        };
        let all = before.0.keys().chain(after.0.keys()).chain(before.1.keys()).chain(after.1.keys());
        for file in all.filter(differs) {
            assert!(touched.contains(file), "{power:?} {op:?}: no step touches {file}: {touched:?}");
        }
    }
}

/// The steps that were announced, as (number, total).
#[derive(Default)]
struct Announced(Mutex<Vec<(usize, usize)>>);

impl Progress for Announced {
    fn step(&self, number: usize, total: usize, _what: &str) {
        self.0.lock().unwrap().push((number, total));
    }

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

/// Every step that the total counts is announced, and in its turn.
#[tokio::test]
async fn the_progress_ends_at_its_total() {
    for (power, op) in operations() {
        let backend = backend(power).await;
        let announced = Announced::default();
        let ports = Ports { progress: &announced, ..backend.ports() };
        op.run_with(&ports, &backend.domain()).await.unwrap();
        let announced = announced.0.into_inner().unwrap();
        let mut lists = 0;
        let mut rest = announced.as_slice();
        while let Some((_, total)) = rest.first() {
            let expected: Vec<_> = (1..=*total).map(|number| (number, *total)).collect();
            let (list, after) = rest.split_at(expected.len().min(rest.len()));
            assert_eq!(list, expected, "{power:?} {op:?}: {announced:?}");
            (lists, rest) = (lists + 1, after);
        }
        let expected = match &op {
            Op::Revert(request) if request.safety.is_some() => 2,
            _ => 1,
        };
        assert_eq!(lists, expected, "{power:?} {op:?}: {announced:?}");
    }
}
