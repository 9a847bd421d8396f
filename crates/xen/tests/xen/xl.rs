//! The runner, on scripts in the place of xl.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xlsnap_xen::xl::{Effect, Kind, Limits, Xl};
use xlsnap_xen::{Domid, Toolstack};

/// A program that does what a script says.
struct Script {
    directory: TempDir,
}

impl Script {
    fn new(body: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("xl");
        // Written by another process: one of ours that is being started could have it open for writing, and then it cannot be run.
        let written = std::process::Command::new("sh")
            .args(["-c", "printf '#!/bin/bash\\n%s\\n' \"$1\" > \"$2\"", "sh", body])
            .arg(&path)
            .status()
            .unwrap();
        assert!(written.success());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn xl(&self) -> Xl {
        let mut limits = Limits::default();
        limits.time = Duration::from_secs(1);
        limits.standstill = Duration::from_secs(1);
        limits.patience = Duration::from_secs(2);
        limits.output = 100_000;
        Xl::new(self.directory.path().join("xl")).with_limits(limits)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn one() -> Domid {
    Domid::new(1).unwrap()
}

/// Progress that is not shown.
fn unwatched(_: u64, _: Option<u64>) {}

/// Whether a process of the group lives. A zombie does not: its parent has to wait for it.
fn lives(group: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        // Another process may have ended meanwhile.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the program's name: the state, the parent, the group (proc(5)).
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let state = words.next();
        words.nth(1) == Some(group) && state.is_some_and(|state| !matches!(state, "Z" | "X"))
    })
}

#[tokio::test]
async fn the_state_is_read_from_the_list() {
    let script = Script::new(
        r#"echo "Name ID Mem VCPUs State Time(s)"; echo "pv1 $2 160 1 --p--- 1.0"; test "$LC_ALL" = C"#,
    );
    let state = script.xl().state(one()).await.unwrap().unwrap();
    assert!(state.paused && !state.running);
}

#[tokio::test]
async fn failures_are_told_apart() {
    for (body, kind, effect) in [
        ("echo '1 is an invalid domain identifier (rc=-6)' >&2; exit 1", Kind::NoSuchDomain, Effect::None),
        (
            "echo 'xencall: error: Could not obtain handle on privileged command interface: Permission denied' >&2; exit 1",
            Kind::NoXen,
            Effect::None,
        ),
        ("echo 'some libxl error' >&2; exit 3", Kind::Failed, Effect::Unknown),
        ("kill -SEGV $$", Kind::Failed, Effect::Unknown),
        ("sleep 100", Kind::TimedOut, Effect::Unknown),
        ("trap '' TERM; sleep 100 & while :; do wait; done", Kind::TimedOut, Effect::Unknown),
        // What it prints goes into memory, which has an end, whatever becomes of who prints it.
        ("yes; sleep 100", Kind::TimedOut, Effect::Unknown),
        ("(trap '' TERM; yes; sleep 100) & yes; sleep 100", Kind::TimedOut, Effect::Unknown),
    ] {
        let script = Script::new(&format!("echo $$ > \"$(dirname \"$0\")/pid\"; {body}"));
        let error = script.xl().destroy(one()).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, effect), "{body}: {error}");
        assert!(error.to_string().contains("destroy 1"), "{error}");
        let group = std::fs::read_to_string(script.file("pid")).unwrap();
        xlsnap_testkit::real::wait_until("nothing of it is left", || (!lives(group.trim())).then_some(()));
    }
    let error = Xl::new("/nowhere/xl").destroy(one()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NoProgram, Effect::None));
    let gone = Script::new("echo '1 is an invalid domain identifier' >&2; exit 1");
    assert_eq!(gone.xl().state(one()).await.unwrap(), None);
    let nonsense = Script::new("echo hello");
    assert_eq!(nonsense.xl().state(one()).await.unwrap_err().kind(), Kind::Failed);
}

#[tokio::test]
async fn progress_is_told_and_the_file_is_written() {
    let script = Script::new(
        r#"echo "xc: info: Saving domain 1, type x86 PV" >&2
for i in 1 2 3; do echo "xc: progress: Frames: $i/3 1%" >&2; sleep 0.1; done
test "$1 $2 $3" = "save -p 1" && echo memory > "$4""#,
    );
    let file = script.file("a.save");
    let reported = Mutex::new(Vec::new());
    let told = |done, total| reported.lock().unwrap().push((done, total));
    let before = Instant::now();
    let saved = script.xl().save(one(), &file, &told).await.unwrap();
    assert!(saved.since >= before && saved.since.elapsed() >= Duration::from_millis(200));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "memory\n");
    assert_eq!(reported.lock().unwrap().last(), Some(&(3 * 4096, Some(3 * 4096))));
}

