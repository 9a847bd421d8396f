//! External snapshots: the new image has the name that xl goes on naming.

use std::path::Path;

use xlsnap_orchestrator::{
    Command, CreateRequest, DeleteRequest, DiskChoice, FileMove, KeepName, Kind, RelocateRequest, create,
    plan_delete, plan_relocate,
};
use xlsnap_testkit::real::{Data, LiveDisks, holds_offline, qemu_img};
use xlsnap_types::model::{ImageFormat, XenRecord};

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

impl Rig {
    /// Deletes it as it is told before, without a pause that stays; gives what was told.
    async fn deletes(&self, kept: &Option<XenRecord>, snapshot: &str) -> Vec<Command> {
        self.trace.take();
        let domain = self.domain(kept.clone());
        let request = DeleteRequest::new(name(snapshot));
        let told = plan_delete(&self.ports(&domain), &self.reference(), &request, ID).await;
        assert_eq!(told.unwrap().warnings, [""; 0], "{snapshot}");
        let op = Op::Delete(request);
        let said = said(self, &domain, &op).await;
        op.run(self, &self.ports(&domain)).await;
        // A job is told QEMU's nodes, which are not called after their files.
        let plain = |mut command: Command| {
            command.files.retain(|_| command.command != "QMP block-commit");
            command
        };
        // To close a node is tried where QEMU refuses it too: what it named itself goes with the node above.
        let counts = |command: &Command| command.command != "QMP blockdev-del";
        let planned: Vec<Command> = said.iter().filter(|said| counts(said)).cloned().map(plain).collect();
        let done: Vec<Command> = tidy(self, self.trace.take()).into_iter().filter(counts).collect();
        assert_eq!(words(&done), words(&planned), "{snapshot}");
        assert_eq!(self.toolstack.paused(self.toolstack.last()), 0, "the guest runs");
        assert_eq!(self.records.left_journal(UUID), None);
        said
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
    // What is beside the disks goes; off qemu-img merges.
    for (snapshot, is_on) in [("m", true), ("d", false)] {
        let domain = rig.domain(kept.clone());
        if !is_on {
            xlsnap_orchestrator::Power::end(&domain).await.unwrap();
        }
        rig.deletes(&kept, snapshot).await;
        assert!(rig.both_hold(9));
    }
    for disk in ["xvda", "xvdb"] {
        assert_eq!(depth(&rig.image(disk)), 0, "{disk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_qemu_of_a_running_guest_merges_layers() {
    let rig = Rig::running();
    let kept = rig.domain(None).to_keep().await.unwrap();
    for (at, snapshot) in (2..).zip(["a", "b", "c"]) {
        let domain = rig.domain(kept.clone());
        Op::create(external(disks_alone(snapshot))).run(&rig, &rig.ports(&domain)).await;
        rig.write_to_both(at);
    }
    // In the middle, at the root, and what takes the writes.
    for (snapshot, left) in [("b", 2), ("a", 1), ("c", 0)] {
        let met = rig.deletes(&kept, snapshot).await;
        let commits = met.iter().filter(|met| met.command == "QMP block-commit").count();
        assert_eq!(commits, 2, "{snapshot}: {met:?}");
        assert!(rig.both_hold(4), "{snapshot}");
        for disk in ["xvda", "xvdb"] {
            assert_eq!(depth(&rig.image(disk)), left, "{disk} without {snapshot}");
        }
    }
    // Its names are Xen's again, so that the next look finds its disks as the first did.
    let disks = xlsnap_orchestrator::Disks::inventory(&rig.domain(kept)).await.unwrap().disks;
    assert!(disks.iter().all(|disk| disk.swap.is_yes() && disk.internal.is_yes()), "{disks:?}");
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

#[tokio::test]
async fn an_image_that_xl_names_is_not_followed_to_another_place() {
    let rig = Rig::running();
    let kept = rig.domain(None).to_keep().await.unwrap();
    let domain = rig.domain(kept.clone());
    Op::create(external(disks_alone("d"))).run(&rig, &rig.ports(&domain)).await;
    xlsnap_orchestrator::Power::end(&domain).await.unwrap();
    let (old, new) = (rig.image("xvda"), rig.scratch.path("elsewhere.qcow2"));
    std::fs::rename(&old, &new).unwrap();
    let name = |file: &Path| file.to_str().unwrap().to_owned();
    let request = RelocateRequest {
        moves: vec![FileMove { old: name(&old), new: name(&new) }],
        ..RelocateRequest::default()
    };
    let error = plan_relocate(&rig.ports(&rig.domain(kept)), &rig.reference(), &request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("xl starts the domain"), "{error}");
    assert!(error.advice().unwrap().contains(&name(&old)), "{:?}", error.advice());
}
