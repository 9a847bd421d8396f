//! Damaged, cut off and hostile images.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use xlsnap_qemu_img::{Check, Effect, Image, Kind, QemuImg, Repair};

use crate::scratch::{Scratch, SmallFs, holds, image, named, program, qemu_img, snapshots, write};

fn overwrite(image: &Image, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(&image.path).unwrap().write_all_at(bytes, at).unwrap();
}

/// What would hang if it opened the wrong file is given up.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(20), future).await.expect("it ends soon")
}

#[tokio::test]
async fn what_is_not_the_format() {
    let scratch = Scratch::new();
    let disk = image(scratch.path("a"), "qcow2");
    for (content, kind) in [
        (&b""[..], Kind::Corrupt),
        (b"QFI\xfb", Kind::Unsupported),
        (b"QFI\xfb\0\0\0\x09", Kind::Unsupported),
        (b"QFI\xfb\0\0\0\x03and then nothing", Kind::Corrupt),
        (&[0x5a; 70_000], Kind::Corrupt),
    ] {
        fs::write(&disk.path, content).unwrap();
        for result in [
            program().info(&disk).await.map(drop),
            program().snapshot_create(&disk, "s").await,
            program().check(&disk, Some(Repair::All)).await.map(drop),
        ] {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (kind, Effect::None), "{error}");
        }
        assert_eq!(fs::read(&disk.path).unwrap(), content);
    }
}

#[tokio::test]
async fn an_image_that_is_cut_off() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    write(&disk, 1);
    program().snapshot_create(&disk, "s").await.unwrap();
    let whole = fs::read(&disk.path).unwrap();
    // With its end the table of snapshots is gone. qemu-img takes that for snapshots without names, and makes more.
    for len in [70_000, 200_000, 300_000] {
        fs::write(&disk.path, &whole[..len]).unwrap();
        for result in
            [program().snapshot_create(&disk, "t").await, program().snapshot_delete(&disk, &named("")).await]
        {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (Kind::Corrupt, Effect::None), "{len}: {error}");
        }
        assert_eq!(fs::read(&disk.path).unwrap(), whole[..len]);
    }
}

#[tokio::test]
async fn an_image_that_is_marked_as_corrupt() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    program().snapshot_create(&disk, "s").await.unwrap();
    // Bit 1 of the incompatible features (docs/interop/qcow2.txt).
    overwrite(&disk, 72, &2_u64.to_be_bytes());
    assert!(program().info(&disk).await.unwrap().corrupt);
    let error = program().snapshot_apply(&disk, &named("s")).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Corrupt, Effect::None), "{error}");
    assert_eq!(program().check(&disk, Some(Repair::All)).await.unwrap().corruptions, 0);
    assert!(!program().info(&disk).await.unwrap().corrupt);
    program().snapshot_apply(&disk, &named("s")).await.unwrap();
}

#[tokio::test]
async fn damage_that_only_shows_while_writing_leaves_the_effect_unknown() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    // The table of reference counts is at the second cluster.
    overwrite(&disk, 65_536, &[0x7f; 4096]);
    let error = program().snapshot_create(&disk, "s").await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Corrupt, Effect::Unknown), "{error}");
    let found = program().check(&disk, None).await;
    assert!(found.is_err() || found.unwrap().corruptions > 0);
}

#[tokio::test]
async fn leaks_and_corruptions_are_counted_and_repaired() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    write(&disk, 1);
    assert_eq!(program().check(&disk, None).await.unwrap(), Check::default());
    // A reference count, in the block at the third cluster, of a cluster that nothing uses; there are none beyond the
    // image's end, so the image is made longer.
    let end = fs::metadata(&disk.path).unwrap().len().next_multiple_of(65_536);
    overwrite(&disk, end + 65_535, &[0]);
    overwrite(&disk, 2 * 65_536 + end / 65_536 * 2, &[0, 1]);
    let leaky = program().check(&disk, None).await.unwrap();
    assert_eq!(leaky, Check { leaks: 1, ..Check::default() });
    let repaired = program().check(&disk, Some(Repair::Leaks)).await.unwrap();
    assert_eq!(repaired, Check { leaks_fixed: 1, ..Check::default() });
    // And the count of a used one, the sixth with the data, is lost.
    overwrite(&disk, 2 * 65_536 + 5 * 2, &[0, 0]);
    let damaged = program().check(&disk, None).await.unwrap();
    assert!(damaged.corruptions > 0, "{damaged:?}");
    let error = program().check(&disk, Some(Repair::Leaks)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "that can't be repaired by freeing leaks: {error}");
    let repaired = program().check(&disk, Some(Repair::All)).await.unwrap();
    assert!(repaired.corruptions == 0 && repaired.corruptions_fixed > 0, "{repaired:?}");
    assert!(holds(&disk, 1));
}