/// As xl: its helper does the saving, and when that fails xl lets the guest go on.
const SAVES: &str = r#"dir=$(dirname "$0")
cp /bin/sleep "$dir/helper"
"$dir/helper" 100 3>>"$4" & wait $! || { echo "Failed to save domain, resuming domain" >&2; touch "$dir/resumed"; exit 1; }"#;

#[tokio::test]
async fn a_save_that_stands_still_is_ended_so_that_the_guest_goes_on() {
    let script = Script::new(SAVES);
    let error = script.xl().save(one(), &script.file("a.save"), &unwatched).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::TimedOut, Effect::Unknown));
    assert!(script.file("resumed").exists(), "xl was not ended itself");
}

#[tokio::test]
async fn a_save_that_another_process_began_is_found_by_its_file_and_ended() {
    let script = Script::new(SAVES);
    let file = script.file("a.save");
    let xl = script.xl();
    assert!(!xl.end_save(&file).await.unwrap());
    let begun = std::process::Command::new(script.file("xl")).args(["save", "-p", "1"]).arg(&file).spawn();
    let mut begun = begun.unwrap();
    xlsnap_testkit::real::wait_until("the helper has the file open", || file.exists().then_some(()));
    assert!(!xl.end_save(&script.file("b.save")).await.unwrap(), "another save is left alone");
    // A process that its parent did not wait for has ended all the same.
    assert!(xl.end_save(&file).await.unwrap());
    assert!(script.file("resumed").exists());
    begun.wait().unwrap();
}

