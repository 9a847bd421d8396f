//! The sweep of what is done to a guest as a whole: memory, frozen file systems, and reverts of a domain that runs.

use std::time::Duration;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use uuid::Uuid;

use xlsnap_orchestrator::{
    Abilities, Can, Effect, Guest, GuestState, Interrupt, Kind, Memory, MemorySave, MemorySurvey, Outcome,
    Port, PortError, PortErrorKind, Ports, Progress, Run, SavedMemory, StoppedGuest, UnfinishedMemory,
    async_trait, create, recover, recover_without_memory,
};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};
use xlsnap_types::model::{Consistency, MemoryMeta, MemoryWay};

use crate::common::{Op, assert_whole, name, see, told};
use crate::sweep::{Power, sweep_from, with_snapshots, write};

async fn backend(power: Power) -> FakeBackend {
    with_snapshots(&["vda", "vdb", "vdc"], power).await
}

async fn sweep(power: Power, op: &Op, between: &[Op]) {
    sweep_from(&format!("{power:?}"), &backend(power).await, op, between).await;
}

#[tokio::test]
async fn create_with_memory() {
    for power in [Power::Running, Power::Paused] {
        for way in [MemoryWay::Background, MemoryWay::Internal] {
            sweep(power, &Op::memory("s", way), &[]).await;
        }
    }
}

#[tokio::test]
async fn create_with_frozen_file_systems() {
    sweep(Power::Running, &Op::quiesced("s"), &[]).await;
}

#[tokio::test]
async fn revert_under_a_process_that_lets_go_of_its_disks() {
    for power in [Power::Running, Power::Paused] {
        sweep(power, &Op::revert("a"), &[]).await;
    }
}

#[tokio::test]
async fn revert_by_ending_the_process() {
    sweep(Power::Running, &Op::offline_revert("a"), &[]).await;
    sweep(Power::Off, &Op::revert_to("a", Run::Runs), &[]).await;
}

#[tokio::test]
async fn revert_with_memory_from_a_file() {
    for power in [Power::Running, Power::Off] {
        sweep(power, &Op::revert("b"), &[]).await;
    }
    sweep(Power::Running, &Op::revert_to("b", Run::Waits), &[]).await;
}

#[tokio::test]
async fn revert_with_memory_from_inside() {
    for power in [Power::Running, Power::Off] {
        sweep(power, &Op::revert("c"), &[]).await;
    }
}

/// Its disks, or one of them, write to other files since.
#[tokio::test]
async fn revert_with_memory_from_inside_an_image_that_was_left() {
    for power in [Power::Running, Power::Off] {
        for left in [&["vda", "vdb", "vdc"][..], &["vda"], &["vdb"]] {
            let backend = backend(power).await;
            Op::external("e", left).run(&backend).await.unwrap();
            write(&backend, 5);
            backend.faults().clear();
            sweep_from(&format!("{power:?} {left:?}"), &backend, &Op::revert("c"), &[]).await;
        }
    }
}

/// The call of this name that an operation makes when these faults strike it, counted from the last one on.
async fn call_of(backend: &FakeBackend, op: &Op, faults: &[(usize, Fault)], method: &str) -> usize {
    let struck = backend.fork();
    for (at, fault) in faults {
        struck.faults().plan(*at, *fault);
    }
    let _ = op.run(&struck).await;
    let (calls, from) = (struck.faults().calls(), faults.last().map_or(0, |(at, _)| *at));
    from + calls[from..].iter().position(|call| call.method == method).unwrap_or_else(|| panic!("{calls:?}"))
}

