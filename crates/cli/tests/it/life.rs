//! `xlsnap domain start|stop|status|run`, on real QEMU. Each command is a process of its own, so that what it knows of a
//! running machine is what is written down.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use xlsnap_testkit::real::wait_until;

use crate::host::{Host, finish};

const START: &str = "accel = \"tcg\"\nmemory = 64\n";

/// A host with a domain `web` that can be started; its QEMU does not outlive it.
pub(crate) struct Startable(Host);

impl Deref for Startable {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Drop for Startable {
    fn drop(&mut self) {
        // A file system that is no longer mounted has none that runs.
        if self.0.root().exists() {
            self.0.run(["domain", "stop", "web", "--powerdown", "0"]);
        }
    }
}

impl Startable {
    pub(crate) fn new(start: &str) -> Self {
        let this = Self::of(Host::with_two_disks().0);
        this.set_start(start);
        this
    }

    /// The domain `web` of this host, which has yet to be told how it is started.
    pub(crate) fn of(host: Host) -> Self {
        Self(host)
    }

    fn file(&self) -> PathBuf {
        self.root().join("domains/web.toml")
    }

    fn run_file(&self) -> PathBuf {
        self.root().join("domains/web.run")
    }

    pub(crate) fn set_start(&self, start: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        let without = text.split("[start]").next().unwrap();
        fs::write(self.file(), format!("{without}[start]\n{start}")).unwrap();
    }

    /// Gives it one more disk.
    pub(crate) fn add_disk(&self, name: &str, image: &Path) {
        let text = fs::read_to_string(self.file()).unwrap();
        let disk = format!("[[disk]]\nname = {name:?}\nimage = {image:?}\nformat = \"qcow2\"\n");
        let (before, start) = text.split_once("[start]").unwrap();
        fs::write(self.file(), format!("{before}{disk}\n[start]{start}")).unwrap();
    }

    pub(crate) fn start(&self) -> Value {
        self.json(&["domain", "start", "web"])
    }

    fn state(&self) -> String {
        self.json(&["domain", "status", "web"])["state"].as_str().unwrap().to_owned()
    }

