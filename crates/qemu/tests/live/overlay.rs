//! Overlay files: made once, removed only when they are ours and unused.

use std::fs;
use std::num::NonZeroU64;
use std::sync::Arc;

use async_trait::async_trait;
use xlsnap_orchestrator::{Disks, Effect, Overlay, Overlays, PortErrorKind, SnapshotAction, SnapshotId};
use xlsnap_qemu::Live;
use xlsnap_qemu_img::{Check, CreateOptions, Error, Image, ImageInfo, Program, QemuImg, Repair, SnapshotRef};
use xlsnap_testkit::real::{Scratch, StorageDaemon, qemu_img};

use crate::{MIB, disk_name, internal, live, overlay, spec, text, two_disks};

struct Fixture {
    scratch: Scratch,
    daemon: StorageDaemon,
    live: Live,
    over: Overlay,
}

/// A storage daemon on two disks, and an overlay for the first that is not made yet.
async fn fixture() -> Fixture {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let files = fixtures.clone().map(|disk| disk.file.unwrap());
    let daemon = StorageDaemon::start(&scratch, &fixtures);
    let live = live(daemon.qmp(), vec![spec("vda", &files[0]), spec("vdb", &files[1])]).await;
    let over = overlay("vda", &scratch.path("over.qcow2"), &files[0]);
    Fixture { scratch, daemon, live, over }
}

#[tokio::test]
async fn nothing_that_is_there_is_overwritten() {
    let Fixture { scratch, daemon: _daemon, live, over } = fixture().await;
    assert!(!live.exists(&over.file).await.unwrap());
    fs::write(&over.file, b"precious").unwrap();
    assert!(live.exists(&over.file).await.unwrap());
    let error = live.make(&over).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::AlreadyExists, Effect::None));
    assert_eq!(fs::read(&over.file).unwrap(), b"precious");
    // A link that leads nowhere is something, too.
    let dangling = Overlay { file: text(&scratch.path("link")), ..over };
    std::os::unix::fs::symlink("/nonexistent", &dangling.file).unwrap();
    assert!(live.exists(&dangling.file).await.unwrap());
    assert_eq!(live.make(&dangling).await.unwrap_err().kind, PortErrorKind::AlreadyExists);
}

#[tokio::test]
async fn an_overlay_is_removed_whole_half_made_or_gone() {
    let Fixture { scratch: _scratch, daemon: _daemon, live, over } = fixture().await;
    live.make(&over).await.unwrap();
    live.discard(&over).await.unwrap();
    assert!(!live.exists(&over.file).await.unwrap());
    live.discard(&over).await.unwrap();
    // Where making it may have stopped: before the header, and before the header names the base.
    fs::write(&over.file, b"").unwrap();
    live.discard(&over).await.unwrap();
    qemu_img(&["create", "-q", "-f", "qcow2", &over.file, "4M"]);
    live.discard(&over).await.unwrap();
    assert!(!live.exists(&over.file).await.unwrap());
}

#[tokio::test]
async fn an_overlay_whose_node_stayed_open_is_closed_first() {
    let Fixture { scratch: _scratch, daemon, live, over } = fixture().await;
    live.make(&over).await.unwrap();
    let node = serde_json::json!({
        "driver": "qcow2", "node-name": format!("xls-{}", over.token), "backing": null,
        "file": {"driver": "file", "filename": over.file},
    });
    daemon.monitor().must("blockdev-add", node);
    live.discard(&over).await.unwrap();
    assert!(!live.exists(&over.file).await.unwrap());
    let nodes = daemon.monitor().must("query-named-block-nodes", serde_json::json!({}));
    assert!(!nodes.to_string().contains("over.qcow2"), "{nodes}");
}

#[tokio::test]
async fn an_overlay_in_use_stays() {
    let Fixture { scratch, daemon, live, over } = fixture().await;
    live.make(&over).await.unwrap();
    live.snapshot(&[SnapshotAction::External(over.clone())]).await.unwrap();
    let error = live.discard(&over).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None));
    assert!(live.exists(&over.file).await.unwrap());
    drop(live);
    // The description counts as well: the domain would start from it.
    let described = spec("vda", over.file.as_ref());
    let live = crate::live(daemon.qmp(), vec![described]).await;
    let other = Overlay { token: "another".into(), ..over };
    assert_eq!(live.discard(&other).await.unwrap_err().kind, PortErrorKind::Busy);
    drop(scratch);
}

