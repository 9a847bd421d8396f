//! From a disk of Xen's to a node of QEMU's: recorded answers, and cases that no recording has.

use serde_json::{Value, json};
use xlsnap_qmp_transport::commands::BlockDevice;
use xlsnap_types::model::ImageFormat;
use xlsnap_xen::GuestKind;
use xlsnap_xen::matching::{Place, place};
use xlsnap_xen::vbd::{Backend, Vbd};

/// Recorded from QEMU 7.2: `query-block`.
const PV: &str = include_str!("../recorded/pv-query-block.json");
const HVM: &str = include_str!("../recorded/hvm-query-block.json");
const ZOO: &str = include_str!("../recorded/pv-zoo-query-block.json");

fn disk(name: &str, image: &str) -> Vbd {
    Vbd {
        devid: 1,
        name: name.parse().unwrap(),
        backend: Backend::Qdisk,
        image: image.to_owned(),
        format: ImageFormat::Qcow2,
        read_only: false,
        cdrom: false,
        state: 4,
        size: 0,
    }
}

fn devices(answer: &str) -> Vec<BlockDevice> {
    serde_json::from_str(answer).unwrap()
}

fn at(vbd: &Vbd, kind: GuestKind, devices: &[BlockDevice]) -> Place {
    place(vbd, kind, devices, &|a, b| a == b, &|_| false)
}

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

#[test]
fn the_nodes_of_a_pv_guest_are_named_after_its_disks() {
    let of = |name, image| at(&disk(name, image), GuestKind::Pv, &devices(PV));
    assert_eq!(of("xvda", "/lab/pv1-a.qcow2"), node("xvda-qcow2"));
    assert_eq!(of("xvdb", "/lab/pv1-b.qcow2"), node("xvdb-qcow2"));
    assert_eq!(at(&disk("xvda", "/lab/pv1-a.qcow2"), GuestKind::Pvh, &devices(PV)), node("xvda-qcow2"));
    let Place::Nowhere(why) = of("xvda", "/lab/pv1-b.qcow2") else { panic!("another image") };
    assert!(why.contains("/lab/pv1-a.qcow2") && why.contains("/lab/pv1-b.qcow2"), "{why}");
}

