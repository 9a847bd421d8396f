//! What the start of a domain needs is looked for before a revert changes anything.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use crate::life::Startable;

const START: &str = "accel = \"tcg\"\nmemory = 64\n";

/// A domain that is off, with a snapshot `m` that has its memory, taken while it was started with `start`.
fn with_memory(start: &str) -> Startable {
    let host = Startable::new(start);
    snapshot(&host);
    host
}

fn snapshot(host: &Startable) {
    host.start();
    host.run(["create", "web", "m", "--memory"]).ok();
    host.stop(&["--powerdown", "0"]);
}

#[test]
fn another_machine_is_refused() {
    let start = format!("{START}arguments = [\"-device\", \"virtio-rng-pci,id=rng\"]\n");
    let host = with_memory(&start);
    for (changed, says) in [
        (start.replace("64", "128"), "it is of 64 MiB, and the domain has 128 MiB now"),
        (format!("{start}machine = \"pc\"\n"), "it is of machine type pc-q35-"),
        (format!("{START}arguments = []\n"), "the guest had the device rng"),
        (start.replace("\"]", "\", \"-device\", \"virtio-rng-pci,id=two\"]"), "has the device two now"),
        (format!("{start}bus = \"scsi\"\n"), "the guest had the device vda (virtio-blk)"),
        (
            format!("{start}machine = \"none-such\"\nprogram = \"/none/such\"\n"),
            "program /none/such is not there",
        ),
    ] {
        host.set_start(&changed);
        host.refuses(5, ["revert", "web", "m"]).tells(says);
        host.refuses(5, ["revert", "web", "m", "--dry-run"]).tells(says);
    }
    host.set_start(&start);
    host.run(["revert", "web", "m"]).ok();
}

#[test]
fn a_file_that_is_gone_is_named() {
    let host = Startable::new(START);
    let iso = host.scratch.raw("cd.iso", 1 << 20);
    let start = format!(
        "{START}arguments = [\"-device\", \"ide-cd,drive=cd\", \"-drive\", \"if=none,id=cd,file={}\"]\n",
        iso.display()
    );
    host.set_start(&start);
    snapshot(&host);
    fs::rename(&iso, host.scratch.path("away")).unwrap();
    host.refuses(5, ["revert", "web", "m"]).tells("cd.iso, which -drive cd names, is not there");
    // Only a start needs it.
    host.run(["create", "web", "s"]).ok();
    host.run(["revert", "web", "s"]).ok();
    host.refuses(5, ["revert", "web", "s", "--running"]).tells("cd.iso");
    fs::rename(host.scratch.path("away"), &iso).unwrap();
    host.run(["revert", "web", "m"]).ok();
    // While it runs, too.
    fs::rename(&iso, host.scratch.path("away")).unwrap();
    host.run(["revert", "web", "m"]).tells("cd.iso");
    assert_eq!(host.json(&["domain", "status", "web"])["state"], "running");
}

#[test]
fn a_socket_at_which_nothing_listens_is_named() {
    let host = Startable::new(START);
    let socket = host.scratch.path("helper.sock");
    let start = format!("{START}arguments = [\"-serial\", \"unix:{}\"]\n", socket.display());
    host.set_start(&start);
    let listener = UnixListener::bind(&socket).unwrap();
    snapshot(&host);
    drop(listener);
    host.refuses(5, ["revert", "web", "m"]).tells("no process listens at the socket").tells("-serial");
    fs::remove_file(&socket).unwrap();
    host.refuses(5, ["revert", "web", "m"]).tells("no process listens");
    let _listener = UnixListener::bind(&socket).unwrap();
    host.run(["revert", "web", "m"]).ok();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let host = Startable::new(&format!(
        "{START}arguments = [\"-serial\", \"tcp:127.0.0.1:{port},server=on,wait=off\"]\n"
    ));
    drop(taken);
    snapshot(&host);
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    host.refuses(5, ["revert", "web", "m"]).tells(&format!("the TCP port {port}"));
    drop(taken);
    host.run(["revert", "web", "m"]).ok();
    // Its own QEMU's port is no hindrance.
    host.run(["revert", "web", "m"]).ok();
}
