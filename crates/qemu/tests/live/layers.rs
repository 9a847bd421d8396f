//! Layers of disks that QEMU has open: merged by its jobs, swapped under devices, unlinked when it has let go of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use xlsnap_orchestrator::{
    Disks, Effect, FileIdentity, ImageFile, LayerFile, Layers, Merge, Overlays, PortErrorKind, Progress,
};
use xlsnap_qemu::{Images, Live};
use xlsnap_qemu_img::Program;
use xlsnap_testkit::real::{
    Data, Disk as Fixture, LiveDisks, Monitor, Scratch, StorageDaemon, Vm, VmOptions, holds_offline,
    qemu_img, wait_until, write_offline,
};
use xlsnap_types::model::ImageFormat;

use crate::{MIB, Told, apply, disk, disk_name, live, overlay, spec, text};

pub(crate) struct Unwatched;

impl Progress for Unwatched {
    fn step(&self, _: usize, _: usize, _: &str) {}

    fn bytes(&self, _: u64, _: Option<u64>) {}
}

pub(crate) fn layer(file: &Path) -> LayerFile {
    let found = std::fs::metadata(file).unwrap();
    LayerFile {
        disk: disk_name("vda"),
        file: text(file),
        format: ImageFormat::Qcow2,
        identity: Some(FileIdentity { device: found.dev(), inode: found.ino() }),
    }
}

pub(crate) fn merge(from: &Path, into: &Path) -> Merge {
    let active = from.file_name().unwrap() == "top";
    Merge {
        from: layer(from),
        into: layer(into),
        active,
        above: Vec::new(),
        rate: None,
        token: "0123456789abcdefghijklmn".into(),
    }
}

const JOB: &str = "xls-0123456789abcdefghijklmn";

/// What the layer of this number holds, where no other does.
pub(crate) fn own(number: u8) -> Data {
    Data::of(number).at(u64::from(number) * 256 * 1024)
}

/// `base` with a snapshot inside, `middle` on it, `top` on that, which is disk vda; `second` is on the middle too.
pub(crate) struct Tree {
    pub(crate) scratch: Scratch,
    pub(crate) base: PathBuf,
    pub(crate) middle: PathBuf,
    pub(crate) top: PathBuf,
    pub(crate) second: PathBuf,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let base = scratch.qcow2_with("base", 4 * MIB, 1);
        qemu_img(&["snapshot", "-c", "inside", base.to_str().unwrap()]);
        let on = |file: &str, base: &str, number| {
            let path = scratch.path(file);
            qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path.to_str().unwrap()]);
            write_offline(&path, "qcow2", own(number));
            path
        };
        let (middle, top, second) =
            (on("middle", "base", 2), on("top", "middle", 3), on("second", "middle", 4));
        Self { scratch, base, middle, top, second }
    }

    pub(crate) fn vm(&self) -> Vm {
        let options = VmOptions { running: true, ..VmOptions::default() };
        Vm::start(&self.scratch, &[Fixture::qcow2("vda", &self.top)], &options)
    }

    fn daemon(&self) -> StorageDaemon {
        StorageDaemon::start(&self.scratch, &[Fixture::qcow2("vda", &self.top)])
    }

    pub(crate) fn images(&self, image: &Path) -> Images {
        Images::new(vec![spec("vda", image)], Arc::new(Program::default()), Arc::new(Told::default()))
    }

    /// Whether the snapshot inside the base is what it was; nothing else is of the base after it.
    pub(crate) fn inside_is_right(&self) -> bool {
        apply(&self.base, "inside");
        holds_offline(&self.base, "qcow2", Data::of(1))
            && holds_offline(&self.base, "qcow2", Data { byte: 0, ..own(2) })
    }
}

pub(crate) fn holds(file: &Path, data: &[Data]) -> bool {
    data.iter().all(|data| holds_offline(file, "qcow2", *data))
}

