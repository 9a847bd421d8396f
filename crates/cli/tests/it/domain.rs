//! `xlsnap domain ...`.

use std::fs;

use crate::host::Host;

#[test]
fn a_domain_is_described_listed_shown_and_removed() {
    let host = Host::new();
    assert!(host.run(["domain", "list"]).ok().out.contains("no domains"));
    let image = host.scratch.qcow2("a.qcow2", 1 << 20);
    // A relative path starts at the current directory.
    let ran = host.run(["domain", "add", "web", "--disk", "vda=a.qcow2"]);
    assert!(ran.ok().out.contains("vda was found to be qcow2"), "{}", ran.out);
    let shown = host.json(&["domain", "show", "web"]);
    assert_eq!(shown["schema"], "xlsnap.domain/1");
    assert_eq!(
        fs::canonicalize(shown["domain"]["disks"][0]["image"].as_str().unwrap()).unwrap(),
        fs::canonicalize(&image).unwrap()
    );
    assert_eq!(shown["reach"]["how"], "images");
    assert_eq!(host.json(&["domain", "list"])["domains"][0]["name"], "web");

    host.run(["create", "web", "s1"]).ok();
    host.refuses(5, ["domain", "remove", "web"]).tells("force it");
    let uuid = shown["domain"]["uuid"].as_str().unwrap();
    host.run(["domain", "remove", "web", "--force"]).ok();
    assert!(image.exists());
    assert_eq!(host.names(uuid), ["s1"]);
    assert_eq!(host.names("web"), ["s1"], "by the name it had when last seen");
}

#[test]
fn options_that_say_nothing_together_are_usage_errors() {
    let host = Host::new();
    host.scratch.qcow2("a.qcow2", 1 << 20);
    host.refuses(2, ["domain", "add", "web", "--disk", "a.qcow2"]);
    host.refuses(2, ["domain", "add", "web", "--disk", "vda=a.qcow2", "--read-only", "vdb"]).tells("vdb");
    host.refuses(2, ["domain", "add", "web", "--disk", "vda=a.qcow2", "--disk", "vda=b.qcow2"]);
    host.refuses(2, ["domain", "add", "web", "--disk", "vda=a.qcow2", "--uuid", "1"]);
    host.refuses(5, ["domain", "add", "web"]).tells("no disk");
    host.refuses(3, ["domain", "add", "web", "--disk", "vda=missing.qcow2"]);
}

#[test]
fn a_file_by_hand_is_read_strictly() {
    let (host, _) = Host::with_two_disks();
    let file = host.root().join("domains/web.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("[[disk]]", "[[disk]]\nreadonly = true")).unwrap();
    host.refuses(5, ["create", "web", "s1"]).tells("readonly").tells("line 4");
    let list = host.run(["domain", "list"]);
    assert!(list.ok().out.contains("refused: web"), "{}", list.out);
}
