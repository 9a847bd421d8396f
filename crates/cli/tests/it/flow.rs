//! The main job, as a user does it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use xlsnap_testkit::real::{
    Data, Disk, LiveDisks, StorageDaemon, Vm, VmOptions, holds_offline, qemu_version, snapshots_in,
    wait_until, write_offline,
};

use crate::host::Host;

#[test]
fn a_running_machine_comes_back_to_what_it_was() {
    let host = Host::new();
    let (vm, images) =
        Vm::with_two_disks(&host.scratch, &VmOptions { running: true, ..VmOptions::default() });
    let qmp = vm.qmp().to_str().unwrap().to_owned();
    host.add("web", &images, &["--qmp", &qmp]);
    assert_eq!(host.json(&["domain", "show", "web"])["reach"]["how"], "monitor");

    let plan = host.json(&["create", "web", "before", "--dry-run"]);
    assert_eq!(plan["schema"], "xlsnap.plan/2");
    let commands: Vec<_> = plan["stages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|stage| stage["commands"].as_array().unwrap())
        .collect();
    for image in &images {
        let made = commands.iter().find(|command| {
            command["files"].as_array().is_some_and(|files| files.contains(&json!(image.to_str().unwrap())))
        });
        assert_eq!(
            made.unwrap_or_else(|| panic!("{image:?} is not in {plan}"))["command"].as_str(),
            Some("QMP transaction: blockdev-snapshot-internal-sync")
        );
    }
    assert!(snapshots_in(&images[0]).is_empty(), "a dry run does nothing");

    let made = host.json(&["create", "web", "before", "--description", "known good", "--label", "by=me"]);
    assert_eq!(made["snapshot"]["name"], "before");
    assert_eq!(made["snapshot"]["state"]["running"], true);
    assert_eq!(made["snapshot"]["consistency"], "crash");
    for image in &images {
        assert_eq!(snapshots_in(image), ["before"]);
    }
    vm.write("vda", Data::of(0x77));
    vm.write("vdb", Data::of(0x88));

    let list = host.run(["list", "web"]);
    assert!(list.ok().out.contains("* before"), "{}", list.out);
    let show = host.run(["show", "web", "before"]);
    for word in ["known good", "by=me", "vda", "vdb", "as after a power cut"] {
        assert!(show.ok().out.contains(word), "{word} is not in {}", show.out);
    }
    let promised = &host.json(&["show", "web", "before"])["snapshot"];
    assert_eq!((&promised["revert"], &promised["basis"]), (&made["snapshot"]["revert"], &json!("now")));

    // Under the machine, whose guest is reset.
    let reverted = host.json(&["revert", "web", "before"]);
    assert_eq!(reverted["way"], "release", "{reverted}");
    assert!(vm.holds("vda", Data::of(1)) && vm.holds("vdb", Data::of(2)));
    vm.write("vda", Data::of(0x77));
    vm.write("vdb", Data::of(0x88));
    // It was not started here, so nothing here ends it.
    let ran = host.run(["revert", "web", "before", "--offline"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(vm.holds("vda", Data::of(0x77)));
    vm.quit();

    let reverted = host.json(&["revert", "web", "before", "--safety", "after"]);
    assert_eq!(reverted["safety"], "after");
    assert!(holds_offline(&images[0], "qcow2", Data::of(1)));
    assert!(holds_offline(&images[1], "qcow2", Data::of(2)));
    let list = host.json(&["list", "web"]);
    assert_eq!(list["domains"][0]["current"], "before");
    // Two snapshots of one second are listed by name; which was made on top of which is told by the parents.
    let snapshots = list["domains"][0]["snapshots"].as_array().unwrap();
    let after = snapshots.iter().find(|snapshot| snapshot["name"] == "after").unwrap();
    assert_eq!(after["parent"], "before");

    host.run(["revert", "web", "after"]).ok();
    assert!(holds_offline(&images[0], "qcow2", Data::of(0x77)));

    host.run(["delete", "web", "before", "--children"]).ok();
    assert_eq!(host.names("web"), [""; 0]);
    for image in &images {
        assert!(snapshots_in(image).is_empty());
    }
    let check = host.run(["check", "web"]);
    assert!(check.ok().out.contains("all is well"), "{}", check.out);
    host.run(["domain", "remove", "web"]).ok();
    assert!(images[0].exists());
}

#[test]
fn a_machine_without_a_file_is_read_off_its_monitor() {
    let host = Host::new();
    let uuid = "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e";
    let options = VmOptions { arguments: vec!["-uuid".into(), uuid.into()], ..VmOptions::default() };
    let (vm, images) = Vm::with_two_disks(&host.scratch, &options);
    let qmp = vm.qmp().to_str().unwrap().to_owned();
    let made = host.json(&["create", "web", "s1", "--qmp", &qmp]);
    assert_eq!(made["snapshot"]["disks"].as_array().unwrap().len(), 2);
    assert_eq!(snapshots_in(&images[0]), ["s1"]);
    assert!(host.root().join(uuid).is_dir(), "the records are under QEMU's own uuid");
    assert_eq!(host.names("web"), ["s1"]);

    // A file can be made of what the monitor says.
    let added = host.json(&["domain", "add", "web", "--qmp", &qmp]);
    assert_eq!(added["domain"]["uuid"], uuid);
    assert_eq!(added["domain"]["disks"].as_array().unwrap().len(), 2);
    assert_eq!(host.names("web"), ["s1"]);
    host.run(["delete", "web", "s1"]).ok();
    assert!(snapshots_in(&images[0]).is_empty());
}

#[test]
fn a_storage_daemon_without_a_file_keeps_its_records_when_it_is_gone() {
    let host = Host::new();
    let image = host.scratch.qcow2_with("a.qcow2", 4 << 20, 1);
    let daemon = StorageDaemon::start(&host.scratch, &[Disk::qcow2("vda", &image)]);
    let qmp = daemon.qmp().to_str().unwrap().to_owned();
    host.run(["create", "store", "s1", "--qmp", &qmp]).ok();
    daemon.quit();
    // By name alone, and by the socket that no process listens on any more.
    assert_eq!(host.names("store"), ["s1"]);
    let list = host.json(&["list", "store", "--qmp", &qmp]);
    assert_eq!(list["domains"][0]["snapshots"][0]["name"], "s1");
    // Its disks are not known now.
    host.refuses(5, ["revert", "store", "s1"]).tells("no file describes");
    // Forgetting the record needs none.
    host.run(["delete", "store", "s1", "--metadata-only"]).ok();
    assert_eq!(snapshots_in(&image), ["s1"]);
}

#[test]
fn an_external_snapshot_takes_the_writes_from_then_on() {
    let (host, images) = Host::with_two_disks();
    let overlay = host.scratch.path("top.qcow2");
    let external = format!("vdb={}", overlay.display());
    let made = host.json(&["create", "web", "s1", "--external", &external]);
    assert_eq!(made["snapshot"]["disks"][1]["kind"], "external");
    assert!(made["snapshot"]["revert"].get("possible").is_some(), "said at creation: {made}");
    let told = format!("what starts domain web has to name {} for disk vdb", overlay.display());
    assert!(made["warnings"][0].as_str().unwrap().starts_with(&told), "{made}");
    let shown = host.json(&["domain", "show", "web"]);
    assert_eq!(shown["domain"]["disks"][1]["image"], overlay.to_str().unwrap());
    write_offline(&overlay, "qcow2", Data::of(9));
    assert!(holds_offline(&images[1], "qcow2", Data::of(2)), "the base keeps the state");
    assert_eq!(snapshots_in(&images[0]), ["s1"]);
    host.run(["delete", "web", "s1"]).ok();
    assert!(
        holds_offline(&images[1], "qcow2", Data::of(9)) && !overlay.exists(),
        "it is merged into the base"
    );
}

#[test]
fn a_dry_run_names_every_command_file_and_image() {
    let (host, images) = Host::with_two_disks();
    let before = host.state();
    let ran = host.run(["create", "web", "s1", "--external", "vdb", "--no-keep-name", "--dry-run"]);
    host.assert_state(&before);
    let domain_file = host.root().join("domains/web.toml").display().to_string();
    let records = host.root().display().to_string();
    let image = images[0].display().to_string();
    for word in ["qemu-img create", "qemu-img snapshot -c", &image, &domain_file, &records] {
        assert!(ran.ok().out.contains(word), "{word} is not in {}", ran.out);
    }
}

/// What it costs that a revert can go back: on each disk two runs of qemu-img, one that marks and one that removes the mark.
#[test]
fn an_undo_point_costs_two_runs_a_disk() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "s1"]).ok();
    let (counting, log) = (host.scratch.path("counting"), host.scratch.path("runs"));
    let script = format!("#!/bin/sh\necho \"$1 $2\" >> '{}'\nexec qemu-img \"$@\"\n", log.display());
    fs::write(&counting, script).unwrap();
    fs::set_permissions(&counting, fs::Permissions::from_mode(0o700)).unwrap();
    // An image is looked at once more where its last change is so new that the time of another would be the same.
    let changed = || images.iter().map(|image| image.metadata().unwrap().modified().unwrap()).max().unwrap();
    wait_until("the images rest", || {
        changed().elapsed().is_ok_and(|rest| rest.as_millis() > 20).then_some(())
    });
    host.run(["revert", "web", "s1", "--qemu-img", counting.to_str().unwrap()]).ok();
    let runs = fs::read_to_string(log).unwrap();
    let count = |word: &str| runs.lines().filter(|line| line.starts_with(word)).count();
    for word in ["snapshot -c", "snapshot -a", "snapshot -d"] {
        assert_eq!(count(word), images.len(), "{word}: {runs}");
    }
    // Neither the marks nor the reverts are looked for before; after them the sizes are.
    let before: Vec<&str> = runs.lines().take_while(|line| !line.starts_with("snapshot -a")).collect();
    assert_eq!(before.iter().filter(|line| line.starts_with("info")).count(), images.len(), "{runs}");
}

