//! Reverts.

use xlsnap_orchestrator::{Error, Kind, RevertReport, RevertRequest, revert};

use super::*;

fn request(given: &str) -> RevertRequest {
    RevertRequest::new(name(given))
}

async fn reverting(backend: &impl Backend, request: &RevertRequest) -> Result<RevertReport, Error> {
    revert(&backend.ports(), &backend.domain(), request, id()).await
}

async fn reverted(backend: &impl Backend, request: &RevertRequest) -> RevertReport {
    let done = reverting(backend, request).await;
    done.unwrap_or_else(|e| panic!("no revert to {}: {}", request.name, told(&e)))
}

/// On every disk.
pub async fn a_revert_brings_the_old_data_back<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    write_all(&mut backend, 1).await;
    created(&backend, "s1").await;
    write_all(&mut backend, 2).await;
    off(&mut backend).await;
    let report = reverted(&backend, &request("s1")).await;
    assert_eq!(report.disks, [disk("vda"), disk("vdb")]);
    assert_reads(&mut backend, 1).await;
    on(&mut backend).await;
    assert_reads(&mut backend, 1).await;
    assert_eq!(listed(&backend).await, ["s1"]);
    assert_settled(&backend).await;
}

/// And from there to the second again: neither is lost by going to the other.
pub async fn a_revert_goes_to_the_first_of_two<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    for (given, pattern) in [("s1", 1), ("s2", 2)] {
        write_all(&mut backend, pattern).await;
        created(&backend, given).await;
    }
    write_all(&mut backend, 3).await;
    off(&mut backend).await;
    for (given, pattern) in [("s1", 1), ("s2", 2), ("s1", 1)] {
        reverted(&backend, &request(given)).await;
        assert_reads(&mut backend, pattern).await;
        assert_eq!(current(&backend).await.as_deref(), Some(given));
    }
    created(&backend, "s3").await;
    let parent =
        rows(&backend).await.into_iter().find(|row| row.name.as_str() == "s3").and_then(|row| row.parent);
    assert_eq!(parent, Some(name("s1")), "a new branch begins where the domain is");
}

/// Nothing happens to a domain that runs and whose process the backend cannot handle; one that is off is reverted at once. With a
/// process that can be handled see `a_domain_that_runs_is_reverted`.
pub async fn a_revert_of_a_running_domain_is_refused<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    write_all(&mut backend, 1).await;
    created(&backend, "s1").await;
    write_all(&mut backend, 2).await;
    if backend.capabilities().machine {
        return;
    }
    if !backend.capabilities().live {
        reverted(&backend, &request("s1")).await;
        return assert_reads(&mut backend, 1).await;
    }
    let before = everything(&mut backend).await;
    let error = reverting(&backend, &request("s1")).await.expect_err("it runs");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.advice().is_some_and(|advice| advice.contains("first")), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
}

/// What was there before the revert can be had back.
pub async fn a_revert_keeps_now_under_a_safety_name<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    write_all(&mut backend, 1).await;
    created(&backend, "s1").await;
    write_all(&mut backend, 2).await;
    off(&mut backend).await;
    let safe = RevertRequest { safety: Some(name("safe")), ..request("s1") };
    let report = reverted(&backend, &safe).await;
    assert!(report.safety.is_some());
    assert_reads(&mut backend, 1).await;
    assert_eq!(current(&backend).await.as_deref(), Some("s1"));
    reverted(&backend, &request("safe")).await;
    assert_reads(&mut backend, 2).await;
}

/// One image lost it: no disk is touched.
pub async fn a_revert_without_its_snapshot_changes_nothing<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    write_all(&mut backend, 1).await;
    created(&backend, "s1").await;
    write_all(&mut backend, 2).await;
    off(&mut backend).await;
    backend.foreign_deletion(&disk("vdb"), "s1").await;
    let before = everything(&mut backend).await;
    let error = reverting(&backend, &request("s1")).await.expect_err("one image lost it");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.to_string().contains("vdb"), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
}
