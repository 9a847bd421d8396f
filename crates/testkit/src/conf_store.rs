//! What every store of snapshot records must do.

#![expect(clippy::unwrap_used, reason = "a suite is a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;
use xlsnap_conf_store::dom_snapshot_conf as conf;
use xlsnap_conf_store::{ConfStore, DomainLock, Effect, Kind, Owner, Record};
use xlsnap_types::libxl::{DiskFormat, DiskSnapshot, DomainSnapshot};
use xlsnap_types::model::{Consistency, DiskMeta, DomainRecord, ImageFormat, Meta, SnapshotName};

const DOMAIN: Uuid = Uuid::from_u128(0xd0);
const OTHER: Uuid = Uuid::from_u128(0xd1);
const SOON: Duration = Duration::from_secs(10);

/// An owner for locks taken by tests.
pub fn owner() -> Owner {
    Owner { pid: std::process::id(), operation: "test".into(), since: 1_700_000_000 }
}

/// A valid snapshot name.
pub fn name(name: &str) -> SnapshotName {
    SnapshotName::new(name).expect("a test gives valid names")
}

/// A record with two disks, as a store gives it back. `mark` is in both its parts, so that a torn one is seen.
pub fn record(name: &str, mark: u64) -> Record {
    let disk = |device: &str, file: &str, format| DiskSnapshot {
        device: Some(device.into()),
        name: Some(name.into()),
        file: Some(file.into()),
        format,
        path: Some(String::new()),
    };
    let snapshot = DomainSnapshot {
        name: Some(name.into()),
        description: Some(format!("mark {mark}: ü \"quoted\" \u{1f}")),
        creation_time: mark,
        memory: Some(String::new()),
        running: true,
        disks: vec![
            disk("xvda", "", DiskFormat::Unknown),
            disk("xvdb", "/images/b.overlay", DiskFormat::Qcow2),
        ],
        ..DomainSnapshot::default()
    };
    Record { snapshot, meta: Some(meta(mark)) }
}

/// A meta with `mark` in it.
pub fn meta(mark: u64) -> Meta {
    Meta {
        parent: Some(name("the parent")),
        disks: vec![DiskMeta {
            disk: "xvda".parse().expect("it is a word"),
            image: "/images/a.qcow2".into(),
            format: ImageFormat::Qcow2,
            id: Some("1".into()),
            virtual_size: 1 << 30,
            made: None,
        }],
        pause_us: Some(mark),
        labels: BTreeMap::from([("mark".into(), mark.to_string())]),
        ..Meta::new(Consistency::Crash)
    }
}

/// The records of `domain`, all of which must be readable.
pub async fn records(store: &dyn ConfStore, domain: Uuid) -> BTreeMap<String, Record> {
    let mut records = BTreeMap::new();
    let mut twice = Vec::new();
    let mut visit = |entry: xlsnap_conf_store::Entry| {
        let record = entry.record.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        if records.insert(entry.name.clone(), record).is_some() {
            twice.push(entry.name);
        }
    };
    store.list(domain, &mut visit).await.expect("a domain can be listed");
    assert!(twice.is_empty(), "listed twice: {twice:?}");
    records
}

/// Runs the suite. `make` gives an empty store each time.
///
/// # Panics
/// When the store does not do what it must.
pub async fn conformance<S: ConfStore + 'static>(make: impl Fn() -> S) {
    nothing_there(&make()).await;
    records_come_back(&make()).await;
    a_name_is_taken_once(&make()).await;
    both_parts_are_replaced(&make()).await;
    names_are_checked(&make()).await;
    older_ones_keep_their_format(&make()).await;
    newer_ones_are_not_overwritten(&make()).await;
    domain_and_journal(&make()).await;
    the_lock_excludes(&make()).await;
    a_domain_is_forgotten(&make()).await;
    the_functions_of_the_design(&make()).await;
}

async fn lock(store: &dyn ConfStore, domain: Uuid) -> Box<dyn DomainLock> {
    store.lock(domain, &owner(), SOON).await.expect("no other process has the lock for long")
}

