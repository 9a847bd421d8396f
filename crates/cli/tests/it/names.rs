//! New files under the names of the disks' images: what others start the domain by is what the disks write to.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xlsnap_testkit::real::{Attach, Data, Disk, LiveDisks, Vm, VmOptions, holds_offline, write_offline};

use crate::host::Host;

const SIZE: u64 = 4 << 20;

fn files(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.scratch.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".qcow2") || name.ends_with(".raw") || name.ends_with(".name"));
    names.sort_unstable();
    names
}

fn image(host: &Host, disk: &str) -> PathBuf {
    let shown = host.json(&["domain", "show", "web"]);
    let disks = shown["domain"]["disks"].as_array().unwrap();
    disks.iter().find(|of| of["name"] == disk).unwrap()["image"].as_str().unwrap().into()
}

/// Of a disk of a snapshot: the file that holds its state, and an overlay on that, as far as their names go.
fn part(host: &Host, name: &str) -> (String, String) {
    let shown = host.json(&["show", "web", name]);
    let part = &shown["snapshot"]["disks"][0];
    let name = |key: &str| {
        let file = Path::new(part[key].as_str().unwrap()).file_name().unwrap();
        file.to_str().unwrap().to_owned()
    };
    (name("image"), name("file"))
}

fn pair(image: &str, file: &str) -> (String, String) {
    (image.to_owned(), file.to_owned())
}

/// What `domain show`, the records and the files say after each operation.
#[test]
fn all_that_is_said_of_a_kept_name_is_of_one_piece() {
    let host = Host::new();
    let own = host.scratch.qcow2_with("a.qcow2", SIZE, 1);
    host.add("web", std::slice::from_ref(&own), &[]);
    let write = |byte| write_offline(&own, "qcow2", Data::of(byte));
    let holds = |byte| holds_offline(&own, "qcow2", Data::of(byte));
    let made = host.json(&["create", "web", "s1", "--external", "vda"]);
    let told = made["warnings"][0].as_str().unwrap();
    let expected = format!(
        "disk vda writes to a new file under the name {}; what it holds now is {} from then on",
        own.display(),
        host.scratch.path("a.s1-1.qcow2").display()
    );
    assert_eq!(told, expected);
    assert_eq!(part(&host, "s1"), pair("a.s1-1.qcow2", "a.qcow2"));
    write(2);
    host.run(["create", "web", "s2", "--external", "vda"]).ok();
    assert_eq!(part(&host, "s1"), pair("a.s1-1.qcow2", "a.s2-1.qcow2"));
    assert_eq!(part(&host, "s2"), pair("a.s2-1.qcow2", "a.qcow2"));
    write(3);
    assert_eq!(files(&host), ["a.qcow2", "a.s1-1.qcow2", "a.s2-1.qcow2"]);
    host.run(["create", "web", "inside"]).ok();
    write(4);
    host.run(["create", "web", "s3", "--external", "vda"]).ok();
    assert_eq!(
        host.json(&["show", "web", "inside"])["snapshot"]["disks"][0]["image"],
        json!(host.scratch.path("a.s3-1.qcow2"))
    );
    write(5);
    for (name, byte) in [("s1", 1), ("s2", 2), ("inside", 3), ("s3", 4), ("s1", 1)] {
        host.run(["revert", "web", name]).ok();
        assert!(holds(byte), "{name}");
        assert_eq!(image(&host, "vda"), own, "{name}");
        let check = host.run(["check", "web"]);
        assert!(check.ok().out.contains("all is well"), "{name}: {}", check.out);
        write(9);
    }
    for name in ["s3", "s1"] {
        let deleted = host.json(&["delete", "web", name]);
        assert!(!deleted["warnings"].to_string().contains("writes to"), "{deleted}");
        assert_eq!(image(&host, "vda"), own, "{name}");
        assert!(holds(9), "{name}");
    }
    host.run(["revert", "web", "s2"]).ok();
    assert!(holds(2));
    host.run(["create", "web", "s4", "--external", "vda"]).ok();
    write(6);
    for name in ["s2", "s4"] {
        host.run(["delete", "web", name]).ok();
        assert_eq!(image(&host, "vda"), own, "{name}");
        assert!(holds(6), "{name}");
        assert!(host.run(["check", "web"]).ok().out.contains("all is well"));
    }
}