fn backing(file: &Path) -> String {
    let info = qemu_img(&["info", "-U", "--output=json", file.to_str().unwrap()]);
    let info: Value = serde_json::from_str(&info).unwrap();
    info["backing-filename"].as_str().unwrap_or_default().to_owned()
}

fn jobs(monitor: &mut Monitor) -> Vec<(String, String)> {
    let jobs = monitor.must("query-jobs", json!({}));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    jobs.as_array().unwrap().iter().map(|job| (text(&job["id"]), text(&job["status"]))).collect()
}

fn status(vm: &Vm) -> String {
    vm.monitor().must("query-status", json!({}))["status"].as_str().unwrap().to_owned()
}

/// The node of the image in `file`.
fn node(monitor: &mut Monitor, file: &Path) -> String {
    let nodes = monitor.must("query-named-block-nodes", json!({"flat": true}));
    let name = file.file_name().unwrap().to_str().unwrap();
    let is_it = |node: &&Value| {
        node["drv"] == "qcow2" && node["image"]["filename"].as_str().unwrap().ends_with(&format!("/{name}"))
    };
    nodes.as_array().unwrap().iter().find(is_it).unwrap()["node-name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_below_takes_the_writes_of_a_guest_that_goes_on() {
    let tree = Tree::new();
    let Tree { middle, top, .. } = &tree;
    let vm = Arc::new(tree.vm());
    let live = live(vm.qmp(), vec![spec("vda", top)]).await;
    let writer = tokio::task::spawn_blocking({
        let vm = Arc::clone(&vm);
        move || (1..=20).for_each(|n| vm.write("vda", Data::of(n).at(2 * MIB)))
    });
    live.merge(&merge(top, middle), &Unwatched).await.unwrap();
    writer.await.unwrap();
    assert_eq!(status(&vm), "paused");
    // The description follows: until then the disk is what takes the writes, and a merge again is none.
    assert_eq!(disk(&live, "vda").await.image, text(middle));
    live.merge(&merge(top, middle), &Unwatched).await.unwrap();
    assert_eq!(live.unlink(&layer(top)).await.unwrap_err().kind, PortErrorKind::Busy);
    live.adopt(&[(disk_name("vda"), ImageFile::new(text(middle), ImageFormat::Qcow2))]).await.unwrap();
    live.merge(&merge(top, middle), &Unwatched).await.unwrap();
    live.unlink(&layer(top)).await.unwrap();
    assert!(!top.exists() && jobs(&mut vm.monitor()).is_empty());
    live.unlink(&LayerFile { identity: None, file: text(top), ..layer(middle) }).await.unwrap();
    vm.monitor().must("cont", json!({}));
    vm.write("vda", own(5));
    assert!(disk(&live, "vda").await.internal.is_yes());
    drop(live);
    Arc::into_inner(vm).unwrap().quit();
    assert!(holds(middle, &[Data::of(1), own(2), own(3), own(5), Data::of(20).at(2 * MIB)]));
    assert!(tree.inside_is_right());
}

#[tokio::test]
async fn a_layer_in_the_middle_goes_down_and_headers_stay_relative() {
    for with_guest in [true, false] {
        let tree = Tree::new();
        let Tree { base, middle, top, second, .. } = &tree;
        let (vm, daemon) = if with_guest { (Some(tree.vm()), None) } else { (None, Some(tree.daemon())) };
        let qmp = vm.as_ref().map_or_else(|| daemon.as_ref().unwrap().qmp(), Vm::qmp);
        let live = live(qmp, vec![spec("vda", top)]).await;
        live.merge(&merge(middle, base), &Unwatched).await.unwrap();
        live.merge(&merge(middle, base), &Unwatched).await.unwrap();
        assert_eq!(backing(top), "base");
        live.reheader(&layer(top), &layer(base)).await.unwrap();
        let error = live.reheader(&layer(top), &layer(middle)).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None));
        live.reheader(&layer(second), &layer(base)).await.unwrap();
        assert_eq!(backing(second), "base");
        live.unlink(&layer(middle)).await.unwrap();
        let error = live.unlink(&layer(base)).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None));
        if let Some(vm) = vm {
            assert_eq!((status(&vm), jobs(&mut vm.monitor()).len()), ("running".to_owned(), 0));
            vm.write("vda", own(5));
            vm.quit();
        } else if let Some(daemon) = daemon {
            assert_eq!(jobs(&mut daemon.monitor()).len(), 0);
            daemon.write("vda", own(5));
            daemon.quit();
        }
        assert!(holds(top, &[Data::of(1), own(2), own(3), own(5)]));
        assert!(holds(second, &[Data::of(1), own(2), own(4), Data { byte: 0, ..own(5) }]));
        assert!(tree.inside_is_right());
    }
}

