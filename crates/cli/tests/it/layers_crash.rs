//! xlsnap, or QEMU too, is killed in the middle of going back to an external snapshot, and of a deletion that merges layers: after
//! `recover` every snapshot holds what it held, and no write is lost but those that a revert gives up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use xlsnap_testkit::real::{Data, Monitor, wait_until, write_offline};

use crate::host::Host;
use crate::kills::{Kill, Moments, Whole, kill_after};
use crate::life::Startable;

const MIB: u64 = 1 << 20;

/// How much a merge writes to each disk: enough that some of the kills fall into it.
const MERGED: u64 = 8 * MIB;

/// One of some values that a disk does not hold otherwise.
fn byte(from: u8, moment: u32) -> u8 {
    from + u8::try_from(moment % 16).expect("16 fit")
}

/// The disks, and by how much what is written to each is more than what is said.
const DISKS: [(&str, u8); 2] = [("vda", 0), ("vdb", 100)];

const EXTERNAL: [&str; 4] = ["--external", "vda", "--external", "vdb"];

/// What a snapshot or a disk holds.
#[derive(Debug, Clone)]
struct State {
    disk: (&'static str, u8),
    image: String,
    /// The snapshot inside the image that has it.
    inside: Option<String>,
    byte: u8,
}

impl State {
    /// As an answer names the disk and the image.
    fn of(disk: &Value, image: &Value, inside: Option<&str>, byte: u8) -> Self {
        let disk = DISKS.into_iter().find(|(name, _)| disk == name).unwrap();
        Self { disk, image: image.as_str().unwrap().to_owned(), inside: inside.map(str::to_owned), byte }
    }
}

/// A domain `web` with two disks of 128 MiB, whose guest is the fixture: it writes over the whole of a stretch by QEMU's monitor.
pub(crate) struct Web {
    pub(crate) host: Startable,
    /// How much is written.
    stretch: u64,
    /// What each snapshot holds.
    pub(crate) held: BTreeMap<String, u8>,
    pub(crate) now: u8,
    /// Whether new files take the names of the images.
    keeps_names: bool,
}

impl Web {
    fn new(stretch: u64) -> Self {
        let mut this = Self::on(Host::new(), stretch);
        this.host.start();
        this.write(1);
        this
    }

    /// The same on this host, where it is off, and nothing is written yet.
    pub(crate) fn on(host: Host, stretch: u64) -> Self {
        let images = DISKS.map(|(disk, _)| host.scratch.qcow2(&format!("{disk}.qcow2"), 128 * MIB));
        host.add("web", &images, &[]);
        // Firmware that is nothing but `hlt`: the guest runs, and takes no time from the tests.
        let (monitor, halts) = (host.scratch.path("f.qmp"), host.scratch.path("halts.bin"));
        std::fs::write(&halts, [0xf4; 64 << 10]).unwrap();
        let host = Startable::of(host);
        host.set_start(&format!(
            "accel = \"tcg\"\nmemory = 64\narguments = [\"-qmp\", \"unix:{},server=on,wait=off\", \"-bios\", {halts:?}]\n",
            monitor.display()
        ));
        Self { host, stretch, held: BTreeMap::new(), now: 0, keeps_names: false }
    }

    /// Writes to the disks of the domain that is off.
    pub(crate) fn write_offline(&mut self, byte: u8) {
        for ((_, more), image) in DISKS.into_iter().zip(self.images()) {
            let data = Data { byte: byte + more, offset: 0, len: self.stretch };
            write_offline(Path::new(&image), "qcow2", data);
        }
        self.now = byte;
    }

    pub(crate) fn write(&mut self, byte: u8) {
        let mut monitor = Monitor::connect(&self.host.scratch.path("f.qmp")).unwrap();
        for (disk, more) in DISKS {
            let write = format!("write -P {} 0 {}", byte + more, self.stretch);
            for command in [write.as_str(), "flush"] {
                let line = format!("qemu-io -d /machine/peripheral/{disk}/virtio-backend \"{command}\"");
                let said = monitor.must("human-monitor-command", json!({"command-line": line}));
                assert_eq!(said, "", "{disk}: {command}");
            }
        }
        self.now = byte;
    }

    pub(crate) fn create(&mut self, name: &str, more: &[&str]) {
        let keep = (self.keeps_names && !more.is_empty()).then_some(&"--keep-name");
        self.host.run(["create", "web", name].iter().chain(more).chain(keep)).ok();
        self.held.insert(name.to_owned(), self.now);
    }

