//! `xlsnap domain ...`.

use std::fs;

use xlsnap_testkit::real::snapshots_in;

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
    host.refuses(5, ["domain", "remove", "web"])
        .tells("domain web has 1 snapshot\n")
        .tells("xlsnap domain remove web --force");
    let uuid = shown["domain"]["uuid"].as_str().unwrap();
    let removed = host.run(["domain", "remove", "web", "--force"]);
    assert!(removed.ok().out.contains("stay (1 snapshot);"), "{}", removed.out);
    assert!(image.exists());
    assert_eq!(host.names(uuid), ["s1"]);
    assert_eq!(host.names("web"), ["s1"], "by the name it had when last seen");

    // Without its file it cannot be checked, and that says what to do.
    let check = host.run(["check"]);
    check.tells("xlsnap domain forget web").tells(&format!("--uuid {uuid}"));
    assert_eq!(check.code, 5);
    // The data is there, so its record is not dropped just so.
    host.refuses(5, ["domain", "forget", "web"]).tells("s1 (in ").tells("--records-only");
    let forgotten = host.json(&["domain", "forget", "web", "--records-only"]);
    assert_eq!((&forgotten["snapshots"], &forgotten["uuid"]), (&1.into(), &uuid.into()));
    assert_eq!(snapshots_in(&image), ["s1"]);
    assert!(!host.root().join(uuid).exists());
    assert_eq!(host.json(&["list"])["domains"], serde_json::json!([]));
    host.run(["check"]).ok();
    host.refuses(3, ["domain", "forget", "web"]);
}

#[test]
fn a_domain_without_snapshots_leaves_nothing() {
    let (host, _) = Host::with_two_disks();
    host.run(["create", "web", "s1"]).ok();
    host.run(["delete", "web", "s1"]).ok();
    let records = host.records("web");
    assert!(records.join("domain.json").exists());
    host.refuses(5, ["domain", "forget", "web"]).tells("xlsnap domain remove web");
    host.run(["domain", "remove", "web"]).ok();
    assert!(!records.exists());
    assert_eq!(host.json(&["list"])["domains"], serde_json::json!([]));
    host.run(["check"]).ok();
}

#[test]
fn what_is_no_record_stays_and_is_told() {
    let (host, _) = Host::with_two_disks();
    host.run(["create", "web", "s1"]).ok();
    host.run(["delete", "web", "s1"]).ok();
    let save = host.records("web").join("s1.save");
    fs::write(&save, "a memory").unwrap();
    let removed = host.json(&["domain", "remove", "web"]);
    assert_eq!(removed["left"], serde_json::json!([save]));
    assert!(save.exists());
    assert_eq!(host.json(&["list"])["domains"], serde_json::json!([]), "it is no domain's");
}

#[test]
fn a_domain_whose_data_is_gone_is_forgotten() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "s1"]).ok();
    host.run(["create", "web", "s2", "--external", "vdb"]).ok();
    host.run(["domain", "remove", "web", "--force"]).ok();
    fs::remove_file(&images[0]).unwrap();
    // The first is still in the second image, the second has its overlay.
    host.refuses(5, ["domain", "forget", "web"]).tells("s1 (in ").tells("s2 (overlay ");
    fs::remove_file(&images[1]).unwrap();
    for entry in fs::read_dir(host.scratch.dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "qcow2") {
            fs::remove_file(path).unwrap();
        }
    }
    let ran = host.run(["domain", "forget", "web"]);
    assert!(ran.ok().out.contains("2 snapshots"), "{}", ran.out);
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
