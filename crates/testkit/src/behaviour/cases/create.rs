//! Creation of internal snapshots.

use xlsnap_orchestrator::{CreateRequest, Kind, Ports, Selection, plan_create, planned_stages, recover};
use xlsnap_orchestrator::{Operation, Outcome};
use xlsnap_types::model::Consistency;

use super::*;
use crate::behaviour::{Capabilities, Interrupted};

/// All writable disks are taken, the record is there, and the domain goes on.
pub async fn a_snapshot_takes_every_disk<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    write_all(&mut backend, 1).await;
    let report = created(&backend, "s1").await;
    assert!(report.passed_over.is_empty() && report.recovered.is_none(), "{report:?}");
    assert!(report.reversibility.delete.is_possible(), "{report:?}");
    // Where something has the disks that can neither let go of them nor be ended, there is no way back now.
    let Capabilities { live, machine, .. } = backend.capabilities();
    assert!(report.reversibility.revert.is_possible() || (live && !machine), "{report:?}");
    for found in ["vda", "vdb"] {
        assert_eq!(tags(&backend, found).await, ["s1"]);
    }
    assert_eq!(listed(&backend).await, ["s1"]);
    assert_eq!(current(&backend).await.as_deref(), Some("s1"));
    assert_reads(&mut backend, 1).await;
    write_all(&mut backend, 2).await;
    assert_reads(&mut backend, 2).await;
    assert_settled(&backend).await;
}

/// The record holds each disk's image, id and size, and the state before.
pub async fn the_record_says_what_was_taken<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let backend = begin(make, &two_disks()).await;
    created(&backend, "parent").await;
    let request = CreateRequest {
        description: "said so".to_owned(),
        labels: [("by".to_owned(), "a case".to_owned())].into(),
        expires: Some(7),
        ..named("s1")
    };
    let report = create(&backend, &request).await.expect("it is made");
    let record =
        backend.ports().store.load(backend.domain().uuid, &name("s1")).await.expect("the record is there");
    assert_eq!(record, report.record, "what is stored is what was reported");
    assert_eq!(record.snapshot.description.as_deref(), Some("said so"));
    let meta = record.meta.expect("our records have it");
    assert_eq!(meta.parent, Some(name("parent")));
    assert_eq!((meta.labels.get("by").map(String::as_str), meta.expires), (Some("a case"), Some(7)));
    let running = backend.capabilities().live;
    assert_eq!(meta.consistency, if running { Consistency::Crash } else { Consistency::Offline });
    let inventory = inventory(&backend).await;
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
pub async fn snapshots_are_listed_in_order<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let backend = begin(make, &two_disks()).await;
    for given in ["a", "b", "c"] {
        created(&backend, given).await;
    }
    let rows = rows(&backend).await;
    let seen: Vec<_> =
        rows.iter().map(|row| (row.name.as_str(), row.parent.as_ref().map(|p| p.as_str()))).collect();
    assert_eq!(seen, [("a", None), ("b", Some("a")), ("c", Some("b"))]);
    assert!(rows.iter().all(|row| (row.internal, row.external, row.memory) == (2, 0, false)), "{rows:?}");
}

/// The store knows the name.
pub async fn a_second_of_the_same_name_is_refused<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    created(&backend, "s1").await;
    let before = everything(&mut backend).await;
    let error = create(&backend, &named("s1")).await.expect_err("the name is taken");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(told(&error).contains("s1"), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
}

/// One image has the name already, by another program: the image is named.
pub async fn a_name_in_one_image_only_is_refused<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = make(&two_disks()).await;
    backend.foreign_snapshot(&disk("vdb"), "s1").await;
    on(&mut backend).await;
    let before = everything(&mut backend).await;
    let error = create(&backend, &named("s1")).await.expect_err("the name is in an image");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(told(&error).contains("vdb") && !told(&error).contains("vda)"), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
}

/// `qemu-img snapshot -a` takes an id for one before it takes a name for one.
pub async fn a_name_that_is_an_id_is_refused<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    created(&backend, "s1").await;
    let before = everything(&mut backend).await;
    let taken = before.inventory.disks[0].snapshots[0].id.clone();
    let error = create(&backend, &named(&taken)).await.expect_err("the name is an id");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
}

/// It is not left out in silence.
pub async fn a_raw_disk_is_refused_by_name<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend =
        begin(make, &[test_disk("vda", DiskKind::Qcow2), test_disk("vdr", DiskKind::Raw)]).await;
    let before = everything(&mut backend).await;
    let error = create(&backend, &named("s1")).await.expect_err("a raw disk takes none");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.to_string().contains("vdr"), "{}", told(&error));
    assert!(error.advice().is_some_and(|advice| advice.contains("exclude")), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
}