    pub(crate) fn status(&self) -> Value {
        self.host.json(&["domain", "status", "web"])
    }

    /// Runs a command that is killed, and recovers. Whether there was something to recover.
    fn killed(&self, words: &[&str], kill: &Kill) -> bool {
        let pid = self.status()["pid"].as_i64().unwrap();
        let qemu_too = match kill {
            Kill::WithQemu(after) => {
                kill_after(&self.host, words, *after);
                // The process that a revert started is another one, and may live on.
                let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
                true
            }
            Kill::Before(call) => {
                call.kill(&self.host, words);
                false
            }
        };
        let begun = Instant::now();
        let ran = wait_until("the domain is recovered", || {
            let ran = self.host.run(["recover", "web"]);
            let is_busy = matches!(ran.code, 4 | 6) && begun.elapsed() < Duration::from_secs(20);
            assert!(ran.code == 0 || is_busy, "{words:?} {kill:?}: {ran:?}");
            (ran.code == 0).then_some(ran)
        });
        let about = format!("{words:?} {kill:?}: {ran:?}");
        let check = self.host.run(["check", "web"]);
        assert_eq!(check.code, 0, "{about}: {check:?}");
        if self.status()["state"] == "off" {
            assert!(qemu_too, "{about}");
            self.host.start();
        }
        assert_eq!(self.status()["state"], "running", "{about}");
        !ran.out.contains("nothing to recover")
    }

