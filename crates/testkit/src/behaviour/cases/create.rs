//! Creation of internal snapshots.

use xlsnap_orchestrator::{CreateRequest, Kind, Ports, Selection, plan_create, recover};
use xlsnap_orchestrator::{Operation, Outcome};
use xlsnap_types::model::Consistency;

use super::*;
use crate::behaviour::Interrupted;

/// All writable disks are taken, the record is there, and the domain goes on.
pub async fn a_snapshot_takes_every_disk<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    write_all(&mut world, 1).await;
    let report = created(&world, "s1").await;
    assert!(report.passed_over.is_empty() && report.recovered.is_none(), "{report:?}");
    assert!(
        report.reversibility.revert.is_possible() && report.reversibility.delete.is_possible(),
        "{report:?}"
    );
    for found in ["vda", "vdb"] {
        assert_eq!(tags(&world, found).await, ["s1"]);
    }
    assert_eq!(listed(&world).await, ["s1"]);
    assert_eq!(current(&world).await.as_deref(), Some("s1"));
    assert_reads(&mut world, 1).await;
    write_all(&mut world, 2).await;
    assert_reads(&mut world, 2).await;
    assert_settled(&world).await;
}

/// The record holds each disk's image, id and size, and the state before.
pub async fn the_record_says_what_was_taken<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let world = begin(make, &two_disks()).await;
    created(&world, "parent").await;
    let request = CreateRequest {
        description: "said so".to_owned(),
        labels: [("by".to_owned(), "a case".to_owned())].into(),
        expires: Some(7),
        ..named("s1")
    };
    let report = create(&world, &request).await.expect("it is made");
    let record =
        world.ports().store.load(world.domain().uuid, &name("s1")).await.expect("the record is there");
    assert_eq!(record, report.record, "what is stored is what was reported");
    assert_eq!(record.snapshot.description.as_deref(), Some("said so"));
    let meta = record.meta.expect("our records have it");
    assert_eq!(meta.parent, Some(name("parent")));
    assert_eq!((meta.labels.get("by").map(String::as_str), meta.expires), (Some("a case"), Some(7)));
    let running = world.capabilities().live;
    assert_eq!(meta.consistency, if running { Consistency::Crash } else { Consistency::Offline });
    let inventory = inventory(&world).await;
    assert_eq!(meta.disks.len(), inventory.disks.len());
    for (kept, found) in meta.disks.iter().zip(&inventory.disks) {
        assert_eq!(
            (&kept.disk, &kept.image, kept.virtual_size),
            (&found.name, &found.image, found.virtual_size)
        );
        let inside = found.snapshots.iter().find(|s| s.name == "s1").expect("it is in the image");
        assert_eq!(kept.id.as_deref(), Some(inside.id.as_str()));
        assert_eq!(kept.made, None);
    }
}

/// By creation time, then by name; each has the one before it as its parent.
pub async fn snapshots_are_listed_in_order<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let world = begin(make, &two_disks()).await;
    for given in ["a", "b", "c"] {
        created(&world, given).await;
    }
    let rows = rows(&world).await;
    let seen: Vec<_> =
        rows.iter().map(|row| (row.name.as_str(), row.parent.as_ref().map(|p| p.as_str()))).collect();
    assert_eq!(seen, [("a", None), ("b", Some("a")), ("c", Some("b"))]);
    assert!(rows.iter().all(|row| (row.internal, row.external, row.memory) == (2, 0, false)), "{rows:?}");
}

/// The store knows the name.
pub async fn a_second_of_the_same_name_is_refused<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    created(&world, "s1").await;
    let before = everything(&mut world).await;
    let error = create(&world, &named("s1")).await.expect_err("the name is taken");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(told(&error).contains("s1"), "{}", told(&error));
    assert_eq!(everything(&mut world).await, before);
}

/// One image knows the name, from somebody else: it is named.
pub async fn a_name_in_one_image_only_is_refused<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = make(&two_disks()).await;
    world.stranger_creates(&disk("vdb"), "s1").await;
    on(&mut world).await;
    let before = everything(&mut world).await;
    let error = create(&world, &named("s1")).await.expect_err("the name is in an image");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(told(&error).contains("vdb") && !told(&error).contains("vda)"), "{}", told(&error));
    assert_eq!(everything(&mut world).await, before);
}

/// `qemu-img snapshot -a` takes an id for one before it takes a name for one.
pub async fn a_name_that_is_an_id_is_refused<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    created(&world, "s1").await;
    let before = everything(&mut world).await;
    let taken = before.inventory.disks[0].snapshots[0].id.clone();
    let error = create(&world, &named(&taken)).await.expect_err("the name is an id");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert_eq!(everything(&mut world).await, before);
}