#[test]
fn the_zoo() {
    let devices = devices(ZOO);
    for (name, image, format, expected) in [
        ("sda", "sda.qcow2", ImageFormat::Qcow2, Some("sda-qcow2")),
        ("xvdaa", "xvdaa.qcow2", ImageFormat::Qcow2, Some("xvdaa-qcow2")),
        ("xvda", "a.qcow2", ImageFormat::Qcow2, Some("xvda-qcow2")),
        ("xvda1", "xvda1.qcow2", ImageFormat::Qcow2, Some("xvda1-qcow2")),
        ("xvdb", "b.qcow2", ImageFormat::Qcow2, Some("xvdb-qcow2")),
        ("xvdc", "c.raw", ImageFormat::Raw, Some("xvdc-raw")),
        ("xvde", "e-ovl.qcow2", ImageFormat::Qcow2, Some("xvde-qcow2")),
        ("d7p0", "d7.qcow2", ImageFormat::Qcow2, Some("d7p0-qcow2")),
        ("xvdl", "link.qcow2", ImageFormat::Qcow2, Some("xvdl-qcow2")),
        ("hdb", "hdb.qcow2", ImageFormat::Qcow2, Some("hdb-qcow2")),
        // xenstore has it, and QEMU did not open it (it has a space in its name): `xl create` says nothing of it.
        ("xvdk", "with space.qcow2", ImageFormat::Qcow2, None),
    ] {
        let mut vbd = disk(name, &format!("/lab/zoo/{image}"));
        vbd.format = format;
        // The state says nothing of a PV guest's disk: one that was in use had 5.
        vbd.state = 5;
        match (at(&vbd, GuestKind::Pv, &devices), expected) {
            (Place::Node(found), Some(expected)) => assert_eq!(found, expected),
            (Place::Nowhere(why), None) => assert!(why.contains("has not opened"), "{why}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
    let mut phy = disk("xvdm", "/dev/loop0");
    phy.backend = Backend::Other("phy".into());
    let Place::Nowhere(why) = at(&phy, GuestKind::Pv, &devices) else { panic!("phy is no node") };
    assert!(why.contains("phy") && why.contains("backendtype=qdisk"), "{why}");
    let Place::Nowhere(why) = at(&disk("xvdz", "/lab/zoo/base.qcow2"), GuestKind::Pv, &devices) else {
        panic!("a base is no disk")
    };
    assert!(why.contains("e-ovl.qcow2"), "{why}");
}

#[test]
fn an_hvm_guest_without_xens_drivers_uses_the_emulated_disk() {
    let mut vbd = disk("xvda", "/lab/hvm1-a.qcow2");
    for state in [1, 2, 3] {
        vbd.state = state;
        assert_eq!(at(&vbd, GuestKind::Hvm, &devices(HVM)), node("ide0-hd0"), "{state}");
    }
    let mut vbd = disk("xvdb", "/lab/hvm1-b.qcow2");
    vbd.state = 2;
    assert_eq!(at(&vbd, GuestKind::Hvm, &devices(HVM)), node("ide0-hd1"));
}

#[test]
fn an_hvm_guest_that_may_use_both_is_refused() {
    let mut vbd = disk("xvda", "/lab/hvm1-a.qcow2");
    for state in [4, 5, 6] {
        vbd.state = state;
        let Place::Nowhere(why) = at(&vbd, GuestKind::Hvm, &devices(HVM)) else {
            panic!("{state} is in doubt")
        };
        assert!(why.contains("ide0-hd0") && why.contains("xvda-qcow2"), "{why}");
    }
    let Place::Nowhere(_) = at(&vbd, GuestKind::Pv, &devices(HVM)) else {
        panic!("a PV guest has no IDE disk")
    };
}

fn device(drive: &str, qdev: Option<&str>, node: &str, file: &str) -> Value {
    json!({
        "device": drive, "qdev": qdev,
        "inserted": {
            "node-name": node, "drv": "qcow2", "file": file, "ro": false,
            "image": {"filename": file, "format": "qcow2", "virtual-size": 1024},
        },
    })
}

#[test]
fn after_the_emulated_disk_was_unplugged_xens_half_is_the_disk() {
    let found = |devices: Value, vbd: &Vbd| {
        place(
            vbd,
            GuestKind::Hvm,
            &serde_json::from_value::<Vec<_>>(devices).unwrap(),
            &|a, b| a == b,
            &|_| false,
        )
    };
    let vbd = disk("hda", "/a");
    let xens = device("", Some("/machine/unattached/device[26]"), "hda-qcow2", "/a");
    assert_eq!(found(json!([xens]), &vbd), node("hda-qcow2"));
    // QEMU may show the drive without a device.
    assert_eq!(found(json!([device("ide0-hd0", None, "#block1", "/a"), xens]), &vbd), node("hda-qcow2"));
    // SCSI and AHCI drives have other ids, and the same rule.
    for id in ["scsi0-hd0", "ahcidisk-0"] {
        let emulated = device(id, Some("/machine/peripheral-anon/device[0]"), "#block1", "/a");
        let mut unused = vbd.clone();
        unused.state = 2;
        assert_eq!(found(json!([emulated, xens]), &unused), node(id));
        assert_eq!(found(json!([emulated]), &unused), node(id), "QEMU's half of Xen's disk is not there yet");
        assert!(matches!(found(json!([emulated, xens]), &vbd), Place::Nowhere(_)));
        assert!(matches!(found(json!([emulated, emulated, xens]), &unused), Place::Nowhere(_)));
    }
    assert!(matches!(found(json!([xens, xens]), &vbd), Place::Nowhere(_)));
    assert!(matches!(found(json!([]), &vbd), Place::Nowhere(_)));
    let empty = json!({"device": "ide1-cd0", "qdev": "x", "removable": true});
    assert_eq!(found(json!([empty, xens]), &vbd), node("hda-qcow2"));
}
