//! The sweep: every operation fails at every call of a port and of the store, before and after its effect; the process that
//! asks crashes there; the process that has the disks dies within the transaction. Recovery, itself crashed at every call, brings every one
//! of these to the state before or to the state after, and to nothing between.

use std::collections::HashSet;

use crate::common::{Op, Seen, assert_whole, disk, see, told};
use xlsnap_orchestrator::{Effect, GuestState, Kind, recover};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};
use xlsnap_types::model::{MemoryWay, StateFlags};

/// What a backend is before the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    Running,
    Paused,
    Serving,
    Off,
}

impl Power {
    pub(crate) fn guest(self) -> GuestState {
        match self {
            Self::Running => GuestState::On(StateFlags { running: true, ..StateFlags::default() }),
            Self::Paused => GuestState::On(StateFlags { paused: true, ..StateFlags::default() }),
            Self::Serving => GuestState::Serving,
            Self::Off => GuestState::Off,
        }
    }
}

/// Three disks that read 4, with the snapshots a (1), b (2) and c (3), each on the one before.
pub(crate) async fn backend(power: Power) -> FakeBackend {
    let backend = FakeBackend::qcow2(&["vda", "vdb", "vdc"]);
    for (content, given) in [(1, "a"), (2, "b"), (3, "c")] {
        write(&backend, content);
        Op::create(given).run(&backend).await.unwrap();
    }
    write(&backend, 4);
    backend.power(power.guest());
    backend.faults().clear();
    backend
}

/// A machine whose disks read 4, with the disk-only snapshot a (1), b (2) with memory in a file, and c (3) with memory inside.
pub(crate) async fn with_snapshots(disks: &[&str], power: Power) -> FakeBackend {
    let backend = FakeBackend::qcow2(disks).with_machine();
    backend.start();
    for (content, op) in [
        (1, Op::create("a")),
        (2, Op::memory("b", MemoryWay::Background)),
        (3, Op::memory("c", MemoryWay::Internal)),
    ] {
        write(&backend, content);
        op.run(&backend).await.unwrap();
    }
    write(&backend, 4);
    backend.power(power.guest());
    backend.faults().clear();
    backend
}

pub(crate) fn write(backend: &FakeBackend, content: u64) {
    for disk in backend.disk_names() {
        backend.write(disk.as_str(), content);
    }
}

const FAULTS: [Fault; 11] = [
    Fault::Refused,
    Fault::Lost(Moment::Before),
    Fault::Lost(Moment::After),
    Fault::Crash(Moment::Before),
    Fault::Crash(Moment::After),
    Fault::Torn(0),
    Fault::Torn(1),
    Fault::Torn(3),
    Fault::PowerCut(0),
    Fault::PowerCut(2),
    Fault::PowerCut(3),
];

fn kills(fault: Fault) -> bool {
    matches!(fault, Fault::Torn(_) | Fault::PowerCut(_))
}

/// Whether the process that has the disks can die of a call.
fn can_kill(method: &str) -> bool {
    ["disks.snapshot", "memory.begin", "memory.run_on", "memory.finish", "inside.take_inside"]
        .contains(&method)
}

/// Whether the process dies of a revert's call, and is started anew by the recovery.
fn can_kill_in_revert(method: &str) -> bool {
    let process = ["pause.", "release.", "power.start", "power.restore", "inside.load"];
    process.iter().any(|port| method.starts_with(port))
}

/// Sweeps one operation on a domain without a process that can be handled: `between` are the states that are whole, although neither before nor after it.
async fn sweep(power: Power, op: &Op, between: &[Op]) {
    sweep_from(&format!("{power:?}"), &backend(power).await, op, between).await;
}

/// The same, from this backend.
pub(crate) async fn sweep_from(power: &str, start: &FakeBackend, op: &Op, between: &[Op]) {
    let clean = start.fork();
    let mut allowed = vec![see(&clean)];
    op.run(&clean).await.unwrap_or_else(|e| panic!("{op:?} on a sound backend: {}", told(&e)));
    let calls = clean.faults().calls();
    assert!(calls.len() > 5, "{op:?} is not worth a sweep: {calls:?}");
    assert_whole(&clean, "a sound backend").await;
    allowed.push(see(&clean));
    for other in between {
        let reached = start.fork();
        other.run(&reached).await.unwrap();
        allowed.push(see(&reached));
    }
    let mut met = HashSet::new();
    for (at, call) in calls.iter().enumerate() {
        for fault in FAULTS {
            if kills(fault) && !can_kill(call.method) && !can_kill_in_revert(call.method) {
                continue;
            }
            let about = format!("{power} {op:?}: call {at} ({}) meets {fault:?}", call.method);
            let struck = strike(start, op, &[(at, fault)], &allowed, &about).await;
            recover_everyhow(&struck, &allowed, &about, &mut met).await;
            if struck.crashed || kills(fault) {
                continue;
            }
            // It failed and is being undone, or it looks what happened: the process crashes then.
            for later in at + 1..struck.calls {
                for moment in [Moment::Before, Moment::After] {
                    let faults = [(at, fault), (later, Fault::Crash(moment))];
                    let about = format!("{about}; call {later} crashes {moment:?} its effect");
                    let struck = strike(start, op, &faults, &allowed, &about).await;
                    recover_everyhow(&struck, &allowed, &about, &mut met).await;
                }
            }
        }
    }
    assert!(met.len() > 2, "{op:?}: there was next to nothing to recover");
}

