//! Wrong input: each is refused with its exit code, and nothing is changed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{ffi::OsStr, thread};

use xlsnap_testkit::real::{Disk, Monitor, StorageDaemon, Vm, VmOptions, qemu_img, snapshots_in};

use crate::host::{Host, finish};

#[test]
fn names_that_are_none() {
    let (host, _) = Host::with_two_disks();
    let long = "x".repeat(300);
    for name in ["../x", "", ".", "..", "a/b", "a\nb", "a\u{1b}[31mb", "-f", &long] {
        for words in [
            ["create", "web", "--", name].as_slice(),
            &["show", "web", "--", name],
            &["revert", "web", "--", name],
            &["delete", "web", "--", name],
            &["list", "--", name],
            &["domain", "remove", "--", name],
        ] {
            let ran = host.refuses(2, words);
            let unsafe_bytes = ran.err.chars().any(|c| c.is_control() && c != '\n');
            assert!(!unsafe_bytes, "{:?} would reach a terminal", ran.err);
        }
    }
    // Without the `--` it reads as an option.
    host.refuses(2, ["create", "web", "-f"]);
    // Bytes that are no text.
    let bytes = OsStr::from_bytes(b"caf\xe9");
    host.refuses(2, [OsStr::new("create"), OsStr::new("web"), bytes]);
}

#[test]
fn domains_and_snapshots_that_are_not_there() {
    let (host, _) = Host::with_two_disks();
    host.refuses(3, ["create", "db", "s1"]).tells("there is no domain db");
    host.refuses(3, ["list", "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e"]);
    host.refuses(3, ["show", "web", "s1"]).tells("no snapshot s1");
    host.refuses(3, ["revert", "web", "s1"]);
    host.refuses(3, ["check", "db", "--json"]);
    host.refuses(3, ["recover", "db"]);
    host.refuses(3, ["delete", "web", "s1"]);
    host.refuses(2, ["create", "web", "s1", "--disk", "vda", "--exclude", "vda"]);
    let ran = host.run(["create", "web", "s1", "--disk", "vdz"]);
    assert!(matches!(ran.code, 3 | 5), "{ran:?}");
    ran.tells("vdz");
}

#[test]
fn sockets_that_are_no_monitor() {
    let (host, images) = Host::with_two_disks();
    let path = |name: &str| host.scratch.path(name).to_str().unwrap().to_owned();
    // Missing, for a domain that no file describes: nothing tells its disks.
    host.refuses(3, ["create", "db", "s1", "--qmp", &path("missing.qmp")]).tells("no process listens");
    // Something that listens and speaks another language.
    let socket = path("foreign.qmp");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"220 mail.example ESMTP\r\n");
        }
    });
    host.refuses(5, ["create", "web", "s1", "--qmp", &socket]).tells("monitor of domain web");
    // A file that is no socket.
    fs::write(path("file.qmp"), "").unwrap();
    host.refuses(5, ["create", "web", "s1", "--qmp", &path("file.qmp")]).tells("not a socket");
    // A socket that a QEMU left behind: the domain is off.
    drop(UnixListener::bind(path("stale.qmp")).unwrap());
    host.run(["create", "web", "s1", "--qmp", &path("stale.qmp")]).ok();
    assert_eq!(snapshots_in(&images[0]), ["s1"]);
}

#[test]
fn a_monitor_that_another_client_holds() {
    let host = Host::new();
    let (vm, images) = Vm::with_two_disks(&host.scratch, &VmOptions::default());
    host.add("web", &images, &["--qmp", vm.qmp().to_str().unwrap()]);
    let _other = Monitor::connect(vm.qmp()).unwrap();
    host.refuses(4, ["create", "web", "s1"]).tells("other client");
    assert!(snapshots_in(&images[0]).is_empty());
    let shown = host.json(&["domain", "show", "web"]);
    assert_eq!(shown["reach"]["how"], "unreachable");
}

#[test]
fn disks_that_take_no_snapshot() {
    let host = Host::new();
    let qcow2 = host.scratch.qcow2_with("a.qcow2", 4 << 20, 1);
    let raw = host.scratch.raw("b.raw", 4 << 20);
    let images = [qcow2.clone(), raw];
    host.refuses(5, ["domain", "add", "web", "--disk", &format!("vda={}", images[1].display())])
        .tells("give the format");
    host.add("web", &images, &["--format", "vdb=raw"]);
    host.refuses(5, ["create", "web", "s1"]).tells("vdb").tells("raw");
    host.run(["create", "web", "s1", "--exclude", "vdb"]).ok();
    assert_eq!(snapshots_in(&qcow2), ["s1"]);

    // A read-only disk is passed over, and said so; asked for, it is refused.
    let other = host.scratch.qcow2("c.qcow2", 4 << 20);
    let iso = host.scratch.qcow2("d.qcow2", 4 << 20);
    host.add("db", &[other.clone(), iso.clone()], &["--read-only", "vdb"]);
    host.refuses(5, ["create", "db", "s1", "--disk", "vdb"]).tells("vdb");
    let ran = host.run(["create", "db", "s1"]);
    assert!(ran.ok().out.contains("left out: vdb"), "{}", ran.out);
    assert_eq!(snapshots_in(&other), ["s1"]);
    assert!(snapshots_in(&iso).is_empty());
}

#[test]
fn an_image_that_another_process_has_open() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "s0"]).ok();
    // A process of which the domain's file says nothing.
    let _daemon = StorageDaemon::start(&host.scratch, &[Disk::qcow2("x", &images[1])]);
    host.refuses(4, ["create", "web", "s1"]).tells("vdb");
    host.refuses(4, ["revert", "web", "s0"]).tells("vdb");
    host.refuses(4, ["delete", "web", "s0"]).tells("vdb");
}

