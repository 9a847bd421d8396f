//! Reverts.

use xlsnap_orchestrator::{Error, Kind, RevertReport, RevertRequest, revert};

use super::*;

fn request(given: &str) -> RevertRequest {
    RevertRequest::new(name(given))
}

async fn reverting(world: &impl World, request: &RevertRequest) -> Result<RevertReport, Error> {
    revert(&world.ports(), &world.domain(), request, id()).await
}

async fn reverted(world: &impl World, request: &RevertRequest) -> RevertReport {
    let done = reverting(world, request).await;
    done.unwrap_or_else(|e| panic!("no revert to {}: {}", request.name, told(&e)))
}

/// On every disk.
pub async fn a_revert_brings_the_old_data_back<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    write_all(&mut world, 1).await;
    created(&world, "s1").await;
    write_all(&mut world, 2).await;
    off(&mut world).await;
    let report = reverted(&world, &request("s1")).await;
    assert_eq!(report.disks, [disk("vda"), disk("vdb")]);
    assert_reads(&mut world, 1).await;
    on(&mut world).await;
    assert_reads(&mut world, 1).await;
    assert_eq!(listed(&world).await, ["s1"]);
    assert_settled(&world).await;
}

/// And from there to the second again: neither is lost by going to the other.
pub async fn a_revert_goes_to_the_first_of_two<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    for (given, pattern) in [("s1", 1), ("s2", 2)] {
        write_all(&mut world, pattern).await;
        created(&world, given).await;
    }
    write_all(&mut world, 3).await;
    off(&mut world).await;
    for (given, pattern) in [("s1", 1), ("s2", 2), ("s1", 1)] {
        reverted(&world, &request(given)).await;
        assert_reads(&mut world, pattern).await;
        assert_eq!(current(&world).await.as_deref(), Some(given));
    }
    created(&world, "s3").await;
    let parent =
        rows(&world).await.into_iter().find(|row| row.name.as_str() == "s3").and_then(|row| row.parent);
    assert_eq!(parent, Some(name("s1")), "a new branch begins where the domain is");
}

/// Nothing happens to a domain that runs and whose process nobody can handle; one that nobody runs is reverted at once. With a
/// process that can be handled see `a_domain_that_runs_is_reverted`.
pub async fn a_revert_of_a_running_domain_is_refused<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    write_all(&mut world, 1).await;
    created(&world, "s1").await;
    write_all(&mut world, 2).await;
    if world.capabilities().machine {
        return;
    }
    if !world.capabilities().live {
        reverted(&world, &request("s1")).await;
        return assert_reads(&mut world, 1).await;
    }
    let before = everything(&mut world).await;
    let error = reverting(&world, &request("s1")).await.expect_err("it runs");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.advice().is_some_and(|advice| advice.contains("first")), "{}", told(&error));
    assert_eq!(everything(&mut world).await, before);
}

/// What was there before the revert can be had back.
pub async fn a_revert_keeps_now_under_a_safety_name<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    write_all(&mut world, 1).await;
    created(&world, "s1").await;
    write_all(&mut world, 2).await;
    off(&mut world).await;
    let safe = RevertRequest { safety: Some(name("safe")), ..request("s1") };
    let report = reverted(&world, &safe).await;
    assert!(report.safety.is_some());
    assert_reads(&mut world, 1).await;
    assert_eq!(current(&world).await.as_deref(), Some("s1"));
    reverted(&world, &request("safe")).await;
    assert_reads(&mut world, 2).await;
}

/// One image lost it: no disk is touched.
pub async fn a_revert_without_its_snapshot_changes_nothing<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    write_all(&mut world, 1).await;
    created(&world, "s1").await;
    write_all(&mut world, 2).await;
    off(&mut world).await;
    world.stranger_deletes(&disk("vdb"), "s1").await;
    let before = everything(&mut world).await;
    let error = reverting(&world, &request("s1")).await.expect_err("one image lost it");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.to_string().contains("vdb"), "{}", told(&error));
    assert_eq!(everything(&mut world).await, before);
}
