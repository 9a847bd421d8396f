//! A file system without room.
//!
//! The test runs itself again in a mount namespace of its own, with a small file system in memory. That needs root, or a
//! kernel that lets users make namespaces. (Running out of room at each single step is tested beside the source.)

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::process::Command;
use std::time::Duration;

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Effect, FsStore, Kind};
use xlsnap_testkit::conf_store::{name, owner, record, records};

const DOMAIN: Uuid = Uuid::from_u128(0xabc);
const INSIDE: &str = "XLSNAP_TEST_SMALL_FILE_SYSTEM";
const TEST: &str = "a_full_file_system_changes_nothing";

#[tokio::test]
async fn a_full_file_system_changes_nothing() {
    if let Some(root) = std::env::var_os(INSIDE) {
        return fill(FsStore::new(root)).await;
    }
    let scratch = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=700 none \"$0\" && {INSIDE}=\"$0\" exec \"$1\" --exact {TEST} --nocapture"
    );
    // Being root may not be enough in a container, and not needed elsewhere.
    let namespaces: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let possible = namespaces.into_iter().find(|options| {
        let probe = "mount -t tmpfs -o size=64k none \"$0\"";
        let mut probe = unshare(options, probe, scratch.path());
        probe.output().is_ok_and(|output| output.status.success())
    });
    let options = possible.expect("mounting a small file system needs root, or user namespaces");
    let output =
        unshare(options, &script, scratch.path()).arg(std::env::current_exe().unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn unshare(options: &[&str], script: &str, root: &std::path::Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(options).args(["sh", "-c", script]).arg(root);
    command
}

async fn fill(store: FsStore) {
    let mut lock = store.lock(DOMAIN, &owner(), Duration::ZERO).await.unwrap();
    lock.store(&record("0", 0), false).await.unwrap();
    let mut stored = 1u64;
    let error = loop {
        match lock.store(&record(&stored.to_string(), 0), false).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.effect()), (Kind::NoSpace, Effect::None), "{error}");
    assert!(stored > 1 && stored < 100, "{stored}");
    let before = records(&store, DOMAIN).await;
    assert_eq!(before.len() as u64, stored);

    // Neither does replacing, nor a journal, harm what is there.
    let error = lock.store(&record("0", 1), true).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NoSpace, Effect::None), "{error}");
    let error = lock.set_journal(Some(&[b'x'; 100_000])).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NoSpace, Effect::None), "{error}");
    assert_eq!(records(&store, DOMAIN).await, before);
    assert_eq!(store.journal(DOMAIN).await.unwrap(), None);
    drop(lock);

    // With a full disk the lock can be taken, and room be made.
    let mut lock = store.lock(DOMAIN, &owner(), Duration::ZERO).await.unwrap();
    for i in 0..stored {
        lock.delete(&name(&i.to_string())).await.unwrap();
    }
    lock.store(&record("0", 1), false).await.unwrap();
    assert_eq!(records(&store, DOMAIN).await.len(), 1);
}
