//! The disks of a domain that is off, on real images.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod layers;
mod revertible;

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Can, Disks, Effect, Guest, GuestState, ImageFile, ImageSnapshot, Overlay, Overlays, PortError,
    PortErrorKind, SnapshotAction, SnapshotId,
};
use xlsnap_qemu::{Description, DiskSpec, Images};
use xlsnap_qemu_img::Program;
use xlsnap_testkit::real::{
    Data, Disk, Scratch, StorageDaemon, holds_offline, qemu_img, snapshots_in, write_offline,
};
use xlsnap_types::model::{DiskName, ImageFormat};

const MIB: u64 = 1 << 20;

/// A description that is only remembered.
#[derive(Default)]
struct Described(Mutex<Vec<(String, String, String)>>);

#[async_trait]
impl Description for Described {
    async fn set_images(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        let named = images
            .iter()
            .map(|(disk, image)| (disk.to_string(), image.file.clone(), image.format.driver().to_owned()));
        self.0.lock().unwrap().extend(named);
        Ok(())
    }
}

fn name(name: &str) -> DiskName {
    DiskName::new(name).unwrap()
}

fn disk(disk: &str, file: &Path, format: ImageFormat) -> DiskSpec {
    DiskSpec::new(name(disk), file.to_str().unwrap().to_owned(), format)
}

fn qcow2(name: &str, file: &Path) -> DiskSpec {
    disk(name, file, ImageFormat::Qcow2)
}

fn images(disks: Vec<DiskSpec>) -> Images {
    Images::new(disks, Arc::new(Program::default()), Arc::new(Described::default()))
}

fn internal(disk: &str, tag: &str) -> SnapshotAction {
    SnapshotAction::Internal { disk: name(disk), tag: tag.into(), image: String::new() }
}

fn snapshot(name: &str, id: &str) -> SnapshotId {
    SnapshotId { name: name.into(), id: id.into() }
}

fn overlay(disk: &str, file: &Path, base: &Path) -> Overlay {
    Overlay {
        disk: name(disk),
        file: file.to_str().unwrap().to_owned(),
        format: ImageFormat::Qcow2,
        base: base.to_str().unwrap().to_owned(),
        base_format: ImageFormat::Qcow2,
        virtual_size: MIB,
        token: "abc".into(),
    }
}

/// Whole text of an error: what, and why.
fn chain(error: &PortError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn two_disks_there_and_back() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.qcow2_with("a", MIB, 1), scratch.qcow2_with("b", MIB, 2));
    let domain = images(vec![qcow2("vda", &a), qcow2("vdb", &b)]);
    assert_eq!(domain.state().await.unwrap(), GuestState::Off);
    domain.snapshot(&[internal("vda", "s"), internal("vdb", "s")]).await.unwrap();
    write_offline(&a, "qcow2", Data::of(3));
    write_offline(&b, "qcow2", Data::of(4));
    let inventory = domain.inventory().await.unwrap();
    assert_eq!(inventory.disks.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["vda", "vdb"]);
    for disk in &inventory.disks {
        let [ImageSnapshot { id, name, vm_state_size: 0, .. }] = &disk.snapshots[..] else {
            panic!("{disk:?}");
        };
        assert_eq!((id.as_str(), name.as_str()), ("1", "s"));
        assert_eq!((disk.virtual_size, &disk.internal, &disk.external), (MIB, &Can::Yes, &Can::Yes));
        domain.revert(&disk.name, &snapshot("s", "1")).await.unwrap();
        domain.revert(&disk.name, &snapshot("s", "1")).await.unwrap();
    }
    assert!(holds_offline(&a, "qcow2", Data::of(1)) && holds_offline(&b, "qcow2", Data::of(2)));
    for disk in ["vda", "vdb"] {
        domain.delete(&name(disk), &snapshot("s", "1")).await.unwrap();
        let error = domain.delete(&name(disk), &snapshot("s", "1")).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::NotFound, Effect::None));
    }
    assert_eq!(snapshots_in(&a), [""; 0]);
}

#[tokio::test]
async fn an_inventory_says_why_not() {
    let scratch = Scratch::new();
    let marked = scratch.qcow2("marked", MIB);
    // Bit 1 of the incompatible features (docs/interop/qcow2.txt).
    let mut bytes = std::fs::read(&marked).unwrap();
    bytes[79] |= 2;
    std::fs::write(&marked, bytes).unwrap();
    let removable = |spec| DiskSpec { removable: true, read_only: true, ..spec };
    let domain = images(vec![
        qcow2("good", &scratch.qcow2("good", MIB)),
        disk("raw", &scratch.raw("raw", MIB), ImageFormat::Raw),
        qcow2("data", &scratch.qcow2_with_data_file("data", MIB)),
        qcow2("marked", &marked),
        removable(disk("empty", Path::new(""), ImageFormat::Raw)),
        removable(disk("thrown-away", &scratch.path("none.iso"), ImageFormat::Raw)),
    ]);
    let disks = domain.inventory().await.unwrap().disks;
    let why: Vec<_> = disks.iter().map(|d| (d.internal.why(), d.external.why())).collect();
    assert_eq!(
        why,
        [
            (None, None),
            (Some("its format is raw"), None),
            (Some("its image keeps the data in another file"), None),
            (Some("its image is marked as damaged"), Some("its image is marked as damaged")),
            (Some("the drive is empty"), Some("the drive is empty")),
            (Some("its image is gone"), Some("its image is gone")),
        ]
    );
    // And what it says no to fails, without an effect.
    for bad in ["raw", "data", "marked", "empty", "nosuch"] {
        let error = domain.snapshot(&[internal(bad, "s")]).await.unwrap_err();
        assert_eq!(error.effect, Effect::None, "{}", chain(&error));
        assert!(error.to_string().contains(bad), "{error}");
    }
}

