//! Memory, and reverts of a domain that runs.

use xlsnap_orchestrator::{
    CreateRequest, DeleteRequest, GuestState, Kind, MemoryPlace, MemoryRequest, RevertRequest, RevertWay, Run,
};
use xlsnap_types::model::{MemoryWay, StateFlags};

use super::layers::external;
use super::*;

fn with_memory(given: &str, memory: MemoryRequest) -> CreateRequest {
    CreateRequest { memory: Some(memory), ..named(given) }
}

/// Whether the guest runs; `None` when it is off.
async fn runs(backend: &impl Backend) -> Option<bool> {
    match backend.ports().guest.state().await.expect("the guest's state can be told") {
        GuestState::On(StateFlags { paused, .. }) => Some(!paused),
        GuestState::Off | GuestState::Serving => None,
    }
}

async fn back(
    backend: &impl Backend,
    request: &RevertRequest,
) -> Result<xlsnap_orchestrator::RevertReport, Error> {
    xlsnap_orchestrator::revert(&backend.ports(), &backend.domain(), request, id()).await
}

async fn size(backend: &impl Backend, file: &str) -> Option<u64> {
    let ports = backend.ports();
    let files = ports.memory_files.get().expect("a backend with a machine has memory files");
    files.size(file).await.expect("a file can be looked for")
}

/// In every way that the backend has, memory and disks are saved and come back, and the guest runs on both times.
pub async fn memory_goes_to_a_file_and_comes_back<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(&make, &two_disks()).await;
    if !backend.capabilities().machine {
        let before = everything(&mut backend).await;
        let error = create(&backend, &with_memory("s1", MemoryRequest::default()))
            .await
            .expect_err("there is no machine");
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        assert_eq!(everything(&mut backend).await, before);
        return;
    }
    let survey =
        backend.ports().memory.get().expect("it has a machine").survey(None).await.expect("it can be told");
    let ways: Vec<MemoryWay> = survey.ways.into_iter().filter(|way| *way != MemoryWay::Internal).collect();
    assert!(!ways.is_empty(), "a machine can save its memory: {:?}", survey.lacking);
    for (at, way) in ways.into_iter().enumerate() {
        let (old, new) =
            (u8::try_from(at).expect("few ways") * 2 + 1, u8::try_from(at).expect("few ways") * 2 + 2);
        let given = way.word();
        write_all(&mut backend, old).await;
        let request = with_memory(given, MemoryRequest { way: Some(way), ..MemoryRequest::default() });
        let report = create(&backend, &request).await.unwrap_or_else(|e| panic!("{given}: {}", told(&e)));
        assert!(report.pause.is_some(), "{given}: the guest ran, so it stood still");
        assert_eq!(runs(&backend).await, Some(true), "{given}");
        let memory = report.record.meta.and_then(|meta| meta.memory).expect("memory is recorded");
        assert_eq!(memory.way(), way);
        let file = memory.file().expect("it is in a file");
        assert_eq!(size(&backend, file).await, Some(memory.bytes), "{given}");
        write_all(&mut backend, new).await;
        assert_reads(&mut backend, new).await;
        let report = back(&backend, &RevertRequest::new(name(given))).await;
        let report = report.unwrap_or_else(|e| panic!("{given}: {}", told(&e)));
        assert_eq!(report.way.word(), "restore", "{given}");
        assert_eq!(runs(&backend).await, Some(true), "{given}");
        assert_reads(&mut backend, old).await;
        assert_eq!(current(&backend).await.as_deref(), Some(given));
    }
    assert_settled(&backend).await;
}

/// Memory inside the images comes back too, where the backend has that.
pub async fn memory_goes_inside_and_comes_back<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(&make, &two_disks()).await;
    if !backend.capabilities().machine {
        return;
    }
    write_all(&mut backend, 1).await;
    let inside = MemoryRequest { place: MemoryPlace::Inside, ..MemoryRequest::default() };
    create(&backend, &with_memory("s1", inside)).await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(runs(&backend).await, Some(true));
    assert!(rows(&backend).await[0].memory);
    write_all(&mut backend, 2).await;
    let report =
        back(&backend, &RevertRequest::new(name("s1"))).await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(report.way.word(), "load");
    assert_eq!(runs(&backend).await, Some(true));
    assert_reads(&mut backend, 1).await;
    assert_settled(&backend).await;
}

/// The disks, or one of them, write to other files since: what they left is copied, with the memory inside it, and stays as it is.
pub async fn memory_inside_a_left_image_comes_back<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    for left in [&["vda", "vdb"][..], &["vda"], &["vdb"]] {
        let mut backend = begin(&make, &two_disks()).await;
        if !backend.capabilities().machine || !backend.capabilities().external {
            return;
        }
        write_all(&mut backend, 1).await;
        let inside = MemoryRequest { place: MemoryPlace::Inside, ..MemoryRequest::default() };
        create(&backend, &with_memory("s1", inside)).await.unwrap_or_else(|e| panic!("{}", told(&e)));
        write_all(&mut backend, 2).await;
        create(&backend, &external("e1", left)).await.unwrap_or_else(|e| panic!("{}", told(&e)));
        for content in [3, 4] {
            write_all(&mut backend, content).await;
            // Once from a guest that runs, once from a domain that is off.
            if content == 4 {
                off(&mut backend).await;
            }
            let report = back(&backend, &RevertRequest::new(name("s1"))).await;
            let report = report.unwrap_or_else(|e| panic!("{left:?}: {}", told(&e)));
            assert_eq!(report.way.word(), "load", "{left:?}");
            assert_eq!(runs(&backend).await, Some(true), "{left:?}");
            assert_reads(&mut backend, 1).await;
            for disk in left {
                assert_eq!(tags(&backend, disk).await, Vec::<String>::new(), "{left:?}: {disk}");
            }
            assert_settled(&backend).await;
        }
        // What it was taken from is there as before, and both go.
        let report = back(&backend, &RevertRequest::new(name("e1"))).await;
        report.unwrap_or_else(|e| panic!("{left:?}: {}", told(&e)));
        assert_reads(&mut backend, 2).await;
        for given in ["s1", "e1"] {
            let request = DeleteRequest::new(name(given));
            let deleted =
                xlsnap_orchestrator::delete(&backend.ports(), &backend.domain(), &request, id()).await;
            deleted.unwrap_or_else(|e| panic!("{left:?} {given}: {}", told(&e)));
            assert_reads(&mut backend, 2).await;
        }
        assert_settled(&backend).await;
    }
}

