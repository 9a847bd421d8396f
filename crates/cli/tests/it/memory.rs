//! Snapshots with memory, on a Linux guest that compares its disks with its memory all the time.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use xlsnap_testkit::real::guest::{Boot, Console, Count};
use xlsnap_testkit::real::wait_until;

use crate::host::Ran;
use crate::life::Startable;

/// For a guest to boot or to count a little, on a machine under load.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// How often each way is gone through; `XLSNAP_CYCLES` says otherwise (`cargo xtask soak` takes 20).
fn cycles() -> u32 {
    std::env::var("XLSNAP_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// A domain `web` whose guest counts, writes to both disks and compares.
pub(crate) struct Counting {
    pub(crate) host: Startable,
    pub(crate) console: Console,
}

impl Counting {
    pub(crate) fn new() -> Self {
        let host = Startable::new("");
        let serial = host.scratch.path("console");
        host.set_start(&Boot::new(Count::default()).start_table(&serial));
        let console = Console::from_now(&serial);
        host.start();
        let this = Self { host, console };
        this.console.wait_tick_beyond(5, DEADLINE);
        this
    }

    pub(crate) fn state(&self) -> String {
        self.host.json(&["domain", "status", "web"])["state"].as_str().unwrap().to_owned()
    }

    pub(crate) fn tick(&self) -> u64 {
        self.console.last_tick().unwrap_or_default()
    }

    /// Lets it count on for a little, and checks that it has nothing to complain of.
    pub(crate) fn counts_on(&self) -> u64 {
        let tick = self.console.wait_tick_beyond(self.tick() + 5, DEADLINE);
        assert_eq!(self.console.disagreement(), None);
        tick
    }

    /// Reverts, and checks that the guest goes on between these ticks, with disks and memory that agree.
    pub(crate) fn goes_back(&mut self, name: &str, between: std::ops::RangeInclusive<u64>) {
        self.console.forget();
        self.host.run(["revert", "web", name]).ok();
        self.went_back(&between);
    }

    /// Waits until its last run begins in `between`. It may have counted on until it was ended.
    pub(crate) fn went_back(&self, between: &std::ops::RangeInclusive<u64>) {
        let first = wait_until("the guest goes on from the snapshot", || {
            let first = *self.console.runs().pop()?.start();
            (first <= *between.end()).then_some(first)
        });
        assert!(between.contains(&first), "it goes on at {first}, and was saved in {between:?}");
        self.counts_on();
    }

    /// Runs what has to fail with `code`, and checks that records and memory files are as they were; the guest counts on.
    fn refuses(&self, code: i32, words: &[&str]) -> Ran {
        let kept = || {
            let mut state = self.host.state();
            state.retain(|path, _| path.starts_with(self.host.root()));
            state
        };
        let before = kept();
        let ran = self.host.run(words);
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        assert!(kept() == before, "{words:?} changed something: {ran:?}");
        assert_eq!(self.state(), "running", "{words:?}");
        self.counts_on();
        ran
    }

    pub(crate) fn memory_file(&self, name: &str) -> PathBuf {
        self.host.records("web").join(format!("{name}.save"))
    }
}

/// The ways that this QEMU and this host have.
fn ways(counting: &Counting) -> Vec<&'static [&'static str]> {
    let mut ways: Vec<&'static [&'static str]> = vec![
        &["--memory", "--memory-mode", "background"],
        &["--memory", "--memory-mode", "switchover"],
        &["--memory", "--memory-mode", "stop"],
        &["--memory=internal"],
        &["--memory", "--compress", "zstd"],
    ];
    ways.retain(|words| {
        let plan = ["create", "web", "planned", "-n"].iter().chain(*words).copied();
        let ran = counting.host.run(plan);
        assert!(ran.code == 0 || ran.err.contains("cannot be saved"), "{words:?}: {ran:?}");
        ran.code == 0
    });
    ways
}

/// Created under load, gone on, reverted: it goes on from there, with disks and memory that agree, and that again and again.
#[test]
fn it_goes_on_from_there_in_every_way() {
    let mut counting = Counting::new();
    let ways = ways(&counting);
    assert!(ways.len() >= 3, "{ways:?}");
    for words in ways {
        let mut pauses = Vec::new();
        for cycle in 0..cycles() {
            let name = format!("s{cycle}");
            let before = counting.counts_on();
            let create: Vec<&str> = ["create", "web", &name].iter().chain(words).copied().collect();
            let answer = counting.host.json(&create);
            let after = counting.tick();
            assert_eq!(answer["snapshot"]["consistency"], "memory", "{answer}");
            pauses.push(answer["snapshot"]["pause_us"].as_u64().unwrap() as f64 / 1e3);
            counting.counts_on();
            counting.goes_back(&name, before..=after + 2);
            counting.host.run(["delete", "web", &name]).ok();
            assert!(!counting.memory_file(&name).exists());
        }
        eprintln!("{words:?}: paused for {pauses:?} ms");
    }
    counting.host.run(["check", "web"]).ok();
}

