//! What an inventory of images says of a later revert, and where overlays are made for whom.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Bitmap, Can, Disk, Disks, ImageFile, Overlay, Overlays, PortError, PortErrorKind, SnapshotAction,
    SnapshotId,
};
use xlsnap_qemu::{Description, DiskSpec, Images};
use xlsnap_qemu_img::Program;
use xlsnap_testkit::real::{LoopDevice, Scratch, qemu_img, snapshots_in};
use xlsnap_types::model::{DiskName, ImageFormat};

const MIB: u64 = 1 << 20;

struct Fixed;

#[async_trait]
impl Description for Fixed {
    async fn set_images(&self, _: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        Ok(())
    }
}

fn spec(file: &Path) -> DiskSpec {
    DiskSpec::new("vda".parse().unwrap(), file.to_str().unwrap().to_owned(), ImageFormat::Qcow2)
}

fn domain(spec: DiskSpec) -> Images {
    Images::new(vec![spec], Arc::new(Program::default()), Arc::new(Fixed))
}

async fn look(spec: DiskSpec) -> Disk {
    domain(spec).inventory().await.unwrap().disks.remove(0)
}

async fn no_revert(file: &Path) -> String {
    look(spec(file)).await.revert.why().unwrap_or_default().to_owned()
}

fn overlay(file: &Path, base: &Path) -> Overlay {
    Overlay {
        disk: "vda".parse().unwrap(),
        file: file.to_str().unwrap().to_owned(),
        format: ImageFormat::Qcow2,
        base: base.to_str().unwrap().to_owned(),
        base_format: ImageFormat::Qcow2,
        virtual_size: MIB,
        token: "abc".into(),
    }
}

/// An encrypted image, and the file with its key.
fn encrypted(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let (image, key) = (scratch.path("locked"), scratch.path("key"));
    std::fs::write(&key, "open sesame").unwrap();
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let secret = format!("secret,id=s,file={}", key.display());
    let name = image.to_str().unwrap();
    qemu_img(&["create", "-q", "--object", &secret, "-f", "qcow2", "-o", options, name, "1M"]);
    (image, key)
}

#[tokio::test]
async fn an_encrypted_image_goes_back_with_its_key_alone_and_takes_no_overlay() {
    let scratch = Scratch::new();
    let (image, key) = encrypted(&scratch);
    let without = look(spec(&image)).await;
    assert!(without.encrypted);
    assert!(without.revert.why().unwrap_or_default().contains("key-file"), "{without:?}");
    assert!(without.external.why().unwrap_or_default().contains("encrypted"), "{without:?}");
    let lost = look(DiskSpec { key_file: Some(scratch.path("gone")), ..spec(&image) }).await;
    assert!(lost.revert.why().unwrap().contains("gone"));

    let with = DiskSpec { key_file: Some(key), ..spec(&image) };
    assert_eq!(look(with.clone()).await.revert, Can::Yes);
    let domain = domain(with);
    let (vda, tag) = ("vda".parse::<DiskName>().unwrap(), "s".to_owned());
    domain
        .snapshot(&[SnapshotAction::Internal { disk: vda.clone(), tag: tag.clone(), image: String::new() }])
        .await
        .unwrap();
    let snapshot = SnapshotId { name: tag, id: "1".to_owned() };
    domain.revert(&vda, &snapshot).await.unwrap();
    domain.delete(&vda, &snapshot).await.unwrap();
    assert_eq!(snapshots_in(&image), [""; 0]);
}

#[tokio::test]
async fn bitmaps_are_told_and_can_be_dropped() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a", MIB);
    for name in ["b1", "b2"] {
        qemu_img(&["bitmap", "--add", "-f", "qcow2", image.to_str().unwrap(), name]);
    }
    let stored = |name: &str| Bitmap { name: name.to_owned(), persistent: true };
    assert_eq!(look(spec(&image)).await.bitmaps, [stored("b1"), stored("b2")]);
    let vda = "vda".parse::<DiskName>().unwrap();
    let domain = domain(spec(&image));
    domain.drop_bitmap(&vda, &stored("b1")).await.unwrap();
    domain.drop_bitmap(&vda, &stored("b1")).await.unwrap();
    assert_eq!(look(spec(&image)).await.bitmaps, [stored("b2")]);
    std::fs::remove_file(&image).unwrap();
    let error = domain.drop_bitmap(&vda, &stored("b2")).await.unwrap_err();
    assert_ne!(error.kind, PortErrorKind::NotFound, "an image that is gone is no dropped bitmap");
}