async fn nothing_there(store: &dyn ConfStore) {
    assert_eq!(store.domains().await.unwrap(), [] as [Uuid; 0]);
    assert_eq!(records(store, DOMAIN).await, BTreeMap::new());
    assert_eq!(store.names(DOMAIN).await.unwrap(), []);
    assert_eq!(store.domain_record(DOMAIN).await.unwrap(), None);
    assert_eq!(store.journal(DOMAIN).await.unwrap(), None);
    assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap_err().kind(), Kind::NotFound);
    let mut lock = lock(store, DOMAIN).await;
    assert_eq!(lock.delete(&name("a")).await.unwrap_err().kind(), Kind::NotFound);
    lock.set_journal(None).await.unwrap();
    assert_eq!(store.domains().await.unwrap(), [] as [Uuid; 0], "a lock stores nothing");
}

async fn records_come_back(store: &dyn ConfStore) {
    let names = ["a", "ü 雪", "..a", "a.libxl-json", "a-2", "*", &"x".repeat(200)];
    let mut expected = BTreeMap::new();
    let mut held = lock(store, DOMAIN).await;
    for (mark, name) in (1u64..).zip(names) {
        let mut record = record(name, mark);
        if mark % 2 == 0 {
            record.meta = None;
        }
        held.store(&record, false).await.unwrap();
        expected.insert(name.to_owned(), record);
    }
    // Readers need no lock.
    assert_eq!(records(store, DOMAIN).await, expected);
    assert_eq!(records(store, OTHER).await, BTreeMap::new());
    assert_eq!(store.domains().await.unwrap(), [DOMAIN]);
    let listed: BTreeSet<String> = store.names(DOMAIN).await.unwrap().into_iter().map(String::from).collect();
    assert_eq!(listed, expected.keys().cloned().collect());
    for (key, record) in &expected {
        assert_eq!(&store.load(DOMAIN, &name(key)).await.unwrap(), record);
    }
    for key in names {
        held.delete(&name(key)).await.unwrap();
        expected.remove(key);
        assert_eq!(records(store, DOMAIN).await, expected);
    }
    assert_eq!(store.domains().await.unwrap(), [] as [Uuid; 0]);
}

async fn a_name_is_taken_once(store: &dyn ConfStore) {
    let mut lock = lock(store, DOMAIN).await;
    lock.store(&record("a", 1), false).await.unwrap();
    let error = lock.store(&record("a", 2), false).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::AlreadyExists, Effect::None));
    assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap(), record("a", 1));
}

async fn both_parts_are_replaced(store: &dyn ConfStore) {
    let mut lock = lock(store, DOMAIN).await;
    let without = |mark| Record { meta: None, ..record("a", mark) };
    let same_meta = Record { meta: Some(meta(4)), ..record("a", 5) };
    for next in
        [record("a", 1), record("a", 2), without(3), record("a", 4), same_meta, without(6), without(7)]
    {
        lock.store(&next, true).await.unwrap();
        assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap(), next);
    }
    // The image's path is not stored.
    let mut with_path = record("a", 8);
    with_path.snapshot.disks[0].path = Some("/secret".into());
    with_path.snapshot.disks[1].path = None;
    lock.store(&with_path, true).await.unwrap();
    assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap(), record("a", 8));
    // A deleted one leaves nothing to the next of its name.
    lock.delete(&name("a")).await.unwrap();
    lock.store(&without(9), false).await.unwrap();
    assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap(), without(9));
}

async fn names_are_checked(store: &dyn ConfStore) {
    let mut lock = lock(store, DOMAIN).await;
    for bad in ["", "../x", "a/b", ".", "..", "-f", "a\0", "a\nb", "\u{7f}", &"x".repeat(201)] {
        let error = lock.store(&record(bad, 1), true).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Malformed, Effect::None), "{bad:?}");
    }
    let mut nameless = record("a", 1);
    nameless.snapshot.name = None;
    assert_eq!(lock.store(&nameless, true).await.unwrap_err().kind(), Kind::Malformed);
    assert_eq!(records(store, DOMAIN).await, BTreeMap::new());
}

