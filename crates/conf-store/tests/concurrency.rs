//! Readers, writers and processes at once.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Entry, FsStore, Kind, Owner, Record};
use xlsnap_testkit::conf_store::{name, owner, record, records};

const DOMAIN: Uuid = Uuid::from_u128(0xabc);
const LONG: Duration = Duration::from_secs(60);

/// In memory where there is such a place: many more changes in the same time than where each waits for a disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Both parts carry the mark of the change that wrote them.
fn assert_whole(record: &Record) {
    let mark = record.snapshot.creation_time;
    let expected = xlsnap_testkit::conf_store::record("a", mark);
    assert_eq!(record.snapshot, expected.snapshot);
    // Every third was stored without a meta.
    assert_eq!(record.meta, if mark.is_multiple_of(3) { None } else { expected.meta });
}

fn change(mark: u64) -> Record {
    let mut record = record("a", mark);
    if mark.is_multiple_of(3) {
        record.meta = None;
    }
    record
}

#[test]
fn readers_see_whole_records_while_a_writer_replaces_them() {
    let scratch = scratch();
    let store = FsStore::new(scratch.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) || seen == 0 {
                    match wait(store.load(DOMAIN, &name("a"))) {
                        Ok(record) => {
                            assert_whole(&record);
                            assert!(record.snapshot.creation_time >= last, "time went backwards");
                            last = record.snapshot.creation_time;
                            seen += 1;
                        }
                        Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{error}"),
                    }
                    let mut visit = |entry: Entry| assert_whole(&entry.record.unwrap());
                    wait(store.list(DOMAIN, &mut visit)).unwrap();
                }
            });
        }
        wait(async {
            let mut lock = store.lock(DOMAIN, &owner(), LONG).await.unwrap();
            for mark in 1..1500 {
                // Some are deleted and made anew rather than replaced.
                if mark % 7 == 0 {
                    lock.delete(&name("a")).await.unwrap();
                }
                lock.store(&change(mark), mark % 7 != 0).await.unwrap();
            }
        });
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn of_many_creators_of_one_name_one_wins() {
    let scratch = scratch();
    let store = FsStore::new(scratch.path());
    for round in 0..20 {
        let key = format!("round {round}");
        let results: Vec<_> = std::thread::scope(|scope| {
            let create = |mark: u64| {
                let (key, store) = (&key, &store);
                scope.spawn(move || {
                    wait(async {
                        let mut lock = store.lock(DOMAIN, &owner(), LONG).await.unwrap();
                        lock.store(&record(key, mark), false).await.map_err(|error| error.kind())
                    })
                })
            };
            let threads: Vec<_> = (0..4).map(create).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<u64> =
            (0..).zip(&results).filter(|(_, r)| r.is_ok()).map(|(mark, _)| mark).collect();
        assert!(winners.len() == 1 && results.iter().all(|r| matches!(r, Ok(()) | Err(Kind::AlreadyExists))));
        assert_eq!(wait(store.load(DOMAIN, &name(&key))).unwrap(), record(&key, winners[0]));
    }
}

#[test]
fn a_lock_waits_for_a_directory_that_is_taken_away() {
    let scratch = scratch();
    let store = FsStore::new(scratch.path());
    wait(async {
        let owner = owner();
        let held = store.lock(DOMAIN, &owner, LONG).await.unwrap();
        let mut waiting = Box::pin(store.lock(DOMAIN, &owner, LONG));
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut waiting).await.is_err());
        std::fs::remove_dir_all(scratch.path().join(DOMAIN.to_string())).unwrap();
        let mut lock = waiting.await.unwrap();
        drop(held);
        // It is the lock of the directory that is there now.
        assert_eq!(
            store.lock(DOMAIN, &owner, Duration::ZERO).await.map(drop).unwrap_err().kind(),
            Kind::Busy
        );
        lock.store(&record("a", 1), false).await.unwrap();
        assert_eq!(records(&store, DOMAIN).await.len(), 1);
    });
}

#[test]
fn waiting_needs_no_runtime() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let scratch = scratch();
    let store = FsStore::new(scratch.path());
    let owner = owner();
    let poll_once = |wait| {
        let lock = pin!(store.lock(DOMAIN, &owner, wait)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(lock) = lock else { panic!("nothing would wake it") };
        lock
    };
    let held = poll_once(Duration::ZERO).unwrap();
    assert_eq!(poll_once(Duration::from_millis(3)).map(drop).unwrap_err().kind(), Kind::Busy);
    drop(held);
    poll_once(Duration::ZERO).map(drop).unwrap();
}

const CHILD: &str = "XLSNAP_TEST_CHILD_ROOT";

/// Not a test by itself: what [`a_lock_ends_with_its_process`] runs in another process.
#[test]
fn child_holds_the_lock_until_it_is_killed() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let store = FsStore::new(root);
    let owner = Owner { pid: std::process::id(), operation: "create".into(), since: 0 };
    let mut lock = wait(store.lock(DOMAIN, &owner, LONG)).unwrap();
    for mark in 1.. {
        wait(lock.store(&change(mark), true)).unwrap();
        // The parent reads the first line and kills us in the midst of some change.
        println!("stored");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_lock_ends_with_its_process() {
    let scratch = scratch();
    let store = FsStore::new(scratch.path());
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_holds_the_lock_until_it_is_killed", "--nocapture"])
            .env(CHILD, scratch.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stored = lines.map(|line| line.unwrap()).filter(|line| line.ends_with("stored"));
        for _ in 0..=round * 3 {
            stored.next().unwrap();
        }
        let busy = wait(store.lock(DOMAIN, &owner(), Duration::ZERO)).map(drop).unwrap_err();
        assert_eq!(busy.kind(), Kind::Busy);
        assert!(busy.to_string().contains(&format!("process {} (create", child.id())), "{busy}");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it left is whole, and its owner's text, which is still there, names a process that is gone.
        let now = wait(store.load(DOMAIN, &name("a"))).unwrap();
        assert_whole(&now);
        drop(wait(store.lock(DOMAIN, &owner(), Duration::ZERO)).unwrap());
        assert_eq!(wait(store.load(DOMAIN, &name("a"))).unwrap(), now);
        let left = std::fs::read_dir(scratch.path().join(DOMAIN.to_string())).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        left.retain(|file| file != "snapshotmeta-a.json");
        assert_eq!(left, ["lock", "snapshotdata-a.libxl-json"]);
    }
}
