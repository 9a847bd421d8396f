//! Domains of Xen's through the facade: a xenstored that answers from a recording, a script in the place of xl, and a real QEMU in the
//! place of Xen's. What a real Xen does is shown in its lab.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use xlsnap::design::{self, Code};
use xlsnap::types::libxl::DiskSnapshot;
use xlsnap::{Call, Connection, CreateRequest, DeleteRequest, Host, Kind, Options, RevertRequest, Selector};
use xlsnap_testkit::real::{Data, Disk, LiveDisks, Scratch, Vm, VmOptions, holds_offline, snapshots_in};
use xlsnap_testkit::wire::Xenstored;

/// Recorded on Xen 4.17 by `xenstore-ls -f`: the PV guest pv1, of domid 1.
const RECORDING: &str = include_str!("../../xen/tests/recorded/pv-xenstore-ls.txt");
const UUID: &str = "0a773310-ff4b-4ec6-a93c-577d088a20d1";

/// A Xen host with one domain that runs.
struct Fixture {
    scratch: Scratch,
    xen: Xenstored,
    vm: Option<Vm>,
}

impl Fixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let xen = Xenstored::start(RECORDING);
        let mut disks = Vec::new();
        for (disk, devid) in [("xvda", 51712), ("xvdb", 51728)] {
            let image = scratch.qcow2_with(&format!("{disk}.qcow2"), 4 << 20, 1);
            let params = format!("qcow2:{}", image.display());
            xen.set(&format!("/local/domain/0/backend/qdisk/1/{devid}/params"), &params);
            disks.push(Disk::qcow2(&format!("{disk}-qcow2"), &image));
        }
        let vm = Vm::start(&scratch, &disks, &VmOptions::default());
        symlink(vm.qmp(), scratch.path("qmp-libxl-1")).unwrap();
        let said = "Name ID Mem VCPUs State Time\npv1 $2 160 1 -b---- 1.0";
        let script = format!("#!/bin/sh\ntest \"$1\" = list || exit 1\ncat <<EOF\n{said}\nEOF\n");
        std::fs::write(scratch.path("xl"), script).unwrap();
        std::fs::set_permissions(scratch.path("xl"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { scratch, xen, vm: Some(vm) }
    }

    /// As each command has it.
    fn host(&self) -> Host {
        self.host_at(&self.xen.path())
    }

    fn host_at(&self, xenstored: &Path) -> Host {
        let mut options = Options::new(self.scratch.path("root"));
        options.xen.xenstore = Some(xenstored.to_owned());
        options.xen.xl = self.scratch.path("xl");
        options.xen.run = self.scratch.dir().into();
        options.xen.userdata = self.scratch.dir().into();
        Host::new(options)
    }

    /// The domain ends, and with it its QEMU.
    fn end(&mut self) {
        self.vm.take().unwrap().quit();
        for path in ["/local/domain/1", "/libxl/1", "/local/domain/0/backend/qdisk/1"] {
            self.xen.cut(path);
        }
    }
}

fn selector(word: &str) -> Selector {
    Selector::new(word.parse().unwrap())
}

fn named(name: &str) -> CreateRequest {
    CreateRequest { name: Some(name.parse().unwrap()), ..CreateRequest::default() }
}

fn of_disks(tag: &str) -> [DiskSnapshot; 2] {
    ["xvda", "xvdb"].map(|disk| DiskSnapshot {
        device: Some(disk.into()),
        name: Some(tag.into()),
        ..DiskSnapshot::default()
    })
}

