//! Checks.

use xlsnap_orchestrator::{CheckReport, CheckRequest, check};

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
