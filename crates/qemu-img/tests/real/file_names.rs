//! Names that qemu-img would read as something else, or not at all.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use xlsnap_qemu_img::{CreateOptions, Kind, QemuImg, Repair};

use crate::scratch::{Scratch, image, named, program, qemu_img, snapshots};

/// Everything that can be done to an image, on one with this name, and on an overlay with this name over a base with it.
async fn works(name: &[u8]) {
    let name = OsStr::from_bytes(name);
    let (scratch, other, qemu_img) = (Scratch::new(), Scratch::new(), program());
    let base = image(scratch.path(name), "qcow2");
    let overlay = image(other.path(name), "qcow2");
    let plain = CreateOptions { size: Some(1 << 20), backing: None, backing_unopened: false };
    qemu_img.create(&base, &plain).await.unwrap();
    assert!(base.path.exists(), "{name:?}");
    let on_base = CreateOptions { size: None, backing: Some(base.clone()), backing_unopened: false };
    qemu_img.create(&overlay, &on_base).await.unwrap();
    let info = qemu_img.info(&overlay).await.unwrap();
    assert_eq!(info.virtual_size, 1 << 20);
    assert_eq!(info.backing.unwrap().name, base.path.to_string_lossy());

    let mut images = vec![base];
    // The form that leaves a backing file unopened is JSON, and so UTF-8.
    if name.to_str().is_some() {
        images.push(overlay);
    }
    for image in &images {
        qemu_img.snapshot_create(image, "s").await.unwrap();
        assert_eq!(snapshots(image).await, [("1".into(), "s".into())], "{name:?}");
        qemu_img.snapshot_apply(image, &named("s")).await.unwrap();
        qemu_img.snapshot_delete(image, &named("s")).await.unwrap();
        assert_eq!(snapshots(image).await, []);
        assert_eq!(qemu_img.check(image, None).await.unwrap(), Default::default());
        qemu_img.check(image, Some(Repair::All)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_means_anything() {
    let names: [&[u8]; 14] = [
        b"a:b.qcow2",
        b"nbd:x",
        b"file:f.qcow2",
        b"json:{\"driver\":\"null-co\"}",
        b"-dash",
        b"com,ma,,.qcow2",
        b"two words 'and' \"quotes\"",
        b"new\nline\ttab",
        b"back\\slash\\n",
        "größe-☃".as_bytes(),
        b"per%cent$(id)`id`;*?",
        b"a=b,driver=raw,file.filename=x",
        b"fat:rw:x",
        b"not\xff\xfeutf-8",
    ];
    for name in names {
        works(name).await;
    }
}

#[tokio::test]
async fn a_relative_path_is_ours_and_not_the_images() {
    // cargo runs tests in the package's directory, so that is what is relative here; the header gets an absolute name.
    let scratch = Scratch::new();
    let inside = tempfile::Builder::new().prefix("nbd:").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let here = std::env::current_dir().unwrap();
    let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = up.join(inside.path().strip_prefix("/").unwrap()).join("base,1");
    let base = image(relative, "qcow2");
    program()
        .create(&base, &CreateOptions { size: Some(1 << 20), backing: None, backing_unopened: false })
        .await
        .unwrap();
    let overlay = image(scratch.path("o"), "qcow2");
    program()
        .create(&overlay, &CreateOptions { size: None, backing: Some(base.clone()), backing_unopened: false })
        .await
        .unwrap();
    let backing = program().info(&overlay).await.unwrap().backing.unwrap().name;
    assert!(backing.starts_with('/'), "{backing}");
    assert!(std::path::Path::new(&backing).exists(), "{backing}");
    program().snapshot_create(&base, "s").await.unwrap();
    assert_eq!(snapshots(&image(backing, "qcow2")).await.len(), 1);
}

#[tokio::test]
async fn an_overlay_with_a_name_that_is_not_utf8_is_refused() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base");
    let overlay = image(scratch.path(OsStr::from_bytes(b"o\xff")), "qcow2");
    let options = CreateOptions { size: None, backing: Some(base), backing_unopened: false };
    program().create(&overlay, &options).await.unwrap();
    let error = program().snapshot_create(&overlay, "s").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert_eq!(snapshots(&overlay).await, []);
}

#[tokio::test]
async fn a_name_with_a_zero_byte_is_refused() {
    let scratch = Scratch::new();
    let error = program().info(&image(scratch.path("a\0b"), "qcow2")).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Failed | Kind::Unsupported), "{error}");
    let good = scratch.qcow2("a");
    let error = program().snapshot_create(&good, "a\0b").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_raw_disk_with_a_qcow2_header_stays_raw() {
    // A guest can write anything into its disk: here the header of an image with a backing file of the host's.
    let scratch = Scratch::new();
    let secret = scratch.path("secret");
    std::fs::write(&secret, vec![7; 4096]).unwrap();
    let disk = scratch.path("disk");
    let create: [&OsStr; 10] = [
        "create".as_ref(),
        "-q".as_ref(),
        "-f".as_ref(),
        "qcow2".as_ref(),
        "-F".as_ref(),
        "raw".as_ref(),
        "-b".as_ref(),
        secret.as_ref(),
        disk.as_ref(),
        "1M".as_ref(),
    ];
    qemu_img(create);
    let before = std::fs::read(&disk).unwrap();
    let raw = image(&disk, "raw");
    let info = program().info(&raw).await.unwrap();
    assert_eq!(
        (info.format.as_str(), info.backing, info.virtual_size),
        ("raw", None, before.len().next_multiple_of(512) as u64)
    );
    for result in [
        program().snapshot_create(&raw, "s").await,
        program().check(&raw, None).await.map(drop),
        program().check(&raw, Some(Repair::All)).await.map(drop),
    ] {
        assert_eq!(result.unwrap_err().kind(), Kind::Unsupported);
    }
    assert_eq!(std::fs::read(&disk).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_file_is_not_opened() {
    let scratch = Scratch::new();
    let fifo = scratch.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo, scratch.path(""), "/dev/null".into()] {
        let error = program().info(&image(&path, "qcow2")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    }
    for missing in ["missing", "missing/too", "nbd:localhost:1", ""] {
        let path = if missing.is_empty() { OsString::new().into() } else { scratch.path(missing) };
        let error = program().info(&image(path, "qcow2")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn a_symbolic_link_leads_to_its_image() {
    let scratch = Scratch::new();
    let real = scratch.qcow2("real");
    let link = image(scratch.path("link"), "qcow2");
    std::os::unix::fs::symlink(&real.path, &link.path).unwrap();
    program().snapshot_create(&link, "s").await.unwrap();
    assert_eq!(snapshots(&real).await.len(), 1);
    program().snapshot_apply(&link, &named("s")).await.unwrap();
}

#[tokio::test]
async fn a_format_is_only_a_name() {
    let scratch = Scratch::new();
    let good = scratch.qcow2("a");
    for format in ["qcow2,file.locking=off", "nbd", "", "nosuch"] {
        let error = program().info(&image(&good.path, format)).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Unsupported | Kind::Failed), "{format}: {error}");
        let new = image(scratch.path("new"), format);
        let options = CreateOptions { size: Some(512), backing: None, backing_unopened: false };
        program().create(&new, &options).await.unwrap_err();
        assert!(!new.path.exists());
    }
}
