//! A system call of xlsnap's fails in the middle of an operation, once or from then on, and xlsnap goes on: it ends by itself and says what
//! it could not do. The operation was done, or was not, or `recover` finishes it, as its exit code says; every snapshot holds what it held.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xlsnap_testkit::real::{Monitor, wait_until};

use crate::host::{Host, Ran, finish};
use crate::kills::{Draws, Moments, tell_hit, traced};
use crate::layers_crash::Web;
use crate::operations::{Domain, Found, Operation, expect, files, operations};

/// How many faults of each operation are tried, unless a campaign says otherwise.
const FAULTS: u32 = 3;

/// How long a command may take in which a call fails, on a machine under load.
const BOUND: &str = "120";

/// What `timeout` ends with when it had to end the command.
const TIMED_OUT: i32 = 124;

/// Calls that fail alike.
struct Kind {
    calls: &'static [&'static str],
    /// Why they do.
    errors: &'static [&'static str],
    /// Whether they change files, or begin programs.
    changes: bool,
    /// Whether all later ones may fail too. Where not, the command could not even say so.
    may_last: bool,
}

const KINDS: &[Kind] = &[
    Kind { calls: &["fsync", "fdatasync"], errors: &["EIO", "ENOSPC"], changes: true, may_last: true },
    Kind { calls: &["write"], errors: &["ENOSPC", "EIO", "EINTR"], changes: true, may_last: false },
    Kind { calls: &["pwrite64", "ftruncate"], errors: &["ENOSPC", "EIO"], changes: true, may_last: true },
    Kind {
        calls: &["rename", "renameat", "renameat2", "link", "linkat"],
        errors: &["EIO", "ENOSPC", "EACCES"],
        changes: true,
        may_last: true,
    },
    Kind { calls: &["unlink", "unlinkat"], errors: &["EIO", "EACCES"], changes: true, may_last: true },
    Kind { calls: &["mkdir", "mkdirat"], errors: &["ENOSPC", "EACCES"], changes: true, may_last: true },
    Kind {
        calls: &["open", "openat"],
        errors: &["EACCES", "EMFILE", "EIO", "ENOSPC", "EINTR"],
        changes: true,
        may_last: true,
    },
    Kind { calls: &["clone3"], errors: &["EAGAIN", "ENOMEM"], changes: true, may_last: true },
    Kind { calls: &["sendto"], errors: &["EPIPE"], changes: true, may_last: false },
    Kind { calls: &["recvfrom"], errors: &["ECONNRESET", "EINTR"], changes: true, may_last: false },
    Kind { calls: &["connect"], errors: &["EACCES", "EAGAIN"], changes: false, may_last: false },
    Kind { calls: &["socket", "pipe2"], errors: &["EMFILE"], changes: false, may_last: true },
    Kind { calls: &["read", "pread64"], errors: &["EIO", "EINTR"], changes: false, may_last: false },
    Kind { calls: &["getdents64"], errors: &["EIO"], changes: false, may_last: false },
    Kind {
        calls: &["statx", "newfstatat", "fstat"],
        errors: &["EIO", "EACCES"],
        changes: false,
        may_last: false,
    },
    Kind { calls: &["flock"], errors: &["ENOLCK", "EINTR"], changes: false, may_last: false },
    Kind { calls: &["epoll_wait"], errors: &["EINTR"], changes: false, may_last: false },
];

/// What is told of a deletion that leaves files as they were.
const AS_THEY_WERE: [&str; 3] = [
    "the next deletion tries it again",
    "keeps its name, and the disk writes to it from then on",
    "may need it, whose record cannot be read",
];

/// A call that can fail.
#[derive(Debug)]
struct Call {
    name: String,
    /// Which one of that name, from 1.
    at: usize,
    /// The file that it reads or writes, where it is counted among those on that file alone: others wake threads, as often as they have to.
    file: Option<String>,
    /// As strace shows it, with `HOST` for the host's directory and `RECORDS` for that of the domain's records.
    shown: String,
}

/// A fault that is tried.
struct Fault<'a> {
    call: &'a Call,
    error: &'static str,
    /// Whether the later calls of that name fail too.
    lasts: bool,
}