/// A guest that was started again on the way back goes on, whatever is left to do, and keeps what it has written since.
#[tokio::test]
async fn a_guest_that_goes_on_is_not_ended_by_a_later_recovery() {
    let backend = backend(Power::Running).await;
    Op::external("e", &["vda", "vdb", "vdc"]).run(&backend).await.unwrap();
    write(&backend, 5);
    backend.faults().clear();
    let op = Op::revert("c");
    let load = (call_of(&backend, &op, &[], "inside.load").await, Fault::Refused);
    let unlink = (call_of(&backend, &op, &[load], "layers.unlink").await, Fault::Refused);
    for (at, fault) in [load, unlink] {
        backend.faults().plan(at, fault);
    }
    let error = op.run(&backend).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RecoveryPending, "{}", told(&error));
    assert!(backend.runs());
    write(&backend, 9);
    backend.faults().clear();
    recover(&backend.ports(), &backend.domain()).await.unwrap().unwrap();
    assert!(backend.runs() && see(&backend).contents.values().all(|read| *read == 9));
    let calls = backend.faults().calls();
    assert!(calls.iter().all(|call| !["power.end", "power.start"].contains(&call.method)), "{calls:?}");
    assert_whole(&backend, "recovered").await;
}

/// The memory of a safety snapshot is older than the disks of a guest that went on after it.
#[tokio::test]
async fn a_revert_that_fails_loads_no_memory_that_is_older_than_the_disks() {
    let backend = backend(Power::Running).await;
    let op = Op::safe_revert("b", "z");
    let restore = call_of(&backend, &op, &[], "power.restore").await;
    backend.faults().plan(restore, Fault::Refused);
    let error = op.run(&backend).await.unwrap_err();
    assert!(
        told(&error).contains("boots") && error.advice().unwrap().contains("revert to it"),
        "{}",
        told(&error)
    );
    let calls = backend.faults().calls();
    let of_power = calls[restore..].iter().filter(|call| call.method.starts_with("power."));
    let of_power: Vec<_> = of_power.map(|call| call.method).collect();
    assert_eq!(of_power.last(), Some(&"power.start"), "{of_power:?}");
    assert_eq!(of_power.iter().filter(|method| **method == "power.restore").count(), 1, "{of_power:?}");
}

#[tokio::test]
async fn delete_with_memory() {
    for power in [Power::Running, Power::Off] {
        for given in ["b", "c"] {
            sweep(power, &Op::delete(given), &[]).await;
        }
    }
}

/// The sweep would not notice anything if nothing were different after a revert with memory.
#[tokio::test]
async fn memory_comes_back_with_the_disks() {
    let backend = backend(Power::Running).await;
    for (given, content) in [("b", 2), ("c", 3), ("a", 1), ("b", 2)] {
        Op::revert(given).run(&backend).await.unwrap();
        let seen = see(&backend);
        assert!(seen.contents.values().all(|read| *read == content), "{given}: {:?}", seen.contents);
        assert!(seen.agrees && backend.runs(), "{given}");
    }
}

/// A memory that is lost between a revert that was cut short and its recovery does not make the disks unreachable.
#[tokio::test]
async fn a_revert_is_finished_without_its_memory() {
    let backend = backend(Power::Running).await;
    let calls = {
        let clean = backend.fork();
        Op::revert("b").run(&clean).await.unwrap();
        clean.faults().calls()
    };
    let restoring = calls.iter().position(|call| call.method == "power.restore").unwrap();
    backend.faults().plan(restoring, Fault::Crash(Moment::Before));
    Op::revert("b").run(&backend).await.unwrap_err();
    backend.restart();
    backend.lose_memory_file("/saves/b.save");
    {
        // By itself it goes back to what was there before.
        let backend = backend.fork();
        let recovered = recover(&backend.ports(), &backend.domain()).await.unwrap().unwrap();
        assert_eq!(recovered.outcome, Outcome::Undone);
        assert!(recovered.warnings.iter().any(|warning| warning.contains("memory")), "{recovered:?}");
        assert!(see(&backend).contents.values().all(|read| *read == 4));
        assert_eq!(backend.memory_files().len(), 0);
    }
    let recovered = recover_without_memory(&backend.ports(), &backend.domain()).await.unwrap().unwrap();
    assert!(!recovered.warnings.is_empty());
    assert_eq!(backend.guest_state(), GuestState::Off);
    assert!(see(&backend).contents.values().all(|read| *read == 2));
    Op::delete("b").run(&backend).await.unwrap();
    assert_whole(&backend, "without memory").await;
}

