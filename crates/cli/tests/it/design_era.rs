//! The spellings of xl's design.

use std::fs;

use xlsnap_testkit::real::snapshots_in;

use crate::host::Host;
use crate::life::Startable;

#[test]
fn the_four_commands_do_what_todays_do() {
    let (host, images) = Host::with_two_disks();
    let config = host.scratch.path("snap.cfg");
    fs::write(&config, "name=\"s1\"\ndescription=\"by file\"\ndisk=['vdev=vda']\n").unwrap();
    let config = config.to_str().unwrap();
    host.run(["snapshot-create", config, "web"]).ok();
    host.run(["snapshot-create", "-n", "s2", "-D", "web"]).ok();
    assert_eq!(snapshots_in(&images[0]), ["s1", "s2"]);
    assert_eq!(snapshots_in(&images[1]), ["s2"]);

    let list = host.run(["snapshot-list", "web"]);
    let lines: Vec<&str> = list.ok().out.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["TAG", "NAME", "DATE", "STATE", "DISK", "ONLY"]
    );
    let cells: Vec<&str> = lines[1].split_whitespace().collect();
    assert!(cells[0].parse::<u64>().unwrap() > 1_600_000_000);
    assert_eq!((cells[1], cells[4], cells[5]), ("s1", "-----", "yes"));
    assert_eq!(lines.len(), 3);
    let long = host.run(["snapshot-list", "-l", "-n", "s1", "web"]);
    assert!(long.ok().out.contains("by file") && long.out.contains("vda"), "{}", long.out);
    host.refuses(3, ["snapshot-list", "-n", "s3", "web"]);

    host.refuses(5, ["snapshot-revert", "-n", "s1", "-p", "web"]).tells("started");
    host.refuses(2, ["snapshot-revert", "-n", "s1", "-c", "web"]).tells("-c");
    host.run(["snapshot-revert", "-n", "s1", "-d", "web"]).ok();
    host.run(["snapshot-delete", "-n", "s1", "web"]).ok();
    assert_eq!(host.names("web"), ["s2"]);
}

#[test]
fn the_memory_of_a_guest_that_is_on_is_taken_unless_left_out() {
    let host = Startable::new("");
    let memory = |name: &str| host.json(&["show", "web", name])["snapshot"]["memory"].clone();
    host.run(["snapshot-create", "-n", "off", "web"]).ok();
    assert!(memory("off").is_null());
    host.start();
    host.run(["snapshot-create", "-n", "disks", "-D", "web"]).ok();
    assert!(memory("disks").is_null());
    // A file says itself what it wants, and one that does not say it wants the disks.
    let config = host.scratch.path("snap.cfg");
    fs::write(&config, "name=\"file\"\n").unwrap();
    host.run(["snapshot-create", config.to_str().unwrap(), "web"]).ok();
    assert!(memory("file").is_null());
    host.run(["snapshot-create", "-n", "all", "web"]).ok();
    let save = memory("all");
    assert!(save.as_str().unwrap().ends_with("/all.save"), "{save}");
    // As xl restore would have it.
    host.run(["snapshot-revert", "-n", "all", "-p", "web"]).ok();
    assert_eq!(host.json(&["domain", "status", "web"])["state"], "paused");
}

#[test]
fn a_dry_run_has_one_letter_everywhere() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "s1"]).ok();
    for words in [
        ["create", "-N", "web", "s2"].as_slice(),
        &["revert", "-N", "web", "s1"],
        &["delete", "-N", "web", "s1"],
        &["snapshot-create", "-N", "-n", "s2", "web"],
        &["snapshot-revert", "-N", "-n", "s1", "web"],
        &["snapshot-delete", "-N", "-n", "s1", "web"],
    ] {
        let before = host.state();
        host.run(words).ok();
        host.assert_state(&before);
    }
    // Meant as a dry run, the name's letter takes the domain, and none is left.
    host.refuses(2, ["snapshot-create", "-n", "web"]);
    assert_eq!(snapshots_in(&images[0]), ["s1"]);
}

#[test]
fn a_conflict_between_file_and_options_is_an_error() {
    let (host, _) = Host::with_two_disks();
    let config = host.scratch.path("snap.cfg");
    fs::write(&config, "name=\"s1\"\ndescription=\"a\"\ndisk=['vdev=vda']\n").unwrap();
    let config = config.to_str().unwrap();
    host.refuses(2, ["snapshot-create", "-n", "s2", config, "web"]).tells("two different names");
    host.refuses(2, ["create", "web", "s2", "--config", config]).tells("two different names");
    host.refuses(2, ["create", "web", "--config", config, "--description", "b"]);
    host.refuses(2, ["create", "web", "--config", config, "--exclude", "vdb"]);
    host.refuses(3, ["create", "web", "--config", "missing.cfg"]);

    fs::write(config, "name=\"s1\"\nmemory=\"yes\"\n").unwrap();
    host.refuses(5, ["snapshot-create", config, "web"]).tells("memory").tells("off");
    host.refuses(2, ["snapshot-create", "-D", config, "web"]).tells("-D");
    fs::write(config, "name=\"s1\"\nmemroy=\"no\"\n").unwrap();
    host.refuses(2, ["snapshot-create", config, "web"]).tells("memroy").tells("2");
}
