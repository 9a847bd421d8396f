//! The sweep of what is done to a guest as a whole: memory, frozen file systems, and reverts of a domain that runs.

use std::time::Duration;

use uuid::Uuid;
use xlsnap_orchestrator::{
    Abilities, Effect, GuestState, Interrupt, Kind, Memory, MemorySave, MemorySurvey, PortError, Ports,
    Progress, SavedMemory, SnapshotAction, async_trait, create, recover, recover_without_memory,
};
use xlsnap_testkit::fake::{FakeWorld, Fault, Moment};
use xlsnap_types::model::{Consistency, MemoryWay};

use crate::common::{Op, assert_whole, name, see, told};
use crate::sweep::{Power, sweep_from, write};

/// Three disks that read 4, with the disk-only snapshot a (1), b (2) with memory in a file, and c (3) with memory inside.
async fn world(power: Power) -> FakeWorld {
    let world = FakeWorld::qcow2(&["vda", "vdb", "vdc"]).with_machine();
    world.start();
    for (content, op) in [
        (1, Op::create("a")),
        (2, Op::memory("b", MemoryWay::Background)),
        (3, Op::memory("c", MemoryWay::Internal)),
    ] {
        write(&world, content);
        op.run(&world).await.unwrap();
    }
    write(&world, 4);
    world.power(power.guest());
    world.faults().clear();
    world
}

async fn sweep(power: Power, op: &Op, between: &[Op]) {
    sweep_from(&format!("{power:?}"), &world(power).await, op, between).await;
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
    sweep(Power::Off, &Op::revert_to("a", true), &[]).await;
}

#[tokio::test]
async fn revert_with_memory_from_a_file() {
    for power in [Power::Running, Power::Off] {
        sweep(power, &Op::revert("b"), &[]).await;
    }
    sweep(Power::Running, &Op::revert_to("b", false), &[]).await;
}

#[tokio::test]
async fn revert_with_memory_from_inside() {
    for power in [Power::Running, Power::Off] {
        sweep(power, &Op::revert("c"), &[]).await;
    }
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
    let world = world(Power::Running).await;
    for (given, content) in [("b", 2), ("c", 3), ("a", 1), ("b", 2)] {
        Op::revert(given).run(&world).await.unwrap();
        let seen = see(&world);
        assert!(seen.contents.values().all(|read| *read == content), "{given}: {:?}", seen.contents);
        assert!(seen.agrees && world.runs(), "{given}");
    }
}

/// A memory that is lost between a revert that was cut short and its recovery keeps nobody from the disks.
#[tokio::test]
async fn a_revert_is_finished_without_its_memory() {
    let world = world(Power::Running).await;
    let calls = {
        let clean = world.fork();
        Op::revert("b").run(&clean).await.unwrap();
        clean.faults().calls()
    };
    let restoring = calls.iter().position(|call| call.method == "power.restore").unwrap();
    world.faults().plan(restoring, Fault::Crash(Moment::Before));
    Op::revert("b").run(&world).await.unwrap_err();
    world.restart();
    world.lose_memory_file("/saves/b.save");
    let error = recover(&world.ports(), &world.domain()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RecoveryPending);
    assert!(error.advice().is_some_and(|advice| advice.contains("without the memory")), "{error}");
    let recovered = recover_without_memory(&world.ports(), &world.domain()).await.unwrap().unwrap();
    assert!(!recovered.warnings.is_empty());
    assert_eq!(world.guest_state(), GuestState::Off);
    assert!(see(&world).contents.values().all(|read| *read == 2));
    Op::delete("b").run(&world).await.unwrap();
    assert_whole(&world, "without memory").await;
}

