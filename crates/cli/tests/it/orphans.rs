//! `xlsnap check --adopt` and `--delete-orphan`: what no record names, made by qemu-img and by QEMU itself.

use std::path::Path;

use serde_json::{Value, json};
use xlsnap_testkit::real::{Data, Monitor, holds_offline, qemu_img, snapshots_in, write_offline};

use crate::host::Host;
use crate::life::Startable;
use crate::memory::Counting;

fn take(image: &Path, name: &str) {
    qemu_img(&["snapshot", "-c", name, image.to_str().unwrap()]);
}

/// The lines to copy in the findings of a check.
fn lines(host: &Host) -> Vec<String> {
    let check = host.run(["check", "web", "--json"]);
    assert_eq!(check.code, 7, "{check:?}");
    let report: Value = serde_json::from_str(&check.out).unwrap();
    let findings = report["domains"][0]["findings"].as_array().unwrap();
    let advice = findings.iter().map(|finding| finding["advice"].as_str().unwrap());
    advice
        .flat_map(|advice| advice.split("xlsnap ").skip(1))
        .map(|line| line.replace("; or delete it: ", ""))
        .collect()
}

fn run(host: &Host, line: &str) {
    host.run(line.split(' ')).ok();
}

#[test]
fn a_snapshot_of_qemu_img_is_adopted_and_goes_as_any_other() {
    let (host, images) = Host::with_two_disks();
    for (image, byte) in images.iter().zip([1, 2]) {
        take(image, "theirs");
        assert!(holds_offline(image, "qcow2", Data::of(byte)));
        write_offline(image, "qcow2", Data::of(9));
    }
    let found = lines(&host);
    assert_eq!(found[..2], ["check web --adopt theirs", "check web --delete-orphan theirs"]);
    let check = host.run(["check", "web"]);
    assert!(
        check.out.contains("by hand: give it a record: xlsnap check web --adopt theirs"),
        "{}",
        check.out
    );

    let before = host.state();
    let plan = host.run(["check", "web", "--adopt", "theirs", "-n"]);
    for word in ["store the record of snapshot theirs", "vda, vdb (internal)", "the record will have"] {
        assert!(plan.ok().out.contains(word), "{word} is not in {}", plan.out);
    }
    host.assert_state(&before);
    let adopted = host.json(&["check", "web", "--adopt", "theirs"]);
    assert_eq!(adopted["schema"], "xlsnap.adopt/1");
    assert_eq!(adopted["snapshot"]["consistency"], "crash");
    host.run(["check", "web"]).ok();
    let again = host.refuses(5, ["check", "web", "--adopt", "theirs"]);
    again.tells("has a record").tells("xlsnap show web theirs");

    host.run(["revert", "web", "theirs"]).ok();
    for (image, byte) in images.iter().zip([1, 2]) {
        assert!(holds_offline(image, "qcow2", Data::of(byte)));
    }
    host.run(["delete", "web", "theirs"]).ok();
    for image in &images {
        assert!(snapshots_in(image).is_empty());
    }
    host.run(["check", "web"]).ok();
}

#[test]
fn an_orphan_is_deleted_by_its_name() {
    let (host, images) = Host::with_two_disks();
    for image in &images {
        take(image, "theirs");
        take(image, "a 'b'/");
    }
    host.run(["create", "web", "ours"]).ok();
    let before = host.state();
    let plan = host.run(["check", "web", "--delete-orphan", "theirs", "--disk", "vdb", "-n"]);
    assert!(plan.ok().out.contains("qemu-img snapshot -d") && !plan.out.contains("vda"), "{}", plan.out);
    host.assert_state(&before);
    host.run(["check", "web", "--delete-orphan", "theirs", "--disk", "vdb"]).ok();
    assert_eq!(snapshots_in(&images[0]), ["theirs", "a 'b'/", "ours"]);
    assert_eq!(snapshots_in(&images[1]), ["a 'b'/", "ours"]);
    host.run(["check", "web", "--delete-orphan", "a 'b'/"]).ok();
    host.refuses(3, ["check", "web", "--delete-orphan", "ours"]).tells("that no record names");
    host.refuses(3, ["check", "web", "--delete-orphan", "/no/such/file.save"]).tells("no file");
    host.refuses(3, ["check", "web", "--adopt", "nothing"]);
    host.run(["check", "web", "--delete-orphan", "theirs"]).ok();
    for image in &images {
        assert_eq!(snapshots_in(image), ["ours"]);
    }
    host.run(["check", "web"]).ok();
    // One or the other, of one domain.
    for words in [
        ["check", "--adopt", "s"].as_slice(),
        &["check", "web", "--adopt", "s", "--delete-orphan", "s"],
        &["check", "web", "--adopt", "s", "--repair"],
        &["check", "web", "--disk", "vda"],
        &["check", "web", "-n"],
    ] {
        assert_eq!(host.run(words).code, 2, "{words:?}");
    }
}