#[test]
fn a_guest_that_is_off_or_paused_comes_back_as_it_was() {
    let mut counting = Counting::new();
    let before = counting.counts_on();
    counting.host.run(["create", "web", "s", "--memory"]).ok();
    let after = counting.tick();
    counting.host.stop(&["--powerdown", "0"]);
    assert_eq!(counting.state(), "off");
    counting.goes_back("s", before..=after + 2);

    // Past the point where it was stopped, so that what it says from now on tells the two lives apart.
    counting.console.wait_tick_beyond(after, DEADLINE);
    counting.console.forget();
    counting.host.run(["revert", "web", "s", "--paused"]).ok();
    assert_eq!(counting.state(), "paused");
    // What it said was said before.
    let said = counting.console.last_tick();
    assert!(said.is_none_or(|tick| tick > after), "{said:?}");
    // Where its disks alone come back, it is reset, and counts from the beginning.
    counting.host.run(["create", "web", "disks"]).ok();
    counting.console.forget();
    counting.host.run(["revert", "web", "disks", "--running"]).ok();
    assert!(counting.console.wait_tick_beyond(5, DEADLINE) < before);
    assert_eq!(counting.console.disagreement(), None);
}

/// A revert of a running domain's disks: its process lives on, and its guest boots anew.
#[test]
fn disks_come_back_under_a_process_that_lives() {
    let mut counting = Counting::new();
    let pid = |counting: &Counting| counting.host.json(&["domain", "status", "web"])["pid"].clone();
    let process = pid(&counting);
    counting.counts_on();
    counting.host.run(["create", "web", "s"]).ok();
    counting.counts_on();
    counting.console.forget();
    let answer = counting.host.json(&["revert", "web", "s"]);
    assert_eq!(answer["way"], "release", "{answer}");
    assert!(answer["warnings"].to_string().contains("reset"), "{answer}");
    counting.console.wait_tick_beyond(5, DEADLINE);
    assert_eq!(counting.console.disagreement(), None);
    assert_eq!(pid(&counting), process);

    counting.console.forget();
    let answer = counting.host.json(&["revert", "web", "s", "--offline"]);
    assert_eq!(answer["way"], "restart", "{answer}");
    counting.console.wait_tick_beyond(5, DEADLINE);
    assert_ne!(pid(&counting), process);
}

/// What is wrong with a memory file is found before the guest is ended: it counts on.
#[test]
fn a_wrong_memory_file_ends_no_guest() {
    let counting = Counting::new();
    counting.host.run(["create", "web", "s", "--memory"]).ok();
    counting.host.run(["create", "web", "other", "--memory"]).ok();
    let file = counting.memory_file("s");
    let good = fs::read(&file).unwrap();
    let middle = good.len() / 2;
    let mut changed = good.clone();
    changed[middle] ^= 1;
    let others = fs::read(counting.memory_file("other")).unwrap();
    for (what, content) in [("truncated", &good[..middle]), ("changed", &changed), ("another's", &others)] {
        fs::write(&file, content).unwrap();
        let ran = counting.refuses(5, &["revert", "web", "s"]);
        ran.tells(file.to_str().unwrap());
        assert!(
            ran.err.contains("size") || ran.err.contains("checksum") || ran.err.contains("bytes"),
            "{what}: {ran:?}"
        );
    }
    fs::remove_file(&file).unwrap();
    let ran = counting.host.run(["revert", "web", "s"]);
    assert!(ran.code == 3 || ran.code == 5, "{ran:?}");
    counting.counts_on();
    let check = counting.host.run(["check", "web"]);
    assert!(check.out.contains("memory-missing"), "{check:?}");
    fs::write(&file, &good).unwrap();
    counting.host.run(["check", "web"]).ok();
    counting.host.run(["revert", "web", "s"]).ok();
}

/// Bad places are found before the guest is stopped.
#[test]
fn a_bad_place_for_the_memory_is_refused() {
    let counting = Counting::new();
    let nowhere = counting.host.scratch.path("nowhere/s.save");
    let there = counting.host.scratch.path("there");
    fs::write(&there, "foreign").unwrap();
    for (place, what) in [(&nowhere, "nowhere"), (&there, "there already")] {
        let ran = counting.refuses(5, &["create", "web", "s", "--memory", place.to_str().unwrap()]);
        ran.tells(what).tells(place.to_str().unwrap());
    }
    let ran = counting.refuses(2, &["create", "web", "--memory", "s"]);
    ran.tells("./s");
    counting.refuses(5, &["create", "web", "s", "--memory", "--quiesce"]);
    let ran = counting.refuses(5, &["create", "web", "s", "--quiesce"]);
    ran.tells("agent");
}

/// A dry run names every file and process that would be touched, and touches none.
#[test]
fn a_dry_run_names_the_memory() {
    let counting = Counting::new();
    let state = counting.host.state();
    let plan: Value = counting.host.json(&["create", "web", "s", "--memory", "--dry-run"]);
    let touched = plan["stages"].to_string();
    assert!(touched.contains("s.save"), "{plan}");
    let after = counting.host.state();
    let files =
        |state: &std::collections::BTreeMap<PathBuf, Vec<u8>>| state.keys().cloned().collect::<Vec<_>>();
    assert_eq!(files(&after), files(&state));
    counting.host.run(["create", "web", "s", "--memory"]).ok();
    let plan: Value = counting.host.json(&["revert", "web", "s", "--dry-run"]);
    for what in ["end the domain's process", "s.save", "vda", "vdb"] {
        assert!(plan["stages"].to_string().contains(what), "{what}: {plan}");
    }
    counting.counts_on();
}
