//! Merging an image into the one below it, and naming another one below it.

use std::fs;
use std::sync::Mutex;

use xlsnap_qemu_img::{Effect, Image, Kind, QemuImg};

use crate::scratch::{Holder, Scratch, SmallFs, holds, image, named, program, qemu_img, snapshots, write};

/// An overlay on `base`, by this name of it, that holds `byte`.
fn overlay(scratch: &Scratch, name: &str, base: &str, format: &str, byte: u8) -> Image {
    let overlay = image(scratch.path(name), "qcow2");
    let file = overlay.path.to_str().unwrap();
    qemu_img(["create", "-q", "-f", "qcow2", "-F", format, "-b", base, file, "1M"]);
    write(&overlay, byte);
    overlay
}

async fn merge(top: &Image, base: &Image) -> Result<(), xlsnap_qemu_img::Error> {
    program().commit(top, base, None, &|_| ()).await
}

async fn backing(image: &Image) -> String {
    program().info(image).await.unwrap().backing.unwrap().name
}

#[tokio::test]
async fn the_base_gets_the_content_and_the_overlay_keeps_it() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("a, base");
    write(&base, 1);
    program().snapshot_create(&base, "inside").await.unwrap();
    let top = overlay(&scratch, "top,up", "a, base", "qcow2", 2);
    let told = Mutex::new(Vec::new());
    program().commit(&top, &base, None, &|part| told.lock().unwrap().push(part)).await.unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&1.0));
    assert!(holds(&base, 2) && holds(&top, 2));
    assert_eq!(backing(&top).await, "a, base");
    merge(&top, &base).await.unwrap();
    assert!(holds(&base, 2) && holds(&top, 2));
    program().snapshot_apply(&base, &named("inside")).await.unwrap();
    assert!(holds(&base, 1));
}

#[tokio::test]
async fn a_raw_base_and_a_chain_below_it_are_merged_into() {
    let scratch = Scratch::new();
    let raw = image(scratch.path("raw"), "raw");
    qemu_img(["create", "-q", "-f", "raw", raw.path.to_str().unwrap(), "1M"]);
    write(&raw, 1);
    let middle = overlay(&scratch, "middle", "raw", "raw", 2);
    let top = overlay(&scratch, "top", "middle", "qcow2", 3);
    merge(&top, &middle).await.unwrap();
    assert!(holds(&middle, 3) && holds(&raw, 1));
    merge(&middle, &raw).await.unwrap();
    assert!(holds(&raw, 3) && holds(&top, 3));
}

/// A write of less than a cluster of the base needs what is below the base.
#[tokio::test]
async fn clusters_of_the_base_may_be_larger() {
    let scratch = Scratch::new();
    let root = scratch.qcow2("root");
    write(&root, 1);
    let base = image(scratch.path("base"), "qcow2");
    let file = base.path.to_str().unwrap();
    let options = "cluster_size=2M";
    qemu_img(["create", "-q", "-f", "qcow2", "-o", options, "-F", "qcow2", "-b", "root", file, "1M"]);
    let top = image(scratch.path("top"), "qcow2");
    let file = top.path.to_str().unwrap();
    qemu_img([
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        "cluster_size=4k",
        "-F",
        "qcow2",
        "-b",
        "base",
        file,
        "1M",
    ]);
    let io = std::process::Command::new("qemu-io").args(["-c", "write -P 7 64k 4k", file]).output().unwrap();
    assert!(io.status.success());
    merge(&top, &base).await.unwrap();
    assert!(holds(&base, 1), "what only the root had");
}

#[tokio::test]
async fn what_is_not_right_below_is_refused() {
    let scratch = Scratch::new();
    let root = scratch.qcow2("root");
    write(&root, 1);
    let base = overlay(&scratch, "base", "root", "qcow2", 2);
    let top = overlay(&scratch, "top", "base", "qcow2", 3);
    let other = scratch.qcow2("other");
    for (top, base) in [(&top, &root), (&top, &other), (&root, &other), (&top, &top)] {
        let error = merge(top, base).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Ambiguous, Effect::None), "{error}");
    }
    assert!(holds(&root, 1) && holds(&base, 2));
    qemu_img(["resize", "-q", base.path.to_str().unwrap(), "2M"]);
    let error = merge(&top, &base).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unsupported, Effect::None), "{error}");
    program().snapshot_create(&base, "inside").await.unwrap();
    let error = merge(&base, &root).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unsupported, Effect::None), "{error}");
    assert!(holds(&root, 1) && holds(&base, 2));
}