/// QEMU's own command saves the machine's state too.
#[test]
fn a_snapshot_of_savevm_is_adopted_with_its_memory() {
    let mut counting = Counting::new();
    let socket = counting.host.json(&["domain", "status", "web"])["socket"].as_str().unwrap().to_owned();
    let from = counting.tick();
    {
        let mut monitor = Monitor::connect(Path::new(&socket)).unwrap();
        let said = monitor.must("human-monitor-command", json!({"command-line": "savevm theirs"}));
        assert_eq!(said, "", "savevm has nothing to say");
    }
    let until = counting.counts_on();
    let found = lines(&counting.host);
    run(&counting.host, &found[0]);
    let shown = counting.host.json(&["show", "web", "theirs"]);
    assert_eq!(shown["snapshot"]["saved_memory"]["way"], "internal");
    assert_eq!(shown["snapshot"]["disks"].as_array().unwrap().len(), 2);
    counting.goes_back("theirs", from..=until);
    counting.host.run(["delete", "web", "theirs"]).ok();
    counting.host.run(["check", "web"]).ok();
    counting.counts_on();
}

/// A record that was lost is made anew, with the memory file of its name.
#[test]
fn a_memory_file_comes_back_with_its_snapshot() {
    let mut counting = Counting::new();
    let from = counting.tick();
    counting.host.run(["create", "web", "s1", "--memory"]).ok();
    let until = counting.counts_on();
    let before = counting.host.json(&["show", "web", "s1"])["snapshot"]["saved_memory"].clone();
    counting.host.run(["delete", "web", "s1", "--metadata-only"]).ok();
    let file = counting.memory_file("s1");
    assert!(file.exists());
    let found = lines(&counting.host);
    assert_eq!(found[0], "check web --adopt s1", "{found:?}");
    run(&counting.host, &found[0]);
    let after = counting.host.json(&["show", "web", "s1"])["snapshot"]["saved_memory"].clone();
    assert_eq!(after["way"], "unknown");
    for known in ["file", "bytes", "checksum", "compression"] {
        assert_eq!(after[known], before[known], "{known}");
    }
    counting.goes_back("s1", from..=until);

    counting.host.run(["delete", "web", "s1", "--metadata-only"]).ok();
    let deleted = counting.host.run(["check", "web", "--delete-orphan", "s1"]);
    let line = format!("xlsnap check web --delete-orphan {}", file.display());
    assert!(deleted.ok().out.contains(&line), "{}", deleted.out);
    assert!(file.exists());
    run(&counting.host, &format!("check web --delete-orphan {}", file.display()));
    assert!(!file.exists());
    counting.host.run(["check", "web"]).ok();
    counting.counts_on();
}

/// Images that a running QEMU has open are left to it.
#[test]
fn an_orphan_of_a_machine_that_runs_is_adopted_and_deleted() {
    let host = Startable::new("accel = \"tcg\"\nmemory = 64\n");
    let images = ["vda", "vdb"].map(|name| host.scratch.path(&format!("{name}.qcow2")));
    for image in &images {
        take(image, "theirs");
        take(image, "others");
    }
    host.start();
    host.run(["check", "web", "--adopt", "theirs"]).ok();
    host.run(["check", "web", "--delete-orphan", "others"]).ok();
    host.run(["check", "web"]).ok();
    host.run(["revert", "web", "theirs"]).ok();
    host.run(["delete", "web", "theirs"]).ok();
    host.stop(&["--powerdown", "0"]);
    for image in &images {
        assert!(snapshots_in(image).is_empty());
    }
}