/// It is not left out in silence.
pub async fn a_raw_disk_is_refused_by_name<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &[test_disk("vda", DiskKind::Qcow2), test_disk("vdr", DiskKind::Raw)]).await;
    let before = everything(&mut world).await;
    let error = create(&world, &named("s1")).await.expect_err("a raw disk takes none");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.to_string().contains("vdr"), "{}", told(&error));
    assert!(error.advice().is_some_and(|advice| advice.contains("exclude")), "{}", told(&error));
    assert_eq!(everything(&mut world).await, before);
}

/// Then the others are taken, and the report says which was not.
pub async fn a_raw_disk_can_be_excluded<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let world = begin(make, &[test_disk("vda", DiskKind::Qcow2), test_disk("vdr", DiskKind::Raw)]).await;
    let report = create(&world, &excluding("s1", "vdr")).await.expect("the other disk is taken");
    let passed: Vec<_> = report.passed_over.iter().map(|p| p.disk.as_str()).collect();
    assert_eq!(passed, ["vdr"]);
    assert_eq!(tags(&world, "vda").await, ["s1"]);
}

/// Nobody has to exclude it.
pub async fn a_read_only_disk_is_passed_over<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let world = begin(make, &[test_disk("vda", DiskKind::Qcow2), test_disk("vdo", DiskKind::ReadOnly)]).await;
    let report = created(&world, "s1").await;
    let passed: Vec<_> = report.passed_over.iter().map(|p| p.disk.as_str()).collect();
    assert_eq!(passed, ["vdo"]);
    assert_eq!(tags(&world, "vda").await, ["s1"]);
    assert!(tags(&world, "vdo").await.is_empty());
}

/// The error lists the disks that there are.
pub async fn an_unknown_disk_is_refused<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    let before = everything(&mut world).await;
    let selection = Selection { only: [disk("vdz")].into(), ..Selection::default() };
    let error =
        create(&world, &CreateRequest { selection, ..named("s1") }).await.expect_err("there is no such disk");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.advice().is_some_and(|advice| advice.contains("vda, vdb")), "{}", told(&error));
    assert_eq!(everything(&mut world).await, before);
}

/// It names each image.
pub async fn a_dry_run_changes_nothing<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    let before = everything(&mut world).await;
    let plan =
        plan_create(&world.ports(), &world.domain(), &named("s1"), id()).await.expect("it can be planned");
    let actions = plan.actions();
    for found in &before.inventory.disks {
        let touched = actions.iter().any(|action| action.touches.as_deref() == Some(found.image.as_str()));
        assert!(touched, "{} is not named: {actions:?}", found.image);
    }
    assert_eq!(everything(&mut world).await, before);
}

/// Some disks have it, and whoever asked is gone: recovery takes it away again.
pub async fn a_torn_creation_is_undone<W: World>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut world = begin(make, &two_disks()).await;
    write_all(&mut world, 1).await;
    let before = everything(&mut world).await;
    interrupt(&world, &named("s1"), 1).await;
    assert_eq!((tags(&world, "vda").await.len(), tags(&world, "vdb").await.len()), (1, 0), "it is torn");
    let recovered =
        recover(&world.ports(), &world.domain()).await.expect("it recovers").expect("something was left");
    assert_eq!((recovered.operation, recovered.outcome), (Operation::Create, Outcome::Undone));
    assert_eq!(everything(&mut world).await, before);
    assert!(
        recover(&world.ports(), &world.domain()).await.expect("it recovers").is_none(),
        "nothing is left"
    );
}

/// Every disk has it, and whoever asked is gone: the next operation stores the record first.
pub async fn a_creation_cut_short_after_its_effect_is_completed<W: World>(
    make: impl AsyncFn(&[TestDisk]) -> W,
) {
    let world = begin(make, &two_disks()).await;
    interrupt(&world, &named("s1"), 2).await;
    assert!(listed(&world).await.is_empty(), "no record is there yet");
    let report = created(&world, "s2").await;
    let recovered = report.recovered.expect("the first was completed");
    assert_eq!((recovered.name.as_str(), recovered.outcome), ("s1", Outcome::Completed));
    assert_eq!(listed(&world).await, ["s1", "s2"]);
    assert_eq!(tags(&world, "vda").await, ["s1", "s2"]);
    assert_settled(&world).await;
}

/// Creates, with the disks gone after `taken` of them: it can neither finish nor undo.
pub(super) async fn interrupt(world: &impl World, request: &CreateRequest, taken: usize) {
    let ports = world.ports();
    let disks = Interrupted::after(ports.disks, taken);
    let ports = Ports { disks: &disks, ..ports };
    let error = xlsnap_orchestrator::create(&ports, &world.domain(), request, id()).await;
    let error = error.expect_err("it is interrupted");
    assert_eq!(error.kind(), Kind::RecoveryPending, "{}", told(&error));
}