    pub(crate) fn stop(&self, more: &[&str]) -> Value {
        let words: Vec<&str> = ["domain", "stop", "web"].iter().chain(more).copied().collect();
        self.json(&words)
    }
}

fn pid_of(answer: &Value) -> u32 {
    u32::try_from(answer["pid"].as_u64().unwrap()).unwrap()
}

fn pid(answer: &Value) -> Pid {
    Pid::from_raw(i32::try_from(pid_of(answer)).unwrap()).unwrap()
}

fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_domain_is_started_known_again_snapshotted_and_stopped() {
    let host = Startable::new(&format!("{START}agent = true\n"));
    assert_eq!(host.state(), "off");
    let started = host.start();
    let status = host.json(&["domain", "status", "web"]);
    assert_eq!(status["state"], "running");
    assert_eq!((&status["pid"], &status["since"]), (&started["pid"], &started["since"]));
    assert!(PathBuf::from(status["agent"].as_str().unwrap()).exists());
    // In a session of its own: field 6 of its stat.
    let stat = fs::read_to_string(format!("/proc/{}/stat", started["pid"])).unwrap();
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(session, started["pid"].to_string());

    let words = host.run(["domain", "status", "web"]);
    assert!(words.ok().out.contains("running"), "{}", words.out);
    host.refuses(5, ["domain", "start", "web"]).tells("runs already");
    host.refuses(5, ["domain", "remove", "web"]).tells("stop it first");
    // Its disks are found by their nodes.
    host.run(["create", "web", "s1"]).ok();
    assert_eq!(host.json(&["domain", "show", "web"])["reach"]["how"], "monitor");

    // No system that hears of the button, so that it has to be told.
    let stopped = host.stop(&["--powerdown", "0.2"]);
    assert_eq!(stopped["way"], "quit");
    assert!(stopped["notes"][0].as_str().unwrap().contains("did not shut down"), "{stopped}");
    assert!(!lives(pid_of(&started)) && !host.run_file().exists());
    assert_eq!(host.state(), "off");
    assert_eq!(host.stop(&[])["way"], "was-off");
    host.run(["revert", "web", "s1"]).ok();
}

/// A boot sector that enables the power button (ACPI's PM1 at port 0x600, as the firmware places it), says so on the serial
/// port, waits for the button, and powers off.
const SHUTS_DOWN: [u8; 32] = [
    0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // out PM1_EN, power button
    0xba, 0xf8, 0x03, 0xb0, b'R', 0xee, // out COM1, 'R'
    0xba, 0x00, 0x06, // dx = PM1_STS
    0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa, // wait for the button
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // out PM1_CNT, S5
    0xf4, 0xeb, 0xfd, // halt
];

#[test]
fn a_guest_that_hears_is_asked_to_shut_down() {
    let host = Host::new();
    let boot = host.scratch.raw("boot.raw", 1 << 20);
    let mut sector = SHUTS_DOWN.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    fs::write(&boot, sector).unwrap();
    host.add("web", &[boot], &["--format", "vda=raw"]);
    let serial = host.scratch.path("serial.log");
    let host = Startable(host);
    host.set_start(&format!("{START}serial = \"{}\"\n", serial.display()));
    let started = host.start();
    wait_until("the guest runs", || {
        fs::read_to_string(&serial).is_ok_and(|said| said.contains('R')).then_some(())
    });
    let stopped = host.stop(&[]);
    assert_eq!((stopped["way"].as_str(), stopped["notes"].as_array().unwrap().len()), (Some("powerdown"), 0));
    assert!(!lives(pid_of(&started)));
}

#[test]
fn one_that_is_stopped_dead_is_killed() {
    let host = Startable::new(START);
    let started = host.start();
    kill_process(pid(&started), Signal::STOP).unwrap();
    assert_eq!(host.state(), "silent");
    host.refuses(1, ["domain", "stop", "web", "--kill", "0"])
        .tells("has not ended")
        .tells("now: it may have been done");
    let stopped = host.stop(&["--kill", "0.2"]);
    assert_eq!((stopped["way"].as_str(), &stopped["pid"]), (Some("sigkill"), &started["pid"]));
    assert!(!lives(pid_of(&started)));
    // The image locks and the socket that it left are no hindrance.
    host.start();
}

#[test]
fn one_that_is_paused_is_not_asked_and_sigterm_ends_it() {
    let host = Startable::new(START);
    let started = host.json(&["domain", "start", "web", "--paused"]);
    assert_eq!(host.state(), "prelaunch");
    let stopped = host.stop(&["--quit", "0"]);
    assert_eq!(stopped["way"], "sigterm");
    assert!(stopped["notes"][0].as_str().unwrap().contains("paused"), "{stopped}");
    assert!(!lives(pid_of(&started)));
}

#[test]
fn a_pid_that_is_another_process_s_now_is_never_killed() {
    let host = Startable::new(START);
    let started = host.start();
    let text = fs::read_to_string(host.run_file()).unwrap();
    host.stop(&["--powerdown", "0"]);
    // As a reused pid looks: our own, with the start of the one that has ended.
    let forged =
        text.replace(&format!("\"pid\":{}", started["pid"]), &format!("\"pid\":{}", std::process::id()));
    assert_ne!(forged, text);
    fs::write(host.run_file(), forged).unwrap();
    assert_eq!(host.state(), "off");
    assert_eq!(host.stop(&[])["way"], "was-off");
    // What cannot be understood is no reason to start a second one.
    for nonsense in ["", "{}", "{\"format_version\":2}"] {
        fs::write(host.run_file(), nonsense).unwrap();
        host.refuses(5, ["domain", "start", "web"]).tells("web.run");
    }
    fs::remove_file(host.run_file()).unwrap();
}

#[test]
fn one_whose_run_file_is_lost_is_known_by_its_monitor() {
    let host = Startable::new(START);
    let started = host.start();
    fs::remove_file(host.run_file()).unwrap();
    let status = host.json(&["domain", "status", "web"]);
    assert_eq!((&status["state"], &status["pid"]), (&Value::from("running"), &started["pid"]));
    host.refuses(5, ["domain", "start", "web"]).tells("runs already");
    // Without a socket too: the log that it has open tells.
    let socket = status["socket"].as_str().unwrap();
    fs::rename(socket, format!("{socket}-away")).unwrap();
    host.refuses(4, ["domain", "start", "web"]).tells("web.log");
    fs::rename(format!("{socket}-away"), socket).unwrap();
    assert_eq!(pid_of(&host.stop(&["--powerdown", "0"])), pid_of(&started));
}

#[test]
fn one_that_ends_early_shows_what_it_said() {
    let host = Startable::new("argv = [\"qemu-system-x86_64\", \"-machine\", \"no-such-machine\"]\n");
    let ran = host.run(["domain", "start", "web"]);
    assert_eq!(ran.code, 1);
    // QEMU 10.0 names the machine type in its sentence, 7.2 does not.
    ran.tells("unsupported machine type").tells("ended at once");
    assert_eq!(host.state(), "off");
    host.set_start("argv = [\"no-such-program\"]\n");
    let ran = host.run(["domain", "start", "web"]);
    assert_eq!(ran.code, 1);
    ran.tells("no-such-program");
    // One that never opens a monitor is not left behind.
    host.set_start("argv = [\"sh\", \"-c\", \"echo $$; exec sleep 1000\"]\n");
    let ran = host.run(["domain", "start", "web", "--within", "0.3"]);
    assert_eq!(ran.code, 1);
    ran.tells("in time");
    let log = fs::read_to_string(host.root().join("domains/web.log")).unwrap();
    assert!(!lives(log.lines().last().unwrap().parse().unwrap()), "{log}");
}

#[test]
fn what_cannot_be_started_is_refused() {
    let host = Startable::new("memroy = 64\n");
    host.refuses(5, ["domain", "start", "web"]).tells("memroy").tells("line ");
    host.set_start(START);
    let text = fs::read_to_string(host.file()).unwrap();
    fs::write(host.file(), format!("qmp = \"/{}\"\n{text}", "x".repeat(120))).unwrap();
    assert_eq!(host.run(["domain", "start", "web"]).code, 5);
    fs::write(host.file(), text.split("[start]").next().unwrap()).unwrap();
    host.refuses(5, ["domain", "start", "web"]).tells("[start]");
    host.refuses(3, ["domain", "start", "db"]);
}

#[test]
fn of_many_that_start_it_one_wins() {
    let host = Startable::new(START);
    let mut running: Vec<_> =
        (0..4).map(|_| host.command(["domain", "start", "web"]).spawn().unwrap()).collect();
    let codes: Vec<i32> = running.iter_mut().map(|child| child.wait().unwrap().code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| matches!(code, 4 | 5)).count(), 3, "{codes:?}");
    assert_eq!(host.state(), "running");
}

#[test]
fn it_is_started_and_stopped_again_and_again() {
    let host = Startable::new(START);
    for _ in 0..20 {
        host.start();
        assert_eq!(host.stop(&["--powerdown", "0"])["way"], "quit");
    }
}

#[test]
fn run_waits_for_the_end() {
    let host = Startable::new(START);
    let mut command = host.command(["domain", "run", "web", "--paused"]);
    let running = std::thread::spawn(move || finish(&mut command));
    wait_until("it runs", || (host.state() == "prelaunch").then_some(()));
    host.stop(&["--powerdown", "0"]);
    assert_eq!(running.join().unwrap().code, 0);
    host.set_start("argv = [\"false\"]\n");
    assert_eq!(host.run(["domain", "run", "web"]).code, 1);
}
