//! A revert whose steps fail: the domain is at the snapshot, or as it was before.

use uuid::Uuid;
use xlsnap_orchestrator::{
    CreateRequest, Kind as ErrorKind, MemoryRequest, RevertRequest, create, plan_revert, planned_stages,
    recover, revert,
};
use xlsnap_testkit::real::{Data, LiveDisks, snapshots_in};
use xlsnap_types::model::XenRecord;
use xlsnap_xen::xl::Kind;

use crate::rig::{Rig, UUID};

/// A rig with a snapshot `s` of a guest that goes on, with its memory.
async fn with_snapshot() -> (Rig, Option<XenRecord>) {
    let rig = Rig::running();
    let domain = rig.domain(None);
    let request = CreateRequest {
        name: Some("s".parse().unwrap()),
        memory: Some(MemoryRequest::default()),
        ..CreateRequest::default()
    };
    create(&rig.ports(&domain), &rig.reference(), &request, Uuid::from_u128(1)).await.unwrap();
    for disk in ["xvda-qcow2", "xvdb-qcow2"] {
        rig.vm.lock().unwrap().as_ref().unwrap().write(disk, Data::of(2));
    }
    rig.trace.take();
    let kept = domain.to_keep().await.unwrap();
    (rig, kept)
}

/// What both disks hold; the guest runs, and no mark is left.
fn content(rig: &Rig, about: &str) -> u8 {
    assert_eq!(rig.toolstack.paused(rig.toolstack.last()), 0, "{about}: the guest runs");
    let vm = rig.vm.lock().unwrap();
    let vm = vm.as_ref().unwrap_or_else(|| panic!("{about}: the domain is on"));
    let holds = |byte| ["xvda-qcow2", "xvdb-qcow2"].iter().all(|disk| vm.holds(disk, Data::of(byte)));
    for disk in ["xvda", "xvdb"] {
        assert_eq!(snapshots_in(&rig.image(disk)), ["s"], "{about}: {disk}");
    }
    [1, 2]
        .into_iter()
        .find(|byte| holds(*byte))
        .unwrap_or_else(|| panic!("{about}: the disks are of two states"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_command_of_xl_fails_the_domain_is_at_the_snapshot_or_as_it_was() {
    let mut failed = 0;
    for done in [false, true] {
        for after in 0.. {
            let (rig, kept) = with_snapshot().await;
            *rig.toolstack.after.lock().unwrap() = after;
            *rig.toolstack.fails.lock().unwrap() = Some((Kind::Failed, done));
            let domain = rig.domain(kept);
            let request = RevertRequest::new("s".parse().unwrap());
            let reverted = revert(&rig.ports(&domain), &rig.reference(), &request, Uuid::from_u128(2)).await;
            let about = format!("command {after} of xl fails, {done}");
            if rig.toolstack.fails.lock().unwrap().take().is_some() {
                reverted.unwrap();
                assert_eq!(content(&rig, &about), 1);
                break;
            }
            failed += 1;
            match reverted {
                Ok(_) => assert_eq!(content(&rig, &about), 1),
                Err(error) => {
                    assert!(error.kind() != ErrorKind::RecoveryPending, "{about}: {error}");
                    assert_eq!(content(&rig, &about), 2, "{about}: {error}");
                }
            }
            assert_eq!(rig.records.left_journal(UUID), None, "{about}");
        }
    }
    assert!(failed >= 8, "pause, destroy, restore and unpause fail: {failed}");
}

/// xlsnap ends in the middle, and `recover` goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_revert_that_was_cut_short_is_recovered() {
    for after in 0..4 {
        let (rig, kept) = with_snapshot().await;
        let domain = rig.domain(kept.clone());
        let request = RevertRequest::new("s".parse().unwrap());
        *rig.toolstack.hangs.lock().unwrap() = Some(after);
        let (ports, reference) = (rig.ports(&domain), rig.reference());
        let cut = revert(&ports, &reference, &request, Uuid::from_u128(2));
        tokio::select! {
            ended = cut => panic!("it ended: {ended:?}"),
            () = rig.toolstack.hung() => {}
        }
        assert!(rig.records.left_journal(UUID).is_some());
        let domain = rig.domain(kept);
        let recovered = recover(&rig.ports(&domain), &rig.reference()).await.unwrap();
        assert!(recovered.is_some());
        let content = content(&rig, &format!("cut short after command {after} of xl"));
        assert!(content == 1 || content == 2);
        assert_eq!(rig.records.left_journal(UUID), None);
    }
}

/// Its QEMU is killed, and the domain is there still: an earlier snapshot brings it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_domain_whose_qemu_has_ended_goes_back_to_a_snapshot() {
    for fails in [None, Some(Kind::Failed)] {
        let (rig, kept) = with_snapshot().await;
        {
            let mut vm = rig.vm.lock().unwrap();
            let vm = vm.as_mut().unwrap();
            // What was not flushed ends with QEMU.
            for disk in ["xvda-qcow2", "xvdb-qcow2"] {
                assert_eq!(
                    vm.human(&format!("qemu-io -d /machine/peripheral/{disk}/virtio-backend flush")),
                    ""
                );
            }
            vm.kill();
        }
        let domain = rig.domain(kept);
        let (ports, reference) = (rig.ports(&domain), rig.reference());
        let request = CreateRequest { name: Some("t".parse().unwrap()), ..CreateRequest::default() };
        let error = create(&ports, &reference, &request, Uuid::from_u128(2)).await.unwrap_err();
        assert!(format!("{error:?}").contains("QEMU has ended"), "{error:?}");
        // After pause and destroy.
        *rig.toolstack.after.lock().unwrap() = 2;
        *rig.toolstack.fails.lock().unwrap() = fails.map(|kind| (kind, false));
        let request = RevertRequest::new("s".parse().unwrap());
        let plan = plan_revert(&ports, &reference, &request, Uuid::from_u128(3)).await.unwrap();
        let planned = planned_stages(ports.commands, &plan.stages).await.unwrap();
        let said: Vec<String> =
            planned.into_iter().flat_map(|stage| stage.commands).map(|command| command.command).collect();
        assert!(said.iter().any(|command| command == "qemu-img snapshot -c"), "{said:?}");
        let reverted = revert(&ports, &reference, &request, Uuid::from_u128(3)).await;
        assert_eq!(reverted.is_err(), fails.is_some(), "{reverted:?}");
        assert_eq!(content(&rig, "after QEMU ended"), if fails.is_some() { 2 } else { 1 });
    }
}