/// QEMU may not open what is root's: its memory comes through a descriptor that it is passed.
#[test]
fn the_memory_of_a_machine_of_another_user_is_saved() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root starts a machine as another user");
        return;
    }
    let host = Host::new();
    // The fixture's sockets are there; the command's own directory stays root's.
    fs::set_permissions(host.scratch.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let user = if qemu_version() >= (9, 1) { ["-run-with", "user=nobody"] } else { ["-runas", "nobody"] };
    let arguments = user.map(str::to_owned).into();
    let (vm, images) =
        Vm::with_two_disks(&host.scratch, &VmOptions { running: true, arguments, ..VmOptions::default() });
    let status = fs::read_to_string(format!("/proc/{}/status", vm.pid())).unwrap();
    assert!(status.lines().any(|line| line.starts_with("Uid:") && !line.contains("\t0\t")), "{status}");
    host.add("web", &images, &["--qmp", vm.qmp().to_str().unwrap()]);
    let made = host.json(&["create", "web", "s1", "--memory"]);
    let file = made["snapshot"]["memory"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let saved = &made["snapshot"]["saved_memory"];
    assert!(fs::metadata(&file).unwrap().len() >= saved["bytes"].as_u64().unwrap(), "{made}");
    // Where the host keeps that user from the best way, the next best one is taken, and how to open it is told.
    let is_closed =
        fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").is_ok_and(|text| text.trim() == "0");
    if is_closed && qemu_version() >= (8, 1) {
        assert_ne!(saved["way"], "background", "{made}");
        let told = made["warnings"].to_string();
        assert!(told.contains("sysctl -w vm.unprivileged_userfaultfd=1"), "{made}");
    }
    assert_eq!(vm.monitor().must("query-status", json!({}))["running"], true);
    host.run(["check", "web", "--deep"]).ok();
    // One that was given up leaves nothing in the way of the next.
    host.run(["create", "web", "s2", "--memory"]).ok();
    let sockets = fs::read_dir(host.root().join("run")).unwrap().flatten();
    let left: Vec<_> =
        sockets.filter(|entry| entry.path().extension().is_some_and(|end| end == "mem")).collect();
    assert!(left.is_empty(), "{left:?}");
}