/// In a file that its disk has left: listed, adopted, gone back to and deleted, off and on.
#[test]
fn an_orphan_below_an_overlay_is_as_any_other() {
    for on in [false, true] {
        let host = Startable::new("accel = \"tcg\"\nmemory = 64\n");
        let images = ["vda", "vdb"].map(|name| host.scratch.path(&format!("{name}.qcow2")));
        for (image, byte) in images.iter().zip([1, 2]) {
            for name in ["theirs", "others"] {
                take(image, name);
            }
            assert!(holds_offline(image, "qcow2", Data::of(byte)));
            write_offline(image, "qcow2", Data::of(9));
        }
        host.run(["create", "web", "above", "--external", "vda,vdb"]).ok();
        if on {
            host.start();
        }
        let found = lines(&host);
        let line = |line: &str| found.iter().filter(|found| *found == line).count();
        for name in ["theirs", "others"] {
            assert_eq!(line(&format!("check web --adopt {name}")), 2, "{found:?}");
            assert_eq!(line(&format!("check web --delete-orphan {name}")), 2, "{found:?}");
        }
        let plan = host.run(["check", "web", "--delete-orphan", "others", "-n"]).ok().out.clone();
        let base = images[0].to_str().unwrap();
        assert!(plan.contains(base) && plan.contains("qemu-img snapshot -d"), "{plan}");
        let gone = host.json(&["check", "web", "--delete-orphan", "others"]);
        assert_eq!(gone["disks"][0]["image"], base);
        for image in &images {
            assert_eq!(snapshots_in(image), ["theirs"]);
        }
        host.json(&["check", "web", "--adopt", "theirs"]);
        host.run(["check", "web"]).ok();
        if on {
            assert_eq!(host.json(&["domain", "status", "web"])["state"], "running");
            host.stop(&["--powerdown", "0"]);
        }
        host.run(["revert", "web", "theirs"]).ok();
        let shown = host.json(&["domain", "show", "web"]);
        for (disk, byte) in shown["domain"]["disks"].as_array().unwrap().iter().zip([1, 2]) {
            assert!(holds_offline(Path::new(disk["image"].as_str().unwrap()), "qcow2", Data::of(byte)));
        }
        host.run(["delete", "web", "theirs"]).ok();
        for image in &images {
            assert!(snapshots_in(image).is_empty());
        }
        host.run(["check", "web"]).ok();
    }
}

/// An overlay that another program made beside the images: it is listed, nothing below it is merged, and it goes by its name.
#[test]
fn an_overlay_that_no_record_names_is_listed_and_deleted() {
    let (host, images) = Host::with_two_disks();
    let base = images[0].to_str().unwrap();
    let overlay = |name: &str, on: &str| {
        let file = images[0].with_file_name(name).to_str().unwrap().to_owned();
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", on, &file]);
        file
    };
    let clone = overlay("clone.qcow2", base);
    // By a relative name, and on the other one.
    let above = overlay("above.qcow2", "clone.qcow2");
    let check = host.json_of(7, &["check", "web"]);
    let found: Vec<(&str, &str)> = check["domains"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["code"].as_str().unwrap(), finding["what"].as_str().unwrap()))
        .collect();
    let what = |file: &str, on: &str| format!("no disk, record or ledger names {file}, an overlay on {on}");
    let (first, second) = (what(&above, &clone), what(&clone, base));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.contains(&("overlay-orphan", &first)) && found.contains(&("overlay-orphan", &second)),
        "{found:?}"
    );

    let refused = host.refuses(5, ["check", "web", "--delete-orphan", &clone]);
    assert!(refused.err.contains(&format!("{above} stands on it")), "{}", refused.err);
    // What it stands on holds what it reads: no merge into it.
    host.run(["create", "web", "s1", "--external", "vda"]).ok();
    host.run(["create", "web", "s2", "--external", "vda"]).ok();
    let deleted = host.run(["delete", "web", "s1"]);
    assert!(deleted.ok().out.contains(&format!("{clone} stands on it")), "{deleted:?}");

    let plan = host.run(["check", "web", "--delete-orphan", &above, "-n"]);
    assert!(plan.ok().out.contains(&above), "{}", plan.out);
    assert!(Path::new(&above).exists());
    for file in [&above, &clone] {
        let answer = host.json(&["check", "web", "--delete-orphan", file]);
        assert_eq!(answer["file"], **file);
        assert!(!Path::new(file).exists());
    }
    host.run(["check", "web"]).ok();
    let gone = host.refuses(3, ["check", "web", "--delete-orphan", &clone]);
    assert!(gone.err.contains("no file"), "{}", gone.err);
}