    /// Every snapshot holds what it held.
    pub(crate) fn assert_held(&self, about: &str) {
        // One command tells of all snapshots, where `show` looks at every file for each of them.
        let listed = &self.host.json(&["list", "web", "--tree"])["domains"][0];
        let mut names: Vec<_> = list(&listed["snapshots"]).map(|of| of["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert!(names.iter().eq(self.held.keys()), "{about}: there are {names:?}, not {:?}", self.held);
        let mut states = Vec::new();
        for (name, byte) in &self.held {
            let known = states.len();
            // A file that was copied as a whole has the snapshots inside it too.
            for file in list(&listed["chains"]) {
                let has = |part: &str| list(&file[part]).any(|one| one == name);
                let inside = has("inside").then_some(name.as_str());
                if inside.is_some() || has("states") {
                    states.push(State::of(&file["disk"], &file["file"], inside, *byte));
                }
            }
            // No chain is told where no snapshot is external.
            if states.len() == known {
                let shown = self.host.json(&["show", "web", name]);
                for part in list(&shown["snapshot"]["disks"]) {
                    let inside = (part["kind"] == "internal").then_some(name.as_str());
                    states.push(State::of(&part["disk"], &part["image"], inside, *byte));
                }
            }
            for disk in DISKS {
                assert!(states[known..].iter().any(|state| state.disk == disk), "{about}: {name}: {listed}");
            }
        }
        if self.differ(&states) > 0 {
            states.retain(|state| self.differ(std::slice::from_ref(state)) > 0);
            panic!("{about}: not all hold what they held: {states:?}");
        }
    }

    /// The images that the description names.
    pub(crate) fn images(&self) -> Vec<String> {
        let shown = self.host.json(&["domain", "show", "web"]);
        let disks = shown["domain"]["disks"].as_array().unwrap();
        disks.iter().map(|of| of["image"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether the disks hold this; both are of one time.
    pub(crate) fn reads(&self, byte: u8) -> bool {
        let images = self.images().into_iter().zip(DISKS);
        let states: Vec<_> = images.map(|(image, disk)| State { disk, image, inside: None, byte }).collect();
        let differ = self.differ(&states);
        assert_ne!(differ, 1, "both disks are of one time");
        differ == 0
    }

    /// How many states do not hold what they should: all of each stretch is read, beside QEMU, which flushed what was written.
    fn differ(&self, states: &[State]) -> usize {
        let mut command = Command::new("qemu-io");
        let mut copies = Vec::new();
        for State { disk: (_, more), image, inside, byte } in states {
            let copy = inside.as_ref().map(|tag| self.copy_of(image, tag, copies.len()));
            let image = copy.as_deref().unwrap_or(Path::new(image));
            let open = format!("open -r -U -o driver=qcow2 {}", image.display());
            for line in [&open, &format!("read -P {} 0 {}", byte + more, self.stretch), "close"] {
                command.args(["-c", line]);
            }
            copies.extend(copy);
        }
        let output = command.output().unwrap();
        copies.iter().for_each(|copy| std::fs::remove_file(copy).unwrap());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let count = |what: &str| said.matches(what).count();
        let differ = count("Pattern verification failed");
        // One that cannot be opened is not read either.
        assert_eq!(count(" bytes at offset 0\n"), states.len(), "{states:?}: {said}");
        assert!(differ > 0 || output.status.success(), "{states:?}: {said}");
        differ
    }

    /// A copy of a snapshot inside an image: qemu-io opens none by itself.
    fn copy_of(&self, image: &str, tag: &str, number: usize) -> PathBuf {
        let copy = self.host.scratch.path(&format!("copy-{number}"));
        let inside = format!("snapshot.name={tag}");
        let words = ["convert", "-U", "-f", "qcow2", "-O", "qcow2", "-l", &inside, image];
        xlsnap_testkit::real::qemu_img(&[&words[..], &[copy.to_str().unwrap()]].concat());
        copy
    }
}

/// What a list of an answer has; nothing where there is none.
fn list(of: &Value) -> impl Iterator<Item = &Value> {
    of.as_array().into_iter().flatten()
}

#[test]
fn a_live_revert_to_an_external_snapshot_that_is_killed_loses_none() {
    reverts(Web::new(MIB));
}

#[test]
fn a_live_revert_under_kept_names_that_is_killed_loses_none() {
    reverts(Web { keeps_names: true, ..Web::new(MIB) });
}

#[test]
fn a_live_creation_under_kept_names_that_is_killed_loses_none() {
    let mut web = Web { keeps_names: true, ..Web::new(MIB) };
    let own = web.images();
    let whole = Whole::of(&web.host, &create_kept("first"));
    web.held.insert("first".to_owned(), web.now);
    let mut met = 0;
    let moments = Moments::new(10);
    for moment in 1..=moments.count {
        let about = format!("moment {moment}");
        let name = format!("s{moment}");
        web.write(byte(10, moment));
        met += u32::from(web.killed(&create_kept(&name), &moments.kill(&whole, moment)));
        if web.host.names("web").contains(&name) {
            web.held.insert(name, web.now);
        }
        web.assert_held(&about);
        assert!(web.reads(web.now), "{about}");
        assert_eq!(web.images(), own, "{about}");
        // A chain of hundreds is another matter.
        if web.held.len() > 8 {
            let (name, _) = web.held.pop_first().unwrap();
            web.host.run(["delete", "web", &name]).ok();
        }
    }
    moments.assert_met("create", met);
    for name in web.held.clone().keys() {
        web.host.run(["delete", "web", name]).ok();
        assert!(web.reads(web.now), "{name}");
    }
    assert_eq!(web.images(), own);
    web.host.stop(&["--powerdown", "0"]);
    web.host.start();
    assert!(web.reads(web.now));
}

fn create_kept(name: &str) -> [&str; 6] {
    ["create", "web", name, "--external", "vda,vdb", "--keep-name"]
}

fn reverts(mut web: Web) {
    for (byte, name) in [(1, "a"), (2, "b"), (3, "c")] {
        web.write(byte);
        web.create(name, &EXTERNAL);
    }
    web.write(4);
    let whole = Whole::of(&web.host, &["revert", "web", "a"]);
    web.now = 1;
    let mut met = 0;
    let moments = Moments::new(10);
    for moment in 1..=moments.count {
        let to = ["b", "c", "a"][moment as usize % 3];
        web.write(byte(10, moment));
        let about = format!("moment {moment}");
        met += u32::from(web.killed(&["revert", "web", to], &moments.kill(&whole, moment)));
        web.assert_held(&about);
        let (before, after) = (web.reads(web.now), web.reads(web.held[to]));
        assert!(before != after, "{about}: before {before}, after {after}");
    }
    moments.assert_met("revert", met);
    // All is well: each is gone back to, and deleted.
    for (to, byte) in web.held.clone() {
        web.host.run(["revert", "web", &to]).ok();
        assert!(web.reads(byte), "{to}");
    }
    for name in web.held.clone().keys() {
        web.host.run(["delete", "web", name]).ok();
    }
    assert!(web.reads(3));
}

#[test]
fn a_deletion_that_is_killed_in_its_merge_loses_none() {
    deletions(Web::new(MERGED));
}

#[test]
fn a_deletion_under_kept_names_that_is_killed_loses_none() {
    deletions(Web { keeps_names: true, ..Web::new(MERGED) });
}

fn deletions(mut web: Web) {
    web.create("inside", &[]);
    web.write(2);
    web.create("keep", &EXTERNAL);
    let mut met = 0;
    let mut whole = Whole::default();
    let moments = Moments::new(10);
    for moment in 0..=moments.count {
        let about = format!("moment {moment}");
        // The one that goes; every second time there is another one above, so that its layer is in the middle.
        let gone = format!("gone{moment}");
        web.write(byte(20, moment));
        web.create(&gone, &EXTERNAL);
        web.write(byte(40, moment));
        if moment % 4 >= 2 {
            web.create("above", &EXTERNAL);
            web.write(byte(60, moment));
        }
        let delete = ["delete", "web", &gone];
        if moment == 0 {
            whole = Whole::of(&web.host, &delete);
            web.held.remove(&gone);
            web.assert_held(&about);
            continue;
        }
        met += u32::from(web.killed(&delete, &moments.kill(&whole, moment)));
        if !web.host.names("web").contains(&gone) {
            web.held.remove(&gone);
        }
        web.assert_held(&about);
        assert!(web.reads(web.now), "{about}");
        for name in [gone.as_str(), "above"] {
            if web.held.remove(name).is_some() {
                web.host.run(["delete", "web", name]).ok();
            }
        }
        web.assert_held(&about);
        assert!(web.reads(web.now), "{about}");
    }
    moments.assert_met("delete", met);
    web.host.stop(&["--powerdown", "0"]);
    web.host.start();
    assert!(web.reads(web.now));
}

/// Whether no disk would be flattened.
fn is_flat(web: &Web) -> bool {
    web.host.json(&["flatten", "web", "--dry-run"])["stages"].as_array().unwrap().is_empty()
}

#[test]
fn a_flattening_that_is_killed_loses_none() {
    let mut web = Web::new(MERGED);
    web.create("inside", &[]);
    let (mut met, mut whole) = (0, Whole::default());
    let moments = Moments::new(10);
    for moment in 0..=moments.count {
        let about = format!("moment {moment}");
        web.write(byte(20, moment));
        web.create("below", &EXTERNAL);
        assert!(!is_flat(&web), "{about}");
        if moment == 0 {
            whole = Whole::of(&web.host, &["flatten", "web"]);
        } else {
            met += u32::from(web.killed(&["flatten", "web"], &moments.kill(&whole, moment)));
        }
        web.assert_held(&about);
        assert!(web.reads(web.now), "{about}");
        web.host.run(["flatten", "web"]).ok();
        assert!(is_flat(&web), "{about}");
        web.assert_held(&about);
        web.host.run(["delete", "web", "below"]).ok();
        web.held.remove("below");
        web.assert_held(&about);
        assert!(web.reads(web.now), "{about}");
    }
    moments.assert_met("flatten", met);
    web.host.stop(&["--powerdown", "0"]);
    web.host.start();
    assert!(web.reads(web.now));
}

/// Ctrl-C leaves the disks as they were, and nothing to recover.
#[test]
fn a_flattening_that_is_interrupted_is_over() {
    let mut web = Web::new(MERGED);
    web.create("below", &EXTERNAL);
    let child = |web: &Web| {
        web.host.command(["flatten", "web"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let has_job = |web: &Web| {
        let mut monitor = Monitor::connect(&web.host.scratch.path("f.qmp")).unwrap();
        !monitor.must("query-jobs", json!({})).as_array().unwrap().is_empty()
    };
    let mut running = child(&web);
    wait_until("QEMU copies, or has copied", || {
        (has_job(&web) || running.try_wait().unwrap().is_some()).then_some(())
    });
    kill_process(Pid::from_child(&running), Signal::INT).ok();
    let ended = running.wait().unwrap();
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
    assert!(!has_job(&web));
    assert!(web.host.run(["recover", "web"]).ok().out.contains("nothing to recover"));
    assert!(web.reads(web.now));
    web.assert_held("interrupted");
    assert_eq!(web.status()["state"], "running");
    web.host.run(["flatten", "web"]).ok();
    assert!(is_flat(&web) && web.reads(web.now));
    web.write(9);
    web.host.stop(&["--powerdown", "0"]);
    web.host.start();
    assert!(web.reads(9));
}