#[tokio::test]
async fn what_is_in_use_or_damaged_is_not_merged() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base");
    write(&base, 1);
    let top = overlay(&scratch, "top", "base", "qcow2", 2);
    let ways: [fn(&Image, &Image) -> Holder; 3] =
        [|top, _| Holder::writing(top), |top, _| Holder::reading(top), |_, base| Holder::reading(base)];
    for hold in ways {
        let _held = hold(&top, &base);
        let error = merge(&top, &base).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Locked, Effect::None), "{error}");
    }
    assert!(holds(&base, 1));
    fs::rename(&base.path, scratch.path("moved")).unwrap();
    assert_eq!(merge(&top, &base).await.unwrap_err().kind(), Kind::NotFound);
    fs::rename(scratch.path("moved"), &base.path).unwrap();
    // Bit 1 of the incompatible features (docs/interop/qcow2.txt).
    let mut bytes = fs::read(&base.path).unwrap();
    bytes[79] |= 2;
    fs::write(&base.path, bytes).unwrap();
    assert_eq!(merge(&top, &base).await.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn a_full_file_system_leaves_the_overlay_right() {
    let (scratch, small) = (Scratch::new(), SmallFs::new());
    let base = image(small.root.join("base"), "qcow2");
    let below = base.path.to_str().unwrap();
    qemu_img(["create", "-q", "-f", "qcow2", below, "4M"]);
    let top = image(scratch.path("top"), "qcow2");
    let file = top.path.to_str().unwrap();
    qemu_img(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, file, "4M"]);
    write(&top, 2);
    let io = std::process::Command::new("qemu-io").args(["-c", "write -P 7 1M 2M", file]).output().unwrap();
    assert!(io.status.success());
    let error = merge(&top, &base).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NoSpace, Effect::Unknown), "{error}");
    assert!(holds(&top, 2));
}

#[tokio::test]
async fn encrypted_images_are_merged_with_their_key() {
    let scratch = Scratch::new();
    let key = scratch.path("its, key");
    fs::write(&key, "open sesame").unwrap();
    let encryption = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let secret = "secret,id=s,data=open sesame";
    let locked = |name: &str| image(scratch.path(name), "qcow2").with_key_file(Some(key.clone()));
    let (base, top) = (locked("base"), locked("top"));
    let (below, file) = (base.path.to_str().unwrap(), top.path.to_str().unwrap());
    qemu_img(["create", "-q", "--object", secret, "-f", "qcow2", "-o", encryption, below, "1M"]);
    let create = ["create", "-q", "-u", "--object", secret, "-f", "qcow2", "-o", encryption];
    qemu_img(create.into_iter().chain(["-F", "qcow2", "-b", "base", file, "1M"]));
    merge(&top, &base).await.unwrap();
    let without = image(&top.path, "qcow2");
    assert_eq!(merge(&without, &base).await.unwrap_err().kind(), Kind::Unsupported);
}

#[tokio::test]
async fn a_header_names_another_base_as_it_named_the_old_one() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("dir")).unwrap();
    let base = scratch.qcow2("base");
    write(&base, 1);
    let copy = image(scratch.path("dir/copy"), "qcow2");
    fs::copy(&base.path, &copy.path).unwrap();
    let (below, other) = (base.path.to_str().unwrap(), copy.path.to_str().unwrap());
    for (name, was, expected) in [("relative", "base", "dir/copy"), ("absolute", below, other)] {
        let top = overlay(&scratch, name, was, "qcow2", 2);
        program().snapshot_create(&top, "inside").await.unwrap();
        program().rebase_unsafe(&top, &copy).await.unwrap();
        assert_eq!(backing(&top).await, expected);
        program().rebase_unsafe(&top, &copy).await.unwrap();
        assert_eq!(backing(&top).await, expected);
        assert!(holds(&top, 2));
        program().rebase_unsafe(&top, &image(scratch.path("not there"), "raw")).await.unwrap();
    }
    let top = overlay(&scratch, "held", "base", "qcow2", 2);
    let _held = Holder::writing(&top);
    let error = program().rebase_unsafe(&top, &copy).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Locked, Effect::None), "{error}");
    assert_eq!(backing(&top).await, "base");
}

async fn pull_up(image: &Image, below: Option<&Image>) -> Result<(), xlsnap_qemu_img::Error> {
    program().rebase(image, below, &|_| ()).await
}

#[tokio::test]
async fn an_overlay_gets_what_it_reads_and_stands_on_less() {
    let scratch = Scratch::new();
    let root = scratch.qcow2("root");
    write(&root, 1);
    let base = image(scratch.path("a, base"), "qcow2");
    let file = base.path.to_str().unwrap();
    qemu_img(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "root", file, "1M"]);
    let middle = image(scratch.path("middle"), "qcow2");
    let file = middle.path.to_str().unwrap();
    qemu_img(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "a, base", file, "1M"]);
    let top = image(scratch.path("top,up"), "qcow2");
    let file = top.path.to_str().unwrap();
    // A disk that has grown.
    qemu_img(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "middle", file, "2M"]);
    pull_up(&top, Some(&base)).await.unwrap();
    assert_eq!(backing(&top).await, "a, base");
    pull_up(&top, Some(&root)).await.unwrap();
    assert_eq!(backing(&top).await, "root");
    let told = Mutex::new(Vec::new());
    program().rebase(&top, None, &|part| told.lock().unwrap().push(part)).await.unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&1.0));
    assert!(program().info(&top).await.unwrap().backing.is_none());
    for gone in [&root, &base, &middle] {
        fs::remove_file(&gone.path).unwrap();
    }
    assert!(holds(&top, 1));
}