#[tokio::test]
async fn a_storage_daemons_disk_goes_down_too() {
    let tree = Tree::new();
    let Tree { middle, top, .. } = &tree;
    let daemon = tree.daemon();
    let live = live(daemon.qmp(), vec![spec("vda", top)]).await;
    live.merge(&merge(top, middle), &Unwatched).await.unwrap();
    live.adopt(&[(disk_name("vda"), ImageFile::new(text(middle), ImageFormat::Qcow2))]).await.unwrap();
    live.unlink(&layer(top)).await.unwrap();
    daemon.write("vda", own(5));
    assert!(live.swap(&disk_name("vda"), &layer(&tree.second)).await.is_err());
    assert_eq!(disk(&live, "vda").await.swap.why(), Some("no guest's device has it"));
    daemon.quit();
    assert!(holds(middle, &[Data::of(1), own(2), own(3), own(5)]));
}

#[tokio::test]
async fn what_qemu_has_not_open_is_merged_beside_it() {
    let tree = Tree::new();
    let Tree { scratch, middle, top, second, .. } = &tree;
    let third = scratch.qcow2_on("third", second);
    write_offline(&third, "qcow2", own(6));
    let vm = tree.vm();
    let live = live(vm.qmp(), vec![spec("vda", top)]).await;
    live.merge(&merge(&third, second), &Unwatched).await.unwrap();
    live.unlink(&layer(&third)).await.unwrap();
    // Not into an image that QEMU has open: another disk stands on it.
    let error = live.merge(&merge(second, middle), &Unwatched).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None), "{error}");
    vm.quit();
    assert!(holds(second, &[Data::of(1), own(2), own(4), own(6)]));
    assert!(holds(top, &[Data::of(1), own(2), own(3), Data { byte: 0, ..own(6) }]));
}

#[tokio::test]
async fn what_would_lose_something_is_refused() {
    let tree = Tree::new();
    let Tree { base, middle, top, second, .. } = &tree;
    qemu_img(&["snapshot", "-c", "pinned", top.to_str().unwrap()]);
    let vm = tree.vm();
    let live = live(vm.qmp(), vec![spec("vda", top)]).await;
    let other = LayerFile { identity: layer(second).identity, ..layer(base) };
    for refused in [
        merge(top, middle),
        merge(top, base),
        Merge { into: other.clone(), ..merge(middle, base) },
        Merge { from: LayerFile { file: text(middle), ..other }, ..merge(middle, base) },
    ] {
        let error = live.merge(&refused, &Unwatched).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{error}");
    }
    assert_eq!(jobs(&mut vm.monitor()).len(), 0);
    // Below the layer with the snapshot its content stays.
    live.merge(&merge(middle, base), &Unwatched).await.unwrap();
    live.reheader(&layer(second), &layer(base)).await.unwrap();
    live.unlink(&layer(middle)).await.unwrap();
    vm.write("vda", Data::of(9));
    vm.quit();
    apply(top, "pinned");
    assert!(holds(top, &[Data::of(1), own(2), own(3)]) && holds(second, &[Data::of(1), own(2), own(4)]));
}

