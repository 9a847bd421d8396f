//! Names, vdevs, and the way between libxl's structs and the model.

use serde::Deserialize;
use xlsnap_types::libxl::{self, DiskFormat};
use xlsnap_types::model::{
    Bus, ConvertError, DiskName, DiskSnapshot, DomainName, ImageFormat, Kind, Snapshot, SnapshotName,
    StateFlags, Vdev,
};

use crate::vectors::lines;

#[test]
fn names_of_snapshots() {
    let longest = "x".repeat(200);
    for name in ["a", "1421234567", "before upgrade", "快照", "a.b", ".hidden", "ü-1", &longest] {
        assert_eq!(SnapshotName::new(name).unwrap().as_str(), name);
    }
    let too_long = "x".repeat(300);
    let too_long_by_bytes = "快".repeat(67);
    for name in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/",
        "-f",
        "-",
        "--",
        "a\nb",
        "a\0",
        "\u{1b}[31m",
        "a\u{7f}",
        "\u{85}",
        &too_long,
        &too_long_by_bytes,
    ] {
        let error = SnapshotName::new(name).expect_err(name).to_string();
        assert!(!error.contains(|c: char| c.is_control()), "the message is fit for a terminal: {error:?}");
        assert!(serde_json::from_value::<SnapshotName>(name.into()).is_err(), "no way around the check");
    }
}

#[test]
fn names_of_domains_and_disks() {
    assert!(DomainName::new("web 1").is_ok());
    for name in ["", ".web", "-n", "a/b", "..", "a\tb"] {
        assert!(DomainName::new(name).is_err(), "{name:?}");
    }
    for name in ["hda", "xvda1", "d0p1", "nvram", "0", "a.b_c-d", &"x".repeat(64)] {
        assert!(DiskName::new(name).is_ok(), "{name:?}");
    }
    for name in ["", "-f", ".a", "_a", "a b", "a/b", "é", "a,b", "a=b", "hda\n", &"x".repeat(65)] {
        assert!(DiskName::new(name).is_err(), "{name:?}");
    }
}

#[test]
fn the_name_for_a_time_is_free() {
    let taken = ["17", "17-2"];
    let name = SnapshotName::from_time(17, |name| taken.contains(&name.as_str()));
    assert_eq!(name.as_str(), "17-3");
    assert_eq!(SnapshotName::from_time(17, |_| false).as_str(), "17");
}

#[derive(Deserialize)]
struct VdevVector {
    vdev: String,
    devid: i64,
    disk: Option<i64>,
    partition: Option<i64>,
}

/// libxl takes these, and we do not: by mistake, or in a spelling that a person does not write.
const NOT_TAKEN: &[&str] = &[
    "",
    "hd",
    "hd1",
    "xvd",
    "xvd1",
    "sd",
    "d-1p0", // libxl's mistakes
    "0",
    "1",
    "768",
    "5632",
    "51712",
    "0xca00",
    "0xCA00",
    "0300",
    "2147483647",
    "+5",
    " 5", // bare numbers
    "d0x10p0",
    "d010p0",
    "d0p010",
    "d 5p1",
    "d5p 1", // numbers that are not plain
];

#[test]
fn vdevs_as_libxl_parses_them() {
    let mut taken = 0;
    for vector in lines::<VdevVector>(include_str!("../vectors/vdev.jsonl")) {
        let name = vector.vdev.as_str();
        let parsed = name.parse::<Vdev>();
        if vector.devid == -1 || NOT_TAKEN.contains(&name) {
            assert!(parsed.is_err(), "{name:?} gives {parsed:?}");
            continue;
        }
        let vdev = parsed.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(i64::from(vdev.devid()), vector.devid, "{name}");
        assert_eq!(Some(vdev.disk().into()), vector.disk, "{name}");
        assert_eq!(Some(vdev.partition().into()), vector.partition, "{name}");
        assert_eq!(vdev.to_string(), name);
        assert_eq!(DiskName::new(name).unwrap().vdev(), Some(vdev));
        taken += 1;
    }
    assert!(taken > 35, "the vectors were found");
}