#[tokio::test]
async fn what_must_not_be_pulled_up_is_refused() {
    let scratch = Scratch::new();
    let root = scratch.qcow2("root");
    let top = overlay(&scratch, "top", "root", "qcow2", 2);
    let other = scratch.qcow2("other");
    for (top, below) in [(&root, None), (&top, Some(&other)), (&top, Some(&root)), (&top, Some(&top))] {
        let error = pull_up(top, below).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Ambiguous, Effect::None), "{error}");
    }
    {
        let _held = Holder::writing(&top);
        let error = pull_up(&top, None).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Locked, Effect::None), "{error}");
    }
    program().snapshot_create(&top, "inside").await.unwrap();
    let error = pull_up(&top, None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unsupported, Effect::None), "{error}");
    assert!(error.to_string().contains("internal snapshots (1)"), "{error}");
    assert_eq!(backing(&top).await, "root");
    // An end that is no local file, and one that is gone.
    let far = scratch.path("far");
    let file = far.to_str().unwrap();
    qemu_img(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "nbd://127.0.0.1:1/x", file, "1M"]);
    let error = pull_up(&image(&far, "qcow2"), None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unsupported, Effect::None), "{error}");
    let lost = overlay(&scratch, "lost", "other", "qcow2", 3);
    fs::remove_file(&other.path).unwrap();
    let error = pull_up(&lost, None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NotFound, Effect::None), "{error}");
}

/// Whenever it is killed, the header of the overlay names what its data needs.
#[tokio::test]
async fn a_pull_that_is_killed_leaves_the_overlay_right() {
    const CLUSTERS: usize = 256;
    let scratch = Scratch::new();
    let base = image(scratch.path("base"), "qcow2");
    let below = base.path.to_str().unwrap();
    let raw = scratch.path("raw");
    let data: Vec<u8> = (0..CLUSTERS * 65_536).map(|at| (at / 65_536 % 251) as u8 + 1).collect();
    fs::write(&raw, &data).unwrap();
    qemu_img(["convert", "-f", "raw", "-O", "qcow2", raw.to_str().unwrap(), below]);
    let (top, read) = (image(scratch.path("top"), "qcow2"), scratch.path("read"));
    let mut ended = 0;
    for round in 0..12_u64 {
        let _ = fs::remove_file(&top.path);
        let file = top.path.to_str().unwrap();
        qemu_img(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base", file]);
        let limit = std::time::Duration::from_millis(20 + 25 * round);
        // Dropped, it kills its qemu-img.
        ended += usize::from(tokio::time::timeout(limit, pull_up(&top, None)).await.is_ok());
        while program().info(&top).await.unwrap().in_use {
            tokio::task::yield_now().await;
        }
        let _ = fs::remove_file(&read);
        qemu_img(["convert", "-f", "qcow2", "-O", "raw", file, read.to_str().unwrap()]);
        assert!(fs::read(&read).unwrap() == data, "round {round}");
    }
    println!("{ended} of 12 came to their end");
}

/// A copy has every snapshot that the image has, and reads what it reads, also in another directory, where a relative name would lead
/// elsewhere. A process may read the image meanwhile.
#[tokio::test]
async fn a_copy_has_the_snapshots_and_stands_on_the_same_image() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("a, base");
    write(&base, 1);
    let from = overlay(&scratch, "from,it", "a, base", "qcow2", 2);
    program().snapshot_create(&from, "inside").await.unwrap();
    write(&from, 3);
    qemu_img(["bitmap", "--add", from.path.to_str().unwrap(), "of a backup"]);
    fs::create_dir(scratch.path("else where")).unwrap();
    let _reader = Holder::reading(&from);
    for name in ["a copy", "else where/copy"] {
        let copy = image(scratch.path(name), "qcow2");
        let told = Mutex::new(Vec::new());
        program().copy(&from, &copy, &|part| told.lock().unwrap().push(part)).await.unwrap();
        assert_eq!(told.lock().unwrap().last(), Some(&1.0), "{name}");
        assert_eq!(snapshots(&copy).await, snapshots(&from).await, "{name}");
        assert_eq!(backing(&copy).await, if name.contains('/') { "../a, base" } else { "a, base" });
        assert!(holds(&copy, 3), "{name}");
        assert!(program().info(&copy).await.unwrap().bitmaps.is_empty(), "{name}");
        program().snapshot_apply(&copy, &named("inside")).await.unwrap();
        assert!(holds(&copy, 2) && holds(&from, 3) && holds(&base, 1), "{name}");
    }
}

/// What lies in two files would be copied by half.
#[tokio::test]
async fn what_cannot_be_copied_is_refused() {
    let scratch = Scratch::new();
    let file = scratch.path("split");
    let options = format!("data_file={}", scratch.path("data").to_str().unwrap());
    qemu_img(["create", "-q", "-f", "qcow2", "-o", &options, file.to_str().unwrap(), "1M"]);
    let to = image(scratch.path("to"), "qcow2");
    let refused = program().copy(&image(file, "qcow2"), &to, &|_| ()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported, "{refused}");
    assert_eq!(refused.effect(), Effect::None);
    assert!(!to.path.exists());
}
