//! Deletion.

use xlsnap_orchestrator::{DeleteReport, DeleteRequest, Kind, delete};

use super::*;

fn request(given: &str) -> DeleteRequest {
    DeleteRequest::new(name(given))
}

async fn deleted(backend: &impl Backend, request: &DeleteRequest) -> DeleteReport {
    let done = delete(&backend.ports(), &backend.domain(), request, id()).await;
    done.unwrap_or_else(|e| panic!("snapshot {} is not deleted: {}", request.name, told(&e)))
}

/// The data in the other snapshots and in the disks stays.
pub async fn a_deletion_takes_it_from_every_disk<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    write_all(&mut backend, 1).await;
    created(&backend, "s1").await;
    created(&backend, "s2").await;
    let report = deleted(&backend, &request("s2")).await;
    assert_eq!(report.deleted, [name("s2")]);
    for found in ["vda", "vdb"] {
        assert_eq!(tags(&backend, found).await, ["s1"]);
    }
    assert_eq!(listed(&backend).await, ["s1"]);
    assert_eq!(current(&backend).await.as_deref(), Some("s1"), "the parent is the current one now");
    assert_reads(&mut backend, 1).await;
    assert_settled(&backend).await;
}

/// Another program deleted it from one image.
pub async fn a_deletion_counts_a_missing_one_as_done<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    created(&backend, "s1").await;
    off(&mut backend).await;
    backend.foreign_deletion(&disk("vda"), "s1").await;
    on(&mut backend).await;
    let report = deleted(&backend, &request("s1")).await;
    assert!(report.warnings.iter().any(|warning| warning.contains("vda")), "{:?}", report.warnings);
    assert!(tags(&backend, "vdb").await.is_empty());
    assert!(listed(&backend).await.is_empty());
    assert_eq!(current(&backend).await, None);
}

/// There is no such snapshot.
pub async fn a_deletion_of_nothing_is_not_found<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let backend = begin(make, &two_disks()).await;
    let error =
        delete(&backend.ports(), &backend.domain(), &request("s1"), id()).await.expect_err("there is none");
    assert_eq!(error.kind(), Kind::NotFound, "{}", told(&error));
    assert_settled(&backend).await;
}

/// Descendants go first, and nothing else.
pub async fn a_deletion_with_children_takes_the_branch<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let backend = begin(make, &two_disks()).await;
    for given in ["a", "b", "c"] {
        created(&backend, given).await;
    }
    let report = deleted(&backend, &DeleteRequest { children: true, ..request("b") }).await;
    assert_eq!(report.deleted, [name("c"), name("b")]);
    assert_eq!(listed(&backend).await, ["a"]);
    assert_eq!(tags(&backend, "vdb").await, ["a"]);
    assert_eq!(current(&backend).await.as_deref(), Some("a"));
}

/// The tree stays whole.
pub async fn a_deletion_leaves_children_to_their_grandparent<W: Backend>(
    make: impl AsyncFn(&[TestDisk]) -> W,
) {
    let backend = begin(make, &two_disks()).await;
    for given in ["a", "b", "c"] {
        created(&backend, given).await;
    }
    deleted(&backend, &request("b")).await;
    let rows = rows(&backend).await;
    let seen: Vec<_> =
        rows.iter().map(|row| (row.name.as_str(), row.parent.as_ref().map(|p| p.as_str()))).collect();
    assert_eq!(seen, [("a", None), ("c", Some("a"))]);
    assert_eq!(current(&backend).await.as_deref(), Some("c"));
}
