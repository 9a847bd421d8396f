//! Checks.

use xlsnap_orchestrator::{CheckReport, CheckRequest, check};

use super::*;

async fn checked(world: &impl World, repair: bool) -> CheckReport {
    let done = check(&world.ports(), &world.domain(), &CheckRequest { repair }).await;
    done.unwrap_or_else(|e| panic!("no check: {}", told(&e)))
}

/// After a usual life.
pub async fn a_check_of_a_sound_domain_finds_nothing<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let world = begin(make, &two_disks()).await;
    created(&world, "s1").await;
    created(&world, "s2").await;
    assert_eq!(checked(&world, false).await, CheckReport::default());
}

/// It names what is missing and what nobody knows, and a repair takes neither away.
pub async fn a_check_finds_what_others_did<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    created(&world, "s1").await;
    off(&mut world).await;
    world.stranger_deletes(&disk("vda"), "s1").await;
    world.stranger_creates(&disk("vdb"), "theirs").await;
    on(&mut world).await;
    for repair in [false, true] {
        let report = checked(&world, repair).await;
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|f| (f.code, f.disk.as_ref().map(|d| d.as_str()), f.snapshot.as_deref()))
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
    assert_eq!(tags(&world, "vdb").await, ["s1", "theirs"], "what is a stranger's stays");
    assert_eq!(listed(&world).await, ["s1"]);
}
