//! What `FsStore` makes of the files in its directory, its own and others'.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, DomainLock, Effect, Entry, Error, FsStore, Kind, Record, RootInputs};
use xlsnap_testkit::conf_store::{meta, name, owner, record, records};
use xlsnap_types::model::{DomainRecord, Meta};

const DOMAIN: Uuid = Uuid::from_u128(0xabc);
const DIRECTORY: &str = "00000000-0000-0000-0000-000000000abc";

struct Scratch {
    dir: tempfile::TempDir,
    store: FsStore,
}

impl Scratch {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(dir: tempfile::TempDir) -> Self {
        let store = FsStore::new(dir.path().join("root"));
        Self { dir, store }
    }

    /// With the records `names`.
    async fn with(names: &[&str]) -> Self {
        let scratch = Self::new();
        scratch.store(names).await;
        scratch
    }

    async fn store(&self, names: &[&str]) {
        let mut lock = self.lock().await;
        for name in names {
            lock.store(&record(name, 1), false).await.unwrap();
        }
    }

    async fn lock(&self) -> Box<dyn DomainLock> {
        self.store.lock(DOMAIN, &owner(), Duration::ZERO).await.unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store.root().join(DIRECTORY).join(name)
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    async fn entries(&self) -> Vec<(String, Result<Record, Kind>)> {
        let mut entries = Vec::new();
        let mut visit = |entry: Entry| entries.push((entry.name, entry.record.map_err(|error| error.kind())));
        self.store.list(DOMAIN, &mut visit).await.unwrap();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    }

    async fn load(&self, key: &str) -> Result<Record, Error> {
        self.store.load(DOMAIN, &name(key)).await
    }
}

/// Refused, by a message that names the file.
fn assert_denied<T>(result: Result<T, Error>, path: &Path) {
    let error = result.map(drop).expect_err("it was not refused");
    assert_eq!((error.kind(), error.effect()), (Kind::Denied, Effect::None), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error} does not name {path:?}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn the_layout_is_the_designs_and_private() {
    let scratch = Scratch::with(&["a b"]).await;
    let mut lock = scratch.lock().await;
    lock.set_journal(Some(b"{}")).await.unwrap();
    lock.set_domain_record(&DomainRecord { format_version: 1, ..DomainRecord::default() }).await.unwrap();
    let mut files: Vec<_> = fs::read_dir(scratch.file(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        ["domain.json", "journal.json", "lock", "snapshotdata-a b.libxl-json", "snapshotmeta-a b.json"]
    );
    assert!(files.iter().all(|file| mode(&scratch.file(file)) == 0o600));
    assert_eq!((mode(scratch.store.root()), mode(&scratch.file(""))), (0o700, 0o700));

    // The record is libxl's own form, with the paths of its disks empty.
    let text = fs::read_to_string(scratch.file("snapshotdata-a b.libxl-json")).unwrap();
    assert_eq!(text, record("a b", 1).snapshot.to_json());
    assert!(text.starts_with("{\n    \"name\": \"a b\",\n") && text.contains("\"path\": \"\""), "{text}");
    let text = fs::read_to_string(scratch.file("snapshotmeta-a b.json")).unwrap();
    assert_eq!(serde_json::from_str::<Meta>(&text).unwrap(), meta(1));
    let owner_text = fs::read_to_string(scratch.file("lock")).unwrap();
    assert_eq!(serde_json::from_str::<xlsnap_conf_store::Owner>(&owner_text).unwrap(), owner());
    drop(lock);
    assert_eq!(fs::read(scratch.file("lock")).unwrap(), b"", "no process holds it");
}

#[tokio::test]
async fn reading_makes_nothing() {
    let scratch = Scratch::new();
    assert!(scratch.entries().await.is_empty());
    assert_eq!(scratch.store.domains().await.unwrap(), [] as [Uuid; 0]);
    assert!(!scratch.store.root().exists());
}

#[tokio::test]
async fn only_records_are_listed() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::with(&["good"]).await;
    let text = fs::read(scratch.file("snapshotdata-good.libxl-json")).unwrap();
    for other in [
        "snapshotdata-.libxl-json",
        "snapshotdata--f.libxl-json",
        "snapshotdata-good.libxl-json~",
        "snapshotdata-good.libxl-json.new",
        ".snapshotdata-good.libxl-json.swp",
        "n.snapshotdata-good.libxl-json",
        "snapshotdata-x",
        "snapshotdata-a\nb.libxl-json",
        "snapshotmeta-orphan.json",
        ".xlsnap-new-record",
        ".xlsnap-new-1-2",
        "README",
    ] {
        fs::write(scratch.file(other), &text[..text.len() / 2]).unwrap();
    }
    let not_utf8 = std::ffi::OsStr::from_bytes(b"snapshotdata-\xff.libxl-json");
    fs::write(scratch.file("").join(not_utf8), &text).unwrap();
    fs::create_dir(scratch.file("snapshotdata")).unwrap();
    assert_eq!(scratch.entries().await, [("good".into(), Ok(record("good", 1)))]);
    assert_eq!(scratch.store.names(DOMAIN).await.unwrap(), [name("good")]);

    // Nor are other directories domains.
    for other in ["domains", "ABCDEF00-0000-0000-0000-000000000abc", "00000000000000000000000000000def"] {
        fs::create_dir(scratch.store.root().join(other)).unwrap();
        fs::write(scratch.store.root().join(other).join("journal.json"), "").unwrap();
    }
    assert_eq!(scratch.store.domains().await.unwrap(), [DOMAIN]);
}

#[tokio::test]
async fn an_unreadable_record_is_reported_and_hides_none() {
    let scratch = Scratch::with(&["a", "b", "cut", "other", "huge", "meta", "not-json"]).await;
    let cut = fs::read(scratch.file("snapshotdata-cut.libxl-json")).unwrap();
    fs::write(scratch.file("snapshotdata-cut.libxl-json"), &cut[..cut.len() / 2]).unwrap();
    fs::copy(scratch.file("snapshotdata-a.libxl-json"), scratch.file("snapshotdata-other.libxl-json"))
        .unwrap();
    fs::File::create(scratch.file("snapshotdata-huge.libxl-json")).unwrap().set_len(1 << 40).unwrap();
    fs::write(scratch.file("snapshotmeta-meta.json"), "{\"format_version\": 1}").unwrap();
    fs::write(scratch.file("snapshotdata-not-json.libxl-json"), b"\xff\0").unwrap();
    let malformed = Err(Kind::Malformed);
    assert_eq!(
        scratch.entries().await,
        [
            ("a".into(), Ok(record("a", 1))),
            ("b".into(), Ok(record("b", 1))),
            ("cut".into(), malformed.clone()),
            ("huge".into(), malformed.clone()),
            ("meta".into(), malformed.clone()),
            ("not-json".into(), malformed.clone()),
            ("other".into(), malformed),
        ]
    );
    let error = scratch.load("cut").await.unwrap_err();
    assert!(error.to_string().contains("snapshotdata-cut.libxl-json"), "{error}");
    // They can be replaced, and deleted.
    let mut lock = scratch.lock().await;
    for broken in ["cut", "huge", "meta", "not-json", "other"] {
        assert_eq!(lock.store(&record(broken, 2), false).await.unwrap_err().kind(), Kind::AlreadyExists);
        lock.store(&record(broken, 2), true).await.unwrap();
        assert_eq!(scratch.load(broken).await.unwrap(), record(broken, 2));
    }
    fs::write(scratch.file("snapshotmeta-b.json"), "{").unwrap();
    fs::write(scratch.file("snapshotdata-b.libxl-json"), "{").unwrap();
    lock.delete(&name("b")).await.unwrap();
    assert!(!scratch.file("snapshotmeta-b.json").exists());
    assert_eq!(scratch.load("b").await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn records_of_other_programs_are_read() {
    let scratch = Scratch::with(&["a"]).await;
    // As a libxl on json-c writes it, and with the NUL that libxl puts at the end of its files.
    let text = b"{\n  \"name\":\"theirs\",\n  \"memory\":\"\\/x\",\n  \"paused\":true\n}\0";
    fs::write(scratch.file("snapshotdata-theirs.libxl-json"), text).unwrap();
    let record = scratch.load("theirs").await.unwrap();
    assert_eq!((record.snapshot.memory.as_deref(), record.meta), (Some("/x"), None));
    // They may also replace ours, and what only we know of it stays.
    fs::write(scratch.file("snapshotdata-a.libxl-json"), "{\"name\": \"a\"}").unwrap();
    assert_eq!(scratch.load("a").await.unwrap().meta, Some(meta(1)));
    // Or delete it: then what is left of ours is not taken for the next one's.
    fs::remove_file(scratch.file("snapshotdata-a.libxl-json")).unwrap();
    let next = Record { meta: None, ..xlsnap_testkit::conf_store::record("a", 2) };
    scratch.lock().await.store(&next, false).await.unwrap();
    assert_eq!(scratch.load("a").await.unwrap(), next);
}

#[tokio::test]
async fn planted_symbolic_links_are_refused() {
    let planted = |file: &'static str| async move {
        let scratch = Scratch::with(&["a", "b"]).await;
        drop(scratch.lock().await);
        let _ = fs::remove_file(scratch.file(file));
        fs::write(scratch.outside(), fs::read(scratch.file("snapshotdata-b.libxl-json")).unwrap()).unwrap();
        symlink(scratch.outside(), scratch.file(file)).unwrap();
        (scratch.file(file), fs::read(scratch.outside()).unwrap(), scratch)
    };
    let untouched = |scratch: &Scratch, before: &[u8]| {
        assert_eq!(fs::read(scratch.outside()).unwrap(), before);
    };

    let (path, before, scratch) = planted("snapshotdata-a.libxl-json").await;
    assert_denied(scratch.load("a").await, &path);
    assert_eq!(scratch.entries().await, [("a".into(), Err(Kind::Denied)), ("b".into(), Ok(record("b", 1)))]);
    let mut lock = scratch.lock().await;
    assert_denied(lock.store(&record("a", 2), true).await, &path);
    assert_denied(lock.store(&record("a", 2), false).await, &path);
    assert_denied(lock.delete(&name("a")).await, &path);
    untouched(&scratch, &before);

    let (path, before, scratch) = planted("snapshotmeta-a.json").await;
    assert_denied(scratch.load("a").await, &path);
    assert_denied(scratch.lock().await.store(&record("a", 2), true).await, &path);
    untouched(&scratch, &before);

    let (path, before, scratch) = planted("snapshotmeta-new.json").await;
    assert_denied(scratch.lock().await.store(&record("new", 2), true).await, &path);
    untouched(&scratch, &before);

    let (path, before, scratch) = planted("journal.json").await;
    assert_denied(scratch.store.journal(DOMAIN).await, &path);
    let mut lock = scratch.lock().await;
    assert_denied(lock.set_journal(Some(b"{}")).await, &path);
    assert_denied(lock.set_journal(None).await, &path);
    untouched(&scratch, &before);

    let (path, before, scratch) = planted("domain.json").await;
    assert_denied(scratch.store.domain_record(DOMAIN).await, &path);
    assert_denied(scratch.lock().await.set_domain_record(&DomainRecord::default()).await, &path);
    untouched(&scratch, &before);

    let (path, before, scratch) = planted("lock").await;
    assert_denied(scratch.store.lock(DOMAIN, &owner(), Duration::ZERO).await, &path);
    untouched(&scratch, &before);

    // A temporary file's name is replaced, not followed.
    let (_, before, scratch) = planted(".xlsnap-new-record").await;
    scratch.lock().await.store(&record("c", 1), false).await.unwrap();
    untouched(&scratch, &before);

    // The domain's directory.
    let scratch = Scratch::with(&["a"]).await;
    fs::rename(scratch.file(""), scratch.outside()).unwrap();
    let path = scratch.store.root().join(DIRECTORY);
    symlink(scratch.outside(), &path).unwrap();
    assert_denied(scratch.load("a").await, &path);
    assert_denied(scratch.store.list(DOMAIN, &mut |_| {}).await, &path);
    assert_denied(scratch.store.lock(DOMAIN, &owner(), Duration::ZERO).await, &path);
    // The root itself is whatever the caller says.
    let linked = scratch.dir.path().join("linked");
    fs::remove_file(&path).unwrap();
    fs::rename(scratch.outside(), &path).unwrap();
    symlink(scratch.store.root(), &linked).unwrap();
    assert_eq!(records(&FsStore::new(linked), DOMAIN).await.len(), 1);
}

#[tokio::test]
async fn only_regular_files_are_read() {
    let scratch = Scratch::with(&["a"]).await;
    let made = std::process::Command::new("mkfifo")
        .arg(scratch.file("snapshotdata-fifo.libxl-json"))
        .arg(scratch.file("journal.json"))
        .status()
        .unwrap();
    assert!(made.success());
    fs::create_dir(scratch.file("snapshotdata-dir.libxl-json")).unwrap();
    let socket = scratch.file("snapshotdata-socket.libxl-json");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let denied = || Err(Kind::Denied);
    assert_eq!(
        scratch.entries().await,
        [
            ("a".into(), Ok(record("a", 1))),
            ("dir".into(), denied()),
            ("fifo".into(), denied()),
            ("socket".into(), denied()),
        ]
    );
    assert_denied(scratch.store.journal(DOMAIN).await, &scratch.file("journal.json"));
    let mut lock = scratch.lock().await;
    for key in ["dir", "fifo", "socket"] {
        let path = scratch.file(&format!("snapshotdata-{key}.libxl-json"));
        assert_denied(lock.delete(&name(key)).await, &path);
        assert_denied(lock.store(&record(key, 1), true).await, &path);
    }
}

#[tokio::test]
async fn directories_that_others_may_write_are_refused() {
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let scratch = Scratch::with(&["a"]).await;
    let root = scratch.store.root().to_owned();
    let directory = root.join(DIRECTORY);
    for path in [&root, &directory] {
        chmod(path, 0o777);
        assert_denied(scratch.load("a").await, path);
        assert_denied(scratch.store.lock(DOMAIN, &owner(), Duration::ZERO).await, path);
        // Sticky is fine, as of /tmp; so is a group that was let in.
        for fine in [0o1777, 0o770, 0o755, 0o700] {
            chmod(path, fine);
            assert_eq!(scratch.load("a").await.unwrap(), record("a", 1));
        }
    }
    // Only root can give a directory away, and continuous integration runs as root.
    if std::os::unix::fs::chown(&directory, Some(12345), None).is_ok() {
        assert_denied(scratch.load("a").await, &directory);
    }
}

#[tokio::test]
async fn newer_files_are_read_and_not_overwritten() {
    let scratch = Scratch::with(&["a", "b"]).await;
    let mut newer = serde_json::to_value(meta(1)).unwrap();
    let next = Meta::FORMAT_VERSION + 1;
    newer["format_version"] = next.into();
    newer["novelty"] = "yes".into();
    fs::write(scratch.file("snapshotmeta-a.json"), newer.to_string()).unwrap();
    let read = scratch.load("a").await.unwrap();
    assert_eq!(read.meta, Some(Meta { format_version: next, ..meta(1) }));
    // One that is not understood at all is said to be newer, not broken.
    newer["consistency"] = "better".into();
    fs::write(scratch.file("snapshotmeta-b.json"), newer.to_string()).unwrap();
    assert_eq!(scratch.load("b").await.unwrap_err().kind(), Kind::Newer);
    let mut lock = scratch.lock().await;
    for key in ["a", "b"] {
        let before = fs::read(scratch.file(&format!("snapshotmeta-{key}.json"))).unwrap();
        assert_eq!(lock.store(&record(key, 2), true).await.unwrap_err().kind(), Kind::Newer);
        assert_eq!(fs::read(scratch.file(&format!("snapshotmeta-{key}.json"))).unwrap(), before);
        lock.delete(&name(key)).await.unwrap();
    }

    let domain = b"{\"format_version\": 7, \"name\": \"web\", \"current\": \"a\", \"novelty\": [1]}";
    fs::write(scratch.file("domain.json"), domain).unwrap();
    let read = scratch.store.domain_record(DOMAIN).await.unwrap().unwrap();
    assert_eq!((read.format_version, read.name.as_deref()), (7, Some("web")));
    assert_eq!(lock.set_domain_record(&DomainRecord::default()).await.unwrap_err().kind(), Kind::Newer);
    assert_eq!(fs::read(scratch.file("domain.json")).unwrap(), domain);
}

#[tokio::test]
async fn what_is_too_long_is_not_stored() {
    let scratch = Scratch::new();
    let mut lock = scratch.lock().await;
    let mut long = record("a", 1);
    long.snapshot.description = Some("x".repeat(5 << 20));
    let error = lock.store(&long, false).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Malformed, Effect::None));
    let error = lock.set_journal(Some(&vec![0; 17 << 20])).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Malformed, Effect::None));
    assert!(scratch.entries().await.is_empty());
    // Three million bytes are not too long.
    long.snapshot.description = Some("x".repeat(3_000_000));
    lock.store(&long, false).await.unwrap();
    assert_eq!(scratch.load("a").await.unwrap(), long);
}