/// What a domain cannot do is found before anything is lost, and named.
#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let backend = backend(Power::Running).await;
    let before = see(&backend);
    backend.abilities(|abilities| {
        abilities.restart = Can::no("its file does not say how");
        abilities.release = Can::no("it is too old");
        abilities.load = Can::no("a job goes on");
    });
    for (op, why) in [
        (Op::revert("a"), "too old"),
        (Op::offline_revert("a"), "--offline was asked for"),
        (Op::revert("b"), "does not say how"),
        (Op::revert("c"), "a job goes on"),
    ] {
        let error = op.run(&backend).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        assert!(told(&error).contains(why) && error.advice().is_some(), "{}", told(&error));
        assert_eq!(see(&backend), before);
    }
    backend.abilities(|abilities| *abilities = Abilities::default());
    backend.abilities(|abilities| abilities.hypervisor.machine = Some("pc-q35-7.2".to_owned()));
    backend.change_record("b", |meta| meta.hypervisor.machine = Some("pc-q35-10.0".to_owned()));
    let error = Op::revert("b").run(&backend).await.unwrap_err();
    assert!(told(&error).contains("pc-q35-7.2") && told(&error).contains("pc-q35-10.0"), "{}", told(&error));
    backend.abilities(|abilities| abilities.hypervisor.machine = None);
    backend.abilities(|abilities| abilities.hypervisor.qemu = Some("7.2.22".to_owned()));
    backend.change_record("b", |meta| meta.hypervisor.qemu = Some("10.0.2".to_owned()));
    let error = Op::revert("b").run(&backend).await.unwrap_err();
    assert!(told(&error).contains("older"), "{}", told(&error));
    assert_eq!(see(&backend), before);
    backend.abilities(|abilities| abilities.hypervisor.qemu = Some("10.1.0".to_owned()));
    Op::revert("b").run(&backend).await.unwrap();
}

/// A wish to end early that is there from the so-many-th time on that it is asked for.
struct Late {
    asked: AtomicUsize,
    from: usize,
}

impl Late {
    fn from(from: usize) -> Self {
        Self { asked: AtomicUsize::new(0), from }
    }
}

#[async_trait]
impl Interrupt for Late {
    async fn requested(&self) {
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.from {
            std::future::pending::<()>().await;
        }
    }
}

/// An operation that is interrupted while a step takes long has everything as it was.
#[tokio::test]
async fn an_interrupt_undoes_a_long_step() {
    let backend = backend(Power::Running).await;
    let before = see(&backend);
    // The backend in memory answers at once, so the step that never ends is what the interrupt has to find.
    let slow = Slow(backend.clone());
    let wish = Late::from(4);
    let ports = Ports { interrupt: Port::Has(&wish), memory: Port::Has(&slow), ..backend.ports() };
    let Op::Create(request) = Op::memory("s", MemoryWay::Background) else { unreachable!() };
    let error = create(&ports, &backend.domain(), &request, Uuid::from_u128(7)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Failed, Effect::None), "{}", told(&error));
    assert!(told(&error).contains("interrupted"), "{}", told(&error));
    assert_eq!(see(&backend), before);
}

/// Interrupted at any moment, an operation is done or everything is as it was; never is recovery pending.
#[tokio::test]
async fn an_interrupt_at_any_moment_goes_back() {
    let mut went_back = 0;
    for op in [
        Op::revert("a"),
        Op::offline_revert("a"),
        Op::revert("b"),
        Op::revert("c"),
        Op::memory("s", MemoryWay::Background),
    ] {
        for from in 0..20 {
            let backend = backend(Power::Running).await;
            let before = see(&backend);
            let wish = Late::from(from);
            let ports = Ports { interrupt: Port::Has(&wish), ..backend.ports() };
            let done = op.run_with(&ports, &backend.domain()).await;
            if let Err(error) = done {
                went_back += 1;
                assert_eq!((error.kind(), error.effect()), (Kind::Failed, Effect::None), "{}", told(&error));
                assert!(told(&error).contains("interrupted"), "{op:?} {from}: {}", told(&error));
                assert_eq!(see(&backend), before, "{op:?} {from}");
            }
            assert_whole(&backend, &format!("{op:?} interrupted from {from}")).await;
        }
    }
    assert!(went_back > 20, "the moments fell into the operations: {went_back}");
}