#[test]
fn two_names_of_one_device() {
    let [letters, numbers] = ["xvdb", "d1p0"].map(|name| name.parse::<Vdev>().unwrap());
    assert_eq!((letters.bus(), numbers.bus()), (Bus::Xvd, Bus::Numbered));
    assert_eq!(letters.devid(), numbers.devid());
    assert_eq!(DiskName::new("nvram").unwrap().vdev(), None);
    assert!("xvdzzzzzzzzzzzz".parse::<Vdev>().is_err());
    assert!("d99999999999p0".parse::<Vdev>().is_err());
    assert!("hda4294967297".parse::<Vdev>().is_err());
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn full() -> Snapshot {
    Snapshot {
        name: "s".parse().expect("a name"),
        description: "d".to_owned(),
        creation_time: u64::MAX,
        memory: some("/m"),
        state: StateFlags { running: true, ..StateFlags::default() },
        disks: vec![
            DiskSnapshot { disk: "hda".parse().expect("a name"), tag: "s".to_owned(), kind: Kind::Internal },
            DiskSnapshot {
                disk: "hdb".parse().expect("a name"),
                tag: "t".to_owned(),
                kind: Kind::External { file: "/o".to_owned(), format: ImageFormat::Vpc },
            },
        ],
    }
}

#[test]
fn to_libxl_and_back() {
    let there = libxl::DomainSnapshot::try_from(&full()).unwrap();
    assert_eq!(there.disks[0].file, some(""), "no string is NULL");
    assert_eq!(there.disks[0].format, DiskFormat::Unknown);
    assert_eq!((&there.disks[1].file, there.disks[1].format), (&some("/o"), DiskFormat::Vhd));
    assert!(there.disks.iter().all(|disk| disk.path == some("")));
    assert_eq!(Snapshot::try_from(&there), Ok(full()));
}

#[test]
fn null_and_empty_mean_the_same() {
    let disk = libxl::DiskSnapshot { device: some("hda"), format: DiskFormat::Qcow2, ..Default::default() };
    let null = libxl::DomainSnapshot { name: some("s"), disks: vec![disk], ..Default::default() };
    let mut empty = null.clone();
    (empty.description, empty.memory) = (some(""), some(""));
    (empty.disks[0].name, empty.disks[0].file) = (some(""), some(""));
    let snapshot = Snapshot::try_from(&null).unwrap();
    assert_eq!(Snapshot::try_from(&empty).as_ref(), Ok(&snapshot));
    assert_eq!((snapshot.memory, snapshot.description.as_str()), (None, ""));
    assert_eq!((snapshot.disks[0].tag.as_str(), &snapshot.disks[0].kind), ("s", &Kind::Internal));
}

#[test]
fn what_is_no_snapshot_is_named() {
    let check = |change: fn(&mut libxl::DomainSnapshot), message: &str| {
        let mut from = libxl::DomainSnapshot::try_from(&full()).unwrap();
        change(&mut from);
        let error = Snapshot::try_from(&from).unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    check(|s| s.name = None, "the snapshot's name is not valid");
    check(|s| s.name = some("../x"), "the snapshot's name is not valid");
    check(|s| s.disks[1].device = None, "the device of disk 1 is not valid");
    check(|s| s.disks[1].device = some("hda"), "the disk hda is listed twice");
    check(
        |s| s.disks[1].name = some("a\nb"),
        "the snapshot's name in the disk hdb contains a control character",
    );
    check(
        |s| s.disks[1].name = Some("x".repeat(256)),
        "the snapshot's name in the disk hdb has more than 255 bytes",
    );
    check(
        |s| s.disks[1].format = DiskFormat::Unknown,
        "the external snapshot of the disk hdb has the format unknown, which is none of an overlay",
    );
    let mut luks = full();
    let format = ImageFormat::from_driver("luks");
    luks.disks[1].kind = Kind::External { file: "/o".to_owned(), format: format.clone() };
    let disk = "hdb".parse().unwrap();
    assert_eq!(libxl::DomainSnapshot::try_from(&luks), Err(ConvertError::NoSuchFormat { disk, format }));
}

#[test]
fn formats_of_libxl() {
    for (number, format) in (0..).zip(DiskFormat::ALL) {
        assert_eq!(format.number(), number);
        assert_eq!(DiskFormat::from_number(number), Some(format));
        assert_eq!(format.name().to_uppercase().parse(), Ok(format));
        if let Some(image) = ImageFormat::from_libxl(format) {
            assert_eq!(image.to_libxl(), Some(format));
        }
    }
    assert_eq!(DiskFormat::from_number(7), None);
    assert_eq!(DiskFormat::from_number(-1), None);
    assert!("qcow2 ".parse::<DiskFormat>().is_err());
}

#[test]
fn paths_are_hidden() {
    let mut snapshot = libxl::DomainSnapshot { disks: vec![Default::default(); 2], ..Default::default() };
    snapshot.disks[1].path = some("/dev/vg/root");
    snapshot.hide_paths();
    assert!(snapshot.disks.iter().all(|disk| disk.path == some("")));
}