#[tokio::test]
async fn ten_thousand_are_listed() {
    // In memory where there is such a place: making them takes longest.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let scratch = Scratch::at(dir.unwrap());
    scratch.store(&["0"]).await;
    let text = fs::read_to_string(scratch.file("snapshotdata-0.libxl-json")).unwrap();
    for i in 1..10_000 {
        let text = text.replacen("\"name\": \"0\"", &format!("\"name\": \"{i}\""), 1);
        fs::write(scratch.file(&format!("snapshotdata-{i}.libxl-json")), text).unwrap();
        fs::copy(scratch.file("snapshotmeta-0.json"), scratch.file(&format!("snapshotmeta-{i}.json")))
            .unwrap();
    }
    let mut listed = std::collections::BTreeSet::new();
    let mut visit = |entry: Entry| {
        let record = entry.record.unwrap();
        assert_eq!(record.snapshot.name.as_deref(), Some(&*entry.name));
        assert_eq!(record.meta.as_ref(), Some(&meta(1)));
        assert!(listed.insert(entry.name));
    };
    scratch.store.list(DOMAIN, &mut visit).await.unwrap();
    assert_eq!(listed, (0..10_000).map(|i| i.to_string()).collect());
    assert_eq!(scratch.store.names(DOMAIN).await.unwrap().len(), 10_000);
}

