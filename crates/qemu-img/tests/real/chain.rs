//! Chains of images, as their headers name them.

use std::path::PathBuf;

use xlsnap_qemu_img::{ChainEnd, FileId, Kind, chain};

use crate::scratch::{Scratch, image, program, qemu_img};

/// An overlay named `top` on `base`, which is not looked at.
fn overlay(scratch: &Scratch, top: &str, base: &str, format: &str) {
    let top = scratch.path(top);
    let top = top.to_str().unwrap();
    qemu_img(["create", "-q", "-u", "-f", "qcow2", "-F", format, "-b", base, top, "1M"]);
}

#[tokio::test]
async fn relative_and_absolute_names_are_followed_to_the_base() {
    let scratch = Scratch::new();
    let base = scratch.qcow2("base");
    std::fs::create_dir(scratch.path("dir")).unwrap();
    overlay(&scratch, "dir/middle", "../base", "qcow2");
    overlay(&scratch, "top", scratch.path("dir/middle").to_str().unwrap(), "qcow2");
    let found = chain(&program(), &image(scratch.path("top"), "qcow2")).await.unwrap();
    assert_eq!(found.end, ChainEnd::Base);
    let paths: Vec<PathBuf> = found.layers.iter().map(|layer| layer.path.clone()).collect();
    assert_eq!(paths, [scratch.path("top"), scratch.path("dir/middle"), scratch.path("dir/../base")]);
    assert!(found.layers.iter().all(|layer| layer.format.as_deref() == Some("qcow2")));
    assert!(found.contains(FileId::of(&base.path).unwrap()), "by another name");
    assert!(!found.contains(FileId::of(&scratch.qcow2("other").path).unwrap()));
}

#[tokio::test]
async fn what_is_no_local_file_is_not_opened() {
    let scratch = Scratch::new();
    for name in ["nbd://127.0.0.1:1/x", "json:{\"driver\":\"null-co\"}"] {
        overlay(&scratch, "top", name, "raw");
        let found = chain(&program(), &image(scratch.path("top"), "qcow2")).await.unwrap();
        assert_eq!((found.layers.len(), found.end), (1, ChainEnd::Foreign(name.to_owned())));
    }
    overlay(&scratch, "top", "gone", "raw");
    let found = chain(&program(), &image(scratch.path("top"), "qcow2")).await.unwrap();
    assert_eq!(found.end, ChainEnd::Missing(scratch.path("gone")));
    let error = chain(&program(), &image(scratch.path("gone"), "qcow2")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_circle_ends() {
    let scratch = Scratch::new();
    overlay(&scratch, "a", "b", "qcow2");
    overlay(&scratch, "b", "a", "qcow2");
    let found = chain(&program(), &image(scratch.path("a"), "qcow2")).await.unwrap();
    assert_eq!((found.layers.len(), found.end), (3, ChainEnd::Cycle));
}

#[tokio::test]
async fn a_base_without_a_format_is_followed_if_it_has_a_header() {
    let scratch = Scratch::new();
    scratch.qcow2("base");
    overlay(&scratch, "middle", "base", "qcow2");
    overlay(&scratch, "top", "middle", "qcow2");
    forget_backing_format(&scratch.path("top"));
    let found = chain(&program(), &image(scratch.path("top"), "qcow2")).await.unwrap();
    assert_eq!((found.layers.len(), found.layers[1].format.as_deref()), (3, None));
    assert_eq!(found.end, ChainEnd::Base);
}

/// Makes the header extension that names the backing file's format an unknown one.
fn forget_backing_format(image: &std::path::Path) {
    let mut bytes = std::fs::read(image).unwrap();
    let at = bytes.windows(4).position(|word| word == 0xe279_2aca_u32.to_be_bytes()).unwrap();
    bytes[at] = 0x01;
    std::fs::write(image, bytes).unwrap();
}
