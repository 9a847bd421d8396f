//! What an external snapshot stands on: a block device, a raw image, one that another domain stands on too, one of another size, and
//! who may use the files.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use xlsnap_testkit::real::{Data, LoopDevice, holds_offline, qemu_img, write_offline};

use crate::host::Host;

const SIZE: u64 = 4 << 20;

/// The image that the disk `vda` of a domain writes to.
fn top(host: &Host, domain: &str) -> PathBuf {
    let shown = host.json(&["domain", "show", domain]);
    shown["domain"]["disks"][0]["image"].as_str().unwrap().into()
}

#[track_caller]
fn assert_holds(image: &Path, format: &str, byte: u8) {
    assert!(holds_offline(image, format, Data::of(byte)), "{image:?} does not hold {byte}");
}

fn describe(host: &Host, old: &Path, new: &Path) {
    let file = host.root().join("domains/web.toml");
    let text = fs::read_to_string(&file).unwrap();
    let [old, new] = [old, new].map(|image| format!("image = \"{}\"", image.display()));
    assert!(text.contains(&old), "{old} is not in {text}");
    fs::write(file, text.replace(&old, &new)).unwrap();
}

/// A logical volume, say. Its overlays lie elsewhere; what they hold goes down into it.
#[test]
fn a_block_device_is_a_base_and_is_guarded_as_one() {
    let host = Host::new();
    // Without root there is no device to try it on.
    let Some(device) = LoopDevice::of(&host.scratch.raw("disk", SIZE)) else { return };
    let disk = Path::new(device.path());
    // qemu-io takes no device for a raw file.
    let holds = |byte: u8| {
        let mut found = [0; 512];
        File::open(disk).unwrap().read_exact_at(&mut found, 0).unwrap();
        found == [byte; 512]
    };
    OpenOptions::new().write(true).open(disk).unwrap().write_all_at(&[1; 65536], 0).unwrap();
    host.add("web", &[disk.to_owned()], &["--format", "vda=raw"]);
    host.refuses(5, ["create", "web", "e1", "--external", "vda"]).tells("/dev");
    for (name, byte) in [("e1", 2), ("e2", 3)] {
        let overlay = host.scratch.path(&format!("{name}.qcow2"));
        host.run(["create", "web", name, "--external", &format!("vda={}", overlay.display())]).ok();
        write_offline(&overlay, "qcow2", Data::of(byte));
    }
    host.run(["check", "web"]).ok();
    // A description that names the device again would write to what e1 holds.
    let now = top(&host, "web");
    describe(&host, &now, disk);
    host.refuses(5, ["create", "web", "e3"]).tells("holds the state of snapshot e1");
    describe(&host, disk, &now);

    host.run(["delete", "web", "e1"]).ok();
    assert!(holds(2));
    assert_holds(&top(&host, "web"), "qcow2", 3);
    host.run(["check", "web"]).ok();
    host.run(["delete", "web", "e2"]).ok();
    assert_eq!(top(&host, "web"), disk);
    assert!(holds(3));
    assert!(!now.exists());
}