#[tokio::test]
async fn an_image_that_is_gone_or_damaged_is_named() {
    let scratch = Scratch::new();
    let good = scratch.qcow2("good", MIB);
    let (gone, text) = (scratch.path("gone"), scratch.path("text"));
    std::fs::write(&text, "not an image").unwrap();
    for (file, kind) in [(&gone, PortErrorKind::NotFound), (&text, PortErrorKind::Corrupt)] {
        let domain = images(vec![qcow2("vda", &good), qcow2("vdb", file)]);
        let error = domain.inventory().await.unwrap_err();
        assert_eq!((error.kind, error.effect), (kind, Effect::None));
        assert_eq!(error.to_string(), format!("disk vdb: its image {} can't be read", file.display()));
    }
    // A snapshot of which nothing is known does not count as deleted.
    let domain = images(vec![qcow2("vda", &gone)]);
    let error = domain.delete(&name("vda"), &snapshot("s", "1")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Failed, Effect::None), "{}", chain(&error));
}

#[tokio::test]
async fn a_domain_that_runs_after_all_is_busy() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.qcow2_with("a", MIB, 1), scratch.qcow2("b", MIB));
    let domain = images(vec![qcow2("vda", &a), qcow2("vdb", &b)]);
    domain.snapshot(&[internal("vda", "s")]).await.unwrap();
    let daemon = StorageDaemon::start(&scratch, &[Disk::qcow2("a", &a)]);
    let (disk, meant) = (name("vda"), snapshot("s", "1"));
    for result in [
        domain.inventory().await.map(drop),
        domain.snapshot(&[internal("vda", "t")]).await,
        domain.revert(&disk, &meant).await,
        domain.delete(&disk, &meant).await,
    ] {
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None), "{}", chain(&error));
        assert!(error.to_string().contains("vda"), "{error}");
    }
    daemon.quit();
    assert_eq!(snapshots_in(&a), ["s"]);
    domain.revert(&disk, &meant).await.unwrap();
}

#[tokio::test]
async fn a_read_only_disk_is_looked_at_and_left_alone() {
    let scratch = Scratch::new();
    let a = scratch.qcow2("a", MIB);
    let domain = images(vec![DiskSpec { read_only: true, ..qcow2("vda", &a) }]);
    let _daemon = StorageDaemon::start(&scratch, &[Disk::qcow2("a", &a)]);
    let disks = domain.inventory().await.unwrap().disks;
    assert_eq!(disks[0].internal.why(), Some("another process has its image open"));
    let error = domain.snapshot(&[internal("vda", "s")]).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{}", chain(&error));
}

#[tokio::test]
async fn a_failure_on_one_disk_says_whether_others_have_it() {
    let scratch = Scratch::new();
    let (a, b, c) = (scratch.qcow2("a", MIB), scratch.qcow2("b", MIB), scratch.qcow2("c", MIB));
    let domain = images(vec![qcow2("vda", &a), qcow2("vdb", &b), qcow2("vdc", &c)]);
    domain.snapshot(&[internal("vdb", "s")]).await.unwrap();
    let error = domain.snapshot(&[internal("vda", "s"), internal("vdb", "s"), internal("vdc", "s")]).await;
    let error = error.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::AlreadyExists, Effect::Unknown));
    assert!(
        error.to_string().contains("disk vdb") && error.to_string().contains(b.to_str().unwrap()),
        "{error}"
    );
    // Alone, it is certain that nothing was done.
    let error = domain.snapshot(&[internal("vdb", "s")]).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::AlreadyExists, Effect::None));
    assert_eq!(snapshots_in(&b), ["s"]);
}

#[tokio::test]
async fn a_snapshot_of_another_id_or_twice_is_not_taken_for_it() {
    let scratch = Scratch::new();
    let a = scratch.qcow2("a", MIB);
    let path = a.to_str().unwrap();
    for tag in ["x", "x", "y"] {
        qemu_img(&["snapshot", "-c", tag, path]);
    }
    let domain = images(vec![qcow2("vda", &a)]);
    let disk = name("vda");
    for (meant, kind) in [
        (snapshot("y", "1"), PortErrorKind::NotFound),
        (snapshot("z", "3"), PortErrorKind::NotFound),
        (snapshot("x", "1"), PortErrorKind::Refused),
    ] {
        let error = domain.delete(&disk, &meant).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (kind, Effect::None), "{}", chain(&error));
    }
    assert_eq!(snapshots_in(&a), ["x", "x", "y"]);
    domain.revert(&disk, &snapshot("x", "2")).await.unwrap();
    assert_eq!(domain.revert(&disk, &snapshot("y", "2")).await.unwrap_err().kind, PortErrorKind::NotFound);
}