#[tokio::test]
async fn a_raw_base_and_a_smaller_one_take_what_comes_down() {
    for in_the_middle in [false, true] {
        let scratch = Scratch::new();
        let base = scratch.raw("base", 4 * MIB);
        write_offline(&base, "raw", Data::of(1));
        let (middle, top) = (scratch.path("middle"), scratch.path("top"));
        for (file, on, format) in [(&middle, "base", "raw"), (&top, "middle", "qcow2")] {
            let file = file.to_str().unwrap();
            qemu_img(&["create", "-q", "-f", "qcow2", "-F", format, "-b", on, file, "8M"]);
        }
        write_offline(&middle, "qcow2", own(2));
        write_offline(&top, "qcow2", own(3));
        let image = if in_the_middle { &top } else { &middle };
        let options = VmOptions { running: true, ..VmOptions::default() };
        let vm = Vm::start(&scratch, &[Fixture::qcow2("vda", image)], &options);
        let live = live(vm.qmp(), vec![spec("vda", image)]).await;
        let into = LayerFile { format: ImageFormat::Raw, ..layer(&base) };
        let merge = Merge { into: into.clone(), active: !in_the_middle, ..merge(&middle, &base) };
        live.merge(&merge, &Unwatched).await.unwrap();
        let wrong = LayerFile { format: ImageFormat::Qcow2, ..into.clone() };
        if in_the_middle {
            live.reheader(&layer(&top), &into).await.unwrap();
            assert_eq!(live.reheader(&layer(&top), &wrong).await.unwrap_err().kind, PortErrorKind::Busy);
        } else {
            live.adopt(&[(disk_name("vda"), ImageFile::new(text(&base), ImageFormat::Raw))]).await.unwrap();
            assert_eq!(disk(&live, "vda").await.virtual_size, 8 * MIB);
        }
        live.unlink(&layer(&middle)).await.unwrap();
        vm.write("vda", Data::of(5).at(7 * MIB));
        vm.quit();
        let (now, format) = if in_the_middle { (&top, "qcow2") } else { (&base, "raw") };
        for data in [Data::of(1), own(2), Data::of(5).at(7 * MIB)] {
            assert!(holds_offline(now, format, data), "in the middle: {in_the_middle}");
        }
        assert_eq!(std::fs::metadata(&base).unwrap().len(), 8 * MIB);
        // The other way round the disk would show what it had not.
        let small = scratch.path("small");
        let name = small.to_str().unwrap();
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", name, "4M"]);
        let alone =
            Images::new(vec![spec("vda", &small)], Arc::new(Program::default()), Arc::new(Told::default()));
        let merge = Merge {
            from: layer(&small),
            into: LayerFile { identity: None, ..into },
            active: true,
            above: Vec::new(),
            rate: None,
            token: "x".into(),
        };
        assert_eq!(alone.merge(&merge, &Unwatched).await.unwrap_err().kind, PortErrorKind::Refused);
    }
}

/// Begins the job as a program that was killed meanwhile did.
fn begin(monitor: &mut Monitor, from: &Path, into: &Path, child: Option<&Path>) {
    let (top, base) = (node(monitor, from), node(monitor, into));
    let mut arguments = json!({
        "job-id": JOB, "device": top, "top-node": top, "base-node": base, "auto-dismiss": false,
    });
    if let Some(child) = child {
        arguments["device"] = node(monitor, child).into();
        arguments["backing-file"] = into.file_name().unwrap().to_str().into();
        arguments["auto-finalize"] = false.into();
    }
    monitor.must("block-commit", arguments);
}

fn until(monitor: &mut Monitor, status: &str) {
    wait_until(&format!("the job is {status}"), || {
        (jobs(monitor) == [(JOB.to_owned(), status.to_owned())]).then_some(())
    });
}

