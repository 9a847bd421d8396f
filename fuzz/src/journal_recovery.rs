//! Journals of any bytes, and recovery from them.

use futures_util::FutureExt;
use xlsnap_orchestrator::{CreateRequest, GuestState, Journal, Kind, create, recover};
use xlsnap_testkit::fake::FakeWorld;
use xlsnap_types::model::{SnapshotName, StateFlags};

/// Recovers from a journal entry of these bytes, in a domain of two disks and a snapshot `a`, off and running, with a process
/// that can be ended and started and without.
///
/// Promises: no panic; what is no journal is left as it is, and so is everything else; whatever a journal says, each disk
/// keeps an image, and a running guest reads what it wrote, unless its process may be ended or reset for a revert; a second recovery finds nothing to do that the first could.
pub fn journal_recovery(data: &[u8]) {
    for guest in [GuestState::Off, GuestState::On(StateFlags { running: true, ..StateFlags::default() })] {
        recovered(data, guest, FakeWorld::qcow2(&["vda", "vdb"]));
        recovered(data, guest, FakeWorld::qcow2(&["vda", "vdb"]).with_machine());
    }
}

fn recovered(data: &[u8], guest: GuestState, world: FakeWorld) {
    let request = CreateRequest { name: SnapshotName::new("a").ok(), ..CreateRequest::default() };
    let id = uuid::Uuid::from_u128(1);
    now(create(&world.ports(), &world.domain(), &request, id)).expect("a sound world takes a snapshot");
    world.power(guest);
    world.write("vda", 7);
    world.write("vdb", 7);
    world.store().plant_journal(FakeWorld::UUID, Some(data.to_vec()));
    let before = seen(&world);

    let readable = Journal::parse(data).is_ok();
    let result = now(recover(&world.ports(), &world.domain()));
    if !readable {
        let error = result.expect_err("what is no journal cannot be recovered");
        assert_eq!(error.kind(), Kind::RecoveryPending);
        assert_eq!(seen(&world), before, "it is no journal, and something was touched");
        return;
    }
    for disk in ["vda", "vdb"] {
        assert!(world.files().contains(&world.disk(disk).top), "disk {disk} lost its image");
    }
    if guest != GuestState::Off && !world.has_machine() {
        assert_eq!((world.read("vda"), world.read("vdb")), (7, 7), "a running guest lost its data");
    }
    let again = now(recover(&world.ports(), &world.domain()));
    match result {
        Ok(_) => assert!(matches!(again, Ok(None)), "{again:?}"),
        Err(error) => assert_eq!(error.kind(), Kind::RecoveryPending),
    }
}

/// Everything that recovery could touch.
fn seen(world: &FakeWorld) -> impl PartialEq + std::fmt::Debug + use<> {
    let store = world.store();
    let disks = ["vda", "vdb"].map(|disk| (world.disk(disk), world.tags(disk), world.read(disk)));
    (
        store.left_journal(FakeWorld::UUID),
        store.records(FakeWorld::UUID),
        store.current(FakeWorld::UUID),
        world.files(),
        world.memory_files(),
        world.guest_state(),
        disks,
    )
}

/// Nothing in the world in memory waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the world in memory answers at once")
}
