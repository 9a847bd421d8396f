//! New images.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use xlsnap_qemu_img::{CreateOptions, Effect, Kind, QemuImg};

use crate::scratch::{Holder, Scratch, holds, image, program, write};

fn sized(size: u64) -> CreateOptions {
    CreateOptions { size: Some(size), backing: None, backing_unopened: false }
}

#[tokio::test]
async fn an_overlay_shows_its_base_and_no_other_user_can_read_it() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base");
    write(&base, 1);
    let overlay = image(scratch.path("overlay"), "qcow2");
    let options = CreateOptions { size: None, backing: Some(base.clone()), backing_unopened: false };
    program().create(&overlay, &options).await.unwrap();
    assert!(holds(&overlay, 1));
    assert_eq!(fs::metadata(&overlay.path).unwrap().permissions().mode() & 0o777, 0o600);
    write(&overlay, 2);
    assert!(holds(&base, 1));
    assert_eq!(scratch.files(), ["base", "overlay"]);
}

#[tokio::test]
async fn what_is_there_is_not_touched() {
    let scratch = Scratch::new();
    let target = scratch.path("target");
    fs::write(&target, "precious").unwrap();
    let link = scratch.path("link");
    symlink(&target, &link).unwrap();
    let dangling = scratch.path("dangling");
    symlink(scratch.path("nowhere"), &dangling).unwrap();
    for path in [&target, &link, &dangling] {
        let error = program().create(&image(path, "qcow2"), &sized(1 << 20)).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Ambiguous, Effect::None), "{error}");
    }
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert_eq!(scratch.files(), ["dangling", "link", "target"]);
}

#[tokio::test]
async fn a_base_that_is_in_use_or_gone_is_left_unopened() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base");
    let _holder = Holder::writing(&base);
    for (name, base) in [("in-use", base), ("gone", image(scratch.path("none"), "qcow2"))] {
        let overlay = image(scratch.path(name), "qcow2");
        let options =
            CreateOptions { size: Some(2 << 20), backing: Some(base.clone()), backing_unopened: true };
        program().create(&overlay, &options).await.unwrap();
        let info = program().info(&overlay).await.unwrap();
        assert_eq!(info.virtual_size, 2 << 20);
        let backing = info.backing.unwrap();
        assert_eq!(
            (backing.name, backing.format),
            (base.path.to_str().unwrap().into(), Some("qcow2".into()))
        );
    }
}

#[tokio::test]
async fn a_failure_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base");
    let new = image(scratch.path("new"), "qcow2");
    let missing = image(scratch.path("missing"), "qcow2");
    let not_qcow2 = image(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "qcow2");
    let on = |backing: &xlsnap_qemu_img::Image, size, backing_unopened| CreateOptions {
        size,
        backing: Some(backing.clone()),
        backing_unopened,
    };
    for (options, kind) in [
        (CreateOptions { size: None, backing: None, backing_unopened: false }, Kind::Unsupported),
        (on(&base, None, true), Kind::Unsupported),
        (on(&missing, None, false), Kind::NotFound),
        (on(&not_qcow2, None, false), Kind::Corrupt),
        (on(&image(&base.path, "qcow2,x=y"), Some(512), true), Kind::Unsupported),
        (on(&image(&base.path, "nosuch"), Some(512), true), Kind::Unsupported),
        (on(&image(format!("/{}", "x".repeat(1100)), "raw"), Some(512), true), Kind::Failed),
        (sized(u64::MAX), Kind::Failed),
    ] {
        let error = program().create(&new, &options).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, Effect::None), "{error}");
        assert_eq!(scratch.files(), ["base"], "{error}");
    }
    let error = program().create(&image(scratch.path("no/dir"), "qcow2"), &sized(512)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    let raw_on_base = image(scratch.path("raw"), "raw");
    let error = program().create(&raw_on_base, &on(&base, Some(512), true)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert_eq!(scratch.files(), ["base"]);
}

#[tokio::test]
async fn sizes_are_rounded_up_to_sectors() {
    let scratch = Scratch::new();
    for (asked, got) in [(0, 0), (1, 512), (512, 512), (1000, 1024)] {
        let new = image(scratch.path(asked.to_string()), "qcow2");
        program().create(&new, &sized(asked)).await.unwrap();
        assert_eq!(program().info(&new).await.unwrap().virtual_size, got);
    }
}