#[test]
fn a_script_that_starts_the_image_starts_what_the_disk_writes_to() {
    for attach in [Attach::Blockdev, Attach::Drive] {
        let host = Host::new();
        let own = host.scratch.qcow2_with("a.qcow2", SIZE, 1);
        let script = || {
            let disks = [Disk::qcow2("vda", &own)];
            Vm::start(&host.scratch, &disks, &VmOptions { running: true, attach, ..VmOptions::default() })
        };
        let vm = script();
        host.add("web", std::slice::from_ref(&own), &["--qmp", vm.qmp().to_str().unwrap()]);
        let create = |name: &str| -> Value { host.json(&["create", "web", name, "--external", "vda"]) };
        let made = create("s1");
        let pause = made["snapshot"]["pause_us"].as_u64().unwrap();
        println!("{attach:?}: the guest stood still for {pause} us");
        assert!(pause > 0, "{made}");
        vm.write("vda", Data::of(2));
        create("s2");
        vm.write("vda", Data::of(3));
        assert_eq!(vm.monitor().must("query-status", json!({}))["status"], "running");
        vm.quit();

        let vm = script();
        assert!(vm.holds("vda", Data::of(3)));
        host.run(["revert", "web", "s1"]).ok();
        assert!(vm.holds("vda", Data::of(1)));
        vm.write("vda", Data::of(4));
        vm.quit();
        let vm = script();
        assert!(vm.holds("vda", Data::of(4)));
        host.run(["delete", "web", "s1"]).ok();
        host.run(["revert", "web", "s2"]).ok();
        assert!(vm.holds("vda", Data::of(2)));
        host.run(["delete", "web", "s2"]).ok();
        assert!(vm.holds("vda", Data::of(2)));
        vm.quit();
        assert_eq!(files(&host), ["a.qcow2"]);
        assert!(holds_offline(&own, "qcow2", Data::of(2)));
    }
}

#[test]
fn a_name_that_cannot_be_kept_is_refused_where_it_is_asked_for_and_told_where_it_is_not() {
    let host = Host::new();
    let raw = host.scratch.raw("b.raw", SIZE);
    host.add("web", std::slice::from_ref(&raw), &["--format", "vda=raw"]);
    let before = host.state();
    host.refuses(5, ["create", "web", "s1", "--external", "vda", "--keep-name"])
        .tells("its format is raw")
        .tells("--no-keep-name");
    host.assert_state(&before);
    host.refuses(2, ["create", "web", "s1", "--external", "vda", "--keep-name", "--no-keep-name"]);
    let planned = host.run(["create", "web", "s1", "--external", "vda", "--dry-run"]);
    for words in
        ["what starts domain web has to name", "b.s1-1.qcow2", "its format is raw", "nothing refuses a start"]
    {
        assert!(planned.ok().out.contains(words), "{words}: {}", planned.out);
    }
    host.assert_state(&before);

    let host = Host::new();
    let own = host.scratch.qcow2("a.qcow2", SIZE);
    fs::hard_link(&own, host.scratch.path("second")).unwrap();
    host.add("web", std::slice::from_ref(&own), &[]);
    host.refuses(5, ["create", "web", "s1", "--external", "vda", "--keep-name"]).tells("2 names");
    let other = host.scratch.path("over");
    fs::create_dir(&other).unwrap();
    fs::remove_file(host.scratch.path("second")).unwrap();
    let elsewhere = format!("vda={}", other.join("top.qcow2").display());
    host.refuses(5, ["create", "web", "s1", "--external", &elsewhere, "--keep-name"])
        .tells("another directory");
    host.run(["create", "web", "s1", "--external", "vda", "--keep-name"]).ok();
    host.run(["delete", "web", "s1"]).ok();
    assert_eq!(files(&host), ["a.qcow2"]);
}