#[tokio::test]
async fn a_full_file_system() {
    let small = SmallFs::new();
    let disk = image(small.root.join("a"), "qcow2");
    qemu_img(["create", "-q", "-f", "qcow2", disk.path.to_str().unwrap(), "8M"]);
    write(&disk, 1);
    // What is left is filled up, so that not one cluster fits.
    let filler = fs::File::create(small.root.join("filler")).unwrap();
    let (mut at, block) = (0, [1; 4096]);
    while filler.write_all_at(&block, at).is_ok() {
        at += block.len() as u64;
    }
    let error = program().snapshot_create(&disk, "s").await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NoSpace, Effect::Unknown), "{error}");
    assert_eq!(snapshots(&disk).await, []);
    assert!(holds(&disk, 1));
    let new = image(small.root.join("new"), "qcow2");
    let options =
        xlsnap_qemu_img::CreateOptions { size: Some(1 << 20), backing: None, backing_unopened: false };
    let error = program().create(&new, &options).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NoSpace, Effect::None), "{error}");
    assert!(!new.path.exists(), "nothing half-made stays");
    // With space again the same succeeds.
    drop(filler);
    fs::remove_file(small.root.join("filler")).unwrap();
    program().check(&disk, Some(Repair::Leaks)).await.unwrap();
    program().snapshot_create(&disk, "s").await.unwrap();
}

#[tokio::test]
async fn an_external_data_file_is_not_followed() {
    let scratch = Scratch::new();
    let disk = image(scratch.path("a"), "qcow2");
    let data = scratch.path("data");
    let option = format!("data_file={}", data.display());
    qemu_img(["create", "-q", "-f", "qcow2", "-o", &option, disk.path.to_str().unwrap(), "1M"]);
    // To open this one would hang.
    fs::remove_file(&data).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&data).status().unwrap().success());
    let info = program().info(&disk).await.unwrap();
    assert!(info.external_data_file);
    for result in [
        soon(program().snapshot_create(&disk, "s")).await,
        soon(program().snapshot_apply(&disk, &named("s"))).await,
        soon(program().check(&disk, None)).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Unsupported, Effect::None), "{error}");
    }
}

#[tokio::test]
async fn a_backing_file_is_not_followed() {
    let scratch = Scratch::new();
    let fifo = scratch.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let missing = scratch.path("missing");
    let json = r#"json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}"#;
    let long = format!("/{}", "x".repeat(1000));
    for backing in
        [missing.to_str().unwrap(), "nbd://127.0.0.1:1/x", json, "../../x", &long, fifo.to_str().unwrap()]
    {
        let disk = image(scratch.path("a"), "qcow2");
        let path = disk.path.to_str().unwrap();
        qemu_img(["create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", backing, path, "1M"]);
        let info = program().info(&disk).await.unwrap();
        let found = info.backing.unwrap();
        assert_eq!((found.name.as_str(), found.format.as_deref()), (backing, Some("raw")));
        // None of these needs the backing file, and none hangs or fails for it.
        soon(program().snapshot_create(&disk, "s")).await.unwrap();
        soon(program().snapshot_apply(&disk, &named("s"))).await.unwrap();
        assert_eq!(program().check(&disk, None).await.unwrap(), Check::default());
        program().check(&disk, Some(Repair::All)).await.unwrap();
        program().snapshot_delete(&disk, &named("s")).await.unwrap();
        assert_eq!(
            program().info(&disk).await.unwrap().backing.unwrap().name,
            backing,
            "the header keeps it"
        );
    }
}

#[tokio::test]
async fn phrases_in_names_do_not_choose_the_kind() {
    let scratch = Scratch::new();
    // What fails here is the format; the names tell of other failures.
    let disk = image(scratch.path("No space left on device, Is another process using the image"), "qcow2");
    fs::write(&disk.path, [0x5a; 70_000]).unwrap();
    assert_eq!(program().info(&disk).await.unwrap_err().kind(), Kind::Corrupt);
    let raw = image(&disk.path, "raw");
    let error = program().snapshot_create(&raw, "No such file or directory").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    let options = xlsnap_qemu_img::CreateOptions { size: Some(512), backing: None, backing_unopened: false };
    let new = image(scratch.path("Is another process using the image: No space left on device"), "nosuch");
    let error = program().create(&new, &options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}