/// Two domains on one image that neither has for its own: nothing is ever written to it.
#[test]
fn a_golden_image_is_only_read() {
    let host = Host::new();
    let golden = host.scratch.qcow2_with("golden.qcow2", SIZE, 1);
    let mut images = Vec::new();
    for domain in ["web", "db"] {
        let image = host.scratch.path(&format!("{domain}.qcow2"));
        // By a relative name, as one moves such files together.
        qemu_img(&[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-b",
            "golden.qcow2",
            image.to_str().unwrap(),
        ]);
        host.add(domain, std::slice::from_ref(&image), &[]);
        images.push(image);
    }
    fs::set_permissions(&golden, fs::Permissions::from_mode(0o444)).unwrap();
    let before = fs::read(&golden).unwrap();
    for domain in ["web", "db"] {
        host.run(["create", domain, "e1", "--external", "vda"]).ok();
        write_offline(&top(&host, domain), "qcow2", Data::of(2));
        host.run(["create", domain, "e2", "--external", "vda"]).ok();
        write_offline(&top(&host, domain), "qcow2", Data::of(3));
    }
    host.run(["revert", "web", "e1"]).ok();
    assert_holds(&top(&host, "web"), "qcow2", 1);
    for (domain, name) in [("web", "e2"), ("web", "e1"), ("db", "e1"), ("db", "e2")] {
        host.run(["delete", domain, name]).ok();
    }
    assert_holds(&top(&host, "web"), "qcow2", 1);
    assert_holds(&top(&host, "db"), "qcow2", 3);
    assert!(fs::read(&golden).unwrap() == before, "the golden image was written to");
    for image in &images {
        assert_eq!(top(&host, image.file_stem().unwrap().to_str().unwrap()), *image);
        let header = fs::read(image).unwrap();
        let name = b"golden.qcow2";
        assert!(header.windows(name.len()).any(|part| part == name));
        assert!(
            !header.windows(name.len() + 1).any(|part| part == b"/golden.qcow2"),
            "the name stays relative"
        );
    }
    for domain in ["web", "db"] {
        host.run(["check", domain]).ok();
    }
}

/// A disk that was made larger: a deletion loses no size, and a revert brings the size of then.
#[test]
fn a_disk_that_grew_keeps_its_size_and_its_snapshots() {
    let host = Host::new();
    let image = host.scratch.qcow2_with("a.qcow2", SIZE, 1);
    host.add("web", &[image], &[]);
    host.run(["create", "web", "small", "--external", "vda"]).ok();
    let overlay = top(&host, "web");
    write_offline(&overlay, "qcow2", Data::of(2));
    qemu_img(&["resize", "-q", overlay.to_str().unwrap(), "8M"]);
    write_offline(&overlay, "qcow2", Data::of(3).at(6 << 20));
    host.run(["create", "web", "large", "--external", "vda"]).ok();
    let size = |image: &Path| {
        let shown = host.json(&["list", "web", "--tree"]);
        let files = shown["domains"][0]["chains"].as_array().unwrap().clone();
        let found = files.iter().find(|file| file["file"] == image.to_str().unwrap()).unwrap();
        found["virtual_size"].as_u64().unwrap()
    };
    assert_eq!(size(&top(&host, "web")), 2 * SIZE);
    host.run(["revert", "web", "small"]).ok();
    assert_eq!(size(&top(&host, "web")), SIZE);
    assert_holds(&top(&host, "web"), "qcow2", 1);
    host.run(["revert", "web", "large"]).ok();
    assert_eq!(size(&top(&host, "web")), 2 * SIZE);
    host.run(["delete", "web", "small"]).ok();
    assert_holds(&top(&host, "web"), "qcow2", 2);
    assert!(holds_offline(&top(&host, "web"), "qcow2", Data::of(3).at(6 << 20)));
    host.run(["check", "web"]).ok();
}

/// An overlay is for those for whom the base is, and for no other users, however often it is made anew.
#[test]
fn the_files_have_the_users_of_the_first() {
    let host = Host::new();
    let image = host.scratch.qcow2_with("a.qcow2", SIZE, 1);
    fs::set_permissions(&image, fs::Permissions::from_mode(0o664)).unwrap();
    // Without root the owner is who runs this.
    let is_root = std::os::unix::fs::chown(&image, Some(1234), Some(5678)).is_ok();
    host.add("web", std::slice::from_ref(&image), &[]);
    let assert_access = |what: &str| {
        let found = fs::metadata(top(&host, "web")).unwrap();
        assert_eq!(found.mode() & 0o777, 0o660, "{what}");
        if is_root {
            assert_eq!((found.uid(), found.gid()), (1234, 5678), "{what}");
        }
    };
    host.run(["create", "web", "e1", "--external", "vda"]).ok();
    assert_access("create");
    host.run(["create", "web", "i1"]).ok();
    host.run(["revert", "web", "e1"]).ok();
    assert_access("revert");
    // Copied out of the file that the disk left.
    host.run(["revert", "web", "i1"]).ok();
    assert_access("revert into a copy");
    host.run(["check", "web"]).ok();
}
