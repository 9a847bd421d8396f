//! An image that another disk is read through is not written to, whichever domain has that disk and whatever the image is called.
#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use xlsnap::{
    Call, CreateRequest, DeleteRequest, DiskChoice, Error, Host, KeepName, Kind, NewDisk, NewDomain, Options,
    RevertRequest, Selector, StartOptions, design,
};
use xlsnap_testkit::real::{Scratch, snapshots_in};
use xlsnap_types::libxl::DiskSnapshot;
use xlsnap_types::model::{DomainName, ImageFormat, SnapshotName};

fn host(scratch: &Scratch) -> Host {
    Host::new(Options::new(scratch.path("root")))
}

fn selector(name: &str) -> Selector {
    Selector::new(DomainName::new(name).unwrap())
}

fn snapshot(name: &str) -> SnapshotName {
    SnapshotName::new(name).unwrap()
}

fn named(name: &str) -> CreateRequest {
    CreateRequest { name: Some(snapshot(name)), ..CreateRequest::default() }
}

/// The image stays under its name, and is the base.
fn external(name: &str) -> CreateRequest {
    let default_choice = DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
    CreateRequest { default_choice, keep_name: KeepName::No, ..named(name) }
}

fn deletion(name: &str, metadata_only: bool) -> DeleteRequest {
    DeleteRequest { metadata_only, ..DeleteRequest::new(snapshot(name)) }
}

async fn add(host: &Host, name: &str, disks: &[(&str, &Path)]) -> Result<Vec<String>, Error> {
    let disks = disks.iter().map(|(name, image)| NewDisk {
        name: name.parse().unwrap(),
        image: image.to_str().unwrap().to_owned(),
        format: Some(ImageFormat::Qcow2),
        read_only: false,
        removable: false,
        node: None,
    });
    let name = DomainName::new(name).unwrap();
    let new = NewDomain { name, uuid: None, domid: None, qmp: None, disks: disks.collect() };
    host.domain_add(new).await.map(|added| added.warnings)
}

/// An overlay in the scratch directory, whose header has just this as its backing file's name.
fn overlay(scratch: &Scratch, name: &str, base: &str, more: &[&str]) -> PathBuf {
    let mut qemu_img = Command::new("qemu-img");
    qemu_img.args(["create", "-q", "-f", "qcow2", "-u", "-b", base]).args(more).args([name, "1M"]);
    assert!(qemu_img.current_dir(scratch.dir()).status().unwrap().success());
    scratch.path(name)
}

/// The refusal, which names the other disk.
#[track_caller]
fn is_refused<T: std::fmt::Debug>(result: Result<T, Error>, named: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.to_string().contains(named), "{named:?} is not in: {error}");
}

#[tokio::test]
async fn a_clone_keeps_its_base_from_every_change() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let base = scratch.qcow2("base.qcow2", 1 << 20);
    add(&host, "tmpl", &[("vda", &base)]).await.unwrap();
    let tmpl = selector("tmpl");
    host.create(&tmpl, &named("s1"), Call::new()).await.unwrap();
    let clone = overlay(&scratch, "clone.qcow2", "base.qcow2", &["-F", "qcow2"]);
    let warnings = add(&host, "clone", &[("vda", &clone)]).await.unwrap();
    assert!(warnings[0].contains("disk vda of domain tmpl"), "{warnings:?}");

    let before = fs::read(&base).unwrap();
    let clones = "disk vda of domain clone";
    is_refused(host.revert(&tmpl, &RevertRequest::new(snapshot("s1")), Call::new()).await, clones);
    is_refused(host.plan_revert(&tmpl, &RevertRequest::new(snapshot("s1"))).await, clones);
    is_refused(host.create(&tmpl, &named("s2"), Call::new()).await, clones);
    is_refused(host.delete(&tmpl, &deletion("s1", false), Call::new()).await, clones);
    assert_eq!(fs::read(&base).unwrap(), before);
    // What is not there is not there, and a record can go.
    let error = host.revert(&tmpl, &RevertRequest::new(snapshot("s9")), Call::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    host.delete(&tmpl, &deletion("s1", true), Call::new()).await.unwrap();
    // The way out: an overlay takes the writes, and the base is the clone's and the snapshot's.
    host.create(&tmpl, &external("s3"), Call::new()).await.unwrap();
    assert_eq!(fs::read(&base).unwrap(), before);
    host.create(&tmpl, &named("s4"), Call::new()).await.unwrap();

    // The clone itself is free.
    let clone_domain = selector("clone");
    host.create(&clone_domain, &named("c1"), Call::new()).await.unwrap();
    host.revert(&clone_domain, &RevertRequest::new(snapshot("c1")), Call::new()).await.unwrap();
    host.delete(&clone_domain, &deletion("c1", false), Call::new()).await.unwrap();
    assert!(snapshots_in(&clone).is_empty());
}