/// A wish to end early from the moment on that a step is announced.
struct AtStep<'s> {
    step: &'s str,
    announced: AtomicBool,
}

impl Progress for AtStep<'_> {
    fn step(&self, _number: usize, _total: usize, what: &str) {
        if what.starts_with(self.step) {
            self.announced.store(true, Ordering::Relaxed);
        }
    }

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

#[async_trait]
impl Interrupt for AtStep<'_> {
    async fn requested(&self) {
        if !self.announced.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

/// From its commit point on an operation is done, and ends as such: nothing is undone, and the wish is no error.
#[tokio::test]
async fn an_interrupt_at_the_commit_point_comes_too_late() {
    let journaled = "note in the journal that the operation is done";
    let stored = "store the record of snapshot";
    for (op, commit) in [
        (Op::revert("a"), journaled),
        (Op::offline_revert("a"), journaled),
        (Op::revert("b"), journaled),
        (Op::revert("c"), journaled),
        (Op::create("s"), stored),
        (Op::external("s", &["vda"]), stored),
        (Op::memory("s", MemoryWay::Background), stored),
        (Op::memory("s", MemoryWay::Internal), stored),
        (Op::delete("b"), "delete the record of snapshot"),
    ] {
        let start = backend(Power::Running).await;
        let clean = start.fork();
        op.run(&clean).await.unwrap();
        let backend = start.fork();
        let wish = AtStep { step: commit, announced: AtomicBool::new(false) };
        let ports = Ports { interrupt: Port::Has(&wish), progress: &wish, ..backend.ports() };
        let done = op.run_with(&ports, &backend.domain()).await;
        let warnings = done.unwrap_or_else(|e| panic!("{op:?}: {}", told(&e)));
        assert!(wish.announced.into_inner(), "{op:?}: its commit was announced");
        assert!(!warnings.iter().any(|warning| warning.contains("interrupted")), "{op:?}: {warnings:?}");
        assert_eq!(see(&backend), see(&clean), "{op:?}");
    }
}

/// A memory whose file is never finished.
struct Slow(FakeBackend);

#[async_trait]
impl Memory for Slow {
    async fn survey(&self, file: Option<&str>) -> Result<MemorySurvey, PortError> {
        self.0.survey(file).await
    }
    async fn begin<'a>(
        &'a self,
        save: &MemorySave,
        progress: &'a dyn Progress,
    ) -> Result<Box<dyn StoppedGuest<'a> + 'a>, PortError> {
        Ok(Box::new(SlowGuest(self.0.begin(save, progress).await?)))
    }
    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError> {
        self.0.abandon(save).await
    }
}

struct SlowGuest<'a>(Box<dyn StoppedGuest<'a> + 'a>);

#[async_trait]
impl<'a> StoppedGuest<'a> for SlowGuest<'a> {
    async fn run_on(self: Box<Self>) -> Result<(Duration, Box<dyn UnfinishedMemory + 'a>), PortError> {
        let (pause, _) = self.0.run_on().await?;
        Ok((pause, Box::new(Never)))
    }
}

struct Never;

#[async_trait]
impl UnfinishedMemory for Never {
    async fn finish(self: Box<Self>) -> Result<SavedMemory, PortError> {
        std::future::pending().await
    }
}

/// Whose program cannot be told to be there, once a start of it was refused.
struct Forgetful<'a>(&'a FakeBackend);

#[async_trait]
impl xlsnap_orchestrator::Power for Forgetful<'_> {
    async fn abilities(&self) -> Result<Abilities, PortError> {
        let abilities = xlsnap_orchestrator::Power::abilities(self.0).await?;
        let refused = self.0.faults().calls().iter().any(|call| call.fault.is_some());
        Ok(if refused { Abilities { restart: Can::no("it is not seen"), ..abilities } } else { abilities })
    }

    async fn end(&self) -> Result<(), PortError> {
        self.0.end().await
    }

    async fn start(&self, run: Run) -> Result<(), PortError> {
        xlsnap_orchestrator::Power::start(self.0, run).await
    }

    async fn restore(&self, memory: &MemoryMeta, run: Run, told: &dyn Progress) -> Result<(), PortError> {
        self.0.restore(memory, run, told).await
    }
}

