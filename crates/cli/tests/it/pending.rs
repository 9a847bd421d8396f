//! A command that only reads says that an interrupted operation waits for recovery, and says nothing of one that goes on.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use xlsnap_testkit::real::wait_until;

use crate::host::Host;
use crate::life::Startable;

/// A qemu-img that does this before it takes a snapshot.
fn qemu_img(host: &Host, before: &str) -> PathBuf {
    let path = host.scratch.path("fake-qemu-img");
    let text =
        format!("#!/bin/sh\ncase \"$1 $2\" in \"snapshot -c\") {before};; esac\nexec qemu-img \"$@\"\n");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn pending(host: &Host) -> Value {
    host.json(&["list", "web"])["domains"][0]["pending"].clone()
}

#[test]
fn an_interrupted_operation_is_told_until_it_is_recovered() {
    let host = Startable::new("");
    host.run(["create", "web", "s0"]).ok();
    assert_eq!(pending(&host), Value::Null);
    let killing = qemu_img(&host, "kill -9 $PPID; exit 1");
    let mut create = host.command(["create", "web", "s1", "--qemu-img", killing.to_str().unwrap()]);
    assert!(!create.output().unwrap().status.success());

    let told = json!({ "operation": "create", "name": "s1" });
    wait_until("the program that xlsnap left has ended", || (pending(&host) == told).then_some(()));
    let shown = host.json(&["show", "web", "s0"]);
    assert_eq!(shown["pending"], told);
    let why = "an operation on the domain was interrupted";
    assert_eq!(shown["snapshot"]["basis"]["record"]["why"], why);
    assert!(host.run(["show", "web", "s0"]).ok().out.contains(&format!("the record alone, since {why}")));
    assert_eq!(host.json(&["domain", "status", "web"])["pending"], told);
    for words in [
        ["list", "web"].as_slice(),
        &["show", "web", "s0"],
        &["domain", "status", "web"],
        &["snapshot-list", "web"],
    ] {
        let ran = host.run(words);
        let line = "recovery pending: the create of snapshot s1 was interrupted; to finish or undo it: xlsnap recover web";
        assert!(ran.ok().out.contains(line), "{words:?}: {}", ran.out);
    }
    host.run(["recover", "web"]).ok();
    assert_eq!(pending(&host), Value::Null);
    assert_eq!(host.json(&["show", "web", "s0"])["snapshot"]["basis"], "now");
    assert!(!host.run(["list", "web"]).ok().out.contains("pending"));
}

#[test]
fn an_operation_that_goes_on_is_not_pending() {
    let (host, _) = Host::with_two_disks();
    let gate = host.scratch.path("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let waiting = qemu_img(&host, &format!("read line < {}", gate.display()));
    // One disk, so that one qemu-img waits.
    let words = ["create", "web", "s1", "--disk", "vda", "--qemu-img", waiting.to_str().unwrap()];
    let mut create = host.command(words).stdout(std::process::Stdio::null()).spawn().unwrap();
    let records = host.records("web");
    wait_until("its intent is written down", || records.join("journal.json").exists().then_some(()));
    assert_eq!(pending(&host), Value::Null);
    fs::OpenOptions::new().write(true).open(&gate).unwrap().write_all(b"go\n").unwrap();
    assert!(create.wait().unwrap().success());
    assert_eq!(pending(&host), Value::Null);
}
