//! The sweep of what is done to a guest as a whole: memory, frozen file systems, and reverts of a domain that runs.

use xlsnap_testkit::fake::FakeWorld;
use xlsnap_types::model::MemoryWay;

use crate::common::{Op, see};
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
