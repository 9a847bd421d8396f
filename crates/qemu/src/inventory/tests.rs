//! What is made of QEMU's answers, by cases; real answers are tested in `tests/live`.

use serde_json::{Value, json};
use xlsnap_qmp_transport::commands::{BlockDevice, BlockExport, BlockGraph, BlockJobInfo, BlockNode};

use super::attached::{self, Attached};
use super::file_name::{ImageName, detour, parse};
use super::identity::Files;
use super::naming;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn the_file_is_read_out_of_any_name() {
    let nested = r#"json:{"driver": "throttle", "file": {"driver": "qcow2", "file": {"driver": "file", "filename": "/a,b"}}}"#;
    let dotted = r#"json:{"driver": "qcow2", "file.driver": "file", "file.filename": "/a"}"#;
    let node = r#"json:{"driver": "qcow2", "file": "node"}"#;
    let deep = format!("json:{}1{}", r#"{"file":"#.repeat(100), "}".repeat(100));
    for (name, file, driver) in [
        ("/images/a.qcow2", "/images/a.qcow2", None),
        ("a:b", "a:b", None),
        ("file:/a:b", "/a:b", None),
        (nested, "/a,b", Some("qcow2")),
        (dotted, "/a", Some("qcow2")),
        (r#"json:{"driver": "file", "filename": "/a"}"#, "/a", None),
        // Not a file: the name stays what it is.
        (node, node, None),
        ("nbd://host/disk", "nbd://host/disk", None),
        ("json:{", "json:{", None),
        ("json:[]", "json:[]", None),
        (deep.as_str(), deep.as_str(), None),
        ("", "", None),
    ] {
        let expected = ImageName { file: file.into(), driver: driver.map(str::to_owned) };
        assert_eq!(parse(name), expected, "{name}");
    }
}

#[test]
fn what_is_not_just_a_file_is_told() {
    let qcow2 = |file: &str| format!(r#"json:{{"driver": "qcow2", "file": {file}}}"#);
    let plain = [
        "/images/a.qcow2".to_owned(),
        "/a:b".to_owned(),
        "file:/a:b".to_owned(),
        "file:a:b".to_owned(),
        "./a:b".to_owned(),
        qcow2(r#"{"driver": "file", "filename": "/a"}"#),
        qcow2(r#"{"driver": "host_device", "filename": "/dev/a"}"#),
        qcow2(r#"{"driver": "raw", "file": {"driver": "file", "filename": "/a"}}"#),
        r#"json:{"driver": "qcow2", "file.driver": "file", "file.filename": "/a"}"#.to_owned(),
        r#"json:{"encrypt.key-secret": "s", "driver": "qcow2", "file": {"driver": "file", "filename": "e.qcow2"}}"#.to_owned(),
    ];
    for name in plain {
        assert_eq!(detour(&name), None, "{name}");
    }
    let others = [
        ("nbd+unix://?socket=/n.sock".to_owned(), "nbd+unix"),
        ("/dev/fdset/3".to_owned(), "/dev/fdset/3"),
        (qcow2(r#"{"driver": "file", "filename": "/dev/fdset/7"}"#), "/dev/fdset/7"),
        (
            qcow2(r#"{"driver": "raw", "offset": 65536, "file": {"driver": "file", "filename": "/a"}}"#),
            "offset",
        ),
        (qcow2(r#"{"driver": "nbd", "server": {"type": "unix", "path": "/n"}}"#), "nbd"),
        (qcow2(r#"{"driver": "https", "filename": "https://h/a"}"#), "https"),
        (r#"json:{"driver": "qcow2", "file.driver": "ssh", "file.filename": "/a"}"#.to_owned(), "ssh"),
        (qcow2(r#""node""#), "not understood"),
        ("json:{".to_owned(), "not understood"),
        ("json:{}".to_owned(), "not understood"),
    ];
    for (name, what) in others {
        let why = detour(&name).unwrap_or_default();
        assert!(why.contains(what), "{name}: {why}");
    }
}

#[test]
fn a_relative_name_of_qemus_is_never_looked_up_in_our_directory() {
    // The manifest is there for us, but it is not what QEMU means.
    let ours = std::path::Path::new("Cargo.toml").canonicalize().unwrap();
    let directory = ours.parent().unwrap();
    let ours = ours.to_str().unwrap();
    assert!(!Files::new(None).same(ours, "Cargo.toml"));
    assert!(Files::new(Some(directory)).same(ours, "Cargo.toml"));
    assert!(!Files::new(Some(std::path::Path::new("/"))).same(ours, "Cargo.toml"));
    assert_eq!(Files::new(Some(directory)).absolute("nbd:host"), "nbd:host");
}

fn attached(drive: Option<&str>, device: Option<&str>, export: Option<&str>) -> Attached {
    let text = |name: Option<&str>| name.map(str::to_owned);
    Attached {
        drive: text(drive),
        device: text(device),
        export: text(export),
        removable: false,
        medium: None,
    }
}

#[test]
fn a_name_is_the_best_that_qemu_has_made_a_word() {
    let long = "x".repeat(200);
    for (disk, expected) in [
        (attached(Some("virtio0"), Some("hd0"), None), "virtio0"),
        (attached(None, Some("/machine/peripheral/vda/virtio-backend"), None), "vda"),
        (attached(None, Some("hd0"), None), "hd0"),
        (attached(None, Some("/machine/peripheral-anon/device[2]/virtio-backend"), None), "disk"),
        (attached(None, None, Some("e 0/ä")), "e-0--"),
        (attached(Some("-_x"), None, None), "x"),
        (attached(Some("../.."), None, None), "disk"),
        (attached(None, Some("/"), None), "disk"),
        (attached(Some(&long), None, None), &long[..58]),
    ] {
        assert_eq!(naming::names(&[disk], [])[0].as_str(), expected);
    }
    let same = || attached(Some("a"), None, None);
    let names = naming::names(&[same(), attached(Some("a-2"), None, None), same(), same()], []);
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["a", "a-2", "a-3", "a-4"]);
}

fn node(name: &str, drv: &str, file: &str) -> Value {
    json!({
        "node-name": name, "drv": drv, "file": file, "ro": false,
        "image": {"filename": file, "format": drv, "virtual-size": 1024},
    })
}

#[test]
fn qemu_7_does_not_say_what_is_active() {
    let obstacle = |active| {
        let devices: Vec<BlockDevice> = from(json!([{"device": "d", "inserted": node("n", "qcow2", "/a")}]));
        let disks = attached::of_machine(devices, active, &[], None);
        disks[0].medium.as_ref().unwrap().no_internal()
    };
    assert_eq!(obstacle(true), None);
    assert!(obstacle(false).unwrap().contains("inactive"));
}

#[test]
fn without_the_graph_every_disk_may_be_the_jobs_and_exports_are_the_disks() {
    let job = |status: &str| json!([{"device": "j", "type": "commit", "status": status}]);
    let running: Vec<BlockJobInfo> = from(job("running"));
    let over: Vec<BlockJobInfo> = from(job("concluded"));
    let nodes = || -> Vec<BlockNode> { from(json!([node("n", "qcow2", "/a"), node("f", "file", "/a")])) };
    let exports: Vec<BlockExport> = from(json!([
        {"id": "e", "node-name": "n"}, {"id": "again", "node-name": "n"}, {"id": "gone", "node-name": "x"},
    ]));
    let obstacle = |jobs: &[BlockJobInfo]| {
        let disks = attached::of_daemon(nodes(), &exports, jobs, None);
        assert_eq!(disks.len(), 1, "an export is a disk once, and one without a node none");
        disks[0].medium.as_ref().unwrap().no_internal()
    };
    assert!(obstacle(&running).unwrap().contains("\"j\" (commit)"));
    assert_eq!(obstacle(&over), None);
}

#[test]
fn a_job_on_a_base_is_a_job_on_the_disk_and_a_shared_base_is_not() {
    // One disk on top of `mid` on `base`, another on `base`; a commit of `mid` into `base` holds both.
    let nodes = ["top", "mid", "base", "other"].map(|name| (name, "block-driver"));
    let names: Vec<Value> = nodes
        .iter()
        .chain(&[("commit", "block-job"), ("stream", "block-job")])
        .enumerate()
        .map(|(id, (name, kind))| json!({"id": id, "name": name, "type": kind}))
        .collect();
    let edges: Vec<Value> = [(0, 1), (1, 2), (3, 2), (4, 1), (4, 2), (5, 0)]
        .map(|(parent, child)| json!({"parent": parent, "child": child, "name": "x", "perm": []}))
        .to_vec();
    let graph: BlockGraph = from(json!({"nodes": names, "edges": edges}));
    let on = |job: &str, node: &str| {
        let jobs: Vec<BlockJobInfo> = from(json!([{"device": job, "type": "t", "status": "running"}]));
        super::jobs::Jobs::new(&jobs, Some(&graph)).on(node).is_some()
    };
    assert!(on("commit", "top"));
    assert!(on("commit", "other"), "it writes to the base");
    assert!(on("stream", "top"));
    assert!(!on("stream", "other"), "it only reads the base through its own disk");
    let roots = super::jobs::roots(&graph);
    assert_eq!(roots, ["top", "other"].into_iter().collect());
}

#[test]
fn a_chain_that_bites_its_tail_ends() {
    let looped = |name: &str, file: &str, backing: &str| {
        let mut node = node(name, "qcow2", file);
        node["backing_file"] = json!(backing);
        node
    };
    let nodes: Vec<BlockNode> = from(json!([looped("a", "/a", "/b"), looped("b", "/b", "/a")]));
    let exports: Vec<BlockExport> = from(json!([{"id": "e", "node-name": "a"}]));
    let disks = attached::of_daemon(nodes, &exports, &[], None);
    assert_eq!(disks[0].medium.as_ref().unwrap().chain, ["/b", "/a"]);
}
