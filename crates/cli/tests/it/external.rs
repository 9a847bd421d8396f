//! External snapshots, their whole life: made, gone back to, deleted wherever they are, on real images and on a real QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use xlsnap_testkit::real::{Data, Disk, LiveDisks, Vm, VmOptions, holds_offline, wait_until, write_offline};

use crate::host::Host;
use crate::life::Startable;

const SIZE: u64 = 4 << 20;

/// A host with a domain `web` that is off: a qcow2 disk `vda` and a raw one, `vdb`, with the data 1 in both.
fn mixed() -> (Host, [PathBuf; 2]) {
    let host = Host::new();
    let images = [host.scratch.qcow2_with("a.qcow2", SIZE, 1), host.scratch.raw("b.raw", SIZE)];
    write_offline(&images[1], "raw", Data::of(1));
    host.add("web", &images, &["--format", "vdb=raw"]);
    (host, images)
}

/// The image that a disk writes to, and its format.
fn top(host: &Host, disk: &str) -> (PathBuf, String) {
    let shown = host.json(&["domain", "show", "web"]);
    let disks = shown["domain"]["disks"].as_array().unwrap();
    let found = disks.iter().find(|of| of["name"] == disk).unwrap();
    (found["image"].as_str().unwrap().into(), found["format"].as_str().unwrap().to_owned())
}

fn write(host: &Host, byte: u8) {
    for disk in ["vda", "vdb"] {
        let (image, format) = top(host, disk);
        write_offline(&image, &format, Data::of(byte));
    }
}

#[track_caller]
fn assert_holds(host: &Host, byte: u8) {
    for disk in ["vda", "vdb"] {
        let (image, format) = top(host, disk);
        assert!(holds_offline(&image, &format, Data::of(byte)), "{disk} ({image:?}) does not hold {byte}");
    }
}

/// The images and overlays that are there.
fn files(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.scratch.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".qcow2") || name.ends_with(".raw"));
    names.sort_unstable();
    names
}

/// The images keep their names; `names.rs` has what becomes of them under new files.
fn external(host: &Host, name: &str) -> Value {
    host.json(&["create", "web", name, "--external", "vda,vdb", "--no-keep-name"])
}

/// `web` with the external snapshots `e1`, `e2` and `e3` of both disks, which hold 1, 2 and 3; the disks hold 4.
fn chain() -> (Host, [PathBuf; 2]) {
    let (host, images) = mixed();
    for (name, byte) in [("e1", 2), ("e2", 3), ("e3", 4)] {
        external(&host, name);
        write(&host, byte);
    }
    (host, images)
}

/// Lets the file of `web` name another image for a disk.
fn describe(host: &Host, old: &Path, new: &Path) {
    let file = host.root().join("domains/web.toml");
    let text = fs::read_to_string(&file).unwrap();
    let [old, new] = [old, new].map(|image| format!("image = \"{}\"", image.display()));
    assert!(text.contains(&old), "{old} is not in {text}");
    fs::write(file, text.replace(&old, &new)).unwrap();
}

fn all_is_well(host: &Host) {
    let check = host.run(["check", "web"]);
    assert!(check.ok().out.contains("all is well"), "{}", check.out);
}

#[test]
fn a_chain_is_gone_back_and_forth_on() {
    let (host, _) = chain();
    for (round, (name, byte)) in
        [("e1", 1), ("e3", 3), ("e2", 2), ("e1", 1), ("e1", 1), ("e3", 3)].into_iter().enumerate()
    {
        let reverted = host.json(&["revert", "web", name]);
        assert_eq!((&reverted["way"], &reverted["disks"]), (&json!("off"), &json!(["vda", "vdb"])));
        assert_holds(&host, byte);
        let shown = &host.json(&["show", "web", name])["snapshot"];
        assert_eq!((&shown["basis"], shown["revert"]["possible"].is_object()), (&json!("now"), true));
        all_is_well(&host);
        write(&host, 0x80 + u8::try_from(round).unwrap());
    }
    let list = host.run(["list", "web", "--tree"]);
    assert!(list.ok().out.contains("*    └─ e3"), "{}", list.out);
}

