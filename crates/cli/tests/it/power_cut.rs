//! The power is cut in the middle of an operation: xlsnap and QEMU are gone, and the disk has what was flushed, and of the rest what it
//! wants. After `recover` the operation was done, or was not; what had answered before was done.
//!
//! The images and the records are in a file system on a disk whose writes and flushes are recorded. The operation is done once; then
//! the disk is made again as it may have been at many moments of it, mounted, and looked at.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use xlsnap_testkit::real::{FileSystem, RecordedDisk, Recording, Scratch, wait_until};

use crate::host::Host;
use crate::kills::{Draws, Moments, tell_hit};
use crate::layers_crash::Web;
use crate::operations::{Domain, Found, Operation, files, operations, patiently, run};

/// How many moments of each operation are tried, unless a campaign says otherwise.
const MOMENTS: u32 = 4;

operations!(survives);

/// An operation that was recorded.
struct Cuts<'a> {
    title: &'a str,
    words: Vec<&'static str>,
    recording: Recording,
    web: Web,
    /// How many entries the log had when the operation began, when it had answered, and when all was written.
    began: usize,
    answered: usize,
    ended: usize,
    before: Found,
    after: Found,
}

fn survives(operation: &Operation) {
    let moments = Moments::new(MOMENTS);
    let name = operation.name;
    let system = file_system(&moments, name);
    let disk = match RecordedDisk::start(system) {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("not run: {name}, with a disk whose writes are recorded: {why}");
            return;
        }
    };
    let title = format!("{name} on {}, seed {}", system.name(), moments.seed);
    let mut cuts = Cuts::record(&title, disk, operation);
    let (mut done, mut undone) = (0, 0);
    for moment in 1..=moments.count {
        match cuts.cut(moment, moments.draws(moment)) {
            true => done += 1,
            false => undone += 1,
        }
    }
    let (entries, flushes) = (cuts.answered - cuts.began, cuts.flushes().len());
    println!(
        "{title}: {} cuts among {entries} writes, {flushes} of them flushes: done {done}, not done {undone}",
        moments.count
    );
}

/// Each operation has another one, and with the next seed the next one, unless the environment says otherwise.
fn file_system(moments: &Moments, operation: &str) -> FileSystem {
    let all = FileSystem::ALL;
    let drawn = moments.seed + operation.bytes().map(u64::from).sum::<u64>();
    match std::env::var("XLSNAP_FILE_SYSTEM") {
        Ok(name) => *all.iter().find(|system| system.name() == name).expect("ext4, xfs or btrfs"),
        Err(_) => all[(drawn % all.len() as u64) as usize],
    }
}

impl<'a> Cuts<'a> {
    /// Does it, to its end.
    fn record(title: &'a str, disk: RecordedDisk, operation: &Operation) -> Self {
        let mut web = operation.prepared(Host::of(Scratch::below(&disk.dir())));
        let words = operation.words();
        disk.sync();
        let began = disk.count();
        let before = Found::of(&web);
        run(&mut web, &words);
        let answered = disk.count();
        let after = Found::of(&web);
        disk.sync();
        let ended = disk.count();
        if operation.domain == Domain::Runs {
            let pid = i32::try_from(web.status()["pid"].as_i64().unwrap()).unwrap();
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            wait_until("QEMU is gone", || (web.status()["state"] == "off").then_some(()));
        }
        let recording = disk.end();
        assert!(began < answered, "{title}: it writes");
        Self { title, words, recording, web, began, answered, ended, before, after }
    }

    /// The flushes of the operation.
    fn flushes(&self) -> Vec<usize> {
        self.recording.log().flushes(self.began..self.answered)
    }

    /// Cuts the power at a moment, and looks at what is left. Whether the operation was done.
    fn cut(&mut self, moment: u32, draws: Draws) -> bool {
        let flushes = self.flushes();
        let at = match moment % 4 {
            // It has just answered.
            1 => self.answered,
            // All since the last flush is uncertain.
            2 | 3 if !flushes.is_empty() => flushes[draws.one_of(0, flushes.len())],
            2 => self.answered,
            // At any time, and while the rest is written.
            _ => self.began + draws.one_of(1, self.ended - self.began + 1),
        };
        let way = if moment == 1 { 0 } else { draws.one_of(2, 4) };
        let (what, keeps): (_, fn(Draws, usize, usize) -> bool) = match way {
            0 => ("nothing", |_, _, _| false),
            1 => ("all", |_, _, _| true),
            2 => ("some writes", |draws, entry, _| draws.number(entry + 8) & 1 == 0),
            _ => ("some sectors", |draws, entry, sector| draws.number((entry + 8) * 65536 + sector) & 1 == 0),
        };
        let disk = self.recording.cut(at, &mut |entry, sector| keeps(draws, entry, sector));
        let about = format!(
            "{}, moment {moment}: cut at write {at} of {} to {}, keeping {what} that was not flushed",
            self.title, self.began, self.answered
        );
        tell_hit(format_args!("{about}"));
        let kept = keep(&disk);
        let mounted = self.recording.mount(&disk);
        let looked = catch_unwind(AssertUnwindSafe(|| self.look(&about, at >= self.answered)));
        if looked.is_err() {
            self.web.host.run(["domain", "stop", "web", "--powerdown", "0"]);
        }
        mounted.unmount();
        looked.unwrap_or_else(|panic| {
            let left = std::env::temp_dir().join("xlsnap-power-cut.disk");
            std::fs::rename(&kept, &left).ok();
            eprintln!("{about}: the disk as it was left is {}", left.display());
            resume_unwind(panic);
        })
    }

