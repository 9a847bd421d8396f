//! External snapshots, their whole life: gone back to, and deleted wherever they are.

use std::collections::BTreeMap;

use xlsnap_orchestrator::{
    Below, DeleteRequest, DiskChoice, FlattenRequest, GuestState, Kind, RevertRequest, delete, flatten,
    revert,
};
use xlsnap_types::model::ImageFormat;

use super::trees::is_held_below;
use super::*;

/// The byte of the second disk, so that no two are taken for each other.
fn other(byte: u8) -> u8 {
    byte + 100
}

pub(super) async fn write_both(backend: &mut impl Backend, byte: u8) {
    backend.write(&disk("vda"), byte).await;
    backend.write(&disk("vdb"), other(byte)).await;
}

pub(super) async fn assert_both_read(backend: &mut impl Backend, byte: u8) {
    assert_eq!(backend.read(&disk("vda")).await, byte, "vda");
    assert_eq!(backend.read(&disk("vdb")).await, other(byte), "vdb");
}

pub(super) fn external(given: &str, disks: &[&str]) -> CreateRequest {
    let choice = DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
    CreateRequest { disks: disks.iter().map(|at| (disk(at), choice.clone())).collect(), ..named(given) }
}

pub(super) const BOTH: [&str; 2] = ["vda", "vdb"];

/// The snapshots, and what each holds on vda.
pub(super) type Held = BTreeMap<&'static str, u8>;

async fn taken(backend: &mut impl Backend, held: &mut Held, given: &'static str, disks: &[&str], byte: u8) {
    write_both(backend, byte).await;
    let request = external(given, disks);
    create(backend, &request).await.unwrap_or_else(|e| panic!("snapshot {given} is not made: {}", told(&e)));
    held.insert(given, byte);
}

/// Every snapshot of the domain holds what it held when it was taken, wherever that is now.
pub(super) async fn assert_held(backend: &mut impl Backend, held: &Held, about: &str) {
    let names: Vec<String> = held.keys().map(|name| (*name).to_owned()).collect();
    let mut found = listed(backend).await;
    found.sort();
    assert_eq!(found, names, "{about}");
    for (given, byte) in held {
        let record = backend.ports().store.load(backend.domain().uuid, &name(given)).await;
        let record = record.unwrap_or_else(|e| panic!("{about}: the record of {given}: {e}"));
        let meta = record.meta.expect("it is ours");
        for part in &meta.disks {
            let is_it = |device: &Option<String>| device.as_deref() == Some(part.disk.as_str());
            let found = record.snapshot.disks.iter().find(|found| is_it(&found.device));
            let inside = found.is_some_and(|found| !found.is_external()).then_some(*given);
            let read = backend.read_layer(&part.image, &part.format, inside).await;
            let expected = if part.disk.as_str() == "vda" { *byte } else { other(*byte) };
            assert_eq!(read, expected, "{about}: {given} of disk {} in {}", part.disk, part.image);
        }
    }
    assert_settled(backend).await;
}

/// Goes back; where a domain that runs cannot, that is refused by name, and it is done while it is off.
pub(super) async fn back(backend: &mut impl Backend, given: &str) {
    let request = RevertRequest::new(name(given));
    let capabilities = backend.capabilities();
    if capabilities.live && !capabilities.machine {
        let before = everything(backend).await;
        let error = revert(&backend.ports(), &backend.domain(), &request, id()).await.expect_err("it runs");
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        assert!(error.advice().is_some_and(|advice| advice.contains("first")), "{}", told(&error));
        assert_eq!(everything(backend).await, before);
        off(backend).await;
    }
    let done = revert(&backend.ports(), &backend.domain(), &request, id()).await;
    done.unwrap_or_else(|e| panic!("no revert to {given}: {}", told(&e)));
    assert_settled(backend).await;
    if capabilities.live && !capabilities.machine {
        on(backend).await;
    }
}

pub(super) async fn gone(backend: &mut impl Backend, held: &mut Held, given: &'static str) -> Vec<String> {
    let request = DeleteRequest::new(name(given));
    let stopped = cannot_stop(backend).await;
    if stopped {
        off(backend).await;
    }
    let done = delete(&backend.ports(), &backend.domain(), &request, id()).await;
    let done = done.unwrap_or_else(|e| panic!("snapshot {given} is not deleted: {}", told(&e)));
    held.remove(given);
    if stopped {
        on(backend).await;
    }
    done.warnings
}