#[test]
fn a_snapshot_is_deleted_wherever_it_is_and_the_last_leaves_the_images_alone() {
    for order in [["e1", "e2", "e3"], ["e2", "e1", "e3"], ["e3", "e2", "e1"]] {
        let (host, images) = chain();
        for name in order {
            let planned = host.run(["delete", "web", name, "--dry-run"]);
            assert!(planned.ok().out.contains("merge what "), "{}", planned.out);
            host.run(["delete", "web", name]).ok();
            assert_holds(&host, 4);
            all_is_well(&host);
        }
        assert_eq!(files(&host), ["a.qcow2", "b.raw"], "{order:?}");
        assert_eq!((top(&host, "vda").0, top(&host, "vdb").0), (images[0].clone(), images[1].clone()));
    }
    let (host, _) = chain();
    let deleted = host.json(&["delete", "web", "e2", "--children"]);
    assert_eq!(deleted["deleted"], json!(["e3", "e2"]));
    let moved = format!("disk vda writes to {} from then on", top(&host, "vda").0.display());
    assert!(deleted["warnings"][0].as_str().unwrap().starts_with(&moved), "{deleted}");
    assert_eq!(files(&host).len(), 4);
    host.run(["revert", "web", "e1"]).ok();
    assert_holds(&host, 1);
}

#[test]
fn without_a_merge_the_files_stay_for_a_later_deletion() {
    let (host, _) = chain();
    let before = files(&host);
    let planned = host.run(["delete", "web", "e2", "--no-merge", "--dry-run"]);
    assert!(!planned.ok().out.contains("merge"), "{}", planned.out);
    host.run(["delete", "web", "e2", "--no-merge"]).ok();
    assert_eq!(files(&host), before);
    all_is_well(&host);
    host.run(["delete", "web", "e1"]).ok();
    assert_eq!(files(&host).len(), 4, "{:?}", files(&host));
    host.run(["revert", "web", "e3"]).ok();
    assert_holds(&host, 3);
    host.refuses(2, ["delete", "web", "e3", "--no-merge", "--metadata-only"]);
}

#[test]
fn a_file_that_several_stand_on_stays_and_that_is_told() {
    let (host, images) = chain();
    host.run(["revert", "web", "e1"]).ok();
    write(&host, 5);
    let deleted = host.json(&["delete", "web", "e1"]);
    let told = deleted["warnings"][0].as_str().unwrap();
    assert!(told.starts_with(&format!("{} (disk vda) stays, because ", images[0].display())), "{told}");
    assert!(told.contains("a.e1-1.qcow2") && told.contains("a.e1-2.qcow2"), "{told}");
    assert_holds(&host, 5);
    host.run(["delete", "web", "e2", "--children"]).ok();
    assert_holds(&host, 5);
    assert_eq!(files(&host), ["a.qcow2", "b.raw"]);
}

#[test]
fn a_rotation_of_snapshots_does_not_make_names_longer_and_longer() {
    let host = Host::new();
    let image = host.scratch.qcow2_with("a.qcow2", SIZE, 1);
    host.add("web", &[image], &[]);
    let name = |number: usize| format!("every-night-at-three-in-the-morning-{number}");
    for number in 0..12 {
        host.run(["create", "web", &name(number), "--external", "vda"]).ok();
        if number >= 2 {
            host.run(["delete", "web", &name(number - 2)]).ok();
        }
    }
    assert_eq!(files(&host).len(), 3, "{:?}", files(&host));
    assert!(files(&host).iter().all(|file| file.len() < 160), "{:?}", files(&host));
}

#[test]
fn a_safety_snapshot_can_be_gone_back_to() {
    let (host, _) = chain();
    let before = host.state();
    let planned = host.json(&["revert", "web", "e1", "--safety", "now", "--dry-run"]);
    host.assert_state(&before);
    let reverted = host.json(&["revert", "web", "e1", "--safety", "now"]);
    // The dry run names the overlay that the safety snapshot is going to make, as the run does.
    assert_eq!(planned["warnings"], reverted["warnings"]);
    assert!(planned["warnings"][0].as_str().unwrap().ends_with("is kept in snapshot now"), "{planned}");
    assert_holds(&host, 1);
    host.run(["revert", "web", "now"]).ok();
    assert_holds(&host, 4);
    all_is_well(&host);
}

