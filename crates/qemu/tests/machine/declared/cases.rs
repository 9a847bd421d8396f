//! Each operation, in each way, of a domain that runs, is paused or off.

use serde_json::json;
use xlsnap_orchestrator::{Memory, Outcome, RevertRequest, Run};
use xlsnap_testkit::real::qemu_img;
use xlsnap_types::model::MemoryWay;

use super::operation::{Op, name};
use super::world::{Before, World};
use crate::save::files;

async fn creations_and_deletions(before: Before) {
    let world = World::new(before).await;
    world.check(&Op::create("s")).await;
    if before != Before::Off {
        world.settle().await;
        for way in world.machine.survey(None).await.unwrap().ways {
            world.check(&Op::memory(&format!("m-{}", way.word()), way)).await;
        }
        world.check(&Op::delete("m-internal", false)).await;
    }
    world.check(&Op::delete("s", false)).await;
    world.check(&Op::delete("b", false)).await;
    world.check(&Op::delete("a", true)).await;
    world.check(&Op::external("e", &["vda", "vdb"])).await;
    world.check(&Op::external("mixed", &["vdb"])).await;
    world.check(&Op::create("inside-overlays")).await;
    world.check(&Op::delete("inside-overlays", false)).await;
}

#[tokio::test]
async fn of_creations_and_deletions_while_it_runs() {
    creations_and_deletions(Before::Running).await;
}

#[tokio::test]
async fn of_creations_and_deletions_while_it_is_paused() {
    creations_and_deletions(Before::Paused).await;
}

#[tokio::test]
async fn of_creations_and_deletions_while_it_is_off() {
    creations_and_deletions(Before::Off).await;
}

async fn reverts(before: Before) {
    let world = World::new(before).await;
    for op in [
        Op::revert("a"),
        Op::revert_to("a", Run::Waits),
        Op::revert_to("a", Run::Runs),
        Op::revert("b"),
        Op::revert_to("b", Run::Waits),
        Op::revert("c"),
        Op::revert_to("c", Run::Waits),
        Op::safe_revert("a", "before-a"),
        Op::safe_revert("b", "before-b"),
        Op::safe_revert("c", "before-c"),
    ] {
        world.check(&op).await;
    }
    if before != Before::Off {
        world.check(&Op::offline_revert("a")).await;
    }
}

#[tokio::test]
async fn of_reverts_while_it_runs() {
    reverts(Before::Running).await;
}

#[tokio::test]
async fn of_reverts_while_it_is_paused() {
    reverts(Before::Paused).await;
}

#[tokio::test]
async fn of_reverts_while_it_is_off() {
    reverts(Before::Off).await;
}

#[tokio::test]
async fn of_a_revert_that_drops_bitmaps() {
    for before in [Before::Running, Before::Off] {
        let world = World::new(before).await;
        world.settle().await;
        if before == Before::Off {
            let file = &world.rig.described.disks()[0].file;
            qemu_img(&["bitmap", "--add", "-f", "qcow2", file, "kept"]);
        } else {
            let bitmap = json!({"node": "vda", "name": "kept", "persistent": true});
            world.rig.monitor().must("block-dirty-bitmap-add", bitmap);
        }
        world.check(&Op::Revert(RevertRequest { drop_bitmaps: true, ..RevertRequest::new(name("a")) })).await;
    }
}

#[tokio::test]
async fn of_recoveries() {
    let mut world = World::new(Before::Running).await;
    for way in files() {
        // Memory in a file is whole only when the record is to be stored.
        let op = Op::memory(&format!("m-{}", way.word()), way);
        assert_eq!(world.check_recovery(&op, "take ").await, Outcome::Undone, "{way:?}");
    }
    for (op, step) in [
        (Op::create("s"), "take "),
        (Op::memory("i", MemoryWay::Internal), "take "),
        (Op::revert("a"), "give the domain's process"),
        (Op::revert("a"), "reset the guest"),
        (Op::revert("b"), "start the domain with the memory"),
        (Op::revert("a"), "remove the mark"),
        (Op::delete("a", true), "delete the internal snapshot"),
    ] {
        world.check_recovery(&op, step).await;
    }
}