#[tokio::test]
async fn a_job_is_met_again_in_each_state() {
    for state in ["ready", "concluded", "cancelled", "failed", "dismissed"] {
        let tree = Tree::new();
        let Tree { middle, top, .. } = &tree;
        let vm = tree.vm();
        begin(&mut vm.monitor(), top, middle, None);
        until(&mut vm.monitor(), "ready");
        vm.write("vda", own(5));
        match state {
            "concluded" => {
                vm.monitor().must("stop", json!({}));
                vm.monitor().must("job-complete", json!({"id": JOB}));
                until(&mut vm.monitor(), "concluded");
            }
            // The one ends without an error, the other with one.
            "cancelled" => {
                vm.monitor().must("block-job-cancel", json!({"device": JOB}));
                until(&mut vm.monitor(), "concluded");
            }
            "failed" | "dismissed" => {
                vm.monitor().must("job-cancel", json!({"id": JOB}));
                until(&mut vm.monitor(), "concluded");
                if state == "dismissed" {
                    vm.monitor().must("job-dismiss", json!({"id": JOB}));
                }
            }
            _ => {}
        }
        let live = live(vm.qmp(), vec![spec("vda", top)]).await;
        live.merge(&merge(top, middle), &Unwatched).await.unwrap();
        assert_eq!(
            (status(&vm), disk(&live, "vda").await.image),
            ("paused".to_owned(), text(middle)),
            "{state}"
        );
        live.adopt(&[(disk_name("vda"), ImageFile::new(text(middle), ImageFormat::Qcow2))]).await.unwrap();
        live.unlink(&layer(top)).await.unwrap();
        vm.quit();
        assert!(holds(middle, &[Data::of(1), own(2), own(3), own(5)]), "{state}");
        assert!(tree.inside_is_right());
    }
    for state in ["pending", "concluded", "failed"] {
        let tree = Tree::new();
        let Tree { base, middle, top, second, .. } = &tree;
        let vm = tree.vm();
        begin(&mut vm.monitor(), middle, base, Some(top));
        until(&mut vm.monitor(), "pending");
        vm.write("vda", own(5));
        let end = match state {
            "concluded" => Some("job-finalize"),
            "failed" => Some("job-cancel"),
            _ => None,
        };
        if let Some(command) = end {
            vm.monitor().must(command, json!({"id": JOB}));
            until(&mut vm.monitor(), "concluded");
        }
        let live = live(vm.qmp(), vec![spec("vda", top)]).await;
        live.merge(&merge(middle, base), &Unwatched).await.unwrap();
        live.reheader(&layer(second), &layer(base)).await.unwrap();
        live.unlink(&layer(middle)).await.unwrap();
        assert_eq!(backing(top), "base", "{state}");
        vm.quit();
        assert!(holds(top, &[Data::of(1), own(2), own(3), own(5)]), "{state}");
        assert!(holds(second, &[Data::of(1), own(2), own(4)]) && tree.inside_is_right(), "{state}");
    }
}

#[tokio::test]
async fn after_qemu_was_killed_the_merge_is_done_without_it() {
    for stop_in_the_middle in [false, true] {
        let tree = Tree::new();
        let Tree { base, middle, top, second, .. } = &tree;
        let mut vm = tree.vm();
        let (from, into, child, status) = if stop_in_the_middle {
            (middle, base, Some(&**top), "pending")
        } else {
            (top, middle, None, "ready")
        };
        begin(&mut vm.monitor(), from, into, child);
        until(&mut vm.monitor(), status);
        vm.write("vda", own(5));
        // What a guest's flush does.
        vm.human("qemu-io -d /machine/peripheral/vda/virtio-backend flush");
        vm.kill();
        let images = tree.images(top);
        assert!(holds(top, &[Data::of(1), own(2), own(3), own(5)]));
        images.merge(&merge(from, into), &Unwatched).await.unwrap();
        assert!(holds(top, &[Data::of(1), own(2), own(3), own(5)]), "the same through the layer");
        if stop_in_the_middle {
            for child in [top, second] {
                images.reheader(&layer(child), &layer(base)).await.unwrap();
            }
            assert!(holds(second, &[Data::of(1), own(2), own(4)]));
        } else {
            images
                .adopt(&[(disk_name("vda"), ImageFile::new(text(middle), ImageFormat::Qcow2))])
                .await
                .unwrap();
        }
        images.unlink(&layer(from)).await.unwrap();
        assert!(holds(if stop_in_the_middle { top } else { middle }, &[Data::of(1), own(2), own(3), own(5)]));
        assert!(tree.inside_is_right());
    }
}