#[tokio::test]
async fn an_image_that_is_damaged_or_cannot_be_written_is_told() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a", MIB);
    assert_eq!(no_revert(&image).await, "");

    let marked = scratch.qcow2("marked", MIB);
    let mut bytes = std::fs::read(&marked).unwrap();
    // Bit 1 of the incompatible features (docs/interop/qcow2.txt).
    bytes[79] |= 2;
    std::fs::write(&marked, bytes).unwrap();
    assert!(no_revert(&marked).await.contains("damaged"));

    // Not every file system has the attribute, and only root may set it.
    let chattr = |flag: &str| {
        Command::new("chattr").args([flag.as_ref(), image.as_os_str()]).stderr(Stdio::null()).status()
    };
    for (set, clear, said) in [("+i", "-i", "immutable"), ("+a", "-a", "appended")] {
        if chattr(set).is_ok_and(|status| status.success()) {
            let why = no_revert(&image).await;
            chattr(clear).unwrap();
            assert!(why.contains(said), "{why}");
        }
    }
}

/// Another program that has the image open to read it.
struct Reader(Child);

impl Reader {
    fn of(image: &Path) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-r", "-f", "qcow2", image.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        Self(child)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_program_that_reads_the_image_keeps_it_from_being_written_and_is_named() {
    let scratch = Scratch::new();
    let image = scratch.qcow2("a", MIB);
    let reader = Reader::of(&image);
    let mut why = String::new();
    for _ in 0..200 {
        why = no_revert(&image).await;
        if !why.is_empty() {
            break;
        }
    }
    assert!(why.contains("qemu-io") && why.contains(&reader.0.id().to_string()), "{why}");
    drop(reader);
    assert_eq!(no_revert(&image).await, "");
}

#[tokio::test]
async fn an_overlay_is_for_those_who_may_use_its_base() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base", MIB);
    let domain = domain(spec(&base));
    for (number, (mode, expected)) in [(0o660, 0o660), (0o644, 0o640), (0o400, 0o600)].into_iter().enumerate()
    {
        std::fs::set_permissions(&base, std::fs::Permissions::from_mode(mode)).unwrap();
        // Only root can give a file away.
        let _ = std::os::unix::fs::chown(&base, Some(1234), Some(2345));
        let owner = std::fs::metadata(&base).unwrap();
        let top = scratch.path(&format!("top{number}"));
        domain.make(&overlay(&top, &base)).await.unwrap();
        let found = std::fs::metadata(&top).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (owner.uid(), owner.gid(), expected));
    }
}

#[tokio::test]
async fn an_overlay_is_not_made_where_it_is_lost_at_a_reboot() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base", MIB);
    let lost = PathBuf::from(format!("/dev/shm/xlsnap-test-{}.qcow2", std::process::id()));
    let (from, to) = (base.to_str().unwrap(), lost.to_str().unwrap());
    let domain = domain(spec(&base));
    let Can::No(why) = domain.place(from, to).await.unwrap() else {
        // The scratch is in memory itself.
        assert_eq!(domain.place("/dev/null", to).await.unwrap_or_default(), Can::Yes);
        return;
    };
    let why = why.as_str();
    assert!(why.contains("/dev/shm") && why.contains("reboot"), "{why}");
    let error = domain.make(&overlay(&lost, &base)).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    assert!(error.to_string().contains("reboot"), "{error}");
    assert!(!lost.exists());
    assert_eq!(domain.place(from, scratch.path("x").to_str().unwrap()).await.unwrap(), Can::Yes);
    let missing = scratch.path("missing/x");
    let place = domain.place(from, missing.to_str().unwrap()).await.unwrap();
    let why = place.why().unwrap();
    assert!(why.contains("is not there"), "{why}");
}

#[tokio::test]
async fn an_overlay_of_a_device_is_not_made_beside_it() {
    let scratch = Scratch::new();
    // A host without /dev/loop* has no other device to try it on.
    let Some(device) = LoopDevice::of(&scratch.raw("disk", MIB)) else { return };
    let raw = DiskSpec { format: ImageFormat::Raw, ..spec(Path::new(device.path())) };
    let domain = domain(raw);
    let beside = format!("{}.s.qcow2", device.path());
    let place = domain.place(device.path(), &beside).await.unwrap();
    let why = place.why().unwrap();
    assert!(why.contains("/dev") && why.contains("reboot"), "{why}");
    let elsewhere = scratch.path("top");
    assert_eq!(domain.place(device.path(), elsewhere.to_str().unwrap()).await.unwrap(), Can::Yes);
    let wanted = Overlay { base_format: ImageFormat::Raw, ..overlay(&elsewhere, Path::new(device.path())) };
    domain.make(&wanted).await.unwrap();
    let (device, found) = (std::fs::metadata(device.path()).unwrap(), std::fs::metadata(&elsewhere).unwrap());
    assert_eq!((found.uid(), found.gid()), (device.uid(), device.gid()));
    assert_eq!(found.mode() & 0o7777, device.mode() & 0o770 | 0o600);
}