#[test]
fn what_is_inside_a_file_that_the_disk_left_is_copied_out() {
    let (host, _) = mixed();
    external(&host, "e1");
    write(&host, 2);
    host.run(["create", "web", "i2", "--external", "vdb"]).ok();
    write(&host, 3);
    let left = top(&host, "vda").0;
    host.run(["revert", "web", "e1"]).ok();
    all_is_well(&host);
    let planned = host.run(["revert", "web", "i2", "--dry-run"]);
    let told = "copy the internal snapshot i2 ";
    assert!(planned.ok().out.contains(told), "{}", planned.out);
    assert!(planned.out.contains(left.to_str().unwrap()), "{}", planned.out);
    host.run(["revert", "web", "i2"]).ok();
    assert_holds(&host, 2);
    assert!(left.exists(), "the snapshot is in it still");
    // No disk writes to that file, and what is inside it is deleted there.
    let planned = host.run(["delete", "web", "i2", "--dry-run"]);
    let told = format!("[qemu-img snapshot -d] {}", left.display());
    assert!(planned.ok().out.contains(&told), "{}", planned.out);
    host.run(["delete", "web", "i2"]).ok();
    assert_holds(&host, 2);
    all_is_well(&host);
}

#[test]
fn a_known_base_is_neither_started_nor_written_and_a_revert_leads_out() {
    let (host, [image, _]) = mixed();
    external(&host, "e1");
    write(&host, 2);
    let overlay = top(&host, "vda").0;
    let file = host.root().join("domains/web.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[start]\naccel = \"tcg\"\nmemory = 64\n")).unwrap();
    describe(&host, &overlay, &image);
    let line = format!("image = \"{}\"", overlay.display());
    for words in [
        ["create", "web", "s2"].as_slice(),
        &["create", "web", "s2", "--dry-run"],
        &["create", "web", "s2", "--external", "vda", "--external", "vdb"],
        &["delete", "web", "e1"],
        &["domain", "start", "web"],
    ] {
        let refused = host.refuses(5, words);
        refused.tells(&line).tells("holds the state of snapshot e1").tells(&image.display().to_string());
    }
    // What does not write to it goes on: the other disk, and the record.
    host.run(["create", "web", "s2", "--external", "vdb", "--exclude", "vda"]).ok();
    host.run(["delete", "web", "s2", "--metadata-only"]).ok();

    // The line that is told.
    describe(&host, &image, &overlay);
    assert_holds(&host, 2);
    host.run(["create", "web", "s3", "--external", "vdb"]).ok();
    host.run(["delete", "web", "s3"]).ok();
    // Or the snapshot itself.
    describe(&host, &overlay, &image);
    let reverted = host.json(&["revert", "web", "e1"]);
    let lost = format!("what {} (disk vda) holds and no snapshot has is lost", overlay.display());
    assert!(reverted["warnings"].as_array().unwrap().contains(&json!(lost)), "{reverted}");
    assert_holds(&host, 1);
    host.run(["domain", "start", "web"]).ok();
    host.run(["domain", "stop", "web", "--powerdown", "0"]).ok();

    // Nor is it described anew, for this domain or for another.
    let uuid = host.json(&["domain", "show", "web"])["domain"]["uuid"].as_str().unwrap().to_owned();
    host.run(["domain", "remove", "web", "--force"]).ok();
    let vda = format!("vda={}", image.display());
    host.refuses(5, ["domain", "add", "web", "--uuid", &uuid, "--disk", &vda]).tells("--disk vda=");
    host.refuses(5, ["domain", "add", "db", "--disk", &vda]).tells("snapshot e1 of domain web");
}