#[tokio::test]
async fn what_was_merged_is_in_the_files_when_qemu_is_killed_then() {
    for with_guest in [true, false] {
        for in_the_middle in [true, false] {
            let tree = Tree::new();
            let Tree { base, middle, top, second, .. } = &tree;
            let (mut vm, mut daemon) =
                if with_guest { (Some(tree.vm()), None) } else { (None, Some(tree.daemon())) };
            let qmp = vm.as_ref().map_or_else(|| daemon.as_ref().unwrap().qmp(), Vm::qmp);
            let live = live(qmp, vec![spec("vda", top)]).await;
            let (from, into) = if in_the_middle { (middle, base) } else { (top, middle) };
            live.merge(&merge(from, into), &Unwatched).await.unwrap();
            vm.iter_mut().for_each(Vm::kill);
            daemon.iter_mut().for_each(StorageDaemon::kill);
            let now = if in_the_middle { top } else { middle };
            let held = [Data::of(1), own(2), own(3)];
            assert!(holds(into, if in_the_middle { &held[..2] } else { &held[..] }));
            std::fs::remove_file(from).unwrap();
            assert!(holds(now, &held), "with a guest: {with_guest}, in the middle: {in_the_middle}");
            if in_the_middle {
                tree.images(top).reheader(&layer(second), &layer(base)).await.unwrap();
                assert!(holds(second, &[Data::of(1), own(2), own(4)]));
            }
            assert!(tree.inside_is_right());
        }
    }
}

#[tokio::test]
async fn a_merge_that_was_dropped_goes_on_with_its_job() {
    let tree = Tree::new();
    let Tree { base, middle, top, .. } = &tree;
    // More than what goes down before QEMU looks at the limit for the first time.
    write_offline(middle, "qcow2", Data { byte: 8, offset: 2 * MIB, len: 2 * MIB });
    let vm = tree.vm();
    let live = live(vm.qmp(), vec![spec("vda", top)]).await;
    let (child, from, into) = {
        let mut monitor = vm.monitor();
        (node(&mut monitor, top), node(&mut monitor, middle), node(&mut monitor, base))
    };
    // As slow as a job can be told to be.
    let slow = json!({
        "job-id": JOB, "device": child, "top-node": from, "base-node": into, "backing-file": "base", "speed": 1,
        "auto-finalize": false, "auto-dismiss": false,
    });
    vm.monitor().must("block-commit", slow);
    let merge = merge(middle, base);
    for _ in 0..2 {
        let waited =
            tokio::time::timeout(std::time::Duration::from_millis(50), live.merge(&merge, &Unwatched)).await;
        assert!(waited.is_err(), "it waits for the job");
        assert_eq!(jobs(&mut vm.monitor()), [(JOB.to_owned(), "running".to_owned())]);
    }
    vm.monitor().must("block-job-set-speed", json!({"device": JOB, "speed": 0}));
    live.merge(&merge, &Unwatched).await.unwrap();
    assert_eq!((backing(top).as_str(), status(&vm).as_str()), ("base", "running"));
    live.unlink(&layer(middle)).await.unwrap();
    assert!(vm.holds("vda", own(2)) && vm.holds("vda", own(3)));
}

