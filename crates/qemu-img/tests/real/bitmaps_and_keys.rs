//! Dirty bitmaps, and images whose data is encrypted.

use xlsnap_qemu_img::{Image, Kind, QemuImg, Repair};

use crate::scratch::{Scratch, image, named, program, qemu_img, snapshots};

/// An encrypted image, with its key.
fn encrypted(scratch: &Scratch, passphrase: &str) -> Image {
    let (path, key) = (scratch.path("locked, up"), scratch.path("its, key"));
    std::fs::write(&key, passphrase).unwrap();
    let secret = format!("secret,id=s,data={passphrase}");
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let name = path.to_str().unwrap();
    qemu_img(["create", "-q", "--object", &secret, "-f", "qcow2", "-o", options, name, "1M"]);
    image(path, "qcow2").with_key_file(Some(key))
}

#[tokio::test]
async fn an_encrypted_image_is_worked_on_with_its_key() {
    let scratch = Scratch::new();
    let disk = encrypted(&scratch, "open sesame");
    let program = program();
    assert!(program.info(&disk).await.unwrap().encrypted, "a header is read without a key");
    program.snapshot_create(&disk, "s").await.unwrap();
    program.snapshot_apply(&disk, &named("s")).await.unwrap();
    program.check(&disk, None).await.unwrap();
    program.check(&disk, Some(Repair::All)).await.unwrap();
    assert_eq!(snapshots(&disk).await.len(), 1);
    program.snapshot_delete(&disk, &named("s")).await.unwrap();
    assert_eq!(snapshots(&disk).await.len(), 0);
}

#[tokio::test]
async fn without_its_key_or_with_another_one_nothing_is_done() {
    let scratch = Scratch::new();
    let disk = encrypted(&scratch, "open sesame");
    let program = program();
    program.snapshot_create(&disk, "s").await.unwrap();
    let before = std::fs::read(&disk.path).unwrap();
    let other = scratch.path("other");
    std::fs::write(&other, "open simsim").unwrap();
    for key in [None, Some(other), Some(scratch.path("no such file"))] {
        let disk = disk.clone().with_key_file(key.clone());
        for failed in [
            program.snapshot_create(&disk, "t").await,
            program.snapshot_apply(&disk, &named("s")).await,
            program.snapshot_delete(&disk, &named("s")).await,
            program.check(&disk, None).await.map(drop),
        ] {
            let error = failed.unwrap_err();
            assert!(key.is_some() || error.kind() == Kind::Unsupported, "{error}");
        }
    }
    assert_eq!(std::fs::read(&disk.path).unwrap(), before);
}

#[tokio::test]
async fn an_overlay_on_an_encrypted_image_needs_no_key() {
    let scratch = Scratch::new();
    let base = encrypted(&scratch, "open sesame");
    let top = scratch.path("top");
    let (below, name) = (base.path.to_str().unwrap(), top.to_str().unwrap());
    qemu_img(["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", below, name, "1M"]);
    let top = image(top, "qcow2").with_key_file(base.key_file);
    program().snapshot_create(&top, "s").await.unwrap();
}

#[tokio::test]
async fn a_bitmap_stands_in_the_way_of_a_revert_until_it_is_removed() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a,b");
    let program = program();
    program.snapshot_create(&disk, "s").await.unwrap();
    for name in ["-m,x", "bm"] {
        qemu_img(["bitmap", "--add", "-f", "qcow2", disk.path.to_str().unwrap(), "--", name]);
    }
    assert_eq!(program.info(&disk).await.unwrap().bitmaps, ["-m,x", "bm"]);
    assert!(program.snapshot_apply(&disk, &named("s")).await.is_err());
    for name in ["-m,x", "bm"] {
        program.bitmap_remove(&disk, name).await.unwrap();
    }
    assert_eq!(program.bitmap_remove(&disk, "bm").await.unwrap_err().kind(), Kind::NotFound);
    program.snapshot_apply(&disk, &named("s")).await.unwrap();
}

#[tokio::test]
async fn a_format_without_checks_is_told() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("raw"), [0; 4096]).unwrap();
    let error = program().check(&image(scratch.path("raw"), "raw"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}