/// An operation that met no fault.
struct Whole {
    /// By kind; each kind has some.
    calls: Vec<(&'static Kind, Vec<Call>)>,
    files: BTreeSet<PathBuf>,
}

operations!(bears);

fn bears(operation: &Operation) {
    let moments = Moments::new(FAULTS);
    let whole = Whole::of(operation);
    // Each operation has others.
    let of_name =
        operation.name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut failed = Vec::new();
    let (mut done, mut undone, mut pending) = (0, 0, 0);
    for moment in 1..=moments.count {
        let fault = whole.draw(moments.draws(moment), of_name);
        let about = format!("{}: {fault}", operation.words);
        match catch_unwind(AssertUnwindSafe(|| whole.meets(operation, &fault, &about))) {
            Ok(None) => {}
            Ok(Some(0)) => done += 1,
            Ok(Some(6)) => pending += 1,
            Ok(Some(_)) => undone += 1,
            Err(_) => failed.push(about),
        }
    }
    println!(
        "{}, seed {}: of {} faults it was done after {done}, not done after {undone}, and to be recovered after {pending}",
        operation.name, moments.seed, moments.count
    );
    assert!(failed.is_empty(), "these faults failed, each as printed above: {failed:#?}");
}

/// Faults that were found and mended: each is met in the same place every time, so that no campaign is asked for them.
mod mended {
    use super::*;

    const REVERT_MEMORY_LIVE: Operation = Operation {
        name: "revert_memory_live",
        domain: Domain::Runs,
        before: &["create web a --memory", "write"],
        words: "revert web a",
    };

    /// One that failed after its act was done was told to have had no effect, and its third name stayed.
    #[test]
    fn a_directory_cannot_be_flushed_while_names_are_exchanged() {
        let operation = Operation {
            name: "create_external_kept",
            domain: Domain::Off,
            before: &["write"],
            words: "create web new --external vda,vdb --keep-name",
        };
        fails_each(&operation, "EIO", |call| call.name == "fsync" && call.shown.contains("<HOST>)"));
    }

    /// A disk had its layer of before again in QEMU, and the description named the other one: `recover` did not find it.
    #[test]
    fn the_disk_is_broken_when_a_live_revert_goes_back() {
        let operation = Operation {
            name: "revert_external_live",
            domain: Domain::Runs,
            before: &["create web a --external vda,vdb --no-keep-name", "write"],
            words: "revert web a",
        };
        let whole = Whole::of(&operation);
        for call in whole.named("fdatasync").skip(3).take(1) {
            let fault = Fault { call, error: "EIO", lasts: true };
            let code = whole.meets(&operation, &fault, &format!("{}: {fault}", operation.words));
            assert_eq!(code, Some(6));
        }
    }

    /// The device had its stand-in already, that was told to have had no effect, and the stand-in stayed.
    #[test]
    fn the_connection_is_lost_when_the_image_has_been_taken_from_its_device() {
        let operation = Operation {
            name: "revert_external_kept_live",
            domain: Domain::Runs,
            before: &["create web a --external vda,vdb --keep-name", "write"],
            words: "revert web a",
        };
        let whole = Whole::of(&operation);
        let mut sent = whole.named("sendto").skip_while(|call| !call.shown.contains("qom-set"));
        let call = sent.find(|call| call.shown.contains("query-named-block-nodes")).unwrap();
        let fault = Fault { call, error: "EPIPE", lasts: false };
        let code = whole.meets(&operation, &fault, &format!("{}: {fault}", operation.words));
        assert_eq!(code, Some(6));
    }

    /// The way back had removed what leads back, could not start the domain again, and nothing said that it was to be started.
    #[test]
    fn the_disk_is_full_when_a_revert_with_memory_goes_back() {
        let operation = REVERT_MEMORY_LIVE;
        let whole = Whole::of(&operation);
        let call = whole.named("renameat").filter(|call| call.shown.contains("journal.json")).last().unwrap();
        let fault = Fault { call, error: "ENOSPC", lasts: true };
        let code = whole.meets(&operation, &fault, &format!("{}: {fault}", operation.words));
        assert_eq!(code, Some(6));
    }

    /// Its process had ended, that was told to have had no effect, and `recover` left the domain off.
    #[test]
    fn what_is_noted_of_a_process_that_has_ended_cannot_be_removed() {
        let operation = REVERT_MEMORY_LIVE;
        let whole = Whole::of(&operation);
        let call = whole.named("unlinkat").find(|call| call.shown.contains("web.run")).unwrap();
        let fault = Fault { call, error: "EACCES", lasts: false };
        let code = whole.meets(&operation, &fault, &format!("{}: {fault}", operation.words));
        assert_eq!(code, Some(0));
    }