#[tokio::test]
async fn a_parked_merge_leaves_both_layers_and_is_done_later() {
    for state in ["none", "ready", "pending", "failed", "completed", "done"] {
        let tree = Tree::new();
        let Tree { base, middle, top, .. } = &tree;
        let vm = tree.vm();
        let in_the_middle = state == "pending";
        let (from, into) = if in_the_middle { (middle, base) } else { (top, middle) };
        let merge = merge(from, into);
        let live = live(vm.qmp(), vec![spec("vda", top)]).await;
        if state == "done" {
            live.merge(&merge, &Unwatched).await.unwrap();
        } else if state != "none" {
            begin(&mut vm.monitor(), from, into, in_the_middle.then_some(&**top));
            until(&mut vm.monitor(), if in_the_middle { "pending" } else { "ready" });
            if state == "failed" {
                vm.monitor().must("job-cancel", json!({"id": JOB}));
            }
            if state == "completed" {
                vm.monitor().must("stop", json!({}));
                vm.monitor().must("job-complete", json!({"id": JOB}));
                until(&mut vm.monitor(), "concluded");
            }
        }
        let is_done = ["completed", "done"].contains(&state);
        for _ in 0..2 {
            assert_eq!(live.park(&merge).await.unwrap(), is_done, "{state}");
        }
        if is_done {
            assert_eq!(status(&vm), "paused", "{state}: the layer below may take the writes");
            live.merge(&merge, &Unwatched).await.unwrap();
            assert_eq!(disk(&live, "vda").await.image, text(middle), "{state}: what is done stays");
        } else {
            assert!(jobs(&mut vm.monitor()).is_empty(), "{state}");
            assert_eq!(
                (status(&vm).as_str(), disk(&live, "vda").await.image),
                ("running", text(top)),
                "{state}"
            );
            vm.write("vda", own(5));
            live.merge(&merge, &Unwatched).await.unwrap();
        }
        assert!(live.park(&merge).await.unwrap(), "{state}");
        let now = if in_the_middle { top } else { middle };
        live.adopt(&[(disk_name("vda"), ImageFile::new(text(now), ImageFormat::Qcow2))]).await.unwrap();
        live.unlink(&layer(from)).await.unwrap();
        // With neither job nor layer it is done.
        live.merge(&merge, &Unwatched).await.unwrap();
        vm.quit();
        assert!(holds(now, &[Data::of(1), own(2), own(3)]), "{state}");
        assert!(is_done || holds(now, &[own(5)]), "{state}");
    }
}

/// Each way of attaching a disk: further arguments, and the name of its device in QEMU's object tree.
pub(crate) fn devices(file: &Path) -> Vec<(Vec<String>, &'static str)> {
    let node =
        format!("driver=qcow2,node-name=n,cache.no-flush=on,file.driver=file,file.filename={}", text(file));
    let drive = format!("file={},format=qcow2,cache=unsafe", text(file));
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let device = |device: &str| words(&["-blockdev", &node, "-device", "virtio-scsi-pci", "-device", device]);
    vec![
        (device("virtio-blk-pci,drive=n,id=vda"), "/machine/peripheral/vda/virtio-backend"),
        (device("virtio-blk-pci,drive=n"), "/machine/peripheral-anon/device[1]/virtio-backend"),
        (device("scsi-hd,drive=n,id=vda"), "vda"),
        (device("scsi-hd,drive=n"), "/machine/peripheral-anon/device[1]"),
        (device("ide-hd,drive=n,id=vda"), "vda"),
        (device("nvme,drive=n,serial=1"), "/machine/peripheral-anon/device[1]"),
        (
            words(&["-drive", &format!("{drive},if=virtio")]),
            "/machine/peripheral-anon/device[0]/virtio-backend",
        ),
        (
            words(&["-drive", &format!("{drive},if=none,id=d"), "-device", "ide-hd,drive=d"]),
            "/machine/peripheral-anon/device[0]",
        ),
    ]
}

