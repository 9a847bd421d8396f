//! Disks as xenstore has them.

use proptest::prelude::*;
use xlsnap_orchestrator::PortErrorKind;
use xlsnap_types::model::ImageFormat;
use xlsnap_xen::Domid;
use xlsnap_xen::vbd::{self, Backend};

use crate::store::{HVM, PV, Store};

const BACKEND: &str = "/local/domain/0/backend/qdisk/1/51712";

fn one() -> Domid {
    Domid::new(1).unwrap()
}

#[tokio::test]
async fn the_recorded_disks_are_read() {
    let disks = vbd::list(&Store::of(PV), one()).await.unwrap();
    let said: Vec<_> =
        disks.iter().map(|of| (of.name.as_str(), of.image.as_str(), of.state, of.size)).collect();
    assert_eq!(said, [("xvda", "/lab/pv1-a.qcow2", 4, 64 << 20), ("xvdb", "/lab/pv1-b.qcow2", 4, 64 << 20)]);
    assert!(disks.iter().all(|of| of.backend == Backend::Qdisk && of.format == ImageFormat::Qcow2));
    assert!(disks.iter().all(|of| !of.read_only && !of.cdrom));
    let disks = vbd::list(&Store::of(HVM), Domid::new(3).unwrap()).await.unwrap();
    assert!(disks.iter().all(|of| of.state == 2));
}

#[tokio::test]
async fn other_formats_backends_and_media_are_told_apart() {
    let store = Store::of(PV);
    store.set(&format!("{BACKEND}/params"), "aio:/lab/a:b c.raw").set(&format!("{BACKEND}/mode"), "r");
    store.set(&format!("{BACKEND}/device-type"), "cdrom");
    let disk = vbd::list(&store, one()).await.unwrap().swap_remove(0);
    assert_eq!((disk.image.as_str(), disk.format), ("/lab/a:b c.raw", ImageFormat::Raw));
    assert!(disk.read_only && disk.cdrom);

    let phy = "/local/domain/0/backend/vbd/1/51712";
    store.set("/libxl/1/device/vbd/51712/backend", phy);
    for (key, value) in
        [("dev", "xvda"), ("params", "/dev/loop0"), ("type", "phy"), ("mode", "w"), ("state", "4")]
    {
        store.set(&format!("{phy}/{key}"), value);
    }
    let disk = vbd::list(&store, one()).await.unwrap().swap_remove(0);
    assert_eq!((disk.backend, disk.image.as_str()), (Backend::Other("phy".to_owned()), "/dev/loop0"));

    let elsewhere = "/local/domain/5/backend/qdisk/1/51712";
    store.set("/libxl/1/device/vbd/51712/backend", elsewhere);
    for (key, value) in [("dev", "xvda"), ("params", "qcow2:/a"), ("mode", "w"), ("state", "4")] {
        store.set(&format!("{elsewhere}/{key}"), value);
    }
    let disk = vbd::list(&store, one()).await.unwrap().swap_remove(0);
    assert_eq!(disk.backend, Backend::Other("qdisk in domain 5".to_owned()));
}

#[tokio::test]
async fn a_domain_without_disks_has_none() {
    let store = Store::of(PV);
    store.cut("/libxl/1/device/vbd");
    assert!(vbd::list(&store, one()).await.unwrap().is_empty());
}

#[tokio::test]
async fn hostile_and_missing_entries_are_errors_that_name_the_disk() {
    let at = |key: &str| format!("{BACKEND}/{key}");
    let libxl = "/libxl/1/device/vbd/51712/backend";
    for (path, value) in [
        (libxl.to_owned(), None),
        (libxl.to_owned(), Some("")),
        (libxl.to_owned(), Some("/local/domain/0/backend/qdisk/2/51712")),
        (libxl.to_owned(), Some("/local/domain/0/backend/qdisk/1/51728")),
        (libxl.to_owned(), Some("/local/domain/0/backend/../1/51712")),
        (libxl.to_owned(), Some("/local/domain/1/data")),
        (at("dev"), None),
        (at("dev"), Some("xvdb")),
        (at("dev"), Some("../xvda")),
        (at("dev"), Some("")),
        (at("mode"), None),
        (at("mode"), Some("rw")),
        (at("state"), Some("four")),
        (at("state"), None),
        (at("params"), Some("qcow2:/a\nb")),
        (at("params"), Some(&format!("qcow2:/{}", "a".repeat(5000)))),
    ] {
        let store = Store::of(PV);
        store.cut(&path);
        if let Some(value) = value {
            store.set(&path, value);
        }
        let error = vbd::list(&store, one()).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Corrupt, "{path} {value:?}: {error}");
        assert!(error.to_string().contains("domain 1"), "{error}");
    }
    let store = Store::of(PV);
    store.set("/local/domain/0/backend/qdisk/1/51728/dev", "51712");
    assert!(vbd::list(&store, one()).await.is_ok(), "a name that is not Xen's is only a name");
    store.set("/local/domain/0/backend/qdisk/1/51728/dev", "xvda");
    assert!(vbd::list(&store, one()).await.is_err());
}

proptest! {
    /// Whatever stands in the entries, it is a disk or an error.
    #[test]
    fn nothing_panics(key in "backend|dev|params|type|mode|device-type|state|sectors|removable", value in any::<Vec<u8>>()) {
        let store = Store::of(PV);
        store.set(&format!("{BACKEND}/{key}"), &value);
        store.set(&format!("/libxl/1/device/vbd/51712/{key}"), &value);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(vbd::list(&store, one()));
    }
}