    /// It stayed, and nothing said so.
    #[test]
    fn how_the_migration_was_set_up_cannot_be_removed() {
        let operation = Operation {
            name: "create_memory_live",
            domain: Domain::Runs,
            before: &["write"],
            words: "create web new --memory",
        };
        fails_each(&operation, "EACCES", |call| call.name == "unlink" && call.shown.contains(".was"));
    }

    /// What told that the save had begun, and how QEMU was set up before, was removed by the one that could not put it back. So `recover` left
    /// the migration set up, and in the middle of a switchover the guest stood still.
    #[test]
    fn the_connection_is_lost_while_memory_is_saved() {
        for words in ["create web new --memory", "create web new --memory --memory-mode switchover"] {
            let before = &["create web a", "write"];
            let operation = Operation { name: "create_memory_live", domain: Domain::Runs, before, words };
            fails_each(&operation, "EPIPE", |call| {
                let commands = ["migrate", "cont", "stop"].map(|name| format!("\\\"{name}"));
                call.name == "sendto" && commands.iter().any(|command| call.shown.contains(command))
            });
        }
    }

    /// The directory of the domain's file could not be flushed: the file named the overlays, and these were removed.
    #[test]
    fn the_description_may_name_the_overlays() {
        let operation = Operation {
            name: "create_external",
            domain: Domain::Off,
            before: &["create web a", "write"],
            words: "create web new --external vda,vdb --no-keep-name",
        };
        let is_flush = |call: &Call| {
            ["fsync", "fdatasync"].contains(&&*call.name) && call.shown.contains("root/domains")
        };
        fails_each(&operation, "ENOSPC", is_flush);
        let whole = Whole::of(&operation);
        // It cannot name what it named before either.
        let calls = whole.named("fsync").chain(whole.named("renameat"));
        for call in calls.filter(|call| call.shown.contains("root/domains")) {
            let fault = Fault { call, error: "EIO", lasts: true };
            whole.meets(&operation, &fault, &format!("{}: {fault}", operation.words));
        }
    }

    /// A child was left with a parent that is gone, what a revert gave up stayed without a word, and each was told to be done.
    #[test]
    fn the_record_of_another_snapshot_cannot_be_read() {
        let before = &["create web a", "write", "create web b", "write"];
        let delete = Operation { name: "delete", domain: Domain::Off, before, words: "delete web a" };
        let before = &["create web a --external vda,vdb --no-keep-name", "write"];
        let revert =
            Operation { name: "revert_external", domain: Domain::Off, before, words: "revert web a" };
        fails_each(&delete, "EIO", |call| call.name == "openat" && call.shown.contains("snapshotdata-b."));
        fails_each(&delete, "EIO", |call| call.name == "read" && call.shown.contains("snapshotmeta-b."));
        fails_each(&revert, "EIO", |call| call.name == "openat" && call.shown.contains("snapshotdata-a."));
    }

    /// The process that was to be ended could not be asked, and the way back did not look for it once more.
    #[test]
    fn there_are_no_more_sockets_for_the_monitor() {
        let operation = REVERT_MEMORY_LIVE;
        fails_each(&operation, "EMFILE", |call| call.name == "socket" && call.shown.contains("AF_UNIX"));
    }

    /// It panicked.
    #[test]
    fn there_is_no_thread_to_look_for_overlays() {
        let operation = Operation {
            name: "delete_leaf",
            domain: Domain::Off,
            before: &["create web a --external vda,vdb --no-keep-name", "write"],
            words: "delete web a",
        };
        fails_each(&operation, "EAGAIN", |call| call.shown.contains("CLONE_THREAD"));
    }