#[tokio::test]
async fn each_device_is_given_another_image_and_its_old_one() {
    let at = Tree::new();
    for index in 0..devices(&at.top).len() {
        let tree = Tree::new();
        let Tree { scratch, middle, top, second, .. } = &tree;
        let (arguments, device) = devices(top).swap_remove(index);
        let vm = Vm::start(scratch, &[], &VmOptions { running: true, arguments, ..VmOptions::default() });
        let live = live(vm.qmp(), vec![spec("vda", top)]).await;
        // Whether the guest's writes are cached is the device's and the guest's own matter.
        let cache = || {
            let found = vm.monitor().must("query-block", json!({}))[0]["inserted"]["cache"].clone();
            (found["direct"].clone(), found["no-flush"].clone())
        };
        let before = cache();
        assert_eq!(before, (false.into(), true.into()));
        let io = |what: &str| {
            assert_eq!(
                vm.human(&format!("qemu-io {} \"{what}\"", format_args!("-d {device}"))),
                "",
                "{device}"
            );
        };
        assert!(disk(&live, "vda").await.swap.is_yes(), "{device}");
        let fresh = scratch.qcow2_on("fresh", middle);
        let vda = disk_name("vda");
        let error = live.swap(&vda, &layer(&fresh)).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "the guest runs");
        vm.monitor().must("stop", json!({}));
        for _ in 0..2 {
            live.swap(&vda, &layer(&fresh)).await.unwrap();
            assert_eq!(disk(&live, "vda").await.image, text(&fresh), "{device}, not described yet");
            live.swap(&vda, &layer(top)).await.unwrap();
            assert_eq!(disk(&live, "vda").await.image, text(top), "{device}");
        }
        // As a revert that fails goes back: what was made for it goes.
        let thrown = overlay("vda", &scratch.path("thrown"), middle);
        live.make(&thrown).await.unwrap();
        live.swap(&vda, &layer(thrown.file.as_ref())).await.unwrap();
        assert_eq!(live.discard(&thrown).await.unwrap_err().kind, PortErrorKind::Busy);
        live.swap(&vda, &layer(top)).await.unwrap();
        live.discard(&thrown).await.unwrap();
        // What stands on another base, of which QEMU has a part open.
        live.swap(&vda, &layer(second)).await.unwrap();
        live.swap(&vda, &layer(&fresh)).await.unwrap();
        live.adopt(&[(vda.clone(), ImageFile::new(text(&fresh), ImageFormat::Qcow2))]).await.unwrap();
        live.unlink(&layer(top)).await.unwrap();
        assert_eq!(cache(), before, "{device}");
        vm.monitor().must("system_reset", json!({}));
        vm.monitor().must("cont", json!({}));
        if device.starts_with('/') {
            io("write -P 5 1280k 128k");
        }
        assert!(live.unlink(&layer(&fresh)).await.is_err());
        let inventory = live.inventory().await.unwrap();
        assert_eq!((inventory.disks.len(), inventory.undescribed.len()), (1, 0));
        drop(live);
        vm.quit();
        let written = if device.starts_with('/') { own(5) } else { Data::of(1) };
        assert!(holds(&fresh, &[Data::of(1), own(2), Data { byte: 0, ..own(3) }, written]), "{device}");
        assert!(holds(second, &[Data::of(1), own(2), own(4)]) && !top.exists(), "{device}");
    }
}

/// The adapter knows the file that QEMU has open from one that was put in its place.
#[tokio::test]
async fn a_file_that_was_replaced_under_qemu_is_refused() {
    let tree = Tree::new();
    let Tree { scratch, base, middle, top, .. } = &tree;
    let vm = tree.vm();
    let client = crate::connect(vm.qmp()).await;
    let identity = xlsnap_qemu::process::Peer::of(&client).process().unwrap();
    let live = Live::new(
        Arc::new(client),
        Arc::new(Program::default()),
        vec![spec("vda", top)],
        Arc::new(Told::default()),
    )
    .in_directory_of(&identity);
    std::fs::rename(middle, scratch.path("moved")).unwrap();
    std::fs::copy(scratch.path("moved"), middle).unwrap();
    let error = live.merge(&merge(middle, base), &Unwatched).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{error}");
    assert!(error.to_string().contains("replaced"), "{error}");
}