/// A guest that is off has no memory to save.
pub async fn memory_of_a_domain_that_is_off_is_refused<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = make(&two_disks()).await;
    let before = everything(&mut backend).await;
    let error = create(&backend, &with_memory("s1", MemoryRequest::default())).await.expect_err("it is off");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(told(&error).contains("off"), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
}

/// A file that is there belongs to another program.
pub async fn a_memory_file_is_never_made_over_a_file<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(&make, &two_disks()).await;
    if !backend.capabilities().machine {
        return;
    }
    let file = backend.foreign_memory_file().await;
    let before = everything(&mut backend).await;
    let memory = MemoryRequest { place: MemoryPlace::File(file.clone()), ..MemoryRequest::default() };
    let error = create(&backend, &with_memory("s1", memory)).await.expect_err("a file is there");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(told(&error).contains(&file), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
    assert_eq!(runs(&backend).await, Some(true));
}

/// A memory file in which a byte has changed is found before anything is lost.
pub async fn a_spoilt_memory_file_changes_nothing<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(&make, &two_disks()).await;
    if !backend.capabilities().machine {
        return;
    }
    let report = create(&backend, &with_memory("s1", MemoryRequest::default())).await;
    let report = report.unwrap_or_else(|e| panic!("{}", told(&e)));
    write_all(&mut backend, 2).await;
    let file = report.record.snapshot.memory.expect("it is in a file");
    backend.spoil(&file).await;
    let before = everything(&mut backend).await;
    let error = back(&backend, &RevertRequest::new(name("s1"))).await.expect_err("the memory file is spoilt");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(told(&error).contains(&file), "{}", told(&error));
    assert_eq!(everything(&mut backend).await, before);
    assert_eq!(runs(&backend).await, Some(true));
    assert_settled(&backend).await;
}

/// The memory goes with its snapshot.
pub async fn a_deletion_takes_the_memory_file<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let backend = begin(&make, &two_disks()).await;
    if !backend.capabilities().machine {
        return;
    }
    let report = create(&backend, &with_memory("s1", MemoryRequest::default())).await;
    let report = report.unwrap_or_else(|e| panic!("{}", told(&e)));
    let file = report.record.snapshot.memory.expect("it is in a file");
    let request = DeleteRequest::new(name("s1"));
    let deleted = xlsnap_orchestrator::delete(&backend.ports(), &backend.domain(), &request, id()).await;
    deleted.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(size(&backend, &file).await, None);
    assert!(tags(&backend, "vda").await.is_empty());
    assert_settled(&backend).await;
}

/// The disks of a domain that runs come back under it, and it runs on; ending and starting it is the other way.
pub async fn a_domain_that_runs_is_reverted<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(&make, &two_disks()).await;
    if !backend.capabilities().machine {
        return;
    }
    write_all(&mut backend, 1).await;
    created(&backend, "s1").await;
    write_all(&mut backend, 2).await;
    let report =
        back(&backend, &RevertRequest::new(name("s1"))).await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(report.way, RevertWay::Release { run: Run::Runs });
    assert!(report.warnings.iter().any(|warning| warning.contains("reset")), "{:?}", report.warnings);
    assert_eq!(runs(&backend).await, Some(true));
    assert_reads(&mut backend, 1).await;

    write_all(&mut backend, 3).await;
    let offline = RevertRequest { offline: true, run: Some(Run::Waits), ..RevertRequest::new(name("s1")) };
    let report = back(&backend, &offline).await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(report.way, RevertWay::Restart { run: Run::Waits });
    assert_eq!(runs(&backend).await, Some(false));
    assert_reads(&mut backend, 1).await;
    assert_settled(&backend).await;
}

/// A guest that was paused when its memory was saved is paused afterwards, and again after the revert.
pub async fn a_paused_guest_stays_paused<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(&make, &two_disks()).await;
    if !backend.capabilities().machine {
        return;
    }
    backend.pause().await;
    let survey =
        backend.ports().memory.get().expect("it has a machine").survey(None).await.expect("it can be told");
    let request = with_memory("s1", MemoryRequest::default());
    let made = create(&backend, &request).await;
    assert_eq!(runs(&backend).await, Some(false));
    if survey.ways.iter().all(|way| *way == MemoryWay::Internal) {
        let error = made.expect_err("the backend has no way to leave it paused");
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        return;
    }
    let report = made.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(report.record.snapshot.paused && report.pause.is_none());
    back(&backend, &RevertRequest::new(name("s1"))).await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(runs(&backend).await, Some(false));
    assert_settled(&backend).await;
}