/// A record that an earlier version made keeps its format when it is changed.
async fn older_ones_keep_their_format(store: &dyn ConfStore) {
    let mut lock = lock(store, DOMAIN).await;
    let mut older = record("old", 1);
    older.meta = Some(Meta { format_version: 1, ..meta(1) });
    lock.store(&older, false).await.unwrap();
    older.meta = Some(Meta { format_version: 1, ..meta(2) });
    lock.store(&older, true).await.unwrap();
    assert_eq!(store.load(DOMAIN, &name("old")).await.unwrap(), older);
    lock.delete(&name("old")).await.unwrap();
}

async fn newer_ones_are_not_overwritten(store: &dyn ConfStore) {
    let mut lock = lock(store, DOMAIN).await;
    let mut newer = record("a", 1);
    newer.meta = Some(Meta { format_version: Meta::FORMAT_VERSION + 1, ..meta(1) });
    assert_eq!(lock.store(&newer, false).await.unwrap_err().kind(), Kind::Newer);
    let newer = DomainRecord { format_version: DomainRecord::FORMAT_VERSION + 1, ..DomainRecord::default() };
    assert_eq!(lock.set_domain_record(&newer).await.unwrap_err().kind(), Kind::Newer);
    assert_eq!(store.domains().await.unwrap(), [] as [Uuid; 0]);
}

async fn domain_and_journal(store: &dyn ConfStore) {
    let mut lock = lock(store, DOMAIN).await;
    let mut kept =
        DomainRecord { name: Some("web".into()), current: Some(name("a")), ..DomainRecord::default() };
    lock.set_domain_record(&kept).await.unwrap();
    assert_eq!(store.domains().await.unwrap(), [DOMAIN]);
    assert_eq!(store.domain_record(DOMAIN).await.unwrap().as_ref(), Some(&kept));
    kept.current = None;
    lock.set_domain_record(&kept).await.unwrap();
    assert_eq!(store.domain_record(DOMAIN).await.unwrap(), Some(kept));
    assert_eq!(store.domain_record(OTHER).await.unwrap(), None);

    for entry in [&b"{}"[..], b"", b"\0\xff not JSON", &[7; 100_000]] {
        lock.set_journal(Some(entry)).await.unwrap();
        assert_eq!(store.journal(DOMAIN).await.unwrap().as_deref(), Some(entry));
    }
    assert_eq!(store.journal(OTHER).await.unwrap(), None);
    lock.set_journal(None).await.unwrap();
    assert_eq!(store.journal(DOMAIN).await.unwrap(), None);
    assert_eq!(store.names(DOMAIN).await.unwrap(), [], "neither is a record");
}

async fn the_lock_excludes(store: &dyn ConfStore) {
    let held = lock(store, DOMAIN).await;
    for wait in [Duration::ZERO, Duration::from_millis(20)] {
        let error = store.lock(DOMAIN, &owner(), wait).await.map(drop).unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Busy, Effect::None));
        let pid = std::process::id().to_string();
        assert!(error.to_string().contains(&pid) && error.to_string().contains("test"), "{error}");
    }
    // Other domains are not concerned.
    drop(lock(store, OTHER).await);
    // One that waits gets it when it is released, and one that stops waiting does not keep it.
    let waiter = owner();
    let mut waiting = Box::pin(store.lock(DOMAIN, &waiter, SOON));
    let mut given_up = Box::pin(store.lock(DOMAIN, &waiter, SOON));
    let short = Duration::from_millis(10);
    assert!(tokio::time::timeout(short, &mut waiting).await.is_err(), "it was held");
    assert!(tokio::time::timeout(short, &mut given_up).await.is_err(), "it was held");
    drop(given_up);
    drop(held);
    drop(waiting.await.unwrap());
    drop(lock(store, DOMAIN).await);
}