/// Whether it has a guest that cannot be stopped: then the layer that takes its writes is merged while it is off.
async fn cannot_stop(backend: &impl Backend) -> bool {
    let ports = backend.ports();
    let state = ports.guest.state().await.expect("the guest can be looked at");
    ports.pause.get().is_none() && state.is_on()
}

/// The images that its disks write to are the domain's own again.
pub(super) async fn images(backend: &impl Backend) -> [String; 2] {
    [image(backend, "vda").await, image(backend, "vdb").await]
}

/// To any of three and from there to any other; what was written since is lost, and no snapshot is.
pub async fn external_snapshots_are_gone_back_to<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    let mut held = Held::new();
    taken(&mut backend, &mut held, "a", &BOTH, 1).await;
    taken(&mut backend, &mut held, "b", &BOTH, 2).await;
    taken(&mut backend, &mut held, "c", &BOTH, 3).await;
    write_both(&mut backend, 9).await;
    for (round, given) in ["a", "c", "b", "b", "a"].into_iter().enumerate() {
        back(&mut backend, given).await;
        assert_both_read(&mut backend, held[given]).await;
        assert_eq!(current(&backend).await.as_deref(), Some(given));
        write_both(&mut backend, 10 + u8::try_from(round).expect("few rounds")).await;
        assert_held(&mut backend, &held, &format!("round {round}")).await;
    }
    off(&mut backend).await;
    on(&mut backend).await;
    assert_both_read(&mut backend, 14).await;
}

/// One disk inside, one outside: back, and from an external one to it while its image takes the writes.
pub async fn a_mixed_snapshot_is_gone_back_to<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    let mut held = Held::new();
    taken(&mut backend, &mut held, "a", &["vdb"], 1).await;
    taken(&mut backend, &mut held, "b", &["vdb"], 2).await;
    write_both(&mut backend, 3).await;
    for given in ["a", "b", "a"] {
        back(&mut backend, given).await;
        assert_both_read(&mut backend, held[given]).await;
        write_both(&mut backend, 4).await;
        assert_held(&mut backend, &held, given).await;
    }
    gone(&mut backend, &mut held, "a").await;
    assert_held(&mut backend, &held, "a is gone").await;
    gone(&mut backend, &mut held, "b").await;
    assert_both_read(&mut backend, 4).await;
}

/// In each order: root, middle and current. In the end the domain's own images have all.
pub async fn external_snapshots_are_deleted_wherever_they_are<W: Backend>(
    make: impl AsyncFn(&[TestDisk]) -> W,
) {
    for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]] {
        let mut backend = begin(&make, &two_disks()).await;
        let own = images(&backend).await;
        let mut held = Held::new();
        taken(&mut backend, &mut held, "a", &BOTH, 1).await;
        taken(&mut backend, &mut held, "b", &BOTH, 2).await;
        taken(&mut backend, &mut held, "c", &BOTH, 3).await;
        write_both(&mut backend, 4).await;
        for given in order {
            let warnings = gone(&mut backend, &mut held, given).await;
            assert!(
                !warnings.iter().any(|warning| warning.contains("stays")),
                "{order:?} {given}: {warnings:?}"
            );
            assert_held(&mut backend, &held, &format!("{order:?} {given}")).await;
            assert_both_read(&mut backend, 4).await;
        }
        assert_eq!(images(&backend).await, own, "{order:?}");
        write_both(&mut backend, 5).await;
        off(&mut backend).await;
        on(&mut backend).await;
        assert_both_read(&mut backend, 5).await;
    }
}

/// A second child of a layer is in no process's chain: it keeps what it is on, and its header follows.
pub async fn a_branch_at_rest_survives_deletions<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    let own = images(&backend).await;
    let mut held = Held::new();
    taken(&mut backend, &mut held, "a", &BOTH, 1).await;
    taken(&mut backend, &mut held, "b", &BOTH, 2).await;
    taken(&mut backend, &mut held, "c", &BOTH, 3).await;
    back(&mut backend, "b").await;
    taken(&mut backend, &mut held, "d", &BOTH, 4).await;
    write_both(&mut backend, 5).await;
    for given in ["b", "a", "c", "d"] {
        gone(&mut backend, &mut held, given).await;
        assert_held(&mut backend, &held, given).await;
        assert_both_read(&mut backend, 5).await;
    }
    assert_eq!(images(&backend).await, own);
    off(&mut backend).await;
    on(&mut backend).await;
    assert_both_read(&mut backend, 5).await;
}

