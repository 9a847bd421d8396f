//! Deletion.

use xlsnap_orchestrator::{DeleteReport, DeleteRequest, Kind, delete};

use super::*;

fn request(given: &str) -> DeleteRequest {
    DeleteRequest { name: name(given), children: false, metadata_only: false }
}

async fn deleted(world: &impl World, request: &DeleteRequest) -> DeleteReport {
    let done = delete(&world.ports(), &world.domain(), request, id()).await;
    done.unwrap_or_else(|e| panic!("snapshot {} is not deleted: {}", request.name, told(&e)))
}

/// The data in the other snapshots and in the disks stays.
pub async fn a_deletion_takes_it_from_every_disk<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    write_all(&mut world, 1).await;
    created(&world, "s1").await;
    created(&world, "s2").await;
    let report = deleted(&world, &request("s2")).await;
    assert_eq!(report.deleted, [name("s2")]);
    for found in ["vda", "vdb"] {
        assert_eq!(tags(&world, found).await, ["s1"]);
    }
    assert_eq!(listed(&world).await, ["s1"]);
    assert_eq!(current(&world).await.as_deref(), Some("s1"), "the parent is the current one now");
    assert_reads(&mut world, 1).await;
    assert_settled(&world).await;
}

/// Somebody took it from one image.
pub async fn a_deletion_counts_a_missing_one_as_done<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    created(&world, "s1").await;
    off(&mut world).await;
    world.stranger_deletes(&disk("vda"), "s1").await;
    on(&mut world).await;
    let report = deleted(&world, &request("s1")).await;
    assert!(report.warnings.iter().any(|warning| warning.contains("vda")), "{:?}", report.warnings);
    assert!(tags(&world, "vdb").await.is_empty());
    assert!(listed(&world).await.is_empty());
    assert_eq!(current(&world).await, None);
}

/// There is no such snapshot.
pub async fn a_deletion_of_nothing_is_not_found<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let world = begin(make, &two_disks()).await;
    let error =
        delete(&world.ports(), &world.domain(), &request("s1"), id()).await.expect_err("there is none");
    assert_eq!(error.kind(), Kind::NotFound, "{}", told(&error));
    assert_settled(&world).await;
}

/// Descendants go first, and nothing else.
pub async fn a_deletion_with_children_takes_the_branch<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let world = begin(make, &two_disks()).await;
    for given in ["a", "b", "c"] {
        created(&world, given).await;
    }
    let report = deleted(&world, &DeleteRequest { children: true, ..request("b") }).await;
    assert_eq!(report.deleted, [name("c"), name("b")]);
    assert_eq!(listed(&world).await, ["a"]);
    assert_eq!(tags(&world, "vdb").await, ["a"]);
    assert_eq!(current(&world).await.as_deref(), Some("a"));
}

/// The tree stays whole.
pub async fn a_deletion_leaves_children_to_their_grandparent<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let world = begin(make, &two_disks()).await;
    for given in ["a", "b", "c"] {
        created(&world, given).await;
    }
    deleted(&world, &request("b")).await;
    let rows = rows(&world).await;
    let seen: Vec<_> =
        rows.iter().map(|row| (row.name.as_str(), row.parent.as_ref().map(|p| p.as_str()))).collect();
    assert_eq!(seen, [("a", None), ("c", Some("a"))]);
    assert_eq!(current(&world).await.as_deref(), Some("c"));
}
