//! Each operation, in each way, of a domain that runs, is paused or off.

use serde_json::json;
use xlsnap_orchestrator::{Memory, Outcome, RevertRequest, Run};
use xlsnap_testkit::real::qemu_img;
use xlsnap_types::model::MemoryWay;

use super::backend::{Backend, Before};
use super::operation::{Op, name};
use crate::save::files;

async fn creations_and_deletions(before: Before) {
    let backend = Backend::new(before).await;
    backend.check(&Op::create("s")).await;
    if before != Before::Off {
        backend.settle().await;
        for way in backend.machine.survey(None).await.unwrap().ways {
            backend.check(&Op::memory(&format!("m-{}", way.word()), way)).await;
        }
        backend.check(&Op::delete("m-internal", false)).await;
    }
    backend.check(&Op::delete("s", false)).await;
    backend.check(&Op::delete("b", false)).await;
    backend.check(&Op::delete("a", true)).await;
    backend.check(&Op::external("e", &["vda", "vdb"])).await;
    backend.check(&Op::external("mixed", &["vdb"])).await;
    backend.check(&Op::create("inside-overlays")).await;
    backend.check(&Op::delete("inside-overlays", false)).await;
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

const BOTH: [&str; 2] = ["vda", "vdb"];

/// Three external snapshots, a mixed one, and reverts to them.
async fn layers_gone_back_to(before: Before) {
    let backend = Backend::new(before).await;
    for given in ["e1", "e2", "e3"] {
        backend.check(&Op::external(given, &BOTH)).await;
    }
    backend.check(&Op::external("mixed", &["vdb"])).await;
    backend.check(&Op::revert("mixed")).await;
    for given in ["e1", "e3", "e1", "e2"] {
        backend.check(&Op::revert(given)).await;
    }
    backend.check(&Op::revert_to("e3", Run::Waits)).await;
    if before != Before::Off {
        backend.check(&Op::offline_revert("e1")).await;
        backend.check(&Op::revert("e2")).await;
    }
}

/// A leaf, a middle one, the root and the current one, in the chain that QEMU has open and beside it.
async fn layers_deleted(before: Before) {
    let backend = Backend::new(before).await;
    for given in ["e1", "e2", "e3", "e4", "e5"] {
        backend.check(&Op::external(given, &BOTH)).await;
    }
    // Inside the domain's own images, which QEMU has open below the others.
    backend.check(&Op::delete("a", false)).await;
    // A branch: e4 and e5 are on layers that QEMU does not have open then.
    backend.check(&Op::revert("e3")).await;
    backend.check(&Op::external("f", &BOTH)).await;
    backend.check(&Op::delete("e4", false)).await;
    backend.check(&Op::delete("e2", false)).await;
    backend.check(&Op::delete("f", false)).await;
    backend.check(&Op::delete("e1", false)).await;
    backend.check(&Op::delete("e5", false)).await;
    backend.check(&Op::delete("e3", false)).await;
    // And in a process that opened the chain at its start.
    for given in ["e1", "e2", "e3"] {
        backend.check(&Op::external(given, &["vda"])).await;
    }
    if before != Before::Off {
        backend.check(&Op::offline_revert("e3")).await;
        backend.check(&Op::delete("e2", false)).await;
        backend.check(&Op::delete("e1", true)).await;
    }
}

/// In the chain that QEMU has open, with layers below that go, and beside it.
async fn disks_flattened(before: Before) {
    let backend = Backend::new(before).await;
    for given in ["e1", "e2"] {
        backend.check(&Op::external(given, &BOTH)).await;
    }
    backend.check(&Op::flatten(&["vda"], None)).await;
    backend.check(&Op::external("e3", &BOTH)).await;
    backend.check(&Op::flatten(&[], Some(1))).await;
    backend.check(&Op::revert("e3")).await;
    backend.check(&Op::flatten(&[], None)).await;
    backend.check(&Op::delete("e3", false)).await;
}

#[tokio::test]
async fn of_disks_flattened_while_it_runs() {
    disks_flattened(Before::Running).await;
}

#[tokio::test]
async fn of_disks_flattened_while_it_is_paused() {
    disks_flattened(Before::Paused).await;
}

#[tokio::test]
async fn of_disks_flattened_while_it_is_off() {
    disks_flattened(Before::Off).await;
}

#[tokio::test]
async fn of_recoveries_of_flattenings() {
    for before in [Before::Running, Before::Paused] {
        let mut backend = Backend::new(before).await;
        backend.check(&Op::external("e1", &BOTH)).await;
        for (step, next) in
            [("copy into", "e2"), ("note in the ledger", "e3"), ("make an empty overlay", "e5")]
        {
            backend.check_recovery(&Op::flatten(&[], None), step).await;
            backend.check(&Op::external(next, &BOTH)).await;
        }
    }
}

#[tokio::test]
async fn of_recoveries_of_deletions_inside_layers() {
    for before in [Before::Running, Before::Paused] {
        let mut backend = Backend::new(before).await;
        backend.check(&Op::external("e", &BOTH)).await;
        backend.check_recovery(&Op::delete("a", false), "delete the internal snapshot").await;
        backend.check_recovery(&Op::delete("c", false), "give the domain's process").await;
        backend.check(&Op::delete("e", false)).await;
    }
}

#[tokio::test]
async fn of_layers_gone_back_to_while_it_runs() {
    layers_gone_back_to(Before::Running).await;
}

#[tokio::test]
async fn of_layers_gone_back_to_while_it_is_paused() {
    layers_gone_back_to(Before::Paused).await;
}

#[tokio::test]
async fn of_layers_gone_back_to_while_it_is_off() {
    layers_gone_back_to(Before::Off).await;
}

#[tokio::test]
async fn of_layers_deleted_while_it_runs() {
    layers_deleted(Before::Running).await;
}

#[tokio::test]
async fn of_layers_deleted_while_it_is_paused() {
    layers_deleted(Before::Paused).await;
}

#[tokio::test]
async fn of_layers_deleted_while_it_is_off() {
    layers_deleted(Before::Off).await;
}

/// New files under the names of the images: taken, gone back to, deleted.
async fn names_kept(before: Before) {
    let backend = Backend::new(before).await;
    for given in ["e1", "e2", "e3"] {
        backend.check(&Op::kept(given, &BOTH)).await;
    }
    backend.check(&Op::kept("mixed", &["vdb"])).await;
    for given in ["mixed", "e1", "e3", "e2"] {
        backend.check(&Op::revert(given)).await;
    }
    if before != Before::Off {
        backend.settle().await;
        let ways = backend.machine.survey(None).await.unwrap().ways;
        for way in ways.into_iter().filter(|way| *way != MemoryWay::Internal) {
            backend.check(&Op::kept_memory(&format!("m-{}", way.word()), way)).await;
            backend.check(&Op::delete(&format!("m-{}", way.word()), false)).await;
        }
        backend.check(&Op::offline_revert("e3")).await;
    }
    for given in ["e2", "e3", "e1"] {
        backend.check(&Op::delete(given, false)).await;
    }
}

#[tokio::test]
async fn of_names_kept_while_it_runs() {
    names_kept(Before::Running).await;
}

#[tokio::test]
async fn of_names_kept_while_it_is_paused() {
    names_kept(Before::Paused).await;
}

#[tokio::test]
async fn of_names_kept_while_it_is_off() {
    names_kept(Before::Off).await;
}

/// Left at each step, as a crash leaves it.
#[tokio::test]
async fn of_recoveries_of_names() {
    let mut backend = Backend::new(Before::Running).await;
    for (op, step, outcome) in [
        (Op::kept("s2", &BOTH), "make the domain's process close", Outcome::Undone),
        (Op::kept("s3", &BOTH), "give the new file of disk vda", Outcome::Undone),
        (Op::kept("s4", &BOTH), "give the new file of disk vdb", Outcome::Undone),
        (Op::kept("s5", &BOTH), "make the domain's process write disk vda", Outcome::Undone),
        (Op::kept("s6", &BOTH), "let the guest run", Outcome::Completed),
        (Op::kept("s7", &BOTH), "store the record", Outcome::Completed),
        (Op::revert("s6"), "give the new file of disk vdb", Outcome::Undone),
        (Op::revert("s6"), "reset the guest", Outcome::Undone),
        (Op::delete("s7", false), "make the domain's process close", Outcome::Completed),
    ] {
        assert_eq!(backend.check_recovery(&op, step).await, outcome, "{op:?} {step}");
    }
}

async fn orphans(before: Before) {
    let backend = Backend::new(before).await;
    for given in ["a", "b", "c"] {
        backend.check(&Op::forget(given)).await;
        backend.check(&Op::adopt(given)).await;
        backend.check(&Op::revert(given)).await;
        backend.check(&Op::forget(given)).await;
        backend.check(&Op::delete_orphan(given)).await;
    }
    let file = backend.rig.scratch.path("saves").join("b.save");
    backend.check(&Op::delete_orphan(file.to_str().unwrap())).await;
}

#[tokio::test]
async fn of_orphans_while_it_runs() {
    orphans(Before::Running).await;
}

#[tokio::test]
async fn of_orphans_while_it_is_off() {
    orphans(Before::Off).await;
}

async fn reverts(before: Before) {
    let backend = Backend::new(before).await;
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
        backend.check(&op).await;
    }
    if before != Before::Off {
        backend.check(&Op::offline_revert("a")).await;
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
        let backend = Backend::new(before).await;
        backend.settle().await;
        if before == Before::Off {
            let file = &backend.rig.described.disks()[0].file;
            qemu_img(&["bitmap", "--add", "-f", "qcow2", file, "kept"]);
        } else {
            let bitmap = json!({"node": "vda", "name": "kept", "persistent": true});
            backend.rig.monitor().must("block-dirty-bitmap-add", bitmap);
        }
        backend
            .check(&Op::Revert(RevertRequest { drop_bitmaps: true, ..RevertRequest::new(name("a")) }))
            .await;
    }
}

#[tokio::test]
async fn of_recoveries() {
    let mut backend = Backend::new(Before::Running).await;
    for way in files() {
        // Memory in a file is whole only when the record is to be stored.
        let op = Op::memory(&format!("m-{}", way.word()), way);
        assert_eq!(backend.check_recovery(&op, "take ").await, Outcome::Undone, "{way:?}");
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
        backend.check_recovery(&op, step).await;
    }
}