/// What a domain cannot do is found before anything is lost, and named.
#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let world = world(Power::Running).await;
    let before = see(&world);
    world.abilities(|abilities| {
        abilities.no_restart = Some("its file does not say how".to_owned());
        abilities.no_release = Some("it is too old".to_owned());
        abilities.no_load = Some("a job goes on".to_owned());
    });
    for (op, why) in [
        (Op::revert("a"), "too old"),
        (Op::offline_revert("a"), "not wanted"),
        (Op::revert("b"), "does not say how"),
        (Op::revert("c"), "a job goes on"),
    ] {
        let error = op.run(&world).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        assert!(told(&error).contains(why) && error.advice().is_some(), "{}", told(&error));
        assert_eq!(see(&world), before);
    }
    world.abilities(|abilities| *abilities = Abilities::default());
    world.abilities(|abilities| abilities.hypervisor.machine = Some("pc-q35-7.2".to_owned()));
    world.change_record("b", |meta| meta.hypervisor.machine = Some("pc-q35-10.0".to_owned()));
    let error = Op::revert("b").run(&world).await.unwrap_err();
    assert!(told(&error).contains("pc-q35-7.2") && told(&error).contains("pc-q35-10.0"), "{}", told(&error));
    world.abilities(|abilities| abilities.hypervisor.machine = None);
    world.abilities(|abilities| abilities.hypervisor.qemu = Some("7.2.22".to_owned()));
    world.change_record("b", |meta| meta.hypervisor.qemu = Some("10.0.2".to_owned()));
    let error = Op::revert("b").run(&world).await.unwrap_err();
    assert!(told(&error).contains("older"), "{}", told(&error));
    assert_eq!(see(&world), before);
    world.abilities(|abilities| abilities.hypervisor.qemu = Some("10.1.0".to_owned()));
    Op::revert("b").run(&world).await.unwrap();
}

/// Somebody who wants it to end early gets everything as it was.
#[tokio::test]
async fn an_interrupt_undoes_a_long_step() {
    struct Now;
    #[async_trait]
    impl Interrupt for Now {
        async fn requested(&self) {}
    }
    let world = world(Power::Running).await;
    let before = see(&world);
    // The world in memory answers at once, so that the step has to wait for the interrupt to come first.
    let slow = Slow(&world);
    let ports = Ports { interrupt: Some(&Now), memory: Some(&slow), ..world.ports() };
    let Op::Create(request) = Op::memory("s", MemoryWay::Background) else { unreachable!() };
    let error = create(&ports, &world.domain(), &request, Uuid::from_u128(7)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Failed, Effect::None), "{}", told(&error));
    assert!(told(&error).contains("interrupted"), "{}", told(&error));
    assert_eq!(see(&world), before);
}

/// A memory whose file is never finished.
struct Slow<'a>(&'a FakeWorld);

#[async_trait]
impl Memory for Slow<'_> {
    async fn survey(&self, file: Option<&str>) -> Result<MemorySurvey, PortError> {
        self.0.survey(file).await
    }
    async fn begin(&self, save: &MemorySave, progress: &dyn Progress) -> Result<(), PortError> {
        self.0.begin(save, progress).await
    }
    async fn resume(&self, save: &MemorySave, progress: &dyn Progress) -> Result<Duration, PortError> {
        self.0.resume(save, progress).await
    }
    async fn finish(&self, _: &MemorySave, _: &dyn Progress) -> Result<SavedMemory, PortError> {
        std::future::pending().await
    }
    async fn take_inside(
        &self,
        save: &MemorySave,
        actions: &[SnapshotAction],
        progress: &dyn Progress,
    ) -> Result<Duration, PortError> {
        self.0.take_inside(save, actions, progress).await
    }
    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError> {
        self.0.abandon(save).await
    }
}

/// Frozen file systems are let go, whatever the snapshot comes to.
#[tokio::test]
async fn quiescing_is_recorded_and_always_undone() {
    let world = world(Power::Running).await;
    Op::quiesced("s").run(&world).await.unwrap();
    let record = world.store().records(FakeWorld::UUID)[&name("s")].clone();
    assert_eq!(record.meta.unwrap().consistency, Consistency::FileSystem);
    assert!(!world.is_held());
    // A failed thaw is a warning on a good snapshot.
    let calls = {
        let clean = world.fork();
        clean.faults().clear();
        Op::quiesced("t").run(&clean).await.unwrap();
        clean.faults().calls()
    };
    let thaw = calls.iter().position(|call| call.method == "agent.thaw").unwrap();
    world.faults().clear();
    world.faults().plan(thaw, Fault::Refused);
    world.faults().plan(thaw + 1, Fault::Refused);
    let warnings = Op::quiesced("t").run(&world).await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("let go")), "{warnings:?}");
    // A guest that does not run cannot be asked.
    world.pause();
    let warnings = Op::quiesced("u").run(&world).await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("not frozen")), "{warnings:?}");
}