#[test]
fn the_root_follows_from_what_is_given() {
    let root =
        |inputs: RootInputs| FsStore::default_root(&inputs).map(|path| path.display().to_string()).ok();
    let none = RootInputs::default();
    let home = RootInputs { home: Some("/home/u".into()), ..none.clone() };
    let state = RootInputs { xdg_state_home: Some("/s".into()), ..home.clone() };
    let superuser = RootInputs { superuser: true, ..state.clone() };
    let xen = RootInputs { xen_host: true, ..superuser.clone() };
    let variable = RootInputs { xlsnap_root: Some("v".into()), ..xen.clone() };
    let option = RootInputs { option: Some("o".into()), ..variable.clone() };
    for (inputs, expected) in [
        (none.clone(), None),
        (home.clone(), Some("/home/u/.local/state/xlsnap")),
        (state.clone(), Some("/s/xlsnap")),
        (superuser, Some("/var/lib/xlsnap")),
        (xen.clone(), Some("/var/lib/xen/snapshots")),
        (variable, Some("v")),
        (option, Some("o")),
        (RootInputs { xlsnap_root: Some("".into()), ..xen }, Some("/var/lib/xen/snapshots")),
        (RootInputs { xdg_state_home: Some("".into()), ..state }, Some("/home/u/.local/state/xlsnap")),
        (RootInputs { xdg_state_home: Some("rel".into()), ..home }, Some("/home/u/.local/state/xlsnap")),
        (RootInputs { home: Some("rel".into()), ..none }, None),
    ] {
        assert_eq!(root(inputs.clone()).as_deref(), expected, "{inputs:?}");
    }
}
