//! `xlsnap list`.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use crate::host::Host;

/// A host with a domain of `count` records that another program wrote.
fn with_records(count: usize) -> Host {
    let (host, _) = Host::with_two_disks();
    host.run(["create", "web", "first"]).ok();
    let records = host.records("web");
    for i in 0..count {
        let text = format!("{{\"name\": \"s{i}\", \"creation_time\": {}, \"disks\": []}}", 1_000_000 + i);
        fs::write(records.join(format!("snapshotdata-s{i}.libxl-json")), text).unwrap();
    }
    host
}

#[test]
fn a_reader_who_leaves_early_is_no_failure() {
    let host = with_records(3000);
    let mut child =
        host.command(["list", "web"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn snapshots_are_listed_by_time_and_as_a_tree() {
    let (host, _) = Host::with_two_disks();
    for name in ["a", "b"] {
        host.run(["create", "web", name]).ok();
    }
    host.run(["revert", "web", "a"]).ok();
    host.run(["create", "web", "c"]).ok();
    let tree = host.run(["list", "web", "--tree"]);
    let drawn: Vec<String> = tree
        .ok()
        .out
        .lines()
        .map(|line| line.chars().take(8).collect::<String>().trim_end().to_owned())
        .collect();
    assert_eq!(drawn, ["  NAME", "  a", "  ├─ b", "* └─ c"], "{}", tree.out);
    assert_eq!(host.names("web").len(), 3);
    let all = host.run(["ls"]);
    assert!(all.ok().out.starts_with("domain web\n"), "{}", all.out);
    let json = host.json(&["list"]);
    assert_eq!(json["schema"], "xlsnap.list/1");
    assert_eq!(json["domains"][0]["snapshots"][2]["parent"], "a");
}

#[test]
fn a_foreign_record_cannot_paint_the_terminal() {
    let (host, _) = Host::with_two_disks();
    host.run(["create", "web", "first"]).ok();
    let records = host.records("web");
    let text = "{\"name\": \"x\u{202e}y\", \"description\": \"\\u001b[31mred\", \"creation_time\": 18446744073709551615}";
    fs::write(records.join("snapshotdata-x\u{202e}y.libxl-json"), text).unwrap();
    let list = host.run(["list", "web"]);
    assert!(list.ok().out.contains("x\\u{202e}y"), "{}", list.out);
    assert!(list.out.contains("@18446744073709551615"), "{}", list.out);
    let show = host.run(["show", "web", "x\u{202e}y"]);
    assert!(show.ok().out.contains("\\u{1b}[31mred"), "{}", show.out);
}

#[test]
fn a_domain_whose_file_is_broken_hides_no_other() {
    let (host, _) = Host::with_two_disks();
    host.run(["create", "web", "s1"]).ok();
    fs::write(host.root().join("domains/broken.toml"), "uuid = 3").unwrap();
    for command in ["list", "check", "recover"] {
        let ran = host.run([command]);
        assert_eq!(ran.code, 5, "{ran:?}");
        assert!(ran.out.contains("web") && ran.err.contains("broken"), "{ran:?}");
    }
}