    /// Many records are read by several threads, and where there are none, by the one that there is.
    #[test]
    fn there_is_no_thread_to_read_records() {
        let (host, _) = Host::with_two_disks();
        host.run(["create", "web", "a"]).ok();
        let records = host.records("web");
        let record = std::fs::read_to_string(records.join("snapshotdata-a.libxl-json")).unwrap();
        for number in 0..400 {
            let name = format!("s{number}");
            let other = record.replace("\"a\"", &format!("{name:?}"));
            std::fs::write(records.join(format!("snapshotdata-{name}.libxl-json")), other).unwrap();
        }
        let list = host.command(["list", "web"]);
        let without = ["-e", "inject=clone3:error=EAGAIN:when=1+"];
        let ran = finish(&mut traced(&list, &host.scratch.path("calls.trace"), "clone3", &without));
        assert_eq!(ran.ok().out, host.run(["list", "web"]).ok().out);
        assert!(ran.out.lines().count() > 400, "{}", ran.out);
        let trace = std::fs::read_to_string(host.scratch.path("calls.trace")).unwrap();
        assert!(trace.contains("INJECTED"), "no thread was to be begun: {trace}");
    }
}

/// Each of these calls fails once.
fn fails_each(operation: &Operation, error: &'static str, is_meant: fn(&Call) -> bool) {
    let whole = Whole::of(operation);
    let meant: Vec<&Call> =
        whole.calls.iter().flat_map(|(_, calls)| calls).filter(|call| is_meant(call)).collect();
    assert!(!meant.is_empty(), "{}: it makes no such call", operation.words);
    for call in meant {
        let fault = Fault { call, error, lasts: false };
        whole.meets(operation, &fault, &format!("{}: {fault}", operation.words));
    }
}

impl Whole {
    fn of(operation: &Operation) -> Self {
        let web = operation.prepared(Host::new());
        let trace = web.host.scratch.path("calls.trace");
        let calls = KINDS.iter().flat_map(|kind| kind.calls).copied().collect::<Vec<_>>().join(",");
        let output = traced(&web.host.command(operation.words()), &trace, &calls, &["-y", "-s", "64"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {output:?}", operation.words);
        let text = std::fs::read_to_string(&trace).unwrap();
        std::fs::remove_file(&trace).unwrap();
        let places = Places::of(&web.host);
        let calls = KINDS.iter().map(|kind| (kind, calls_of(kind, &text, &places)));
        let calls = calls.filter(|(_, calls)| !calls.is_empty()).collect();
        Self { calls, files: relative(&web) }
    }

    /// All calls of this name, in their order.
    fn named(&self, name: &'static str) -> impl Iterator<Item = &Call> {
        self.calls.iter().flat_map(|(_, calls)| calls).filter(move |call| call.name == name)
    }

    /// A fault for what was drawn. Of four, three change files or begin programs.
    fn draw(&self, draws: Draws, of_name: u64) -> Fault<'_> {
        let draw = |number: u64, count: usize| draws.one_of((of_name % 4096 * 8 + number) as usize, count);
        let changes = draw(0, 4) != 0;
        let kinds: Vec<_> = self.calls.iter().filter(|(kind, _)| kind.changes == changes).collect();
        let (kind, calls) = kinds[draw(1, kinds.len())];
        let error = kind.errors[draw(3, kind.errors.len())];
        Fault {
            call: &calls[draw(2, calls.len())],
            error,
            // A call that is always interrupted is made again for ever, by Rust's library too; no kernel does that.
            lasts: kind.may_last && draw(4, 3) == 0 && error != "EINTR",
        }
    }

    /// Does the operation with a fault in it, and compares what is left. How it ended; `None` where no call of it failed.
    fn meets(&self, operation: &Operation, fault: &Fault<'_>, about: &str) -> Option<i32> {
        let mut web = operation.prepared(Host::new());
        let before = Found::of(&web);
        let set_up = migration_settings(&web, operation);
        let begun = Instant::now();
        let (ran, has_failed) = fault.run(&web.host, operation);
        if !has_failed {
            return None;
        }
        let about = format!("{about}: {ran:?}");
        tell_hit(format_args!("{about}, in {:.1} s", begun.elapsed().as_secs_f64()));
        assert_ne!(ran.code, TIMED_OUT, "{about}: it does not end");
        assert!(!ran.err.contains("panicked"), "{about}");
        assert!((0..=7).contains(&ran.code), "{about}");
        if ran.code != 0 && ran.code != 7 {
            let names = ["web", web.host.scratch.dir().to_str().unwrap()];
            let is_named = names.iter().any(|name| ran.err.contains(name));
            assert!(ran.err.starts_with("xlsnap: ") && is_named, "{about}: it does not say what");
        }

        remove_told(&web.host, &ran.err);
        // A qemu-img that was writing goes on to its end, and until then the image is busy.
        let begun = Instant::now();
        let recovered = wait_until("the domain is recovered", || {
            let recovered = web.host.run(["recover", "web"]);
            let is_busy = recovered.code == 4 && begun.elapsed() < Duration::from_secs(20);
            assert!(recovered.code == 0 || is_busy, "{about}: {recovered:?}");
            (recovered.code == 0).then_some(recovered)
        });
        let about = format!("{about}; recover: {}{}", recovered.out.trim(), recovered.err.trim());
        let nothing = recovered.out.contains("nothing to recover");
        // What is left of an operation that is done is told in a note.
        let notes = ["recover, or the next operation", "the next operation on the domain removes it"];
        let is_told = ran.code == 6 || (ran.code == 0 && notes.iter().any(|note| ran.out.contains(note)));
        assert!(nothing || is_told, "{about}: it did not say that recovery is pending");

        let check = web.host.run(["check", "web"]);
        // What a relocation did not follow is found still.
        let is_to_follow = operation.words.starts_with("check") && ran.code != 0 && check.code == 7;
        assert!(check.code == 0 || is_to_follow, "{about}: {check:?}");
        if operation.domain == Domain::Runs {
            assert_eq!(web.status()["state"], "running", "{about}");
        }
        assert_eq!(migration_settings(&web, operation), set_up, "{about}");
        // One that cannot be followed cannot be read either.
        let is_done = !is_to_follow && self.is_done(&mut web, operation);
        let is_undone = is_to_follow || (files(&web) == before.files && is_as(&web, &before));
        match ran.code {
            // The snapshot is deleted, and files are as they were.
            0 if AS_THEY_WERE.iter().any(|note| ran.out.contains(note)) => {
                expect(&mut web, &operation.words());
                web.assert_held(&about);
                assert!(web.reads(web.now), "{about}");
                return Some(0);
            }
            // The disks are flattened one after the other.
            1 if ran.err.contains("what was done before stays") => assert!(is_as(&web, &before), "{about}"),
            0 => assert!(is_done, "{about}: it is not done: {:#?}", relative(&web)),
            6 => assert!(is_done || is_undone, "{about}: it is half done: {:#?}", relative(&web)),
            _ => assert!(is_undone, "{about}: something was changed: {:#?}", relative(&web)),
        }
        if !is_done {
            if !is_to_follow {
                web.assert_held(&about);
            }
            // Now it can be done.
            let again = web.host.run(operation.words());
            assert_eq!(again.code, 0, "{about}: {again:?}");
            assert!(self.is_done(&mut web, operation), "{about}: {:#?}", relative(&web));
        }
        expect(&mut web, &operation.words());
        web.assert_held(&about);
        let check = web.host.run(["check", "web"]);
        assert_eq!(check.code, 0, "{about}: {check:?}");
        Some(ran.code)
    }

    /// Whether all is as after the operation.
    fn is_done(&self, web: &mut Web, operation: &Operation) -> bool {
        let before = (web.held.clone(), web.now);
        expect(web, &operation.words());
        let after = Found::of(web);
        (web.held, web.now) = before;
        relative(web) == self.files && is_as(web, &after)
    }
}

/// How the migration of a running domain's QEMU is set up.
fn migration_settings(web: &Web, operation: &Operation) -> Vec<Value> {
    if operation.domain != Domain::Runs {
        return Vec::new();
    }
    let mut monitor = Monitor::connect(&web.host.scratch.path("f.qmp")).unwrap();
    let queries = ["query-migrate-capabilities", "query-migrate-parameters"];
    queries.map(|query| monitor.must(query, json!({}))).into()
}

/// Removes the files of which it was said that they are of no use any more.
fn remove_told(host: &Host, told: &str) {
    for line in told.lines().filter(|line| line.contains("is of no use any more")) {
        let file = Path::new(line.split_once("rm '").unwrap().1.strip_suffix('\'').unwrap());
        assert!(file.starts_with(host.scratch.dir()), "{told}");
        // The call may have failed of a file that is gone already.
        let _ = std::fs::remove_file(file);
    }
}

/// Whether there are these snapshots, and the disks hold this.
fn is_as(web: &Web, found: &Found) -> bool {
    let names: BTreeSet<String> = web.host.names("web").into_iter().collect();
    names.iter().eq(found.held.keys()) && web.reads(found.now)
}

/// The files, each without what is different for each host.
fn relative(web: &Web) -> BTreeSet<PathBuf> {
    let records = web.host.records("web");
    let dir = web.host.scratch.dir();
    let relative = |path: PathBuf| match path.strip_prefix(&records) {
        Ok(record) => Path::new("records").join(record),
        Err(_) => path.strip_prefix(dir).unwrap().to_owned(),
    };
    files(web).into_iter().map(relative).collect()
}

/// The calls of a kind that are of the operation.
fn calls_of(kind: &Kind, trace: &str, places: &Places) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        let Some(name) = kind.calls.iter().find(|name| line.split('(').next() == Some(name)) else {
            continue;
        };
        let shown = places.hidden(line);
        let opened = shown.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let file = opened.map(|(file, _)| file.to_owned());
        let is_counted = ["read", "write"].contains(name);
        let file =
            file.filter(|file| is_counted && ["HOST", "RECORDS"].iter().any(|place| file.starts_with(place)));
        let mut count = |file: Option<&String>| {
            let count = counts.entry((*name, file.cloned())).or_insert(0);
            *count += 1;
            *count
        };
        let of_all = count(None);
        let at = file.as_ref().map_or(of_all, |file| count(Some(file)));
        if is_of_operation(name, &shown) {
            calls.push(Call { name: (*name).to_owned(), at, file, shown });
        }
    }
    calls
}

