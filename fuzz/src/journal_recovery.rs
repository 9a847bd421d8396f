//! Journals of any bytes, and recovery from them.

use futures_util::FutureExt;
use xlsnap_orchestrator::{CreateRequest, GuestState, Journal, Kind, create, recover};
use xlsnap_testkit::fake::FakeBackend;
use xlsnap_types::model::{SnapshotName, StateFlags};

/// Recovers from a journal entry of these bytes, in a domain of two disks and a snapshot `a`, off and running, with a process
/// that can be ended and started and without.
///
/// Promises: no panic; what is no journal is left as it is, and so is everything else; whatever a journal says, each disk
/// keeps an image, and a running guest reads what it wrote, unless its process may be ended or reset for a revert; a second recovery finds nothing to do that the first could.
pub fn journal_recovery(data: &[u8]) {
    for guest in [GuestState::Off, GuestState::On(StateFlags { running: true, ..StateFlags::default() })] {
        recovered(data, guest, FakeBackend::qcow2(&["vda", "vdb"]));
        recovered(data, guest, FakeBackend::qcow2(&["vda", "vdb"]).with_machine());
    }
}

fn recovered(data: &[u8], guest: GuestState, backend: FakeBackend) {
    let request = CreateRequest { name: SnapshotName::new("a").ok(), ..CreateRequest::default() };
    let id = uuid::Uuid::from_u128(1);
    now(create(&backend.ports(), &backend.domain(), &request, id)).expect("a sound backend takes a snapshot");
    backend.power(guest);
    backend.write("vda", 7);
    backend.write("vdb", 7);
    backend.store().plant_journal(FakeBackend::UUID, Some(data.to_vec()));
    let before = seen(&backend);

    let readable = Journal::parse(data).is_ok();
    let result = now(recover(&backend.ports(), &backend.domain()));
    if !readable {
        let error = result.expect_err("what is no journal cannot be recovered");
        assert_eq!(error.kind(), Kind::RecoveryPending);
        assert_eq!(seen(&backend), before, "it is no journal, and something was touched");
        return;
    }
    for disk in ["vda", "vdb"] {
        assert!(backend.files().contains(&backend.disk(disk).top), "disk {disk} lost its image");
    }
    if guest != GuestState::Off && !backend.has_machine() {
        assert_eq!((backend.read("vda"), backend.read("vdb")), (7, 7), "a running guest lost its data");
    }
    let again = now(recover(&backend.ports(), &backend.domain()));
    match result {
        Ok(_) => assert!(matches!(again, Ok(None)), "{again:?}"),
        Err(error) => assert_eq!(error.kind(), Kind::RecoveryPending),
    }
}

/// Everything that recovery could touch.
fn seen(backend: &FakeBackend) -> impl PartialEq + std::fmt::Debug + use<> {
    let store = backend.store();
    let disks = ["vda", "vdb"].map(|disk| (backend.disk(disk), backend.tags(disk), backend.read(disk)));
    (
        store.left_journal(FakeBackend::UUID),
        store.records(FakeBackend::UUID),
        store.current(FakeBackend::UUID),
        backend.files(),
        backend.memory_files(),
        backend.guest_state(),
        disks,
    )
}

/// Nothing in the backend in memory waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the backend in memory answers at once")
}