#[tokio::test]
async fn an_overlay_is_made_taken_and_adopted() {
    let scratch = Scratch::new();
    let base = scratch.qcow2_with("base", MIB, 1);
    let over = overlay("vda", &scratch.path("over, 1:x"), &base);
    let described = Arc::new(Described::default());
    let domain = Images::new(
        vec![qcow2("vda", &base)],
        Arc::new(Program::default()),
        Arc::<Described>::clone(&described),
    );
    let disk = name("vda");
    assert!(!domain.exists(&over.file).await.unwrap());
    domain.make(&over).await.unwrap();
    assert!(domain.exists(&over.file).await.unwrap());
    let error = domain.make(&over).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::AlreadyExists, Effect::None), "{}", chain(&error));
    domain.snapshot(&[SnapshotAction::External(over.clone())]).await.unwrap();
    domain.adopt(&[(disk.clone(), ImageFile::new(over.file.clone(), over.format.clone()))]).await.unwrap();
    assert_eq!(*described.0.lock().unwrap(), [("vda".into(), over.file.clone(), "qcow2".into())]);
    assert_eq!(domain.inventory().await.unwrap().disks[0].image, over.file);
    // From now on it is the disk.
    let error = domain.discard(&over).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None));
    domain.snapshot(&[internal("vda", "inside")]).await.unwrap();
    assert_eq!(snapshots_in(Path::new(&over.file)), ["inside"]);
    assert_eq!(snapshots_in(&base), [""; 0]);
    assert!(base.exists());
}

#[tokio::test]
async fn only_what_was_made_is_removed() {
    let scratch = Scratch::new();
    let (base, other) = (scratch.qcow2_with("base", MIB, 1), scratch.qcow2("other", MIB));
    let domain = images(vec![qcow2("vda", &base)]);
    let made = overlay("vda", &scratch.path("made"), &base);
    domain.make(&made).await.unwrap();
    domain.discard(&made).await.unwrap();
    assert!(!Path::new(&made.file).exists());
    domain.discard(&made).await.unwrap();
    // Making one was cut off right after its beginning.
    std::fs::write(&made.file, "").unwrap();
    domain.discard(&made).await.unwrap();
    assert!(!Path::new(&made.file).exists());
    // Or by a power cut, before its first sector was on the disk.
    let mut headless = vec![0; 192 << 10];
    headless[64 << 10..].fill(1);
    std::fs::write(&made.file, headless).unwrap();
    domain.discard(&made).await.unwrap();
    assert!(!Path::new(&made.file).exists());

    let long = scratch.path("long");
    std::fs::write(&long, vec![0; 1 << 20]).unwrap();
    let text = scratch.path("text");
    std::fs::write(&text, "precious").unwrap();
    let link = scratch.path("link");
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let hard = scratch.path("hard");
    std::fs::hard_link(&base, &hard).unwrap();
    let with_data = scratch.qcow2_with("with-data", MIB, 5);
    let elsewhere = scratch.qcow2_on("elsewhere", &other);
    for file in [&long, &text, &link, &hard, &base, &with_data, &elsewhere] {
        let error = domain.discard(&overlay("vda", file, &base)).await.unwrap_err();
        assert_eq!(error.effect, Effect::None, "{}", chain(&error));
        assert!(file.symlink_metadata().is_ok(), "{} is gone", file.display());
    }
    // One that another process has open.
    domain.make(&made).await.unwrap();
    let _daemon = StorageDaemon::start(&scratch, &[Disk::qcow2("made", Path::new(&made.file))]);
    domain.discard(&made).await.unwrap_err();
    assert!(Path::new(&made.file).exists());
}

#[tokio::test]
async fn an_overlay_on_another_image_is_not_taken() {
    let scratch = Scratch::new();
    let (base, other) = (scratch.qcow2("base", MIB), scratch.qcow2("other", MIB));
    let domain = images(vec![qcow2("vda", &base)]);
    let wrong = overlay("vda", &scratch.qcow2_on("wrong", &other), &base);
    let missing = overlay("vda", &scratch.path("missing"), &base);
    for (overlay, kind) in [(wrong, PortErrorKind::Refused), (missing, PortErrorKind::NotFound)] {
        let error = domain.snapshot(&[SnapshotAction::External(overlay)]).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (kind, Effect::None), "{}", chain(&error));
    }
}

#[tokio::test]
async fn qemu_img_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    let domain = Images::new(
        vec![qcow2("vda", &scratch.qcow2("a", MIB))],
        Arc::new(Program::new("/nonexistent/qemu-img")),
        Arc::new(Described::default()),
    );
    let error = domain.inventory().await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Unreachable);
    assert!(chain(&error).contains("/nonexistent/qemu-img can't be started"), "{}", chain(&error));
}
