//! A misspelt place does not look like one where nothing is.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::host::Host;

const READING: &[&[&str]] =
    &[&["list"], &["check"], &["recover"], &["domain", "list"], &["show", "web", "s1"]];

#[test]
fn a_root_that_is_given_is_there_unless_it_is_to_be_made() {
    let host = Host::without_root();
    for words in READING {
        host.refuses(3, *words).tells("there is no directory").tells("/root");
    }
    // One that nothing can be in.
    fs::write(host.scratch.path("file"), "").unwrap();
    for words in READING {
        let words = words.iter().chain(&["--root", "file"]);
        host.refuses(5, words).tells("cannot be read").tells("/file");
    }
    let image = host.scratch.qcow2("a.qcow2", 1 << 20);
    host.add("web", &[image], &[]);
    assert_eq!(host.json(&["domain", "list"])["domains"][0]["name"], "web");
}

#[test]
fn a_root_that_may_not_be_read_is_told() {
    let host = Host::new();
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads it all the same.
    if fs::read_dir(host.root()).is_err() {
        host.run(["list"]).tells("cannot be read");
    }
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn the_usual_root_is_empty_until_it_is_made() {
    let host = Host::without_root();
    let mut list = host.command(["list", "--json"]);
    list.env_remove("XLSNAP_ROOT").env("XDG_STATE_HOME", host.scratch.dir()).env("HOME", host.scratch.dir());
    // The superuser's usual root is the system's, and not this test's to look at.
    if fs::read_dir("/var/lib/xlsnap").is_err() {
        let ran = crate::host::finish(&mut list);
        assert!(ran.ok().out.contains("\"domains\":[]"), "{}", ran.out);
    }
}

#[test]
fn a_socket_that_is_not_there_is_told() {
    let host = Host::new();
    for words in [["list", "web"].as_slice(), &["show", "web", "s1"]] {
        host.refuses(3, words.iter().chain(&["--qmp", "/no/such"])).tells("/no/such").tells("socket");
    }
    fs::write(host.scratch.path("file"), "").unwrap();
    host.refuses(5, ["list", "web", "--qmp", "file"]).tells("no socket");
}