/// A backend in which faults struck an operation.
struct Struck {
    backend: FakeBackend,
    calls: usize,
    crashed: bool,
    /// Whether the process that had the disks died.
    killed: bool,
    before: Seen,
}

/// Lets faults strike, and checks that what the operation says of it is so.
async fn strike(
    start: &FakeBackend,
    op: &Op,
    faults: &[(usize, Fault)],
    allowed: &[Seen],
    about: &str,
) -> Struck {
    let backend = start.fork();
    let before = see(&backend);
    for (at, fault) in faults {
        backend.faults().plan(*at, *fault);
    }
    let result = op.run(&backend).await;
    let crashed = backend.faults().crashed();
    if !crashed {
        assert_honest(&backend, &before, &result, allowed, about);
    }
    let calls = backend.faults().calls().len();
    backend.restart();
    let killed = faults.iter().any(|(_, fault)| kills(*fault));
    Struck { backend, calls, crashed, killed, before }
}

/// Recovers, and again with a crash at each of its calls. Many faults leave the same behind: each is recovered once.
async fn recover_everyhow(struck: &Struck, allowed: &[Seen], about: &str, met: &mut HashSet<String>) {
    let journal = struck.backend.store().left_journal(FakeBackend::UUID).unwrap_or_default();
    if !met.insert(format!("{:?} {}", see(&struck.backend), String::from_utf8_lossy(&journal))) {
        return;
    }
    let calls = recover_and_check(struck, None, allowed, about).await;
    for second in 0..calls {
        for moment in [Moment::Before, Moment::After] {
            let about = format!("{about}; recovery crashes {moment:?} its call {second}");
            recover_and_check(struck, Some((second, moment)), allowed, &about).await;
        }
    }
}

/// Recovers, and checks. Gives how many calls it made.
async fn recover_and_check(
    struck: &Struck,
    second: Option<(usize, Moment)>,
    allowed: &[Seen],
    about: &str,
) -> usize {
    let backend = struck.backend.fork();
    if let Some((second, moment)) = second {
        backend.faults().plan(second, Fault::Crash(moment));
        // It may be done already, when only its last call's answer was lost.
        let _ = recover(&backend.ports(), &backend.domain()).await;
        backend.restart();
    }
    let recovered = recover(&backend.ports(), &backend.domain()).await;
    recovered.unwrap_or_else(|e| panic!("{about}: it does not recover: {}", told(&e)));
    let calls = backend.faults().calls().len();

    let mut after = see(&backend);
    // A revert starts the domain again.
    if struck.killed && !after.running {
        after.running = struck.before.running;
        after.paused = struck.before.paused;
        // What a process wrote to that ended is what its description names, or else it is lost.
        assert!(after.images.values().all(|(top, described)| top == described), "{about}");
    }
    let whole = allowed.iter().find(|state| **state == after);
    assert!(whole.is_some(), "{about}: neither before nor after:\n{after:#?}\nallowed: {allowed:#?}");
    assert_whole(&backend, about).await;
    // The domain is not stuck.
    Op::create("later")
        .run(&backend)
        .await
        .unwrap_or_else(|e| panic!("{about}: nothing works: {}", told(&e)));
    assert_eq!(backend.tags("vda").last().map(String::as_str), Some("later"), "{about}");
    calls
}