#[test]
fn a_domain_that_another_process_works_on() {
    let (host, _) = Host::with_two_disks();
    host.run(["create", "web", "s0"]).ok();
    let lock = fs::File::open(host.records("web").join("lock")).unwrap();
    lock.lock().unwrap();
    for words in [["create", "web", "s1"], ["revert", "web", "s0"], ["delete", "web", "s0"]] {
        host.refuses(4, words.iter().chain(&["--wait", "0.05"]));
    }
    // Looking needs no lock.
    assert_eq!(host.names("web"), ["s0"]);
}

#[test]
fn a_name_that_is_there_already() {
    let (host, images) = Host::with_two_disks();
    // In one image only, made by another program.
    qemu_img(&["snapshot", "-c", "s1", images[1].to_str().unwrap()]);
    host.refuses(5, ["create", "web", "s1"]).tells("vdb").tells("s1");
    assert!(snapshots_in(&images[0]).is_empty());
    // A name that is a snapshot's id in an image would mean two things there.
    host.refuses(5, ["create", "web", "1"]).tells("vdb");
    host.run(["create", "web", "s2"]).ok();
    host.refuses(5, ["create", "web", "s2"]);
}

#[test]
fn records_that_are_damaged() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "good"]).ok();
    host.run(["create", "web", "bad"]).ok();
    let record = host.records("web").join("snapshotdata-bad.libxl-json");
    let whole = fs::read(&record).unwrap();
    let deep = [b"[".repeat(200_000), b"]".repeat(200_000)].concat();
    let hostile = br#"{"name": "../../../etc/passwd", "disks": []}"#.to_vec();
    let other = br#"{"name": "good", "disks": []}"#.to_vec();
    for content in [whole[..whole.len() / 2].to_vec(), Vec::new(), deep, hostile, other, vec![0xff; 64]] {
        fs::write(&record, &content).unwrap();
        for words in [["show", "web", "bad"], ["revert", "web", "bad"], ["delete", "web", "bad"]] {
            host.refuses(5, words).tells("bad");
        }
        // It hides no other.
        let list = host.json(&["list", "web"]);
        assert_eq!(list["domains"][0]["snapshots"].as_array().unwrap().len(), 1);
        assert_eq!(list["domains"][0]["unreadable"][0]["name"], "bad");
        let check = host.run(["check", "web"]);
        assert_eq!(check.code, 7, "{check:?}");
    }
    assert_eq!(snapshots_in(&images[0]), ["good", "bad"]);
    // What cannot be read can still be forgotten.
    host.run(["delete", "web", "bad", "--metadata-only"]).ok();
    assert_eq!(host.names("web"), ["good"]);
}

/// A small file system of its own, full but for nothing.
struct Full {
    at: PathBuf,
}

impl Full {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=700", "xlsnap-test"])
            .arg(at)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test mounts a tmpfs, as root does");
        Self { at: at.to_owned() }
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.at.join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 1024]).is_ok() {}
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

#[test]
fn a_full_file_system() {
    let host = Host::new();
    let images = [host.scratch.qcow2_with("a.qcow2", 4 << 20, 1)];
    let full = Full::mount(&host.root());
    host.add("web", &images, &[]);
    host.run(["create", "web", "s0"]).ok();
    full.fill();
    let before = host.state();
    let ran = finish(&mut host.command(["create", "web", "s1"]));
    assert_eq!(ran.code, 1, "{ran:?}");
    ran.tells("nothing was changed");
    host.assert_state(&before);
    assert_eq!(snapshots_in(&images[0]), ["s0"]);
    let other = host.scratch.qcow2("b.qcow2", 1 << 20);
    host.refuses(1, ["domain", "add", "db", "--disk", &format!("vda={}", other.display())]);
}

#[test]
fn disks_of_a_running_machine_that_take_no_snapshot() {
    let host = Host::new();
    let qcow2 = host.scratch.qcow2_with("a.qcow2", 4 << 20, 1);
    let raw = host.scratch.raw("b.raw", 4 << 20);
    let iso = host.scratch.qcow2("c.qcow2", 4 << 20);
    let disks = [
        Disk::qcow2("vda", &qcow2),
        Disk::raw("vdb", &raw),
        Disk::qcow2("vdc", &iso).read_only(),
        Disk::empty_cdrom("cd0"),
    ];
    let vm = Vm::start(&host.scratch, &disks, &VmOptions::default());
    let qmp = vm.qmp().to_str().unwrap();
    let refused = host.run(["create", "web", "s1", "--qmp", qmp]);
    assert_eq!(refused.code, 5, "{refused:?}");
    refused.tells("vdb").tells("raw").tells("exclude disk vdb");
    assert!(snapshots_in(&qcow2).is_empty());
    let asked = host.run(["create", "web", "s1", "--qmp", qmp, "--disk", "vdc"]);
    assert_eq!(asked.code, 5, "{asked:?}");
    let made = host.json(&["create", "web", "s1", "--qmp", qmp, "--exclude", "vdb"]);
    let left_out = made["snapshot"]["passed_over"].as_array().unwrap();
    let names: Vec<&str> = left_out.iter().map(|of| of["disk"].as_str().unwrap()).collect();
    assert_eq!(names, ["vdb", "vdc", "cd0"]);
    assert_eq!(snapshots_in(&qcow2), ["s1"]);
}

#[test]
fn a_name_that_is_doubled_in_one_image() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "one"]).ok();
    let doubled = Command::new("qemu-img").args(["snapshot", "-c", "one"]).arg(&images[0]).status();
    assert!(doubled.unwrap().success());
    host.refuses(5, ["delete", "web", "one"]).tells("more than one snapshot one");
    host.run(["revert", "web", "one"]).ok();
}