#[tokio::test]
async fn a_save_that_does_not_listen_is_killed_in_the_end() {
    let script = Script::new("trap '' TERM; while :; do sleep 0.1; done");
    let start = Instant::now();
    let error = script.xl().save(one(), &script.file("a.save"), &unwatched).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_save_outlives_the_process_that_asked_for_it() {
    let script = Script::new(r#"echo one >&2; sleep 0.5; echo two >&2; echo three; echo memory > "$4""#);
    let file = script.file("a.save");
    let xl = script.xl();
    let dropped = tokio::time::timeout(Duration::from_millis(200), xl.save(one(), &file, &unwatched)).await;
    assert!(dropped.is_err());
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "a broken pipe ended it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_restore_goes_on_as_long_as_it_reads() {
    let script = Script::new(
        r#"test "$1 $2" = "restore -p" || exit 1
exec 3< "$3"; for i in 1 2 3 4; do head -c 1000 <&3 >/dev/null; sleep 0.6; done"#,
    );
    let file = script.file("a.save");
    std::fs::write(&file, vec![0; 100_000]).unwrap();
    let reported = Mutex::new(Vec::new());
    script.xl().restore(&file, &|done, total| reported.lock().unwrap().push((done, total))).await.unwrap();
    let reported = reported.into_inner().unwrap();
    assert!(
        reported.len() > 1
            && reported.iter().all(|(done, total)| *done <= 100_000 && *total == Some(100_000)),
        "{reported:?}"
    );
    let stands = Script::new("sleep 100");
    assert_eq!(stands.xl().restore(&file, &unwatched).await.unwrap_err().kind(), Kind::TimedOut);
}

/// As xl: it runs what is in the place of another host's xl, sends the file `stream`, and lets the guest go on when it gets no answer.
const SENDS: &str = r#"dir=$(dirname "$0"); trap '' PIPE
test "$1 $2 $3 $4" = "migrate -s  1" || exit 9
coproc other { exec sh -c "$5"; }
read -r banner <&"${other[0]}"; test "$banner" = "xl migration receiver ready, send binary domain data." || exit 8
goes_on() { echo "Migration failed, resuming at sender." >&2; touch "$dir/resumed"; exit 1; }
cat "$dir/stream" >&"${other[1]}" || goes_on
test -e "$dir/short" && goes_on
touch "$dir/suspended"
read -r answer <&"${other[0]}" || goes_on"#;

/// One that stands still is ended by way of what xl started, so that xl lets the guest go on.
#[tokio::test]
async fn a_migration_that_another_process_began_is_ended_by_its_helpers() {
    let script = Script::new(
        "dir=$(dirname \"$0\"); sleep 100 & touch \"$dir/begun\"; wait $! || { touch \"$dir/resumed\"; exit 1; }",
    );
    let file = script.file("it's one.save");
    std::fs::write(&file, "").unwrap();
    let command = format!(": '{}'; cat", file.to_str().unwrap().replace('\'', "'\\''"));
    let mut begun = std::process::Command::new(script.file("xl"))
        .args(["migrate", "-s", "", "1", &command])
        .spawn()
        .unwrap();
    xlsnap_testkit::real::wait_until("it has begun", || script.file("begun").exists().then_some(()));
    let mut limits = Limits::default();
    limits.patience = Duration::from_secs(20);
    let xl = script.xl().with_limits(limits);
    assert!(!xl.end_save(&script.file("b.save")).await.unwrap(), "another save is left alone");
    let start = Instant::now();
    assert!(xl.end_save(&file).await.unwrap());
    assert!(script.file("resumed").exists() && start.elapsed() < Duration::from_secs(15));
    begun.wait().unwrap();
}

/// What xl sends of a domain: its header with a configuration, libxl's stream, and libxc's in it, with two rounds of pages.
fn stream() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let page = |number: u32| [words(&[1, 4112, 1, 0, number, 0]), vec![7; 4096]].concat();
    let mut bytes = b"Xen saved domain, xl format\n \0 \r".to_vec();
    bytes.extend(words(&[0x0102_0304, 3, 0, 8]));
    bytes.extend(b"{\"a\": 1}LibxlFmt\0\0\0\x02\0\0\0\0");
    bytes.extend(words(&[1, 0]));
    bytes.extend([0xff; 40]);
    for number in [0, 40, 2] {
        bytes.extend(page(number));
    }
    bytes.extend(words(&[0, 0, 0, 0]));
    bytes
}

/// A script that sends this, and the file that takes it.
fn sends(bytes: &[u8], file: &str) -> (Script, PathBuf) {
    let script = Script::new(SENDS);
    std::fs::write(script.file("stream"), bytes).unwrap();
    let file = script.file(file);
    std::fs::write(&file, "").unwrap();
    (script, file)
}

async fn is_resumed(script: &Script) {
    let end = Instant::now() + Duration::from_secs(20);
    while !script.file("resumed").exists() {
        assert!(Instant::now() < end, "the guest stands still");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_migration_sends_is_taken_and_the_guest_goes_on_when_it_is_told() {
    let (script, file) = sends(&stream(), "it's one.save");
    let before = Instant::now();
    let (since, suspended) = script.xl().save_live(one(), &file, &unwatched).await.unwrap();
    assert!(since >= before);
    assert_eq!(std::fs::read(&file).unwrap(), stream());
    xlsnap_testkit::real::wait_until("it waits", || script.file("suspended").exists().then_some(()));
    assert!(!script.file("resumed").exists());
    suspended.resume().await.unwrap();
    assert!(script.file("resumed").exists());
}

#[tokio::test]
async fn a_guest_goes_on_when_nobody_tells_it() {
    let (script, file) = sends(&stream(), "a.save");
    drop(script.xl().save_live(one(), &file, &unwatched).await.unwrap());
    is_resumed(&script).await;
    // In the middle of what is sent, too.
    let (script, file) = sends(&stream()[..3000], "a.save");
    let xl = script.xl();
    let short =
        tokio::time::timeout(Duration::from_millis(500), xl.save_live(one(), &file, &unwatched)).await;
    assert!(short.is_err());
    is_resumed(&script).await;
}

#[tokio::test]
async fn a_migration_that_fails_says_why_and_one_that_stands_still_is_ended() {
    let (script, file) = sends(&stream()[..3000], "a.save");
    std::fs::write(script.file("short"), "").unwrap();
    let ended = script.xl().save_live(one(), &file, &unwatched).await;
    let error = ended.err().expect("it ends early");
    assert_eq!((error.kind(), error.effect()), (Kind::Failed, Effect::Unknown), "{error}");
    let early = Script::new("echo 'xc: error: Failed to enable logdirty: 95,22,0' >&2; exit 1");
    std::fs::write(early.file("a.save"), "").unwrap();
    let error = early.xl().save_live(one(), &early.file("a.save"), &unwatched).await.err().expect("it fails");
    assert!(format!("{error:?}").contains("logdirty"), "{error:?}");
    let nonsense = sends(b"no stream at all, and longer than the header of xl", "a.save");
    let error = nonsense.0.xl().save_live(one(), &nonsense.1, &unwatched).await.err().expect("it is none");
    assert!(format!("{error:?}").contains("header"), "{error:?}");
    is_resumed(&nonsense.0).await;

    let hangs = Script::new("trap 'exit 3' TERM; sleep 100 & wait");
    let file = hangs.file("it's one.save");
    std::fs::write(&file, "").unwrap();
    let start = Instant::now();
    let error = hangs.xl().save_live(one(), &file, &unwatched).await.err().expect("it stands still");
    assert_eq!(error.kind(), Kind::TimedOut, "{error}");
    assert!(start.elapsed() < Duration::from_secs(15));
}
