//! Overlays of which it is not known whether a guest writes to them.

use xlsnap_orchestrator::{GuestState, Kind, Outcome, recover};
use xlsnap_testkit::fake::{Fault, Moment};

use crate::common::{Op, assert_whole, name, see, told};
use crate::sweep::{Power, backend, with_snapshots, write};

/// QEMU is lost within the transaction, and cannot be looked at then. What the guest writes to overlays afterwards is part of the
/// disk, so the snapshot is completed where a later look finds them in use.
#[tokio::test]
async fn overlays_that_the_guest_may_write_to_wait_for_a_look() {
    let op = Op::external("s", &["vda", "vdb", "vdc"]);
    for power in [Power::Running, Power::Serving] {
        let start = backend(power).await;
        let clean = start.fork();
        op.run(&clean).await.unwrap();
        let calls = clean.faults().calls();
        let taking = calls.iter().position(|call| call.method == "disks.snapshot").unwrap();
        for (lost, taken) in [
            (Fault::Lost(Moment::After), true),
            (Fault::Lost(Moment::Before), false),
            (Fault::Torn(3), true),
            // Empty overlays equal their bases.
            (Fault::Torn(0), true),
        ] {
            let about = format!("{power:?} {lost:?}");
            let backend = start.fork();
            let before = see(&backend);
            backend.faults().plan(taking, lost);
            // Nothing answers for a while.
            for later in taking + 1..taking + 20 {
                backend.faults().plan(later, Fault::Lost(Moment::Before));
            }
            let error = op.run(&backend).await.unwrap_err();
            assert_eq!(error.kind(), Kind::RecoveryPending, "{about}: {}", told(&error));
            assert!(told(&error).contains("overlays"), "{about}: {}", told(&error));

            // Where it cannot be looked at, it is neither completed nor undone.
            let left = see(&backend);
            let looking = {
                let sound = backend.fork();
                sound.faults().clear();
                recover(&sound.ports(), &sound.domain()).await.unwrap();
                sound.faults().calls().iter().position(|call| call.method == "guest.state").unwrap()
            };
            backend.faults().clear();
            backend.faults().plan(looking, Fault::Lost(Moment::Before));
            let error = recover(&backend.ports(), &backend.domain()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::RecoveryPending, "{about}: {}", told(&error));
            let why = "the state of domain fake cannot be told: guest.state: the connection was lost";
            assert!(told(&error).contains(why), "{about}: {}", told(&error));
            assert_eq!(see(&backend), left, "{about}");

            backend.faults().clear();
            let content = if backend.guest_state() == GuestState::Off { 4 } else { 9 };
            backend.write("vda", content);
            let recovered = recover(&backend.ports(), &backend.domain()).await.unwrap().unwrap();
            let expected = if taken { Outcome::Completed } else { Outcome::Undone };
            assert_eq!(recovered.outcome, expected, "{about}: {recovered:?}");
            let after = see(&backend);
            assert_eq!(backend.read("vda"), content, "{about}: what the guest wrote is there");
            assert_eq!(after.records.contains_key(&name("s")), taken, "{about}");
            assert_eq!(after.images != before.images, taken, "{about}: {:?}", after.images);
            assert!(after.images.values().all(|(top, described)| top == described), "{about}");
            assert_whole(&backend, &about).await;
        }
    }
}

/// The guest runs on while its memory is written, and its process dies before the record is stored. What it wrote is in the
/// overlays, and stays in the domain.
#[tokio::test]
async fn what_a_guest_wrote_while_its_memory_was_saved_is_not_lost_with_its_process() {
    let op = Op::external_memory("s", &["vda", "vdb"]);
    let start = with_snapshots(&["vda", "vdb"], Power::Running).await;
    let clean = start.fork();
    op.run(&clean).await.unwrap();
    let finishing = clean.faults().calls().iter().position(|call| call.method == "memory.finish").unwrap();
    let backend = start.fork();
    backend.faults().plan(finishing, Fault::Crash(Moment::Before));
    op.run(&backend).await.unwrap_err();
    backend.restart();
    write(&backend, 5);
    backend.stop();
    let recovered = recover(&backend.ports(), &backend.domain()).await.unwrap().unwrap();
    assert_eq!(recovered.outcome, Outcome::Undone);
    assert!(recovered.warnings.iter().any(|warning| warning.contains("may have written")), "{recovered:?}");
    assert!(see(&backend).contents.values().all(|read| *read == 5), "{:?}", see(&backend));
}