#[tokio::test]
async fn a_domain_is_one_by_domid_name_and_uuid_running_and_off() {
    let mut fixture = Fixture::new();
    for (word, snapshot) in [("1", "by-domid"), ("pv1", "by-name"), (UUID, "by-uuid")] {
        let report = fixture.host().create(&selector(word), &named(snapshot), Call::new()).await.unwrap();
        assert!(report.record.snapshot.blocked, "as xl says");
        assert_eq!(report.record.meta.unwrap().disks.len(), 2);
    }
    assert_eq!(snapshots_in(&fixture.scratch.path("xvdb.qcow2")), ["by-domid", "by-name", "by-uuid"]);
    let listed = fixture.host().list(&selector("1")).await.unwrap();
    assert_eq!((listed.domain.as_str(), listed.listing.rows.len()), ("pv1", 3));
    assert_eq!(listed.uuid.to_string(), UUID);
    let all = fixture.host().xen_domains().await.unwrap();
    let domain = all[0].domain.as_ref().unwrap();
    assert_eq!((domain.domid, domain.disks.len()), (1, 2));
    let shown = fixture.host().domain_show(&selector("pv1")).await.unwrap();
    assert_eq!((shown.connection.unwrap(), shown.snapshots), (Connection::Xen { domid: Some(1) }, 3));

    fixture.end();
    assert!(fixture.host().xen_domains().await.unwrap().is_empty());
    let shown = fixture.host().domain_show(&selector("pv1")).await.unwrap();
    assert_eq!((shown.connection.unwrap(), shown.domain.disks.len()), (Connection::Xen { domid: None }, 2));
    let delete = DeleteRequest::new("by-name".parse().unwrap());
    fixture.host().delete(&selector("pv1"), &delete, Call::new()).await.unwrap();
    fixture.host().create(&selector(UUID), &named("off"), Call::new()).await.unwrap();
    fixture
        .host()
        .revert(&selector("pv1"), &RevertRequest::new("by-uuid".parse().unwrap()), Call::new())
        .await
        .unwrap();
    assert_eq!(snapshots_in(&fixture.scratch.path("xvda.qcow2")), ["by-domid", "by-uuid", "off"]);
    assert_eq!(fixture.host().list(&selector("1")).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn the_designs_functions_mean_xens_domids() {
    let mut fixture = Fixture::new();
    let host = fixture.host();
    design::disk_snapshot_create(&host, 1, &of_disks("s1")).await.unwrap();
    fixture.vm.as_ref().unwrap().write("xvda-qcow2", Data::of(2));
    let snapshot = xlsnap::types::libxl::DomainSnapshot { name: Some("s1".into()), ..Default::default() };
    design::store_dom_snapshot_conf(&host, 1, &snapshot).await.unwrap();
    assert!(fixture.scratch.path(&format!("root/{UUID}/snapshotdata-s1.libxl-json")).exists());
    assert_eq!(design::list_dom_snapshot(&host, 1).await.unwrap().len(), 1);
    let unknown = design::list_dom_snapshot(&host, 2).await.unwrap_err();
    assert_eq!(unknown.code, Code::DomainNotFound);
    assert!(design::disk_snapshot_revert(&host, 1, &of_disks("s1")).await.is_err(), "it runs");

    // The design's revert destroys the domain, and goes on by the domid that it had.
    fixture.end();
    let host = fixture.host();
    design::disk_snapshot_revert(&host, 1, &of_disks("s1")).await.unwrap();
    assert!(holds_offline(&fixture.scratch.path("xvda.qcow2"), "qcow2", Data::of(1)));
    design::disk_snapshot_delete(&host, 1, &of_disks("s1")).await.unwrap();
    design::delete_dom_snapshot_conf(&host, 1, "s1").await.unwrap();
    assert!(snapshots_in(&fixture.scratch.path("xvdb.qcow2")).is_empty());
}

#[tokio::test]
async fn a_domain_that_was_started_with_another_uuid_is_told() {
    let fixture = Fixture::new();
    fixture.host().create(&selector("pv1"), &named("s1"), Call::new()).await.unwrap();
    let other = "11111111-2222-4333-8444-555555555555";
    fixture.xen.set("/local/domain/1/vm", &format!("/vm/{other}"));
    for error in [
        fixture.host().create(&selector("pv1"), &named("s2"), Call::new()).await.unwrap_err(),
        fixture.host().list(&selector("pv1")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains(other) && error.to_string().contains(UUID), "{error}");
        assert!(error.advice().unwrap().contains(UUID));
    }
    fixture.host().create(&selector(other), &named("s2"), Call::new()).await.unwrap();
    // The old one's images are in use.
    let delete = DeleteRequest::new("s1".parse().unwrap());
    let error = fixture.host().delete(&selector(UUID), &delete, Call::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert_eq!(snapshots_in(&fixture.scratch.path("xvda.qcow2")), ["s1", "s2"]);
}

#[tokio::test]
async fn where_xen_cannot_be_asked_others_are_not_bothered() {
    let fixture = Fixture::new();
    fixture.host().create(&selector("pv1"), &named("s1"), Call::new()).await.unwrap();
    let refused = fixture.host_at(&fixture.scratch.path("xvda.qcow2"));
    let error = refused.create(&selector("1"), &named("s2"), Call::new()).await.unwrap_err();
    assert!(error.advice().unwrap().contains("root in dom0"), "{error}");
    assert!(refused.xen_domains().await.is_err());
    // What is stored can be listed by every user who may read it; what needs the domain cannot be done.
    assert_eq!(refused.list(&selector("pv1")).await.unwrap().listing.rows.len(), 1);
    assert!(refused.create(&selector("pv1"), &named("s2"), Call::new()).await.is_err());

    let image = fixture.scratch.qcow2("web.qcow2", 1 << 20);
    let disk = xlsnap::NewDisk {
        name: "vda".parse().unwrap(),
        image: image.to_str().unwrap().to_owned(),
        format: None,
        read_only: false,
        removable: false,
        node: None,
    };
    let web = xlsnap::NewDomain {
        name: "web".parse().unwrap(),
        uuid: None,
        domid: Some(7),
        qmp: None,
        disks: vec![disk],
    };
    refused.domain_add(web).await.unwrap();
    refused.create(&selector("web"), &named("s1"), Call::new()).await.unwrap();
    design::list_dom_snapshot(&refused, 7).await.unwrap();
}