#[tokio::test]
async fn a_file_that_is_something_else_stays() {
    let Fixture { scratch, daemon: _daemon, live, over } = fixture().await;
    let foreign_base = scratch.qcow2("foreign.qcow2", 4 * MIB);
    let on_foreign_base = scratch.qcow2_on("on-foreign.qcow2", &foreign_base);
    let with_data = scratch.qcow2_with("data.qcow2", 4 * MIB, 3);
    let notes = scratch.path("notes");
    fs::write(&notes, b"not an image, but of another program").unwrap();
    for file in [on_foreign_base, with_data, notes, scratch.dir().to_owned()] {
        let pretended = Overlay { file: text(&file), ..over.clone() };
        let error = live.discard(&pretended).await.unwrap_err();
        assert_eq!(error.effect, Effect::None, "{error}");
        assert!(file.exists(), "{error}");
    }
}

/// qemu-img that touches nothing but one file.
struct OnlyOn(String, Program);

impl OnlyOn {
    fn check(&self, image: &Image) {
        assert_eq!(image.path.to_str(), Some(self.0.as_str()), "an image that QEMU has open");
    }
}

#[async_trait]
impl QemuImg for OnlyOn {
    async fn info(&self, image: &Image) -> Result<ImageInfo, Error> {
        self.check(image);
        self.1.info(image).await
    }

    async fn create(&self, image: &Image, options: &CreateOptions) -> Result<(), Error> {
        self.check(image);
        assert!(options.backing_unopened, "the base is open in QEMU");
        self.1.create(image, options).await
    }

    async fn snapshot_create(&self, _: &Image, _: &str) -> Result<(), Error> {
        panic!("a snapshot is QEMU's to make")
    }

    async fn snapshot_apply(&self, _: &Image, _: &SnapshotRef) -> Result<(), Error> {
        panic!("nothing is reverted while QEMU runs")
    }

    async fn snapshot_delete(&self, _: &Image, _: &SnapshotRef) -> Result<(), Error> {
        panic!("a snapshot is QEMU's to delete")
    }

    async fn bitmap_remove(&self, _: &Image, _: &str) -> Result<(), Error> {
        panic!("a bitmap is QEMU's to remove")
    }

    async fn commit(
        &self,
        _: &Image,
        _: &Image,
        _: Option<NonZeroU64>,
        _: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        panic!("an image that QEMU has open is QEMU's to merge")
    }

    async fn copy_snapshot(
        &self,
        _: &Image,
        _: &SnapshotRef,
        _: &Image,
        _: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        panic!("no snapshot is copied out here")
    }

    async fn copy(&self, _: &Image, _: &Image, _: &(dyn Fn(f64) + Send + Sync)) -> Result<(), Error> {
        panic!("no image is copied here")
    }

    async fn rebase(
        &self,
        _: &Image,
        _: Option<&Image>,
        _: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        panic!("an image that QEMU has open is QEMU's to take data up into")
    }

    async fn rebase_unsafe(&self, _: &Image, _: &Image) -> Result<(), Error> {
        panic!("a header of an image that QEMU has open is QEMU's to write")
    }

    async fn check(&self, _: &Image, _: Option<Repair>) -> Result<Check, Error> {
        panic!("nothing is repaired while QEMU runs")
    }
}

#[tokio::test]
async fn qemu_img_never_touches_an_image_that_qemu_has_open() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let files = fixtures.clone().map(|disk| disk.file.unwrap());
    let daemon = StorageDaemon::start(&scratch, &fixtures);
    let over = overlay("vda", &scratch.path("over.qcow2"), &files[0]);
    let qemu_img = Arc::new(OnlyOn(over.file.clone(), Program::default()));
    let client = Arc::new(crate::connect(daemon.qmp()).await);
    let specs = vec![spec("vda", &files[0]), spec("vdb", &files[1])];
    let live = Live::new(client, qemu_img, specs, Arc::new(crate::Told::default()));
    live.make(&over).await.unwrap();
    live.discard(&over).await.unwrap();
    live.make(&over).await.unwrap();
    live.snapshot(&[SnapshotAction::External(over), internal("vdb", "s")]).await.unwrap();
    live.inventory().await.unwrap();
    let (vdb, s) = (disk_name("vdb"), SnapshotId { name: "s".into(), id: "1".into() });
    live.revert(&vdb, &s).await.unwrap_err();
    live.delete(&vdb, &s).await.unwrap();
}
