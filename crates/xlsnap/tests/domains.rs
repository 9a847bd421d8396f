//! Domain files through the library: what may be described, and what stays untouched when it may not.
#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use xlsnap::{Error, Host, Kind, NewDisk, NewDomain, Options, Selector};
use xlsnap_testkit::real::Scratch;
use xlsnap_types::model::{DomainName, ImageFormat};

fn host(scratch: &Scratch) -> Host {
    Host::new(Options::new(scratch.path("root")))
}

fn name(name: &str) -> DomainName {
    DomainName::new(name).unwrap()
}

fn disk(name: &str, image: &Path) -> NewDisk {
    NewDisk {
        name: name.parse().unwrap(),
        image: image.to_str().unwrap().to_owned(),
        format: Some(ImageFormat::Qcow2),
        read_only: false,
        removable: false,
        node: None,
    }
}

fn domain(of: &str, disks: Vec<NewDisk>) -> NewDomain {
    NewDomain { name: name(of), uuid: None, domid: None, qmp: None, disks }
}

async fn refused(host: &Host, new: NewDomain) -> Error {
    let before = host.domain_list().unwrap().len();
    let error = host.domain_add(new).await.unwrap_err();
    assert_eq!(host.domain_list().unwrap().len(), before, "{error}");
    error
}

#[tokio::test]
async fn a_domain_is_found_by_name_and_by_uuid() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let image = scratch.qcow2("a.qcow2", 1 << 20);
    let uuid = "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e".parse().unwrap();
    let added = host
        .domain_add(NewDomain { uuid: Some(uuid), ..domain("web", vec![disk("vda", &image)]) })
        .await
        .unwrap();
    assert_eq!(added.domain.uuid, uuid);
    assert!(added.detected.is_empty());
    for selector in ["web", "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e", "1D8D7C4E0B1F4B0E9A399C5D0F6B0D2E"] {
        let found = host.domain_show(&Selector::new(name(selector))).await.unwrap();
        assert_eq!(found.domain, added.domain, "{selector}");
    }
    let missing = host.domain_show(&Selector::new(name("db"))).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
}

#[tokio::test]
async fn what_is_another_domains_already_is_refused() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let [a, b] = ["a.qcow2", "b.qcow2"].map(|image| scratch.qcow2(image, 1 << 20));
    let added = host.domain_add(domain("web", vec![disk("vda", &a)])).await.unwrap();

    // The name.
    assert_eq!(refused(&host, domain("web", vec![disk("vda", &b)])).await.kind(), Kind::Refused);
    // The uuid.
    let same_uuid = NewDomain { uuid: Some(added.domain.uuid), ..domain("db", vec![disk("vda", &b)]) };
    assert!(refused(&host, same_uuid).await.to_string().contains("uuid"));
    // The image, by its own name and by another.
    let link = scratch.path("link.qcow2");
    symlink(&a, &link).unwrap();
    for image in [&a, &link] {
        let error = refused(&host, domain("db", vec![disk("vda", image)])).await;
        assert!(error.to_string().contains("disk of domain web"), "{error}");
    }
    // One image twice in the new domain itself.
    let twice = vec![disk("vda", &b), disk("vdb", &scratch.path("./b.qcow2"))];
    assert_eq!(refused(&host, domain("db", twice)).await.kind(), Kind::Refused);
    // A name that reads as a uuid would hide that uuid's domain.
    let uuid_name = added.domain.uuid.to_string();
    assert_eq!(refused(&host, domain(&uuid_name, vec![disk("vda", &b)])).await.kind(), Kind::Refused);
    // Read-only images are shared freely.
    let shared = |of: &str| domain(of, vec![NewDisk { read_only: true, ..disk("iso", &b) }]);
    host.domain_add(shared("one")).await.unwrap();
    host.domain_add(shared("two")).await.unwrap();
}

#[tokio::test]
async fn a_format_is_never_guessed() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let any = |image: &Path| domain("web", vec![NewDisk { format: None, ..disk("vda", image) }]);
    let raw = scratch.raw("a.raw", 1 << 20);
    let error = refused(&host, any(&raw)).await;
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.advice().unwrap().contains("the format of vda: raw"));
    assert_eq!(refused(&host, any(&scratch.path("gone"))).await.kind(), Kind::NotFound);
    assert_eq!(refused(&host, any(scratch.dir())).await.kind(), Kind::Refused);

    let added = host.domain_add(any(&scratch.qcow2("a.qcow2", 1 << 20))).await.unwrap();
    assert_eq!(added.domain.disks[0].format, ImageFormat::Qcow2);
    assert_eq!(added.detected.len(), 1);
}

