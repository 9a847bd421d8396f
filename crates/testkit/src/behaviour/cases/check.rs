//! Checks.

use xlsnap_orchestrator::{
    AdoptRequest, CheckReport, CheckRequest, DeleteRequest, OrphanRequest, RevertRequest, Session, check,
};

use super::*;

async fn checked(backend: &impl Backend, repair: bool) -> CheckReport {
    let done =
        check(&backend.ports(), &backend.domain(), &CheckRequest { repair, ..CheckRequest::default() }).await;
    done.unwrap_or_else(|e| panic!("no check: {}", told(&e)))
}

/// After a usual life.
pub async fn a_check_of_a_sound_domain_finds_nothing<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let backend = begin(make, &two_disks()).await;
    created(&backend, "s1").await;
    created(&backend, "s2").await;
    assert_eq!(checked(&backend, false).await, CheckReport::default());
}

/// It names what is missing and what no record names, and a repair takes neither away.
pub async fn a_check_finds_what_others_did<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    created(&backend, "s1").await;
    off(&mut backend).await;
    backend.foreign_deletion(&disk("vda"), "s1").await;
    backend.foreign_snapshot(&disk("vdb"), "theirs").await;
    on(&mut backend).await;
    for repair in [false, true] {
        let report = checked(&backend, repair).await;
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|f| (f.code.as_str(), f.disk.as_ref().map(|d| d.as_str()), f.snapshot.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                ("snapshot-missing-in-image", Some("vda"), Some("s1")),
                ("orphan-in-image", Some("vdb"), Some("theirs")),
            ]
        );
        assert!(report.unmended());
    }
    assert_eq!(tags(&backend, "vdb").await, ["s1", "theirs"], "what is foreign stays");
    assert_eq!(listed(&backend).await, ["s1"]);
}

/// A snapshot that another program made of both disks gets a record, and goes as any other; one that is not wanted is deleted.
pub async fn what_others_made_is_adopted_and_deleted<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    off(&mut backend).await;
    for (at, byte) in [("vda", 1), ("vdb", 2)] {
        backend.write(&disk(at), byte).await;
        backend.foreign_snapshot(&disk(at), "theirs").await;
        backend.write(&disk(at), 7).await;
    }
    backend.foreign_snapshot(&disk("vdb"), "not wanted").await;
    on(&mut backend).await;
    {
        let (ports, domain) = (backend.ports(), backend.domain());
        let session = Session::open(ports.store, ports.clock, &domain, "adopt").await.expect("it is free");
        let theirs = AdoptRequest { name: name("theirs"), disks: [].into() };
        let adopted = session.adopt(&ports, &theirs, id()).await;
        let adopted = adopted.unwrap_or_else(|e| panic!("it is not adopted: {}", told(&e)));
        assert_eq!(adopted.record.snapshot.disks.len(), 2);
        let orphan = OrphanRequest { orphan: "not wanted".to_owned(), disks: [].into() };
        let deleted = session.delete_orphan(&ports, &orphan, id()).await;
        let deleted = deleted.unwrap_or_else(|e| panic!("it is not deleted: {}", told(&e)));
        assert_eq!(deleted.disks.len(), 1);
    }
    assert_eq!(checked(&backend, false).await, CheckReport::default());
    assert_eq!(listed(&backend).await, ["theirs"]);
    off(&mut backend).await;
    let request = RevertRequest::new(name("theirs"));
    let reverted = xlsnap_orchestrator::revert(&backend.ports(), &backend.domain(), &request, id()).await;
    reverted.unwrap_or_else(|e| panic!("it is not reverted to: {}", told(&e)));
    assert_eq!((backend.read(&disk("vda")).await, backend.read(&disk("vdb")).await), (1, 2));
    let request = DeleteRequest::new(name("theirs"));
    let deleted = xlsnap_orchestrator::delete(&backend.ports(), &backend.domain(), &request, id()).await;
    deleted.unwrap_or_else(|e| panic!("it is not deleted: {}", told(&e)));
    assert!(tags(&backend, "vda").await.is_empty() && tags(&backend, "vdb").await.is_empty());
}