/// What is below a layer with snapshots inside does not change for them; a base with snapshots inside takes what comes down.
pub async fn layers_with_snapshots_inside_stay_what_they_are<W: Backend>(
    make: impl AsyncFn(&[TestDisk]) -> W,
) {
    let mut backend = begin(make, &two_disks()).await;
    let mut held = Held::new();
    taken(&mut backend, &mut held, "in-base", &[], 1).await;
    taken(&mut backend, &mut held, "e1", &BOTH, 2).await;
    taken(&mut backend, &mut held, "e2", &BOTH, 3).await;
    taken(&mut backend, &mut held, "in-upper", &[], 4).await;
    taken(&mut backend, &mut held, "e3", &BOTH, 5).await;
    write_both(&mut backend, 6).await;
    // Down into the base with a snapshot inside.
    let warnings = gone(&mut backend, &mut held, "e1").await;
    assert!(!warnings.iter().any(|warning| warning.contains("stays")), "{warnings:?}");
    assert_held(&mut backend, &held, "e1 is gone").await;
    // Not the layer that has one.
    let warnings = gone(&mut backend, &mut held, "e2").await;
    assert!(warnings.iter().any(|warning| warning.contains("internal snapshots")), "{warnings:?}");
    assert_held(&mut backend, &held, "e2 is gone").await;
    back(&mut backend, "e3").await;
    assert_both_read(&mut backend, 5).await;
    gone(&mut backend, &mut held, "e3").await;
    assert_held(&mut backend, &held, "e3 is gone").await;
    assert_both_read(&mut backend, 5).await;
    // What a frozen layer holds inside is copied out of it.
    off(&mut backend).await;
    back_off(&mut backend, "in-base").await;
    assert_both_read(&mut backend, 1).await;
    assert_held(&mut backend, &held, "in-base is back").await;
    back_off(&mut backend, "in-upper").await;
    assert_both_read(&mut backend, 4).await;
    on(&mut backend).await;
    assert_both_read(&mut backend, 4).await;
}

/// Inside the domain's own image and inside an overlay, below what the disks write to; what stands on these reads what it read.
pub async fn snapshots_inside_frozen_layers_are_deleted<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    for order in [
        ["in-base", "in-upper", "e1", "e2"],
        ["e2", "in-upper", "in-base", "e1"],
        ["e1", "e2", "in-base", "in-upper"],
    ] {
        let mut backend = begin(&make, &two_disks()).await;
        let own = images(&backend).await;
        let mut held = Held::new();
        taken(&mut backend, &mut held, "in-base", &[], 1).await;
        taken(&mut backend, &mut held, "e1", &BOTH, 2).await;
        write_both(&mut backend, 3).await;
        taken(&mut backend, &mut held, "in-upper", &["vdb"], 4).await;
        taken(&mut backend, &mut held, "e2", &BOTH, 5).await;
        write_both(&mut backend, 6).await;
        for given in order {
            let is_refused =
                is_served(&backend).await && is_held_below(&backend, &[given.to_owned()].into()).await;
            if is_refused {
                // A storage daemon cannot let go of a layer that it reads.
                let request = DeleteRequest::new(name(given));
                let error = delete(&backend.ports(), &backend.domain(), &request, id()).await;
                assert_eq!(error.expect_err("it is read").kind(), Kind::Refused, "{order:?} {given}");
            }
            if is_refused || cannot_stop(&backend).await {
                off(&mut backend).await;
                gone(&mut backend, &mut held, given).await;
                on(&mut backend).await;
            } else {
                gone(&mut backend, &mut held, given).await;
            }
            assert_held(&mut backend, &held, &format!("{order:?} {given}")).await;
            assert_both_read(&mut backend, 6).await;
        }
        assert_eq!(images(&backend).await, own, "{order:?}");
        write_both(&mut backend, 7).await;
        off(&mut backend).await;
        on(&mut backend).await;
        assert_both_read(&mut backend, 7).await;
    }
}