#[tokio::test]
async fn one_broken_file_hides_no_other_and_blocks_what_it_may_concern() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let [a, b] = ["a.qcow2", "b.qcow2"].map(|image| scratch.qcow2(image, 1 << 20));
    host.domain_add(domain("web", vec![disk("vda", &a)])).await.unwrap();
    fs::write(scratch.path("root/domains/broken.toml"), "uuid = 3\n").unwrap();
    fs::write(scratch.path("root/domains/notes.txt"), "none of ours").unwrap();
    let all = host.domain_list().unwrap();
    let names: Vec<(&str, bool)> = all.iter().map(|of| (of.name.as_str(), of.domain.is_ok())).collect();
    assert_eq!(names, [("broken", false), ("web", true)]);
    assert!(host.domain_show(&Selector::new(name("web"))).await.is_ok());
    // It may have the same image.
    let error = refused(&host, domain("db", vec![disk("vda", &b)])).await;
    assert!(error.to_string().contains("broken"), "{error}");
}

#[tokio::test]
async fn a_planted_link_is_not_followed() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let image = scratch.qcow2("a.qcow2", 1 << 20);
    host.domain_add(domain("web", vec![disk("vda", &image)])).await.unwrap();
    let elsewhere = scratch.path("elsewhere");
    fs::rename(scratch.path("root/domains/web.toml"), &elsewhere).unwrap();
    symlink(&elsewhere, scratch.path("root/domains/web.toml")).unwrap();
    let error = host.domain_show(&Selector::new(name("web"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
}

#[tokio::test]
async fn a_removed_domain_leaves_its_images() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let image = scratch.qcow2("a.qcow2", 1 << 20);
    host.domain_add(domain("web", vec![disk("vda", &image)])).await.unwrap();
    let web = Selector::new(name("web"));
    host.domain_remove(&web, false).await.unwrap();
    assert!(image.exists());
    assert_eq!(host.domain_remove(&web, false).await.unwrap_err().kind(), Kind::NotFound);
    // Nothing was stored of it, so nothing was made for it.
    let left: Vec<_> = fs::read_dir(scratch.path("root")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["domains"]);
}

#[tokio::test]
async fn what_a_crash_left_among_the_files_is_cleared_away() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    host.domain_add(domain("web", vec![disk("vda", &scratch.qcow2("a.qcow2", 1 << 20))])).await.unwrap();
    let half_written = scratch.path("root").join("domains/.xlsnap-new-1-0");
    fs::write(&half_written, "uuid").unwrap();
    host.domain_add(domain("db", vec![disk("vda", &scratch.qcow2("b.qcow2", 1 << 20))])).await.unwrap();
    assert!(!half_written.exists());
}

#[tokio::test]
async fn a_domid_is_one_domains() {
    let scratch = Scratch::new();
    let host = host(&scratch);
    let [a, b] = ["a.qcow2", "b.qcow2"].map(|image| scratch.qcow2(image, 1 << 20));
    assert_eq!(host.domain_by_domid(7).unwrap_err().kind(), Kind::NotFound);
    let seventh = NewDomain { domid: Some(7), ..domain("web", vec![disk("vda", &a)]) };
    host.domain_add(seventh).await.unwrap();
    assert_eq!(host.domain_by_domid(7).unwrap().name, name("web"));
    assert_eq!(host.domain_by_domid(8).unwrap_err().kind(), Kind::NotFound);

    let another = NewDomain { domid: Some(7), ..domain("db", vec![disk("vda", &b)]) };
    assert!(refused(&host, another).await.to_string().contains("domid"));
    // Two that were written by hand are not told apart.
    let file = fs::read_to_string(scratch.path("root/domains/web.toml")).unwrap();
    fs::write(scratch.path("root/domains/db.toml"), file).unwrap();
    assert_eq!(host.domain_by_domid(7).unwrap_err().kind(), Kind::Refused);
}
