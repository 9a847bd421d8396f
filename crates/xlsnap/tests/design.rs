//! The design's functions in Rust: structs that are not valid are refused before anything is looked for, and nothing is stored.
#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::error::Error as _;
use std::fs;

use xlsnap::design::{self, Code, Failure};
use xlsnap::types::libxl::{DiskFormat, DiskSnapshot, DomainSnapshot};
use xlsnap::{Host, Options};
use xlsnap_testkit::real::{Scratch, snapshots_in};

const WEB: u32 = 7;
const UNKNOWN: u32 = 99;

/// A host with the domain `web` (domid 7), which is off and has the disks hda and xvdb.
struct Fixture {
    scratch: Scratch,
    host: Host,
}

impl Fixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let disks = ["hda", "xvdb"].map(|disk| {
            let image = scratch.qcow2(&format!("{disk}.qcow2"), 1 << 20);
            format!("[[disk]]\nname = \"{disk}\"\nimage = {image:?}\nformat = \"qcow2\"\n")
        });
        let domains = scratch.path("root/domains");
        fs::create_dir_all(&domains).unwrap();
        let uuid = "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e";
        fs::write(domains.join("web.toml"), format!("uuid = \"{uuid}\"\ndomid = 7\n{}", disks.concat()))
            .unwrap();
        let host = Host::new(Options::new(scratch.path("root")));
        Self { scratch, host }
    }

    async fn nothing_was_done(&self) {
        assert_eq!(design::list_dom_snapshot(&self.host, WEB).await.unwrap(), []);
        for disk in ["hda", "xvdb"] {
            assert!(snapshots_in(&self.scratch.path(&format!("{disk}.qcow2"))).is_empty());
        }
    }
}

fn internal(device: &str, name: &str) -> DiskSnapshot {
    DiskSnapshot { device: Some(device.into()), name: Some(name.into()), ..DiskSnapshot::default() }
}

fn external(device: &str, file: &str, format: DiskFormat) -> DiskSnapshot {
    DiskSnapshot { file: Some(file.into()), format, ..internal(device, "s1") }
}

fn of(disks: Vec<DiskSnapshot>) -> DomainSnapshot {
    DomainSnapshot { name: Some("s1".into()), disks, ..DomainSnapshot::default() }
}

/// The whole chain in one line.
fn told(failure: &Failure) -> String {
    let causes = std::iter::successors(failure.source(), |cause| (*cause).source());
    causes.fold(failure.to_string(), |told, cause| format!("{told}: {cause}"))
}

#[tokio::test]
async fn a_struct_that_is_no_snapshot_is_not_stored() {
    let fixture = Fixture::new();
    let named = |name: &str| DomainSnapshot { name: Some(name.into()), ..of(Vec::new()) };
    let without_device = DiskSnapshot { device: None, ..internal("hda", "s1") };
    let twice = || vec![internal("hda", "s1"), internal("xvdb", "s1"), internal("hda", "s2")];
    let cases = [
        (DomainSnapshot { name: None, ..of(Vec::new()) }, "the snapshot name is empty"),
        (named(""), "the snapshot name is empty"),
        (named(".."), "is the name of a directory"),
        (named("../s1"), "contains '/'"),
        (named(&"s".repeat(201)), "has 201 bytes"),
        (of(vec![without_device]), "the device of disk 0 is not valid: the disk name is empty"),
        (of(vec![internal("hda", "s1"), internal("", "s1")]), "the device of disk 1 is not valid"),
        (of(vec![internal("/dev/xvda", "s1")]), "contains '/'"),
        (of(vec![internal("../hda", "s1")]), "contains '/'"),
        (of(vec![internal("hd a", "s1")]), "is not one word"),
        (of(twice()), "the disk hda is listed twice"),
        (of(vec![internal("hda", "a\nb")]), "contains a control character"),
        (of(vec![internal("hda", &"s".repeat(256))]), "more than 255 bytes"),
        (of(vec![external("hda", "/srv/o", DiskFormat::Unknown)]), "has the format unknown"),
        (of(vec![external("hda", "/srv/o", DiskFormat::Empty)]), "has the format empty"),
    ];
    for (snapshot, why) in cases {
        for domid in [WEB, UNKNOWN] {
            let failure = design::store_dom_snapshot_conf(&fixture.host, domid, &snapshot).await.unwrap_err();
            assert_eq!(failure.code, Code::Inval, "{snapshot:?}");
            assert!(told(&failure).contains(why), "{} and not {why}", told(&failure));
        }
    }
    fixture.nothing_was_done().await;

    // What the design wants to be "" may be NULL, and a disk's snapshot has the domain's name then.
    let bare = of(vec![DiskSnapshot { name: None, ..internal("hda", "") }]);
    design::store_dom_snapshot_conf(&fixture.host, WEB, &bare).await.unwrap();
    design::delete_dom_snapshot_conf(&fixture.host, WEB, "s1").await.unwrap();
    fixture.nothing_was_done().await;
}

#[tokio::test]
async fn disks_that_are_not_named_rightly_are_not_touched() {
    let fixture = Fixture::new();
    let qcow2 = DiskFormat::Qcow2;
    let cases = [
        (vec![DiskSnapshot { device: None, ..internal("", "s1") }], "the disk name is empty"),
        (vec![internal("", "s1")], "the disk name is empty"),
        (vec![internal("/dev/hda", "s1")], "contains '/'"),
        (vec![internal("hda", "s1"), internal("hda", "s2")], "disk hda is named twice"),
        (vec![DiskSnapshot { name: None, ..internal("hda", "") }], "the snapshot name is empty"),
        (vec![internal("xvdb", "")], "disk xvdb: the name of its snapshot is not valid"),
        (vec![internal("hda", "a/b")], "contains '/'"),
        (vec![internal("hda", "s1"), external("xvdb", "overlay", qcow2)], "is not an absolute file name"),
        (vec![external("hda", "/srv/o", qcow2), external("xvdb", "/srv/o", qcow2)], "is named twice"),
        (vec![external("hda", "/srv/o", DiskFormat::Raw)], "stands on no other image"),
    ];
    for (disks, why) in cases {
        for domid in [WEB, UNKNOWN] {
            let failures = [
                design::disk_snapshot_create(&fixture.host, domid, &disks).await.unwrap_err(),
                design::disk_snapshot_delete(&fixture.host, domid, &disks).await.unwrap_err(),
                design::disk_snapshot_revert(&fixture.host, domid, &disks).await.unwrap_err(),
            ];
            for failure in failures {
                assert_eq!(failure.code, Code::Inval, "{disks:?}");
                assert!(told(&failure).contains(why), "{} and not {why}", told(&failure));
            }
        }
    }
    fixture.nothing_was_done().await;
}

/// A server spawns these on a runtime of several threads.
#[test]
fn the_futures_of_the_functions_on_the_configuration_file_can_be_spawned() {
    fn sent<F: Future + Send>(_: F) {}
    let fixture = Fixture::new();
    let (host, snapshot) = (&fixture.host, of(Vec::new()));
    sent(design::load_dom_snapshot_conf(host, WEB, "s1"));
    sent(design::store_dom_snapshot_conf(host, WEB, &snapshot));
    sent(design::delete_dom_snapshot_conf(host, WEB, "s1"));
    sent(design::list_dom_snapshot(host, WEB));
}
