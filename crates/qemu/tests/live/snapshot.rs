//! Snapshots of running disks, proved by their data.

use xlsnap_orchestrator::{Disks, Effect, ImageFile, Overlays, PortErrorKind, SnapshotAction};
use xlsnap_testkit::real::{
    Attach, Data, Disk as Fixture, LiveDisks, Scratch, StorageDaemon, Vm, VmOptions, holds_offline,
};

use crate::{
    MIB, apply, attached_by, disk, internal, live, overlay, spec, tags, text, two_disks, with_arguments,
};

#[tokio::test]
async fn both_disks_hold_what_they_held_at_the_snapshot() {
    for attach in [Some(Attach::Blockdev), Some(Attach::Drive), None] {
        let scratch = Scratch::new();
        let fixtures = two_disks(&scratch);
        let files = fixtures.clone().map(|disk| disk.file.unwrap());
        let specs = vec![spec("vda", &files[0]), spec("vdb", &files[1])];
        let actions = [internal("vda", "before"), internal("vdb", "before")];
        let write_more = |disks: &dyn LiveDisks| {
            for disk in ["vda", "vdb"] {
                disks.write(disk, Data::of(9));
            }
        };
        if let Some(attach) = attach {
            let vm = Vm::start(&scratch, &fixtures, &attached_by(attach));
            live(vm.qmp(), specs).await.snapshot(&actions).await.unwrap();
            write_more(&vm);
            vm.quit();
        } else {
            let daemon = StorageDaemon::start(&scratch, &fixtures);
            live(daemon.qmp(), specs).await.snapshot(&actions).await.unwrap();
            write_more(&daemon);
            daemon.quit();
        }
        for (file, byte) in files.iter().zip([1, 2]) {
            assert!(holds_offline(file, "qcow2", Data::of(9)), "{attach:?}");
            apply(file, "before");
            assert!(holds_offline(file, "qcow2", Data::of(byte)), "{attach:?}");
        }
    }
}

#[tokio::test]
async fn the_second_disks_refusal_leaves_the_first_untouched() {
    let scratch = Scratch::new();
    let daemon = StorageDaemon::start(&scratch, &two_disks(&scratch));
    let live = live(daemon.qmp(), Vec::new()).await;
    live.snapshot(&[internal("vdb", "s")]).await.unwrap();
    let error = live.snapshot(&[internal("vda", "s"), internal("vdb", "s")]).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::AlreadyExists, Effect::None));
    assert!(error.to_string().contains("vdb"), "{error}");
    assert_eq!(tags(&live, "vda").await, Vec::<String>::new());
    assert_eq!(tags(&live, "vdb").await, ["s"]);
}

#[tokio::test]
async fn what_qemu_refuses_has_a_kind_and_no_effect() {
    let scratch = Scratch::new();
    let [fixture, _] = two_disks(&scratch);
    let disks = [
        fixture,
        Fixture::raw("raw", &scratch.raw("raw.raw", MIB)),
        Fixture::qcow2("ro", &scratch.qcow2("ro.qcow2", MIB)).read_only(),
        Fixture::empty_cdrom("empty"),
        Fixture::qcow2("data", &scratch.qcow2_with_data_file("data.qcow2", MIB)),
    ];
    for attach in [Attach::Blockdev, Attach::Drive] {
        let vm = Vm::start(&scratch, &disks, &attached_by(attach));
        let live = live(vm.qmp(), Vec::new()).await;
        for (second, tag, kind) in [
            ("raw", "s", PortErrorKind::Refused),
            ("ro", "s", PortErrorKind::Refused),
            ("empty", "s", PortErrorKind::Refused),
            ("data", "s", PortErrorKind::Refused),
            ("nope", "s", PortErrorKind::NotFound),
            ("vda", "s", PortErrorKind::AlreadyExists),
            ("vda", "", PortErrorKind::Failed),
        ] {
            let error = live.snapshot(&[internal("vda", "s"), internal(second, tag)]).await.unwrap_err();
            assert_eq!((error.kind, error.effect), (kind, Effect::None), "{attach:?} {second}: {error}");
            assert_eq!(tags(&live, "vda").await, Vec::<String>::new(), "{attach:?} {second}");
        }
        vm.quit();
    }
}