/// All disks, or one: what they read stays, every snapshot stays, and nothing of it is below them any more.
pub async fn flattened_disks_stand_on_nothing<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    for only in [None, Some("vda")] {
        let mut backend = begin(&make, &two_disks()).await;
        let mut held = Held::new();
        taken(&mut backend, &mut held, "in-base", &[], 1).await;
        taken(&mut backend, &mut held, "e1", &BOTH, 2).await;
        taken(&mut backend, &mut held, "e2", &BOTH, 3).await;
        write_both(&mut backend, 4).await;
        let tops = images(&backend).await;
        flat(
            &mut backend,
            &FlattenRequest { disks: only.into_iter().map(disk).collect(), ..FlattenRequest::default() },
        )
        .await;
        assert_both_read(&mut backend, 4).await;
        assert_held(&mut backend, &held, "flat").await;
        assert_eq!(base(&backend, "vda").await, Below::Nothing);
        assert_eq!(base(&backend, "vdb").await == Below::Nothing, only.is_none());
        assert_eq!(images(&backend).await, tops);
        write_both(&mut backend, 5).await;
        back(&mut backend, "e1").await;
        assert_both_read(&mut backend, 2).await;
        back(&mut backend, "e2").await;
        assert_both_read(&mut backend, 3).await;
        write_both(&mut backend, 6).await;
        // The older ones go first.
        flat(&mut backend, &FlattenRequest { keep: Some(1), ..FlattenRequest::default() }).await;
        held.retain(|given, _| *given == "e2");
        assert_held(&mut backend, &held, "one is kept").await;
        assert_both_read(&mut backend, 6).await;
        flat(&mut backend, &FlattenRequest { keep: Some(0), ..FlattenRequest::default() }).await;
        held.clear();
        assert_held(&mut backend, &held, "none is kept").await;
        off(&mut backend).await;
        on(&mut backend).await;
        assert_both_read(&mut backend, 6).await;
    }
}

/// What is inside an image is read through it from below: it is refused, and the way out leads out.
pub async fn a_disk_with_snapshots_inside_its_overlay_is_not_flattened<W: Backend>(
    make: impl AsyncFn(&[TestDisk]) -> W,
) {
    let mut backend = begin(make, &two_disks()).await;
    let mut held = Held::new();
    taken(&mut backend, &mut held, "e1", &BOTH, 1).await;
    taken(&mut backend, &mut held, "inside", &["vdb"], 2).await;
    write_both(&mut backend, 3).await;
    off(&mut backend).await;
    let before = everything(&mut backend).await;
    let request = FlattenRequest::default();
    let error = flatten(&backend.ports(), &backend.domain(), &request, id()).await.expect_err("it is pinned");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.advice().is_some_and(|advice| advice.contains("--external vda")), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
    on(&mut backend).await;
    taken(&mut backend, &mut held, "e2", &["vda"], 4).await;
    write_both(&mut backend, 5).await;
    flat(&mut backend, &FlattenRequest { disks: [disk("vda")].into(), ..FlattenRequest::default() }).await;
    assert_held(&mut backend, &held, "flat").await;
    assert_both_read(&mut backend, 5).await;
}

/// Whether a storage daemon has its disks.
async fn is_served(backend: &impl Backend) -> bool {
    backend.ports().guest.state().await.expect("the guest can be looked at") == GuestState::Serving
}

/// Flattens; what a storage daemon has while it is off.
async fn flat(backend: &mut impl Backend, request: &FlattenRequest) {
    let serves = is_served(backend).await;
    if serves && base(backend, "vda").await != Below::Nothing {
        let before = everything(backend).await;
        let error =
            flatten(&backend.ports(), &backend.domain(), request, id()).await.expect_err("it is served");
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        assert_eq!(everything(backend).await, before);
    }
    // What is kept inside the files below cannot be deleted while a guest that cannot be stopped reads them.
    let stops = serves || cannot_stop(backend).await;
    if stops {
        off(backend).await;
    }
    let done = flatten(&backend.ports(), &backend.domain(), request, id()).await;
    done.unwrap_or_else(|e| panic!("{request:?}: {}", told(&e)));
    assert_settled(backend).await;
    if stops {
        on(backend).await;
    }
}

async fn back_off(backend: &mut impl Backend, given: &str) {
    let request = RevertRequest::new(name(given));
    let done = revert(&backend.ports(), &backend.domain(), &request, id()).await;
    done.unwrap_or_else(|e| panic!("no revert to {given}: {}", told(&e)));
}