/// Then the others are taken, and the report says which was not.
pub async fn a_raw_disk_can_be_excluded<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let backend = begin(make, &[test_disk("vda", DiskKind::Qcow2), test_disk("vdr", DiskKind::Raw)]).await;
    let report = create(&backend, &excluding("s1", "vdr")).await.expect("the other disk is taken");
    let passed: Vec<_> = report.passed_over.iter().map(|p| p.disk.as_str()).collect();
    assert_eq!(passed, ["vdr"]);
    assert_eq!(tags(&backend, "vda").await, ["s1"]);
}

/// It need not be excluded.
pub async fn a_read_only_disk_is_passed_over<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let backend =
        begin(make, &[test_disk("vda", DiskKind::Qcow2), test_disk("vdo", DiskKind::ReadOnly)]).await;
    let report = created(&backend, "s1").await;
    let passed: Vec<_> = report.passed_over.iter().map(|p| p.disk.as_str()).collect();
    assert_eq!(passed, ["vdo"]);
    assert_eq!(tags(&backend, "vda").await, ["s1"]);
    assert!(tags(&backend, "vdo").await.is_empty());
}

/// The error lists the disks that there are.
pub async fn an_unknown_disk_is_refused<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    let before = everything(&mut backend).await;
    let selection = Selection { only: [disk("vdz")].into(), ..Selection::default() };
    let error = create(&backend, &CreateRequest { selection, ..named("s1") })
        .await
        .expect_err("there is no such disk");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.advice().is_some_and(|advice| advice.contains("vda, vdb")), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
}

/// It names each image, where the backend tells its commands.
pub async fn a_dry_run_changes_nothing<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    let before = everything(&mut backend).await;
    let plan = plan_create(&backend.ports(), &backend.domain(), &named("s1"), id())
        .await
        .expect("it can be planned");
    let stages = planned_stages(backend.ports().commands, &plan.stages).await.expect("it can be told");
    let told = backend.ports().commands.get().is_some();
    for found in before.inventory.disks.iter().filter(|_| told) {
        let touched = stages
            .iter()
            .flat_map(|stage| &stage.commands)
            .any(|command| command.files.contains(&found.image));
        assert!(touched, "{} is not named: {stages:?}", found.image);
    }
    assert_eq!(everything(&mut backend).await, before);
}

/// Some disks have it, and the process that asked is gone: recovery takes it away again.
pub async fn a_torn_creation_is_undone<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    write_all(&mut backend, 1).await;
    let before = everything(&mut backend).await;
    interrupt(&backend, &named("s1"), 1).await;
    assert_eq!((tags(&backend, "vda").await.len(), tags(&backend, "vdb").await.len()), (1, 0), "it is torn");
    let recovered =
        recover(&backend.ports(), &backend.domain()).await.expect("it recovers").expect("something was left");
    assert_eq!((recovered.operation, recovered.outcome), (Operation::Create, Outcome::Undone));
    assert_eq!(everything(&mut backend).await, before);
    assert!(
        recover(&backend.ports(), &backend.domain()).await.expect("it recovers").is_none(),
        "nothing is left"
    );
}

/// Every disk has it, and the process that asked is gone: the next operation stores the record first.
pub async fn a_creation_cut_short_after_its_effect_is_completed<W: Backend>(
    make: impl AsyncFn(&[TestDisk]) -> W,
) {
    let backend = begin(make, &two_disks()).await;
    interrupt(&backend, &named("s1"), 2).await;
    assert!(listed(&backend).await.is_empty(), "no record is there yet");
    let report = created(&backend, "s2").await;
    let recovered = report.recovered.expect("the first was completed");
    assert_eq!((recovered.name.as_str(), recovered.outcome), ("s1", Outcome::Completed));
    assert_eq!(listed(&backend).await, ["s1", "s2"]);
    assert_eq!(tags(&backend, "vda").await, ["s1", "s2"]);
    assert_settled(&backend).await;
}

/// Creates, and is gone after `taken` of the disks, as by a crash: it neither finishes nor undoes.
pub(super) async fn interrupt(backend: &impl Backend, request: &CreateRequest, taken: usize) {
    let ports = backend.ports();
    let disks = Interrupted::after(ports.disks, taken);
    let (ports, domain) = (Ports { disks: &disks, ..ports }, backend.domain());
    tokio::select! {
        ended = xlsnap_orchestrator::create(&ports, &domain, request, id()) => {
            panic!("it is not interrupted: {ended:?}");
        }
        () = disks.gone() => {}
    }
}
