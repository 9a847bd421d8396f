//! What is promised of a revert, by a creation and by a look, is what the revert then does.

use uuid::Uuid;
use xlsnap_orchestrator::{
    Basis, Can, CreateRequest, GuestState, MemoryRequest, Reversibility, Undo, create, plan_create,
    plan_revert,
};
use xlsnap_testkit::fake::FakeBackend;
use xlsnap_types::model::StateFlags;

use crate::common::{Op, name, refused, told};
use crate::sweep::{Power, with_snapshots};

/// The promise, and whether a revert is refused.
async fn promise(backend: &FakeBackend, given: &str) -> (Reversibility, bool) {
    let (ports, domain) = (backend.ports(), backend.domain());
    let record = backend.store().records(FakeBackend::UUID)[&name(given)].clone();
    let promise = Reversibility::look(&ports, &domain, &record).await.unwrap();
    assert_eq!(promise.basis, Basis::Now);
    let Op::Revert(request) = Op::revert(given) else { unreachable!("it is a revert") };
    let planned = plan_revert(&ports, &domain, &request, Uuid::from_u128(8)).await;
    if let (Undo::Impossible { why, instead }, Err(error)) = (&promise.revert, &planned) {
        assert!(!instead.is_empty() && (*why == told(error) || why.contains("memory file")), "{why}");
    }
    (promise, planned.is_err())
}

#[tokio::test]
async fn a_look_promises_what_a_revert_does() {
    type Change = fn(&FakeBackend);
    let changes: [(&str, Change); 8] = [
        ("nothing", |_| {}),
        ("a bitmap", |backend| {
            let bitmap = xlsnap_orchestrator::Bitmap { name: "nightly".to_owned(), persistent: true };
            backend.change_disk("vdb", |image| image.bitmaps.push(bitmap));
        }),
        ("no snapshot", |backend| backend.change_disk("vdb", |image| image.snapshots.clear())),
        ("another size", |backend| backend.change_disk("vda", |image| image.virtual_size *= 2)),
        ("no way to start", |backend| {
            backend.abilities(|abilities| abilities.restart = Can::no("its file does not say how"));
        }),
        ("no way at all", |backend| {
            backend.abilities(|abilities| {
                abilities.restart = Can::no("its file does not say how");
                abilities.release = Can::no("it is too old");
                abilities.load = Can::no("a job goes on");
            });
        }),
        ("another machine", |backend| {
            for given in ["b", "c"] {
                backend.change_record(given, |meta| meta.hypervisor.machine = Some("pc-q35-10.0".to_owned()));
            }
            backend.abilities(|abilities| abilities.hypervisor.machine = Some("pc-q35-7.2".to_owned()));
        }),
        ("no memory file", |backend| backend.lose_memory_file("/saves/b.save")),
    ];
    let mut met = [0, 0];
    for power in [Power::Running, Power::Paused, Power::Serving, Power::Off] {
        for (what, change) in changes {
            let backend = with_snapshots(&["vda", "vdb"], power).await;
            change(&backend);
            for given in ["a", "b", "c"] {
                let (promise, is_refused) = promise(&backend, given).await;
                assert_eq!(
                    promise.revert.is_possible(),
                    !is_refused,
                    "{power:?}, {what}, {given}: {promise:?}"
                );
                met[usize::from(is_refused)] += 1;
            }
        }
    }
    assert!(met[0] > 10 && met[1] > 10, "{met:?}");
}

/// A storage daemon's disks take snapshots, and cannot be reverted under it.
#[tokio::test]
async fn a_creation_on_a_storage_daemon_promises_no_revert() {
    for power in [Power::Serving, Power::Running, Power::Off] {
        let backend = with_snapshots(&["vda", "vdb"], power).await;
        let request = CreateRequest { name: Some(name("s")), ..CreateRequest::default() };
        let id = Uuid::from_u128(7);
        let made = create(&backend.ports(), &backend.domain(), &request, id).await.unwrap();
        let (looked, is_refused) = promise(&backend, "s").await;
        assert_eq!(made.reversibility, looked, "{power:?}: a creation and a look differ");
        assert_eq!(is_refused, power == Power::Serving);
        if let Undo::Impossible { why, instead } = &made.reversibility.revert {
            assert!(why.contains("storage daemon") && instead.contains("end the storage daemon"), "{why}");
        }
    }
}

/// The record tells what it can, and says that it is the record alone.
#[tokio::test]
async fn a_domain_that_cannot_be_looked_at_is_told_of_by_its_record() {
    let backend = with_snapshots(&["vda"], Power::Running).await;
    let record = backend.store().records(FakeBackend::UUID)[&name("a")].clone();
    backend.faults().clear();
    backend.faults().plan(0, xlsnap_testkit::fake::Fault::Refused);
    let error = Reversibility::look(&backend.ports(), &backend.domain(), &record).await.unwrap_err();
    let promise = Reversibility::without_look(&record, &error);
    assert!(promise.revert.is_possible());
    assert_eq!(promise.basis, Basis::Record { why: told(&error) });
}

/// That there is no memory is the better reason than that there is no place for it.
#[tokio::test]
async fn memory_of_a_domain_that_is_off_is_refused_since_it_is_off() {
    let shut = GuestState::On(StateFlags { shutdown: true, ..StateFlags::default() });
    for (guest, why) in
        [(GuestState::Off, "it is off"), (GuestState::Serving, "storage daemon"), (shut, "has shut down")]
    {
        let backend = FakeBackend::qcow2(&["vda"]);
        backend.power(guest);
        let request = CreateRequest { memory: Some(MemoryRequest::default()), ..CreateRequest::default() };
        let planned = plan_create(&backend.ports(), &backend.domain(), &request, Uuid::from_u128(7)).await;
        refused(planned, &["no memory to save", why]);
    }
}
