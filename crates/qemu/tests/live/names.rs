//! A new file that takes the name of a disk's image while QEMU has it open.

use std::path::Path;

use serde_json::json;
use xlsnap_orchestrator::{Disks, Effect, LayerFile, Layers, NameSwap, Names, Overlays, PortErrorKind};
use xlsnap_testkit::real::{Data, LiveDisks, Vm, VmOptions, holds_offline};
use xlsnap_types::model::ImageFormat;

use crate::layers::{Tree, Unwatched, devices, layer, merge, own};
use crate::{disk, disk_name, live, overlay, spec, text};

/// The exchange of the names of `old` and of a new file beside it.
fn names(old: &Path, new: &Path) -> NameSwap {
    let file = text(new);
    let new = LayerFile { disk: disk_name("vda"), file, format: ImageFormat::Qcow2, identity: None };
    NameSwap { old: layer(old), new, stands_on_old: true, token: "abcdef".to_owned() }
}

fn holds(file: &Path, all: &[Data]) -> bool {
    all.iter().all(|data| holds_offline(file, "qcow2", *data))
}

#[tokio::test]
async fn each_device_writes_to_a_new_file_under_the_name_of_its_image() {
    let at = Tree::new();
    for index in 0..devices(&at.top).len() {
        let tree = Tree::new();
        let Tree { scratch, middle, top, .. } = &tree;
        let (arguments, device) = devices(top).swap_remove(index);
        let vm = Vm::start(scratch, &[], &VmOptions { running: true, arguments, ..VmOptions::default() });
        let live = live(vm.qmp(), vec![spec("vda", top)]).await;
        let cache = || {
            let found = vm.monitor().must("query-block", json!({}))[0]["inserted"]["cache"].clone();
            (found["direct"].clone(), found["no-flush"].clone())
        };
        let before = cache();
        let io = |what: &str| {
            if device.starts_with('/') {
                assert_eq!(
                    vm.human(&format!("qemu-io {} \"{what}\"", format_args!("-d {device}"))),
                    "",
                    "{device}"
                );
            }
        };
        let vda = disk_name("vda");
        io("write -P 5 1280k 128k");
        let moved = scratch.path("top.s-1");
        let swap = names(top, &moved);
        live.make(&overlay("vda", &moved, top)).await.unwrap();
        live.ready_names(&swap).await.unwrap();

        let error = live.swap_names(&swap).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None), "{device}: {error}");
        let error = live.detach(&vda).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "the guest runs");
        vm.monitor().must("stop", json!({}));
        // There and back, and there again: cut short after each act.
        for _ in 0..2 {
            live.detach(&vda).await.unwrap();
            live.detach(&vda).await.unwrap();
            assert_ne!(disk(&live, "vda").await.image, text(top), "{device}");
            live.swap_names(&swap).await.unwrap();
            live.swap(&vda, &swap.top()).await.unwrap();
            live.swap(&vda, &swap.top()).await.unwrap();
            let found = disk(&live, "vda").await;
            assert_eq!((found.image, found.identity == swap.old.identity), (text(top), false), "{device}");
            live.detach(&vda).await.unwrap();
            live.swap_names_back(&swap).await.unwrap();
            live.swap(&vda, &swap.old).await.unwrap();
            let found = disk(&live, "vda").await;
            assert_eq!((found.image, found.identity), (text(top), swap.old.identity), "{device}");
        }
        live.detach(&vda).await.unwrap();
        live.swap_names(&swap).await.unwrap();
        live.swap(&vda, &swap.top()).await.unwrap();
        assert_eq!(cache(), before, "{device}");
        let inventory = live.inventory().await.unwrap();
        assert_eq!((inventory.disks.len(), inventory.undescribed.len()), (1, 0));
        let nodes = vm.monitor().must("query-named-block-nodes", json!({"flat": true}));
        let stand_ins = nodes.as_array().unwrap().iter().filter(|node| node["drv"] == "null-co").count();
        assert_eq!(stand_ins, 0, "{device}: {nodes}");
        vm.monitor().must("cont", json!({}));
        io("write -P 6 1536k 128k");

        // A merge down, and the name once more.
        let down = merge(top, &moved);
        live.merge(&down, &Unwatched).await.unwrap();
        vm.monitor().must("stop", json!({}));
        live.detach(&vda).await.unwrap();
        live.rename(&down.into, &down.from).await.unwrap();
        live.rename(&down.into, &down.from).await.unwrap();
        let renamed = LayerFile { file: text(top), ..down.into.clone() };
        live.swap(&vda, &renamed).await.unwrap();
        assert_eq!(disk(&live, "vda").await.identity, swap.old.identity, "{device}");
        vm.monitor().must("cont", json!({}));
        io("write -P 7 1792k 128k");
        drop(live);
        vm.quit();
        assert!(!moved.exists() && middle.exists());
        let mut all = vec![Data::of(1), own(2), own(3)];
        if device.starts_with('/') {
            all.extend([own(5), own(6), own(7)]);
        }
        assert!(holds(top, &all), "{device}");
    }
}

/// An export holds the image, so the device keeps it.
#[tokio::test]
async fn an_image_that_qemu_serves_to_others_is_not_closed() {
    let tree = Tree::new();
    let vm = tree.vm();
    let live = live(vm.qmp(), vec![spec("vda", &tree.top)]).await;
    {
        let mut monitor = vm.monitor();
        let export = json!({"type": "nbd", "id": "e", "node-name": "vda", "writable": false});
        monitor.must("block-export-add", export);
        monitor.must("stop", json!({}));
    }
    let error = live.detach(&disk_name("vda")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None), "{error}");
    let found = disk(&live, "vda").await;
    assert_eq!(found.image, text(&tree.top));
    vm.monitor().must("block-export-del", json!({"id": "e", "mode": "hard"}));
    vm.monitor().must("cont", json!({}));
    vm.write("vda", own(5));
}
