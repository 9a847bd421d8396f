//! The domain's lock comes first: what was read before it only finds the domain, and its monitor is not touched without it.

use std::fs;
use std::time::Duration;

use xlsnap::{Call, CreateRequest, Host, Kind, NewDisk, NewDomain, Options, Selector};
use xlsnap_conf_store::{ConfStore, FsStore, Owner};
use xlsnap_testkit::real::{Scratch, snapshots_in};
use xlsnap_types::model::{DomainName, ImageFormat, SnapshotName};

/// As when an external snapshot that is being made gives the disk an overlay while the next snapshot waits for the lock:
/// that one has to be of the overlay.
#[tokio::test]
async fn a_snapshot_that_waited_is_of_the_disks_of_now() {
    let scratch = Scratch::new();
    let host = Host::new(Options::new(scratch.path("root")));
    let (old, new) = (scratch.qcow2("old.qcow2", 1 << 20), scratch.qcow2("new.qcow2", 1 << 20));
    let name = DomainName::new("web").unwrap();
    let disk = NewDisk {
        name: "vda".parse().unwrap(),
        image: old.to_str().unwrap().to_owned(),
        format: Some(ImageFormat::Qcow2),
        read_only: false,
        removable: false,
        node: None,
    };
    let domain = NewDomain { name: name.clone(), uuid: None, domid: None, qmp: None, disks: vec![disk] };
    let added = host.domain_add(domain).await.unwrap();

    let owner = Owner { pid: 1, operation: "create".to_owned(), since: 0 };
    let store = FsStore::new(scratch.path("root"));
    let lock = store.lock(added.domain.uuid, &owner, Duration::ZERO).await.unwrap();
    let (selector, request) = (
        Selector::new(name),
        CreateRequest { name: Some(SnapshotName::new("one").unwrap()), ..Default::default() },
    );
    let mut create = Box::pin(host.create(&selector, &request, Call::new()));
    // It reads the file at once, and waits for the lock.
    tokio::select! {
        biased;
        made = &mut create => panic!("the domain is locked: {made:?}"),
        () = std::future::ready(()) => {}
    }
    let file = scratch.path("root").join("domains/web.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("old.qcow2", "new.qcow2")).unwrap();
    drop(lock);

    create.await.unwrap();
    assert_eq!(snapshots_in(&new), ["one"]);
    assert!(snapshots_in(&old).is_empty());
}

#[tokio::test]
async fn the_monitor_of_a_domain_that_is_locked_is_left_alone() {
    let scratch = Scratch::new();
    let mut options = Options::new(scratch.path("root"));
    options.lock_wait = Duration::ZERO;
    let host = Host::new(options);
    let socket = scratch.path("qmp");
    let image = scratch.qcow2("a.qcow2", 1 << 20);
    let name = DomainName::new("web").unwrap();
    let disk = NewDisk {
        name: "vda".parse().unwrap(),
        image: image.to_str().unwrap().to_owned(),
        format: Some(ImageFormat::Qcow2),
        read_only: false,
        removable: false,
        node: None,
    };
    let domain = NewDomain {
        name: name.clone(),
        uuid: None,
        domid: None,
        qmp: Some(socket.clone()),
        disks: vec![disk],
    };
    let added = host.domain_add(domain).await.unwrap();
    let monitor = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    monitor.set_nonblocking(true).unwrap();

    let owner = Owner { pid: 1, operation: "delete".to_owned(), since: 0 };
    let store = FsStore::new(scratch.path("root"));
    let _lock = store.lock(added.domain.uuid, &owner, Duration::ZERO).await.unwrap();
    let error = host.create(&Selector::new(name), &CreateRequest::default(), Call::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.to_string().contains("lock"), "{error}");
    assert_eq!(monitor.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "no client came");
}