    /// Recovers, and compares all with what is to be found before and after the operation. Whether it was done.
    fn look(&mut self, about: &str, has_answered: bool) -> bool {
        let host = &self.web.host;
        let recovered = patiently(host, &["recover", "web"]);
        assert_eq!(recovered.code, 0, "{about}: {recovered:?}");
        let about = format!("{about}; recover: {}", recovered.out.trim());
        let mut check = host.run(["check", "web"]);
        if check.code == 7 && self.words[0] == "check" && !has_answered {
            // What was not begun has its reason still.
            host.run(&self.words).ok();
            check = host.run(["check", "web"]);
        }
        assert_eq!(check.code, 0, "{about}: {check:?}");

        let names = host.names("web").into_iter().collect::<BTreeSet<_>>();
        let is_of = |found: &Found| found.held.keys().eq(names.iter());
        let (is_before, is_after) = (is_of(&self.before), is_of(&self.after));
        assert!(is_before || is_after, "{about}: there are {names:?}");
        assert!(is_after || !has_answered, "{about}: it had answered, and there are {names:?}");
        let found = if is_after { &self.after } else { &self.before };
        self.web.held.clone_from(&found.held);
        self.web.assert_held(&about);
        let reads_after = self.web.reads(self.after.now);
        let reads_before = self.web.reads(self.before.now);
        match (is_before, is_after) {
            (true, true) => {
                assert!(reads_after || (reads_before && !has_answered), "{about}: the disks hold neither")
            }
            _ => assert!(self.web.reads(found.now), "{about}: the disks do not hold {}", found.now),
        }
        let files = files(&self.web);
        let is_done = files == self.after.files && is_after && reads_after;
        let [of_before, of_after] = [&self.before, &self.after]
            .map(|found| files.symmetric_difference(&found.files).collect::<Vec<_>>());
        assert!(
            is_done || of_before.is_empty(),
            "{about}: these files are more or less than before: {of_before:?}, and than after it: {of_after:?}"
        );
        self.stop();
        self.goes_on(&about);
        is_done
    }

    /// The memory is whole, and the domain goes on: it is written to, and its images are mended where they have to be; the snapshots
    /// stay as they are.
    fn goes_on(&mut self, about: &str) {
        for (name, byte) in self.web.held.clone() {
            if !self.web.host.records("web").join(format!("{name}.save")).exists() {
                continue;
            }
            self.web.host.run(["revert", "web", &name]).ok();
            assert_eq!(self.web.status()["state"], "running", "{about}: {name}");
            assert!(self.web.reads(byte), "{about}: {name}");
            self.stop();
        }
        self.web.write_offline(90);
        self.web.assert_held(about);
        // A create that was cut short has leaked clusters, and they may have the mark of those that are used once.
        let deep = self.web.host.run(["check", "web", "--deep", "--json"]);
        let answer: Value = serde_json::from_str(&deep.out).unwrap_or_default();
        let findings = answer["domains"][0]["findings"].as_array();
        let is_mended =
            |finding: &Value| finding["code"] == "image-leaks" || finding["code"] == "image-damaged";
        assert!(findings.is_some_and(|all| all.iter().all(is_mended)), "{about}: {deep:?}");
        if deep.code != 0 {
            self.web.host.run(["check", "web", "--deep", "--repair"]).ok();
            self.web.host.run(["check", "web", "--deep"]).ok();
            self.web.assert_held(about);
        }
        patiently(&self.web.host, &["create", "web", "later"]).ok();
        self.web.held.insert("later".to_owned(), 90);
        self.web.write_offline(91);
        self.web.assert_held(about);
        let check = self.web.host.run(["check", "web"]);
        assert_eq!(check.code, 0, "{about}: {check:?}");
    }

    /// A recovery may have started it, to finish what it was doing.
    fn stop(&self) {
        self.web.host.stop(&["--powerdown", "0"]);
    }
}

/// A copy of a disk that is about to be changed.
fn keep(disk: &Path) -> PathBuf {
    let kept = disk.with_extension("kept");
    let mut cp = std::process::Command::new("cp");
    assert!(cp.arg("--sparse=always").args([disk, &kept]).status().unwrap().success());
    kept
}