/// What an operation says is so.
fn assert_honest(
    backend: &FakeBackend,
    before: &Seen,
    result: &Result<Vec<String>, xlsnap_orchestrator::Error>,
    allowed: &[Seen],
    about: &str,
) {
    let now = see(backend);
    match result {
        Ok(warnings) => {
            assert!(!now.journal || !warnings.is_empty(), "{about}: a journal is left without a warning");
            let new = &allowed[1];
            assert_eq!(
                (&now.records, &now.contents, &now.files),
                (&new.records, &new.contents, &new.files),
                "{about}"
            );
        }
        Err(error) if error.kind() == Kind::RecoveryPending => {
            assert!(error.advice().is_some(), "{about}: no advice");
        }
        Err(error) => {
            assert!(
                !now.journal,
                "{about}: a journal is left, and the error does not say so: {}",
                told(error)
            );
            if error.effect() == Effect::Unknown {
                // One disk is flattened, and another one is not: what is whole is compared after it.
                assert!(told(error).contains("what was done before stays"), "{about}: {}", told(error));
                return;
            }
            assert_eq!(error.effect(), Effect::None, "{about}: {}", told(error));
            let mut now = now;
            if !now.running {
                now.running = before.running;
                now.paused = before.paused;
            }
            let safe = allowed.len() > 2 && now == allowed[2];
            assert!(now == *before || safe, "{about}: {} changed something:\n{now:#?}", told(error));
        }
    }
}

#[tokio::test]
async fn create_internal() {
    for power in [Power::Running, Power::Paused, Power::Serving, Power::Off] {
        sweep(power, &Op::create("s"), &[]).await;
    }
}

#[tokio::test]
async fn create_external() {
    for power in [Power::Running, Power::Serving, Power::Off] {
        sweep(power, &Op::external("s", &["vda", "vdb", "vdc"]), &[]).await;
    }
}

#[tokio::test]
async fn create_mixed() {
    for power in [Power::Running, Power::Off] {
        sweep(power, &Op::external("s", &["vda"]), &[]).await;
        sweep(power, &Op::external("s", &["vdb", "vdc"]), &[]).await;
    }
}

#[tokio::test]
async fn delete_a_leaf_a_middle_and_a_root() {
    for power in [Power::Running, Power::Off] {
        for given in ["a", "b", "c"] {
            sweep(power, &Op::delete(given), &[]).await;
        }
    }
}

#[tokio::test]
async fn delete_a_branch() {
    for power in [Power::Running, Power::Off] {
        sweep(power, &Op::branch("a"), &[]).await;
        sweep(power, &Op::branch("b"), &[]).await;
    }
}

#[tokio::test]
async fn revert_to_the_first() {
    sweep(Power::Off, &Op::revert("a"), &[]).await;
}

#[tokio::test]
async fn revert_with_a_safety_snapshot() {
    sweep(Power::Off, &Op::safe_revert("b", "safe"), &[Op::create("safe")]).await;
}

/// A crash is met by whatever operation comes next, not only by `recover`.
#[tokio::test]
async fn the_next_operation_recovers() {
    let start = backend(Power::Off).await;
    let clean = start.fork();
    Op::create("s").run(&clean).await.unwrap();
    for at in 0..clean.faults().calls().len() {
        for moment in [Moment::Before, Moment::After] {
            let backend = start.fork();
            backend.faults().plan(at, Fault::Crash(moment));
            // After the commit point it has worked, with a warning.
            let _ = Op::create("s").run(&backend).await;
            backend.restart();
            Op::delete("b").run(&backend).await.unwrap();
            assert_whole(&backend, &format!("crash {moment:?} call {at}")).await;
            assert!(!backend.tags("vda").contains(&"b".to_owned()));
        }
    }
}

/// While an operation goes on, the next is told which process holds the domain.
#[tokio::test]
async fn one_operation_at_a_time() {
    let backend = backend(Power::Off).await;
    let owner = xlsnap_conf_store::Owner { pid: 77, operation: "delete".to_owned(), since: 1 };
    let ports = backend.ports();
    let held = ports.store.lock(FakeBackend::UUID, &owner, std::time::Duration::ZERO).await.unwrap();
    let error = Op::create("s").run(&backend).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Busy, Effect::None));
    assert!(told(&error).contains("77"), "{}", told(&error));
    drop(held);
    Op::create("s").run(&backend).await.unwrap();
}

/// Dropping an operation is as good as a crash.
#[tokio::test]
async fn a_dropped_operation_is_recovered() {
    let backend = backend(Power::Running).await;
    let before = see(&backend);
    let op = Op::create("s");
    {
        // The store's first answer never comes: the future is dropped where it waits.
        let mut running = Box::pin(op.run(&backend));
        let waker = std::task::Waker::noop();
        let _ = running.as_mut().poll(&mut std::task::Context::from_waker(waker));
    }
    recover(&backend.ports(), &backend.domain()).await.unwrap();
    let after = see(&backend);
    assert!(after == before || after.records.contains_key(&crate::common::name("s")));
    assert_whole(&backend, "dropped").await;
    assert_eq!(backend.read(disk("vda").as_str()), 4);
}