#[tokio::test]
async fn a_base_is_known_by_what_it_is_and_not_by_its_name() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let base = scratch.qcow2("base.qcow2", 1 << 20);
    let [link, hard] = ["link.qcow2", "hard.qcow2"].map(|name| scratch.path(name));
    symlink(&base, &link).unwrap();
    fs::hard_link(&base, &hard).unwrap();
    // Two layers, the lower one named through a link.
    overlay(&scratch, "middle.qcow2", "./link.qcow2", &["-F", "qcow2"]);
    let top = overlay(&scratch, "top.qcow2", "file:middle.qcow2", &["-F", "qcow2"]);
    add(&host, "clone", &[("vda", &top)]).await.unwrap();
    for image in [&base, &link, &hard, &scratch.path("middle.qcow2")] {
        is_refused(add(&host, "other", &[("vda", image)]).await, "disk vda of domain clone");
    }
    // Any image that no other domain uses may be taken, and so may one that is only read.
    add(&host, "other", &[("vda", &scratch.qcow2("free.qcow2", 1 << 20))]).await.unwrap();
}

#[tokio::test]
async fn a_foreign_end_or_a_circle_of_headers_ends_the_chain() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let foreign = overlay(&scratch, "foreign.qcow2", "nbd://127.0.0.1:1/none", &["-F", "raw"]);
    add(&host, "foreign", &[("vda", &foreign)]).await.unwrap();
    let round = overlay(&scratch, "round.qcow2", "other.qcow2", &["-F", "qcow2"]);
    overlay(&scratch, "other.qcow2", "round.qcow2", &["-F", "qcow2"]);
    add(&host, "round", &[("vda", &round)]).await.unwrap();
    let free = scratch.qcow2("free.qcow2", 1 << 20);
    add(&host, "free", &[("vda", &free)]).await.unwrap();
    host.create(&selector("free"), &named("s1"), Call::new()).await.unwrap();
    is_refused(add(&host, "late", &[("vda", &scratch.path("other.qcow2"))]).await, "domain round");
}

#[tokio::test]
async fn one_disk_of_a_domain_is_not_the_base_of_another() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let base = scratch.qcow2("base.qcow2", 1 << 20);
    let top = overlay(&scratch, "top.qcow2", "base.qcow2", &["-F", "qcow2"]);
    is_refused(add(&host, "web", &[("vda", &top), ("vdb", &base)]).await, "disk vda of domain web");
}

#[tokio::test]
async fn a_recorded_base_is_kept_when_its_domain_has_no_file() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let base = scratch.qcow2("base.qcow2", 1 << 20);
    add(&host, "web", &[("vda", &base)]).await.unwrap();
    host.create(&selector("web"), &external("s1"), Call::new()).await.unwrap();
    host.domain_remove(&selector("web"), true).await.unwrap();
    // The overlay is gone too, so that the record alone tells.
    let overlay = host.show(&selector("web"), &snapshot("s1")).await.unwrap().record.meta.unwrap().disks[0]
        .made
        .clone();
    fs::remove_file(overlay.unwrap()).unwrap();
    is_refused(add(&host, "again", &[("vda", &base)]).await, "snapshot s1 of domain web");
}

#[tokio::test]
async fn a_base_is_not_started() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let base = scratch.qcow2("base.qcow2", 1 << 20);
    add(&host, "tmpl", &[("vda", &base)]).await.unwrap();
    let file = scratch.path("root/domains/tmpl.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[start]\nprogram = \"/nonexistent/qemu\"\n")).unwrap();
    let clone = overlay(&scratch, "clone.qcow2", "base.qcow2", &["-F", "qcow2"]);
    add(&host, "clone", &[("vda", &clone)]).await.unwrap();
    let started = host.domain_start(&selector("tmpl"), &StartOptions::default()).await;
    is_refused(started.map(|_| ()), "disk vda of domain clone");
}

#[tokio::test]
async fn the_designs_functions_write_to_no_base_either() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let base = scratch.qcow2("base.qcow2", 1 << 20);
    add(&host, "tmpl", &[("vda", &base)]).await.unwrap();
    let file = scratch.path("root/domains/tmpl.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("domid = 7\n{text}")).unwrap();
    let of_vda = DiskSnapshot {
        device: Some("vda".to_owned()),
        name: Some("s1".to_owned()),
        ..DiskSnapshot::default()
    };
    design::disk_snapshot_create(&host, 7, std::slice::from_ref(&of_vda)).await.unwrap();
    let clone = overlay(&scratch, "clone.qcow2", "base.qcow2", &["-F", "qcow2"]);
    add(&host, "clone", &[("vda", &clone)]).await.unwrap();
    let failure = design::disk_snapshot_revert(&host, 7, &[of_vda]).await.unwrap_err();
    is_refused(Err::<(), _>(failure.error), "disk vda of domain clone");
}

#[tokio::test]
async fn a_layer_that_only_the_ledger_names_is_kept_as_long_as_something_stands_on_it() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let base = scratch.qcow2("base.qcow2", 1 << 20);
    add(&host, "web", &[("vda", &base)]).await.unwrap();
    let web = selector("web");
    for name in ["s1", "s2"] {
        host.create(&web, &external(name), Call::new()).await.unwrap();
    }
    let deletion = DeleteRequest { no_merge: true, ..DeleteRequest::new(snapshot("s1")) };
    host.delete(&web, &deletion, Call::new()).await.unwrap();
    host.domain_remove(&web, true).await.unwrap();
    is_refused(add(&host, "again", &[("vda", &base)]).await, "the snapshots of disk vda of domain web");
    fs::remove_file(scratch.path("base.s1-1.qcow2")).unwrap();
    add(&host, "again", &[("vda", &base)]).await.unwrap();
}