/// What is no snapshot of a domain, each in one field.
fn wrong_structs(right: DomainSnapshot) -> Vec<DomainSnapshot> {
    let named = |name: Option<&str>| DomainSnapshot { name: name.map(str::to_owned), ..right.clone() };
    let with = |at: usize, spoil: &dyn Fn(&mut DiskSnapshot)| {
        let mut wrong = right.clone();
        spoil(&mut wrong.disks[at]);
        wrong
    };
    let device = |at: usize, device: Option<&str>| with(at, &|disk| disk.device = device.map(str::to_owned));
    vec![
        named(None),
        named(Some("")),
        named(Some("../a")),
        device(0, None),
        device(1, Some("")),
        device(0, Some("/dev/xvda")),
        device(1, Some("..")),
        device(1, Some("xvda")),
        with(0, &|disk| disk.name = Some("a\nb".into())),
        with(1, &|disk| disk.format = DiskFormat::Unknown),
    ]
}

async fn a_domain_is_forgotten(store: &dyn ConfStore) {
    assert!(!store.is_locked(DOMAIN).await.unwrap(), "it is not there");
    let mut held = lock(store, DOMAIN).await;
    assert!(store.is_locked(DOMAIN).await.unwrap());
    for name in ["a", "b"] {
        held.store(&record(name, 1), false).await.unwrap();
    }
    held.set_domain_record(&DomainRecord { name: Some("web".into()), ..DomainRecord::default() })
        .await
        .unwrap();
    held.set_journal(Some(b"{}")).await.unwrap();
    lock(store, OTHER).await.store(&record("a", 1), false).await.unwrap();
    assert_eq!(held.forget().await.unwrap(), [] as [String; 0]);
    assert!(!store.is_locked(DOMAIN).await.unwrap(), "the lock is released");
    assert_eq!(store.domains().await.unwrap(), [OTHER]);
    assert_eq!(records(store, DOMAIN).await, BTreeMap::new());
    assert_eq!(store.domain_record(DOMAIN).await.unwrap(), None);
    assert_eq!(store.journal(DOMAIN).await.unwrap(), None);
    // It is as one that was never there.
    lock(store, DOMAIN).await.store(&record("a", 2), false).await.unwrap();
    assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap(), record("a", 2));
}

async fn the_functions_of_the_design(store: &dyn ConfStore) {
    let stored = |mark| record("a", mark).snapshot;
    conf::store_dom_snapshot_conf(store, DOMAIN, &stored(1), &owner(), SOON).await.unwrap();
    assert_eq!(conf::load_dom_snapshot_conf(store, DOMAIN, "a").await.unwrap(), stored(1));
    assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap().meta, None);
    // What else is known of a snapshot stays when its struct is stored again.
    lock(store, DOMAIN).await.store(&record("a", 2), true).await.unwrap();
    conf::store_dom_snapshot_conf(store, DOMAIN, &stored(3), &owner(), SOON).await.unwrap();
    let expected = Record { snapshot: stored(3), meta: Some(meta(2)) };
    assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap(), expected);
    let listing = conf::list_dom_snapshot(store, DOMAIN).await.unwrap();
    assert_eq!(listing.snapshots, [stored(3)]);
    assert!(listing.unreadable.is_empty());

    conf::delete_dom_snapshot_conf(store, DOMAIN, "a", &owner(), SOON).await.unwrap();
    assert_eq!(conf::list_dom_snapshot(store, DOMAIN).await.unwrap().snapshots, []);
    let kind = |result: Result<(), xlsnap_conf_store::Error>| result.unwrap_err().kind();
    assert_eq!(
        kind(conf::delete_dom_snapshot_conf(store, DOMAIN, "a", &owner(), SOON).await),
        Kind::NotFound
    );
    assert_eq!(kind(conf::load_dom_snapshot_conf(store, DOMAIN, "a").await.map(drop)), Kind::NotFound);
    for wrong in wrong_structs(stored(1)) {
        let refused = conf::store_dom_snapshot_conf(store, DOMAIN, &wrong, &owner(), SOON).await;
        assert_eq!(kind(refused), Kind::Malformed, "{wrong:?}");
    }
    assert_eq!(store.names(DOMAIN).await.unwrap(), [], "none of them is stored");
    assert_eq!(kind(conf::load_dom_snapshot_conf(store, DOMAIN, "../a").await.map(drop)), Kind::Malformed);
}
