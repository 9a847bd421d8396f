//! What a record needs that cannot be read now stays, whatever becomes of the other snapshots; and what another domain may need of which
//! something cannot be read.

use std::fs;
use std::path::{Path, PathBuf};

use xlsnap_testkit::real::{Data, holds_offline, write_offline};

use crate::host::Host;
use crate::into_base::overlay;
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
    overlay(&stray, base);
    let whole = fs::read(record(&host, "e1")).unwrap();
    fs::write(record(&host, "e1"), UNREAD[0]).unwrap();
    host.refuses(5, ["check", "web", "--delete-orphan", file])
        .tells("may be named by the record of snapshot e1")
        .tells("xlsnap delete web e1 --metadata-only");
    fs::write(record(&host, "e1"), whole).unwrap();
    host.run(["check", "web", "--delete-orphan", file]).ok();
    assert!(!stray.exists());
}

/// What is wrong of another domain, the file in which, and the sentence about it.
fn of_another(host: &Host) -> [(&'static str, PathBuf, &'static str); 5] {
    let records = host.records("db");
    [
        ("file", host.root().join("domains/db.toml"), "domain db may need it, whose file "),
        ("image", host.scratch.path("other/clone.qcow2"), "disk vda of domain db may be read through it: "),
        (
            "record",
            records.join("snapshotmeta-s1.json"),
            "snapshot s1 of domain db may need it, whose record",
        ),
        (
            "its libxl part",
            records.join("snapshotdata-s1.libxl-json"),
            "snapshot s1 of domain db may need it, whose record",
        ),
        ("ledger", records.join("domain.json"), "domain db may need it, and what is stored of that"),
    ]
}

/// A disk of a domain `db` on what the snapshot `e2` of `web` holds, in a directory of its own, with the snapshot `s1` inside it.
fn another_on(host: &Host, base: &Path) -> PathBuf {
    fs::create_dir(host.scratch.path("other")).unwrap();
    let clone = host.scratch.path("other/clone.qcow2");
    overlay(&clone, base.to_str().unwrap());
    host.add("db", std::slice::from_ref(&clone), &[]);
    host.run(["create", "db", "s1"]).ok();
    clone
}

#[test]
fn what_another_domain_may_need_is_not_merged() {
    let (host, files) = chain("vm", &["--no-keep-name"]);
    let clone = another_on(&host, &files[1]);
    for (what, file, told) in of_another(&host) {
        let whole = fs::read(&file).unwrap();
        fs::write(&file, "neither TOML = nor JSON").unwrap();
        host.run(["create", "web", "e3", "--external", "vda", "--no-keep-name"]).ok();
        let deleted = host.run(["delete", "web", "e3"]);
        assert!(deleted.ok().out.contains(told), "{what}: {deleted:?}");
        assert_eq!(deleted.out.matches("for files that stay so: ").count(), 1, "{what}: {deleted:?}");
        holds(&files);
        fs::write(&file, whole).unwrap();
        assert!(holds_offline(&clone, "qcow2", Data::of(2)), "{what}");
        // What no snapshot needs goes with the next deletion.
        host.run(["create", "web", "e3", "--external", "vda", "--no-keep-name"]).ok();
        host.run(["delete", "web", "e3"]).ok();
        assert_eq!(image_of(&host, 0), files[2], "{what}");
        all_is_well(&host);
    }
    // One whose file system is not mounted now may be there again.
    let (place, away) = (host.scratch.path("other"), host.scratch.path("away"));
    fs::rename(&place, &away).unwrap();
    let deleted = host.run(["delete", "web", "e2"]);
    assert!(deleted.ok().out.contains("disk vda of domain db may be read through it"), "{deleted:?}");
    holds(&files);
    // To copy out of what it may need changes none of that.
    let flattened = host.run(["flatten", "web"]);
    assert!(flattened.ok().out.contains("disk vda of domain db may be read through it"), "{flattened:?}");
    holds(&files);
    fs::rename(&away, &place).unwrap();
    assert!(holds_offline(&clone, "qcow2", Data::of(2)));
    host.run(["domain", "remove", "db", "--force"]).ok();
}

#[test]
fn what_may_be_the_disk_of_another_domain_is_not_removed_on_request() {
    let (host, [.., top]) = chain("vm", &["--no-keep-name"]);
    let stray = top.with_file_name("stray.qcow2");
    let (base, orphan) = (top.to_str().unwrap(), stray.to_str().unwrap());
    overlay(&stray, base);
    let other = host.scratch.qcow2_with("db.qcow2", 1 << 20, 1);
    host.add("db", &[other], &[]);
    let file = host.root().join("domains/db.toml");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, "neither TOML = nor JSON").unwrap();
    let refused = host.refuses(5, ["check", "web", "--delete-orphan", orphan]);
    refused.tells("domain db may need it, whose file").tells("repair ");
    assert_eq!(refused.err.matches("warning: the disks of domain db are not compared with: ").count(), 1);
    fs::write(&file, whole).unwrap();
    host.run(["check", "web", "--delete-orphan", orphan]).ok();
    assert!(!stray.exists());
}

/// What a disk wrote last is all that there is of it, although no description names it now.
#[test]
fn a_disk_that_the_description_names_no_more_keeps_what_it_wrote() {
    let host = Host::new();
    let images = ["a", "b"].map(|name| host.scratch.qcow2_with(&format!("{name}.qcow2"), 4 << 20, 1));
    host.add("web", &images, &[]);
    host.run(["create", "web", "e1", "--external", "vda,vdb", "--no-keep-name"]).ok();
    let top = image_of(&host, 1);
    write_offline(&top, "qcow2", Data::of(2));
    let file = host.root().join("domains/web.toml");
    let whole = fs::read_to_string(&file).unwrap();
    let (without, _) = whole.split_at(whole.rfind("[[disk]]").unwrap());
    fs::write(&file, without).unwrap();
    let deleted = host.run(["delete", "web", "e1"]);
    assert!(deleted.code == 5 || deleted.out.contains("is none of the domain's now"), "{deleted:?}");
    assert!(holds_offline(&top, "qcow2", Data::of(2)), "{deleted:?}");
    fs::write(&file, whole).unwrap();
    assert!(holds_offline(&image_of(&host, 1), "qcow2", Data::of(2)));
}
