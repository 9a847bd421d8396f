//! Each change is cut off, and failed, at each of its steps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;
use uuid::Uuid;
use xlsnap_types::libxl::{DiskSnapshot, DomainSnapshot};
use xlsnap_types::model::{Consistency, DomainRecord, Meta, SnapshotName};

use super::FsStore;
use crate::durable::fault;
use crate::{ConfStore, DomainLock, Effect, Entry, Error, Kind, Owner, Record};

const DOMAIN: Uuid = Uuid::from_u128(7);

/// What a change does, by name.
type Change = (&'static str, fn(&mut dyn DomainLock) -> Result<(), Error>);

/// All that a reader sees.
type Seen = (BTreeMap<String, Record>, Option<DomainRecord>, Option<Vec<u8>>);

const CHANGES: [Change; 11] = [
    ("create", |lock| wait(lock.store(&record("new", 3, Some(3)), false))),
    ("create without meta", |lock| wait(lock.store(&record("new", 3, None), false))),
    ("replace both parts", |lock| wait(lock.store(&record("both", 3, Some(3)), true))),
    ("replace and drop the meta", |lock| wait(lock.store(&record("both", 3, None), true))),
    ("replace and add a meta", |lock| wait(lock.store(&record("bare", 3, Some(3)), true))),
    ("replace the struct only", |lock| wait(lock.store(&record("both", 3, Some(1)), true))),
    ("delete", |lock| wait(lock.delete(&name("both")))),
    ("delete one without meta", |lock| wait(lock.delete(&name("bare")))),
    ("set the domain's record", |lock| wait(lock.set_domain_record(&domain_record("b")))),
    ("replace the journal", |lock| wait(lock.set_journal(Some(b"after")))),
    ("remove the journal", |lock| wait(lock.set_journal(None))),
];

/// In memory where there is such a place, for thousands of stores are made here.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

fn name(name: &str) -> SnapshotName {
    SnapshotName::new(name).unwrap()
}

fn record(name: &str, mark: u64, meta: Option<u64>) -> Record {
    let disk = DiskSnapshot { path: Some(String::new()), ..DiskSnapshot::default() };
    let snapshot = DomainSnapshot {
        name: Some(name.into()),
        creation_time: mark,
        disks: vec![disk],
        ..DomainSnapshot::default()
    };
    let meta = meta.map(|mark| Meta { pause_us: Some(mark), ..Meta::new(Consistency::Crash) });
    Record { snapshot, meta }
}

fn domain_record(name: &str) -> DomainRecord {
    DomainRecord { name: Some(name.into()), ..DomainRecord::default() }
}

fn lock(store: &FsStore) -> Box<dyn DomainLock> {
    let owner = Owner { pid: 1, operation: "test".into(), since: 0 };
    wait(store.lock(DOMAIN, &owner, Duration::ZERO)).unwrap()
}

/// A store with a record of each kind.
fn prepared(root: &Path) -> FsStore {
    let store = FsStore::new(root);
    let mut lock = lock(&store);
    wait(lock.store(&record("both", 1, Some(1)), false)).unwrap();
    wait(lock.store(&record("bare", 1, None), false)).unwrap();
    wait(lock.set_domain_record(&domain_record("a"))).unwrap();
    wait(lock.set_journal(Some(b"before"))).unwrap();
    store
}

fn seen(store: &FsStore) -> Seen {
    let mut records = BTreeMap::new();
    let mut visit = |entry: Entry| {
        records.insert(entry.name, entry.record.unwrap());
    };
    wait(store.list(DOMAIN, &mut visit)).unwrap();
    for (key, record) in &records {
        assert_eq!(&wait(store.load(DOMAIN, &name(key))).unwrap(), record);
    }
    let names = wait(store.names(DOMAIN)).unwrap();
    assert_eq!(names.len(), records.len());
    (records, wait(store.domain_record(DOMAIN)).unwrap(), wait(store.journal(DOMAIN)).unwrap())
}

/// The files that a store with just `seen` consists of.
fn expected_files(seen: &Seen) -> Vec<String> {
    let mut files = vec!["lock".to_owned()];
    for (name, record) in &seen.0 {
        files.push(format!("snapshotdata-{name}.libxl-json"));
        files.extend(record.meta.as_ref().map(|_| format!("snapshotmeta-{name}.json")));
    }
    files.extend(seen.1.as_ref().map(|_| "domain.json".into()));
    files.extend(seen.2.as_ref().map(|_| "journal.json".into()));
    files.sort();
    files
}

fn files(root: &Path) -> Vec<String> {
    let dir = root.join(DOMAIN.to_string());
    let mut files: Vec<_> =
        dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    files
}

/// What a change leads to when nothing goes wrong, and its steps.
fn undisturbed(change: &Change) -> (Seen, Seen, Vec<String>) {
    let scratch = scratch();
    let store = prepared(scratch.path());
    let before = seen(&store);
    let mut lock = lock(&store);
    let (result, steps) = fault::steps(|| change.1(&mut *lock));
    result.unwrap();
    let after = seen(&store);
    assert_ne!(before, after, "{}", change.0);
    assert_eq!(files(scratch.path()), expected_files(&after), "{}", change.0);
    (before, after, steps)
}

fn sweep(errno: Errno, crash: bool) {
    for change in &CHANGES {
        let (before, after, steps) = undisturbed(change);
        for step in 0..u32::try_from(steps.len()).unwrap() {
            let what = format!("{}, step {step} ({})", change.0, steps[step as usize]);
            let scratch = scratch();
            let store = prepared(scratch.path());
            let mut held = lock(&store);
            let outcome = fault::with(step, errno, crash, || change.1(&mut *held));
            drop(held);
            assert!(outcome.hit, "{what}");
            let now = seen(&store);
            match outcome.result.map_err(|error| error.effect()) {
                Ok(()) => assert_eq!(now, after, "{what}"),
                Err(Effect::None) => assert_eq!(now, before, "{what}"),
                Err(Effect::Unknown) => assert!(now == before || now == after, "{what}: {now:?}"),
            }
            // The process that takes the lock next removes all traces, and no reader sees a difference.
            drop(lock(&store));
            assert_eq!(seen(&store), now, "{what}");
            let others = files(scratch.path());
            let others: Vec<_> = others.into_iter().filter(|file| file != ".xlsnap-new-other").collect();
            assert_eq!(others, expected_files(&now), "{what}");
            // And the change can still be made.
            if now == before {
                change.1(&mut *lock(&store)).unwrap();
            }
            assert_eq!(seen(&store), after, "{what}");
            assert_eq!(files(scratch.path()), expected_files(&after), "{what}");
        }
    }
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new() {
    sweep(Errno::IO, true);
}

#[test]
fn a_full_disk_at_any_step_leaves_the_old_or_the_new() {
    sweep(Errno::NOSPC, false);
}

#[test]
fn a_crash_while_tidying_up_is_tidied_up() {
    for change in &CHANGES {
        let (_, _, steps) = undisturbed(change);
        for step in 0..u32::try_from(steps.len()).unwrap() {
            for tidy_step in 0.. {
                let what = format!("{}, step {step}, tidying step {tidy_step}", change.0);
                let scratch = scratch();
                let store = prepared(scratch.path());
                let mut held = lock(&store);
                let _ = fault::with(step, Errno::IO, true, || change.1(&mut *held));
                drop(held);
                let now = seen(&store);
                let outcome = fault::with(tidy_step, Errno::IO, true, || drop(lock(&store)));
                assert_eq!(seen(&store), now, "{what}");
                drop(lock(&store));
                assert_eq!(seen(&store), now, "{what}");
                let others = files(scratch.path());
                let others: Vec<_> = others.into_iter().filter(|file| file != ".xlsnap-new-other").collect();
                assert_eq!(others, expected_files(&now), "{what}");
                if !outcome.hit {
                    break;
                }
            }
        }
    }
}

/// The order in which a change reaches the disk, which only a power cut would show: what is renamed was flushed, and
/// what was done before the commit point is flushed before it.
#[test]
fn changes_reach_the_disk_in_order() {
    let steps = |change: &str| {
        let change = CHANGES.iter().find(|(name, _)| *name == change).unwrap();
        undisturbed(change).2.join(", ").replace(".xlsnap-new-", "~")
    };
    assert_eq!(
        steps("create"),
        "create ~record, write, create ~meta, write, sync, sync, rename ~meta to snapshotmeta-new.json, \
         sync directory, rename ~record to snapshotdata-new.libxl-json, sync directory",
    );
    assert_eq!(
        steps("replace both parts"),
        "create ~record, write, create ~settled-meta, write, create ~meta, write, sync, sync, sync, \
         rename ~meta to snapshotmeta-both.json, sync directory, \
         rename ~record to snapshotdata-both.libxl-json, sync directory, \
         rename ~settled-meta to snapshotmeta-both.json",
    );
    assert_eq!(
        steps("delete"),
        "rename snapshotdata-both.libxl-json to ~deleted, sync directory, unlink snapshotmeta-both.json, \
         sync directory, unlink ~deleted",
    );
    assert_eq!(
        steps("replace the journal"),
        "create ~other, write, sync, rename ~other to journal.json, sync directory",
    );
    assert_eq!(steps("remove the journal"), "unlink journal.json, sync directory");
}

/// Case 1: we open the lock's file, another program removes it, we lock what we opened. Case 2: it also takes the lock of a new
/// file before we lock the old one. What we locked must not count.
#[test]
fn a_lock_that_was_removed_while_it_was_taken_does_not_count() {
    let busy = |store: &FsStore| {
        let owner = Owner { pid: 2, operation: "test".into(), since: 0 };
        wait(store.lock(DOMAIN, &owner, Duration::ZERO)).map(drop).map_err(|error| error.kind())
    };
    let removals: [fn(&Path); 3] = [
        |directory| std::fs::remove_file(directory.join("lock")).unwrap(),
        |directory| std::fs::remove_dir_all(directory).unwrap(),
        |directory| {
            let elsewhere = tempfile::tempdir_in(directory.parent().unwrap()).unwrap().keep();
            std::fs::rename(directory, elsewhere.join("old")).unwrap();
        },
    ];
    for removal in removals {
        let scratch = scratch();
        let store = prepared(scratch.path());
        let directory = scratch.path().join(DOMAIN.to_string());
        let remove = move || removal(&directory);
        fault::before_locking(remove.clone());
        let held = lock(&store);
        assert_eq!(busy(&store), Err(Kind::Busy), "ours is the one that is there");
        drop(held);

        let other = Arc::new(Mutex::new(None));
        let (theirs, their_store) = (other.clone(), store.clone());
        fault::before_locking(move || {
            remove();
            *theirs.lock().unwrap() = Some(std::thread::spawn(move || lock(&their_store)).join().unwrap());
        });
        assert_eq!(busy(&store), Err(Kind::Busy), "theirs is the one that is there");
        drop(other);
        assert_eq!(busy(&store), Ok(()));
    }
}

#[test]
fn who_waits_is_told_what_the_holder_does() {
    let scratch = scratch();
    let store = prepared(scratch.path());
    let mut held = lock(&store);
    let busy = || {
        let owner = Owner { pid: 2, operation: "test".into(), since: 0 };
        wait(store.lock(DOMAIN, &owner, Duration::ZERO)).map(drop).unwrap_err().to_string()
    };
    assert!(busy().ends_with(" s): try again when it is done"), "{}", busy());
    held.tell(Some("merge a into b, 1 of 2 bytes are done"));
    assert!(busy().contains(" s: merge a into b, 1 of 2 bytes are done)"), "{}", busy());
    // A longer text than is read says nothing of it, and does no harm.
    held.tell(Some(&"x".repeat(1 << 20)));
    assert!(busy().contains("1 of 2 bytes"), "{}", busy());
    held.tell(None);
    assert!(busy().ends_with(" s): try again when it is done"), "{}", busy());
}
