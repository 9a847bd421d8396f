//! External snapshots: the new image has the name that xl goes on naming.

use std::path::Path;

use xlsnap_orchestrator::{
    CreateRequest, DeleteRequest, DiskChoice, KeepName, Kind, create, delete, plan_delete,
};
use xlsnap_testkit::real::{Data, LiveDisks, holds_offline, qemu_img};
use xlsnap_types::model::ImageFormat;

use crate::commands::{ID, Op, disks_alone, name, said, tidy, with_memory, words};
use crate::rig::{Rig, UUID};

fn external(request: CreateRequest) -> CreateRequest {
    let choice = || DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
    let disks = ["xvda", "xvdb"].map(|disk| (disk.parse().unwrap(), choice())).into();
    CreateRequest { disks, ..request }
}

/// How many images are below this one.
fn depth(image: &Path) -> usize {
    let told = qemu_img(&["info", "-U", "--backing-chain", "--output=json", image.to_str().unwrap()]);
    told.matches("\"backing-filename\"").count()
}

impl Rig {
    fn write_to_both(&self, byte: u8) {
        for disk in ["xvda-qcow2", "xvdb-qcow2"] {
            self.vm.lock().unwrap().as_ref().unwrap().write(disk, Data::of(byte));
        }
    }

    fn both_hold(&self, byte: u8) -> bool {
        match self.vm.lock().unwrap().as_ref() {
            Some(vm) => ["xvda-qcow2", "xvdb-qcow2"].iter().all(|disk| vm.holds(disk, Data::of(byte))),
            None => {
                ["xvda", "xvdb"].iter().all(|disk| holds_offline(&self.image(disk), "qcow2", Data::of(byte)))
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_guest_gets_new_images_under_the_names_and_goes_back_and_forth() {
    let rig = Rig::running();
    let kept = rig.domain(None).to_keep().await.unwrap();
    let mut met = Vec::new();
    for (op, reads) in [
        (Op::create(external(disks_alone("d"))), None),
        (Op::create(external(with_memory("m"))), None),
        (Op::revert("d"), Some(1)),
        (Op::revert("m"), Some(2)),
        (Op::revert("m"), Some(2)),
        (Op::revert("d"), Some(1)),
    ] {
        let domain = rig.domain(kept.clone());
        let said = said(&rig, &domain, &op).await;
        op.run(&rig, &rig.ports(&domain)).await;
        assert_eq!(words(&tidy(&rig, rig.trace.take())), words(&said));
        met.extend(said);
        if let Some(byte) = reads {
            assert!(rig.both_hold(byte), "{byte}");
        }
        let byte =
            if reads.is_some() { 9 } else { u8::try_from(2 + rig.records.records(UUID).len()).unwrap() - 1 };
        rig.write_to_both(byte);
        assert_eq!(rig.toolstack.paused(rig.toolstack.last()), 0, "the guest runs");
        assert_eq!(rig.records.left_journal(UUID), None);
        rig.trace.take();
    }
    for command in ["QMP qom-set", "xl save -p", "xl restore -p", "xl create -p"] {
        assert!(met.iter().any(|met| met.command == command), "{command} is met");
    }
    // Its QEMU has the layers open: they stay while it runs.
    let domain = rig.domain(kept.clone());
    delete(&rig.ports(&domain), &rig.reference(), &DeleteRequest::new(name("m")), ID).await.unwrap();
    assert!(rig.both_hold(9));
    let kept = domain.to_keep().await.unwrap();
    let domain = rig.domain(kept.clone());
    xlsnap_orchestrator::Power::end(&domain).await.unwrap();
    rig.trace.take();
    let domain = rig.domain(kept);
    let told = plan_delete(&rig.ports(&domain), &rig.reference(), &DeleteRequest::new(name("d")), ID).await;
    assert_eq!(told.unwrap().warnings, [""; 0]);
    let op = Op::Delete(DeleteRequest::new(name("d")));
    let said = said(&rig, &domain, &op).await;
    op.run(&rig, &rig.ports(&domain)).await;
    assert_eq!(words(&tidy(&rig, rig.trace.take())), words(&said));
    assert!(rig.both_hold(9));
    for disk in ["xvda", "xvdb"] {
        assert_eq!(depth(&rig.image(disk)), 0, "{disk}");
    }
}

#[tokio::test]
async fn no_other_name_is_planned_than_that_which_xl_has() {
    let rig = Rig::running();
    let domain = rig.domain(None);
    let request = CreateRequest { keep_name: KeepName::No, ..external(disks_alone("d")) };
    let error = create(&rig.ports(&domain), &rig.reference(), &request, ID).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("xl starts the domain"), "{error}");
    assert!(error.advice().unwrap().contains("--keep-name"), "{:?}", error.advice());
    assert!(rig.trace.take().is_empty());
}