/// Which call of an operation that meets no fault is the first of this method.
async fn first_call(backend: &FakeBackend, op: &Op, method: &str) -> usize {
    let clean = backend.fork();
    clean.faults().clear();
    op.run(&clean).await.unwrap();
    clean.faults().calls().iter().position(|call| call.method == method).unwrap()
}

/// What an operation has ended it starts again: it could be started before.
#[tokio::test]
async fn a_domain_that_was_ended_is_not_given_up() {
    let backend = backend(Power::Running).await;
    let start = first_call(&backend, &Op::offline_revert("a"), "power.start").await;
    backend.faults().clear();
    backend.faults().plan(start, Fault::Refused);
    let power = Forgetful(&backend);
    let ports = Ports { power: Port::Has(&power), ..backend.ports() };
    let error = Op::offline_revert("a").run_with(&ports, &backend.domain()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed, "{}", told(&error));
    assert!(backend.runs(), "{}", told(&error));
    assert_whole(&backend, "after a start that was refused").await;
}

/// A guest that cannot be looked at once a transaction's connection was lost.
struct Unseen<'a>(&'a FakeBackend);

#[async_trait]
impl Guest for Unseen<'_> {
    async fn state(&self) -> Result<GuestState, PortError> {
        if self.0.faults().calls().iter().any(|call| call.fault.is_some()) {
            return Err(PortError::new(PortErrorKind::Unreachable, Effect::None, "the monitor is lost"));
        }
        self.0.state().await
    }
}

/// The agent answers still when QEMU does not: nobody has to come for the guest to write again.
#[tokio::test]
async fn frozen_file_systems_are_let_go_when_nothing_can_be_undone() {
    let backend = backend(Power::Running).await;
    let taken = first_call(&backend, &Op::quiesced("s"), "disks.snapshot").await;
    backend.faults().clear();
    backend.faults().plan(taken, Fault::Lost(Moment::Before));
    let unseen = Unseen(&backend);
    let ports = Ports { guest: &unseen, ..backend.ports() };
    let error = Op::quiesced("s").run_with(&ports, &backend.domain()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RecoveryPending, "{}", told(&error));
    assert!(!backend.is_held());
    recover(&backend.ports(), &backend.domain()).await.unwrap();
    assert!(!backend.store().records(FakeBackend::UUID).contains_key(&name("s")));
}

/// Frozen file systems are let go, whatever the snapshot comes to.
#[tokio::test]
async fn quiescing_is_recorded_and_always_undone() {
    let backend = backend(Power::Running).await;
    Op::quiesced("s").run(&backend).await.unwrap();
    let record = backend.store().records(FakeBackend::UUID)[&name("s")].clone();
    assert_eq!(record.meta.unwrap().consistency, Consistency::FileSystem);
    assert!(!backend.is_held());
    // A failed thaw is a warning on a good snapshot.
    let thaw = first_call(&backend, &Op::quiesced("t"), "agent.thaw").await;
    backend.faults().clear();
    backend.faults().plan(thaw, Fault::Refused);
    backend.faults().plan(thaw + 1, Fault::Refused);
    let warnings = Op::quiesced("t").run(&backend).await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("fsfreeze --unfreeze")), "{warnings:?}");
    assert!(
        warnings.iter().any(|warning| warning.contains("recover, or the next operation")),
        "{warnings:?}"
    );
    assert!(backend.is_held(), "it could not be let go");
    // Which recovery does.
    backend.faults().clear();
    let recovered = recover(&backend.ports(), &backend.domain()).await.unwrap();
    assert_eq!(recovered.map(|recovered| recovered.outcome), Some(Outcome::Completed));
    assert!(!backend.is_held());
    assert!(backend.store().records(FakeBackend::UUID).contains_key(&name("t")));
    // A guest that does not run cannot be asked.
    backend.pause();
    let warnings = Op::quiesced("u").run(&backend).await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("not frozen")), "{warnings:?}");
}