/// The directories of a host, which each has another name.
struct Places {
    host: String,
    records: String,
}

impl Places {
    fn of(host: &Host) -> Self {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        Self { host: text(host.scratch.dir()), records: text(&host.records("web")) }
    }

    fn hidden(&self, text: &str) -> String {
        text.replace(&self.records, "RECORDS").replace(&self.host, "HOST")
    }

    fn shown(&self, text: &str) -> String {
        text.replace("RECORDS", &self.records).replace("HOST", &self.host)
    }
}

/// Whether a call that strace shows so is on a file of the host, to QEMU, for a program or to say what was done: the others wake a thread
/// or load the program, and do not fail so.
fn is_of_operation(name: &str, shown: &str) -> bool {
    // Without the directory that an absolute path is not below.
    let (_, rest) =
        shown.split_once("AT_FDCWD<").and_then(|(_, rest)| rest.split_once('>')).unwrap_or(("", shown));
    let is_on_host = ["HOST", "RECORDS"].iter().any(|place| rest.contains(place));
    match name {
        "sendto" => shown.contains("execute"),
        // The pipe by which a signal is told has so short a buffer.
        "recvfrom" => !shown.contains(", 128, "),
        "clone3" | "socket" | "pipe2" | "epoll_wait" => true,
        "write" => shown.starts_with("write(1<") || is_on_host,
        _ => is_on_host,
    }
}