#[test]
fn a_base_that_was_written_is_found_and_taken_for_what_it_holds() {
    let (host, [image, _]) = chain();
    write_offline(&image, "qcow2", Data::of(9).at(1 << 20));
    let check = host.run(["check", "web"]);
    assert_eq!(check.code, 7, "{check:?}");
    assert!(check.out.contains("[layer-written]") && check.out.contains("xlsnap check web --keep-base vda"));
    assert!(check.out.contains("to go on from that: xlsnap revert web e1"), "{}", check.out);
    assert!(check.out.contains("xlsnap check web --keep-overlay vda"), "{}", check.out);
    host.refuses(5, ["revert", "web", "e1"]).tells("was written to since");
    let before = host.state();
    let planned = host.json_of(7, &["check", "web", "--keep-base", "vda", "--dry-run"]);
    host.assert_state(&before);
    assert_eq!(planned["domains"][0]["findings"][0]["repair"], "possible");
    let kept = host.json(&["check", "web", "--keep-base", "vda"]);
    assert_eq!(kept["domains"][0]["findings"][0]["repair"], "done");
    all_is_well(&host);
    host.run(["revert", "web", "e1"]).ok();
    assert!(holds_offline(&top(&host, "vda").0, "qcow2", Data::of(9).at(1 << 20)));
}

#[test]
fn a_disk_goes_on_with_its_image_above_a_base_that_was_written() {
    let (host, [image, _]) = chain();
    let above = top(&host, "vda").0;
    write_offline(&image, "qcow2", Data::of(9).at(1 << 20));
    let before = host.state();
    host.json_of(7, &["check", "web", "--keep-overlay", "vda", "--dry-run"]);
    host.assert_state(&before);
    let kept = host.json(&["check", "web", "--keep-overlay", "vda"]);
    assert_eq!(kept["domains"][0]["findings"][0]["repair"], "done");
    all_is_well(&host);
    assert_eq!(top(&host, "vda").0, above);
    host.run(["create", "web", "e9"]).ok();
}

#[test]
fn a_qemu_of_the_users_own_goes_back_and_merges_under_its_guest() {
    let host = Host::new();
    let images = [host.scratch.qcow2_with("a.qcow2", SIZE, 1), host.scratch.raw("b.raw", SIZE)];
    write_offline(&images[1], "raw", Data::of(1));
    let disks = [Disk::qcow2("vda", &images[0]), Disk::raw("vdb", &images[1])];
    let vm = Vm::start(&host.scratch, &disks, &VmOptions { running: true, ..VmOptions::default() });
    let qmp = vm.qmp().to_str().unwrap().to_owned();
    host.add("web", &images, &["--format", "vdb=raw", "--qmp", &qmp]);
    let made = external(&host, "e1");
    let told = made["warnings"][0].as_str().unwrap();
    assert!(told.starts_with("what starts domain web has to name "), "{told}");
    assert!(told.contains(top(&host, "vda").0.to_str().unwrap()), "{told}");
    let write = |byte| ["vda", "vdb"].map(|disk| vm.write(disk, Data::of(byte)));
    let holds = |byte| vm.holds("vda", Data::of(byte)) && vm.holds("vdb", Data::of(byte));
    write(2);
    external(&host, "e2");
    write(3);
    for (name, byte) in [("e1", 1), ("e2", 2), ("e1", 1), ("e2", 2)] {
        assert_eq!(host.json(&["revert", "web", name])["way"], "release");
        assert!(holds(byte), "{name}");
        write(9);
    }
    host.run(["delete", "web", "e1"]).ok();
    assert!(holds(9));
    host.run(["revert", "web", "e2"]).ok();
    assert!(holds(2));
    host.run(["delete", "web", "e2"]).ok();
    assert!(holds(2));
    assert_eq!(vm.monitor().must("query-status", json!({}))["status"], "running");
    all_is_well(&host);
    vm.quit();
    assert_eq!(files(&host), ["a.qcow2", "b.raw"]);
    assert!(holds_offline(&images[0], "qcow2", Data::of(2)) && holds_offline(&images[1], "raw", Data::of(2)));
}

