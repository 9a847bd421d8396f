//! What a record needs that cannot be read now stays, whatever becomes of the other snapshots.

use std::fs;
use std::path::PathBuf;

use xlsnap_testkit::real::{Data, holds_offline};

use crate::host::Host;
use crate::relocate::{all_is_well, chain, image_of};

/// One that is damaged, and one that a newer version wrote.
const UNREAD: [&str; 2] = ["{\"broken", "{\"format_version\": 99}"];

fn record(host: &Host, name: &str) -> PathBuf {
    host.records("web").join(format!("snapshotmeta-{name}.json"))
}

fn holds(files: &[PathBuf; 3]) {
    for (file, byte) in files.iter().zip(1..) {
        assert!(holds_offline(file, "qcow2", Data::of(byte)), "{}", file.display());
    }
}

#[test]
fn deleting_another_snapshot_merges_and_removes_nothing() {
    for text in UNREAD {
        let (host, files) = chain("vm", &["--no-keep-name"]);
        let whole = fs::read(record(&host, "e1")).unwrap();
        fs::write(record(&host, "e1"), text).unwrap();
        let deleted = host.run(["delete", "web", "e2"]);
        assert!(
            deleted.ok().out.contains("snapshot e1 may need it, whose record cannot be read or is not whole"),
            "{deleted:?}"
        );
        holds(&files);
        fs::write(record(&host, "e1"), whole).unwrap();
        host.run(["revert", "web", "e1"]).ok();
        assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(1)));
        // What no snapshot needs goes with the next deletion.
        host.run(["delete", "web", "e1"]).ok();
        all_is_well(&host);
        assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(1)));
    }
}

/// Another program writes libxl's part alone, and a file can get lost.
#[test]
fn a_record_without_our_part_needs_what_it_does_not_name() {
    let (host, files) = chain("vm", &["--no-keep-name"]);
    let whole = fs::read(record(&host, "e1")).unwrap();
    fs::remove_file(record(&host, "e1")).unwrap();
    assert!(host.run(["check", "web"]).out.contains("put the file of its record back"));
    let deleted = host.run(["delete", "web", "e2"]);
    assert!(deleted.ok().out.contains("snapshot e1 may need it"), "{deleted:?}");
    holds(&files);
    fs::write(record(&host, "e1"), whole).unwrap();
    host.run(["revert", "web", "e1"]).ok();
    assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(1)));
    // Its own deletion needs nothing of it.
    fs::remove_file(record(&host, "e1")).unwrap();
    host.run(["delete", "web", "e1"]).ok();
    let image = image_of(&host, 0);
    assert!(holds_offline(&image, "qcow2", Data::of(1)));
    let images = fs::read_dir(host.scratch.path("vm")).unwrap().count();
    assert_eq!(images, 1, "all is merged into {}", image.display());
}

#[test]
fn nothing_is_copied_or_named_otherwise() {
    for text in UNREAD {
        let (host, files) = chain("vm", &["--no-keep-name"]);
        let whole = fs::read(record(&host, "e1")).unwrap();
        fs::write(record(&host, "e1"), text).unwrap();
        let advice = "xlsnap delete web e1 --metadata-only";
        host.refuses(5, ["flatten", "web"]).tells("cannot be read").tells(advice);
        host.refuses(5, ["create", "web", "e3", "--external", "vda", "--keep-name"]).tells("cannot be read");
        holds(&files);
        // A new one is made all the same, and gone back to; then only what was written since goes.
        host.run(["create", "web", "e3", "--external", "vda"]).ok();
        host.run(["revert", "web", "e2"]).ok();
        assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(2)));
        host.run(["revert", "web", "e3"]).ok();
        assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(3)));
        holds(&files);
        fs::write(record(&host, "e1"), whole).unwrap();
        host.run(["revert", "web", "e1"]).ok();
        assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(1)));
        for name in ["e1", "e2", "e3"] {
            host.run(["delete", "web", name]).ok();
        }
        all_is_well(&host);
    }
}

#[test]
fn files_that_were_moved_are_followed_when_it_can_be_read() {
    let (host, [first, ..]) = chain("vm", &["--no-keep-name"]);
    let whole = fs::read(record(&host, "e1")).unwrap();
    fs::write(record(&host, "e1"), UNREAD[1]).unwrap();
    let moved = first.with_file_name("moved.qcow2");
    fs::rename(&first, &moved).unwrap();
    let words = ["check", "web", "--relocate", &format!("{}={}", first.display(), moved.display())];
    host.refuses(5, words).tells("the record of snapshot e1 of domain web cannot be read now");
    fs::write(record(&host, "e1"), whole).unwrap();
    host.run(words).ok();
    all_is_well(&host);
}

#[test]
fn an_overlay_that_nothing_names_is_not_removed_on_request() {
    let (host, [.., top]) = chain("vm", &["--no-keep-name"]);
    let stray = top.with_file_name("stray.qcow2");
    let (base, file) = (top.to_str().unwrap(), stray.to_str().unwrap());
    xlsnap_testkit::real::qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, file]);
    let whole = fs::read(record(&host, "e1")).unwrap();
    fs::write(record(&host, "e1"), UNREAD[0]).unwrap();
    host.refuses(5, ["check", "web", "--delete-orphan", file])
        .tells("may be named by the record of snapshot e1")
        .tells("xlsnap delete web e1 --metadata-only");
    fs::write(record(&host, "e1"), whole).unwrap();
    host.run(["check", "web", "--delete-orphan", file]).ok();
    assert!(!stray.exists());
}