#[tokio::test]
async fn an_overlay_takes_the_writes_and_its_base_keeps_the_state() {
    for serves in [false, true] {
        let scratch = Scratch::new();
        let fixtures = two_disks(&scratch);
        let files = fixtures.clone().map(|disk| disk.file.unwrap());
        let specs = vec![spec("vda", &files[0]), spec("vdb", &files[1])];
        let over = overlay("vda", &scratch.path("over.qcow2"), &files[0]);
        let vm = (!serves).then(|| Vm::start(&scratch, &fixtures, &VmOptions::default()));
        let daemon = serves.then(|| StorageDaemon::start(&scratch, &fixtures));
        let qmp = vm.as_ref().map(Vm::qmp).or(daemon.as_ref().map(StorageDaemon::qmp)).unwrap();
        let live = live(qmp, specs).await;
        live.make(&over).await.unwrap();
        // Internal and external at the same instant.
        live.snapshot(&[SnapshotAction::External(over.clone()), internal("vdb", "s")]).await.unwrap();
        // The overlay takes snapshots as any disk, also before the next look.
        live.snapshot(&[internal("vda", "t")]).await.unwrap();
        let vda = disk(&live, "vda").await;
        assert_eq!((vda.image.as_str(), vda.virtual_size), (over.file.as_str(), 4 * MIB));
        assert_eq!(tags(&live, "vdb").await, ["s"]);
        live.adopt(&[(over.disk.clone(), ImageFile::new(over.file.clone(), over.format.clone()))])
            .await
            .unwrap();
        assert_eq!(disk(&live, "vda").await.image, over.file);
        assert_eq!(tags(&live, "vda").await, ["t"]);
        let disks: &dyn LiveDisks = match (&vm, &daemon) {
            (Some(vm), _) => vm,
            (_, daemon) => daemon.as_ref().unwrap(),
        };
        assert!(disks.holds("vda", Data::of(1)), "the overlay shows its base");
        disks.write("vda", Data::of(9));
        // In order: a killed QEMU may take the last metadata with it.
        if let Some(vm) = vm {
            vm.quit();
        }
        if let Some(daemon) = daemon {
            daemon.quit();
        }
        assert!(holds_offline(&files[0], "qcow2", Data::of(1)));
        assert!(holds_offline(over.file.as_ref(), "qcow2", Data::of(9)));
    }
}

#[tokio::test]
async fn a_refused_transaction_closes_the_overlays_that_it_opened() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let files = fixtures.clone().map(|disk| disk.file.unwrap());
    let daemon = StorageDaemon::start(&scratch, &fixtures);
    let specs = vec![spec("vda", &files[0]), spec("vdb", &files[1])];
    let live = live(daemon.qmp(), specs).await;
    let over = overlay("vda", &scratch.path("over.qcow2"), &files[0]);
    live.make(&over).await.unwrap();
    live.snapshot(&[internal("vdb", "s")]).await.unwrap();
    let actions = [SnapshotAction::External(over.clone()), internal("vdb", "s")];
    let error = live.snapshot(&actions).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::AlreadyExists, Effect::None));
    assert_eq!(disk(&live, "vda").await.image, text(&files[0]));
    let nodes = daemon.monitor().must("query-named-block-nodes", serde_json::json!({"flat": true}));
    assert!(!nodes.to_string().contains("over.qcow2"), "{nodes}");
    // An overlay that can't be opened is found before anything is done.
    std::fs::write(&over.file, b"no image").unwrap();
    let actions =
        [internal("vda", "t"), SnapshotAction::External(overlay("vdb", over.file.as_ref(), &files[1]))];
    let error = live.snapshot(&actions).await.unwrap_err();
    assert_eq!(error.effect, Effect::None);
    assert_eq!(tags(&live, "vda").await, Vec::<String>::new());
}

#[tokio::test]
async fn an_overlay_treats_the_cache_and_zeros_as_its_base_does() {
    let scratch = Scratch::new();
    let file = scratch.qcow2("a.qcow2", 4 * MIB);
    let node = format!(
        "driver=qcow2,node-name=n,cache.no-flush=on,detect-zeroes=unmap,discard=unmap,\
         file.driver=file,file.filename={}",
        text(&file)
    );
    let options = with_arguments(&["-blockdev", &node, "-device", "virtio-blk-pci,drive=n,id=vda"]);
    let vm = Vm::start(&scratch, &[], &options);
    let live = live(vm.qmp(), vec![spec("vda", &file)]).await;
    let over = overlay("vda", &scratch.path("over.qcow2"), &file);
    live.make(&over).await.unwrap();
    live.snapshot(&[SnapshotAction::External(over)]).await.unwrap();
    let block = vm.monitor().must("query-block", serde_json::json!({}));
    let inserted = &block[0]["inserted"];
    assert_eq!(inserted["cache"]["no-flush"], true, "{inserted}");
    assert_eq!(inserted["cache"]["direct"], false);
    assert_eq!(inserted["detect_zeroes"], "unmap");
}