#[test]
fn a_machine_that_xlsnap_starts_goes_on_where_it_was() {
    let host = Startable::new("accel = \"tcg\"\nmemory = 64\n");
    host.start();
    let made = host.json(&["create", "web", "m1", "--memory", "--external", "vdb"]);
    assert_eq!(made["warnings"], json!([]), "its next start is xlsnap's own: {made}");
    assert_eq!(host.json(&["revert", "web", "m1"])["way"], "restore");
    assert_eq!(host.json(&["domain", "status", "web"])["state"], "running");
    let safety = host.json(&["revert", "web", "m1", "--safety", "m2"]);
    assert_eq!(safety["safety"], "m2");
    assert_eq!(host.json(&["show", "web", "m2"])["snapshot"]["consistency"], "memory");
    host.stop(&["--powerdown", "0"]);
    assert_eq!(host.json(&["revert", "web", "m2"])["way"], "restore");
    assert_eq!(host.json(&["domain", "status", "web"])["state"], "running");
    host.run(["delete", "web", "m1", "--children"]).ok();
    host.stop(&["--powerdown", "0"]);
    all_is_well(&host);
}

/// A raw image that its disk has outgrown takes nothing from above.
#[test]
fn data_goes_up_where_the_image_below_cannot_grow() {
    let (host, images) = mixed();
    external(&host, "e1");
    let first = top(&host, "vdb").0;
    xlsnap_testkit::real::qemu_img(&["resize", "-q", "-f", "qcow2", first.to_str().unwrap(), "8M"]);
    external(&host, "e2");
    let planned = host.run(["delete", "web", "e1", "--dry-run"]);
    let told = format!("[qemu-img rebase] {}", first.display());
    assert!(planned.ok().out.contains(&told), "{}", planned.out);
    let deleted = host.json(&["delete", "web", "e1"]);
    let told = format!("{} (disk vdb) stays, and nothing is read from it any more", images[1].display());
    let warnings = deleted["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning.as_str().unwrap().starts_with(&told)), "{deleted}");
    assert_holds(&host, 1);
    all_is_well(&host);
    write(&host, 2);
    host.run(["revert", "web", "e2"]).ok();
    assert_holds(&host, 1);
    all_is_well(&host);
}

/// Which file holds which state, what it takes, and where something is wrong.
#[test]
fn the_chains_are_drawn() {
    let (host, images) = chain();
    host.run(["revert", "web", "e2"]).ok();
    let tree = host.run(["list", "web", "--tree"]);
    let lines: Vec<Vec<&str>> = tree.ok().out.lines().map(|line| line.split_whitespace().collect()).collect();
    let of = |file: &Path| {
        let found = lines.iter().find(|line| line.contains(&file.to_str().unwrap()));
        found.unwrap_or_else(|| panic!("{file:?} is not in {}", tree.out)).join(" ")
    };
    assert!(of(&images[0]).starts_with("vda "), "{}", tree.out);
    assert!(of(&images[0]).ends_with("the state of e1"), "{}", tree.out);
    let (now, _) = top(&host, "vda");
    assert!(of(&now).ends_with("what the disk writes"), "{}", tree.out);

    let list = host.json(&["list", "web", "--tree"]);
    let files = list["domains"][0]["chains"].as_array().unwrap();
    let of_disk = |disk: &str| files.iter().filter(|file| file["disk"] == disk).collect::<Vec<_>>();
    for disk in ["vda", "vdb"] {
        let chain = of_disk(disk);
        assert_eq!(chain.iter().filter(|file| file["top"] == true).count(), 1, "{disk}: {chain:?}");
        let states: Vec<&Value> = chain.iter().flat_map(|file| file["states"].as_array().unwrap()).collect();
        assert_eq!(states, ["e1", "e2", "e3"], "{disk}");
        for file in &chain {
            let depth = file["depth"].as_u64().unwrap();
            let base = chain.iter().find(|below| below["file"] == file["base"]);
            assert_eq!(base.map(|below| below["depth"].as_u64().unwrap() + 1).unwrap_or(0), depth, "{file}");
            assert!(file["bytes"].as_u64().unwrap() > 0, "{file}");
        }
    }
    assert_eq!(host.json(&["list", "web"])["domains"][0]["chains"], Value::Null);
    let shown = host.json(&["show", "web", "e2"]);
    assert_eq!(shown["chains"], list["domains"][0]["chains"]);
    assert!(host.run(["show", "web", "e2"]).ok().out.contains("the state of e2"));

    fs::write(&images[1], vec![7; 1 << 20]).unwrap();
    let told = host.run(["list", "web", "--tree"]);
    assert!(told.ok().out.contains("it was written to: see check"), "{}", told.out);
}

#[test]
fn a_domain_that_is_busy_names_the_merge_and_how_far_it_is() {
    let host = Host::new();
    let image = host.scratch.qcow2_with("a.qcow2", 256 << 20, 1);
    host.add("web", &[image], &[]);
    host.run(["create", "web", "s1", "--external", "vda"]).ok();
    let (overlay, _) = top(&host, "vda");
    let written = Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", "write -P 2 0 256M"])
        .arg(&overlay)
        .stdout(Stdio::null())
        .status();
    assert!(written.unwrap().success());
    let mut deletion =
        host.command(["delete", "web", "s1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let told = wait_until("the merge is named", || {
        let busy = host.run(["recover", "web", "--wait", "0"]);
        (busy.code == 4 && busy.err.contains("bytes are done")).then_some(busy.err)
    });
    assert!(told.contains(&format!("merge what {} holds", overlay.display())), "{told}");
    assert!(deletion.wait().unwrap().success());
}

#[test]
fn a_disk_is_flattened_and_every_snapshot_stays() {
    let (host, _) = chain();
    let planned = host.run(["flatten", "web", "--disk", "vda", "--dry-run"]);
    let image = top(&host, "vda").0;
    let told = format!("[qemu-img rebase] {}", image.display());
    assert!(planned.ok().out.contains(&told), "{}", planned.out);
    assert!(planned.out.contains("to flatten the disks of domain web, xlsnap would:"), "{}", planned.out);
    assert!(planned.out.contains("bytes are copied into"), "{}", planned.out);
    let done = host.json(&["flatten", "web", "--disk", "vda"]);
    assert_eq!((&done["disks"], &done["deleted"]), (&json!(["vda"]), &json!([])));
    assert_holds(&host, 4);
    all_is_well(&host);
    let kept = host.json(&["flatten", "web", "--keep", "1"]);
    assert_eq!((&kept["disks"], &kept["deleted"]), (&json!(["vdb"]), &json!(["e2", "e1"])));
    assert_holds(&host, 4);
    all_is_well(&host);
    host.run(["revert", "web", "e3"]).ok();
    assert_holds(&host, 3);
    let flat = host.run(["flatten", "web"]);
    assert!(flat.ok().out.contains("flattened disk"), "{}", flat.out);
    let flat = host.run(["flatten", "web"]);
    assert!(flat.ok().out.contains("nothing had to be copied"), "{}", flat.out);
    assert_holds(&host, 3);
    host.refuses(3, ["flatten", "web", "--disk", "vdz"]).tells("no disk vdz");
    host.run(["create", "web", "e4", "--external", "vdb"]).ok();
    external(&host, "e5");
    host.run(["create", "web", "i1", "--external", "vdb"]).ok();
    host.refuses(5, ["flatten", "web"])
        .tells("internal snapshots (i1)")
        .tells("xlsnap create web --external vda");
    all_is_well(&host);
}

/// How fast data moves: said in the plan, and kept to by qemu-img where it can.
#[test]
fn a_limit_is_told_and_a_merge_keeps_to_it() {
    let (host, _) = chain();
    let plan = host.run(["delete", "web", "e2", "--rate", "512M", "-n"]);
    assert!(plan.ok().out.contains(", at most 536870912 bytes a second"), "{}", plan.out);
    host.run(["delete", "web", "e2", "--rate", "512M"]).ok();
    assert_holds(&host, 4);
    let plan = host.run(["flatten", "web", "--rate", "1G", "-n"]);
    assert!(plan.ok().out.contains("the limit of 1073741824 bytes a second does not apply"), "{}", plan.out);
    assert!(!plan.out.contains("at most"), "{}", plan.out);
    host.run(["flatten", "web", "--rate", "1G"]).ok();
    assert_holds(&host, 4);
    all_is_well(&host);
    for wrong in ["0", "1T", "fast", "-1", "99999999999G"] {
        host.refuses(2, ["delete", "web", "e1", "--rate", wrong]);
    }
}