impl Fault<'_> {
    /// Runs an operation with it; and whether a call of the operation failed. A running domain's commands do not make the same calls each time.
    fn run(&self, host: &Host, operation: &Operation) -> (Ran, bool) {
        let Call { name, at, file, .. } = self.call;
        let places = Places::of(host);
        let lasts = if self.lasts { "+" } else { "" };
        let inject = format!("inject={name}:error={}:when={at}{lasts}", self.error);
        let file = file.as_ref().map(|file| places.shown(file));
        let mut more = vec!["-y", "-s", "64", "-e", &inject];
        if let Some(file) = &file {
            more.extend(["-P", file]);
        }
        let trace = host.scratch.path("calls.trace");
        let strace = traced(&host.command(operation.words()), &trace, name, &more);
        let mut bounded = Command::new("timeout");
        bounded.args(["--kill-after=5", BOUND]).arg(strace.get_program()).args(strace.get_args());
        for (name, value) in strace.get_envs() {
            bounded.env(name, value.unwrap_or_default());
        }
        bounded.current_dir(strace.get_current_dir().unwrap()).stdin(Stdio::null());
        let ran = finish(&mut bounded);
        let text = std::fs::read_to_string(&trace).unwrap();
        std::fs::remove_file(&trace).unwrap();
        let mut failed = text.lines().filter(|line| line.ends_with("(INJECTED)"));
        (ran, failed.next().is_some_and(|line| is_of_operation(name, &places.hidden(line))))
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { name, at, shown, .. } = self.call;
        let lasts = if self.lasts { " and all later ones of that name" } else { "" };
        write!(f, "{name} {at}{lasts} fails with {} ({shown})", self.error)
    }
}
