//! Which process a domain has: known whatever its name is, whatever starts it, and when xlsnap is killed while it starts it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use xlsnap_testkit::real::wait_until;

use crate::life::Startable;

/// A domain that is started by a script, whose text is `body`; QEMU's arguments are `"$@"`.
struct Wrapped {
    host: Startable,
    script: PathBuf,
}

impl Wrapped {
    fn new(body: &str) -> Self {
        let host = Startable::new("memory = 64\n");
        let script = host.scratch.path("wrapper");
        let start = format!(
            "program = {script:?}\naccel = \"tcg\"\nmemory = 64\narguments = [\"-name\", \"process=other\"]\n"
        );
        host.set_start(&start);
        let this = Self { host, script };
        this.becomes(body);
        this
    }

    fn becomes(&self, body: &str) {
        // Written beside and renamed: a shell may still be reading the old one.
        let new = self.script.with_extension("new");
        fs::write(&new, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(&new, &self.script).unwrap();
    }

    /// A script that kills xlsnap, its parent, whenever the file `kill` is there, and then goes on with `rest`.
    fn kills_then(&self, rest: &str) -> String {
        let kill = self.kill();
        format!("if [ -e '{0}' ]; then rm '{0}'; kill -9 $PPID; fi\n{rest}", kill.display())
    }

    fn kill(&self) -> PathBuf {
        self.host.scratch.path("kill")
    }

    /// Runs a command that is killed when it starts QEMU.
    fn killed(&self, words: &[&str]) {
        fs::write(self.kill(), "").unwrap();
        let status = self.host.command(words).status().unwrap();
        assert_eq!(status.code(), None, "it was killed");
        assert!(!self.kill().exists());
    }

    fn status(&self) -> Value {
        self.host.json(&["domain", "status", "web"])
    }

    fn wait_for(&self, state: &str) -> Value {
        wait_until(state, || Some(self.status()).filter(|status| status["state"] == state))
    }
}

const BECOMES: &str = "exec qemu-system-x86_64 \"$@\"";
const HAS_A_CHILD: &str = "qemu-system-x86_64 \"$@\"\nexit $?";

fn comm(status: &Value) -> String {
    fs::read_to_string(format!("/proc/{}/comm", status["pid"])).unwrap().trim().to_owned()
}

#[test]
fn a_process_of_another_name_is_ours() {
    for body in [BECOMES, HAS_A_CHILD] {
        let web = Wrapped::new(body);
        let started = web.host.start();
        let status = web.status();
        assert_eq!((&status["pid"], &status["since"]), (&started["pid"], &started["since"]));
        assert_eq!(comm(&status), "other");
        web.host.run(["create", "web", "s", "--memory"]).ok();
        web.host.run(["revert", "web", "s"]).ok();
        let again = web.status();
        assert_eq!(again["state"], "running");
        assert_ne!(again["pid"], started["pid"], "it was ended and started again");
        assert_eq!(web.host.stop(&["--powerdown", "0"])["way"], "quit");
    }
}

#[test]
fn a_start_that_is_killed_leaves_a_process_that_is_known() {
    for body in [BECOMES, HAS_A_CHILD] {
        let web = Wrapped::new(body);
        web.becomes(&web.kills_then(body));
        web.killed(&["domain", "start", "web"]);
        let status = web.wait_for("running");
        assert!(status["since"].is_u64(), "it was started here: {status}");
        web.host.run(["domain", "start", "web"]).tells("runs already");
        web.host.run(["domain", "remove", "web"]).tells("stop it first");
        // It may be ended and started again.
        web.host.run(["create", "web", "s", "--memory"]).ok();
        web.host.run(["revert", "web", "s"]).ok();
        assert_ne!(web.status()["pid"], status["pid"]);
        web.host.stop(&["--powerdown", "0"]);
        assert_eq!(web.status()["state"], "off");
    }
}

#[test]
fn a_revert_that_is_killed_while_it_starts_qemu_is_finished() {
    for body in [BECOMES, HAS_A_CHILD] {
        let web = Wrapped::new(body);
        web.host.start();
        web.host.run(["create", "web", "m", "--memory"]).ok();
        web.becomes(&web.kills_then(body));
        web.killed(&["revert", "web", "m"]);
        let status = web.wait_for("inmigrate");
        let recovered = web.host.json(&["recover", "web"]);
        assert!(!recovered["domains"][0]["recovered"].is_null(), "{recovered}");
        let now = web.status();
        assert_eq!(now["state"], "running");
        assert_ne!(now["pid"], status["pid"]);
        assert_eq!(web.host.run(["check", "web"]).code, 0);
    }
}

#[test]
fn a_start_that_is_killed_before_the_monitor_is_there_is_waited_for_or_ended() {
    let web = Wrapped::new(BECOMES);
    let gate = web.host.scratch.path("gate");
    let waits = format!("while [ ! -e '{}' ]; do sleep 0.02; done\n{BECOMES}", gate.display());
    web.becomes(&web.kills_then(&waits));

    web.killed(&["domain", "start", "web"]);
    assert_eq!(web.status()["state"], "silent");
    web.host.run(["domain", "start", "web"]).tells("runs already");
    fs::write(&gate, "").unwrap();
    web.wait_for("running");
    web.host.stop(&["--powerdown", "0"]);

    fs::remove_file(&gate).unwrap();
    web.killed(&["domain", "start", "web"]);
    let pid = web.status()["pid"].as_u64().unwrap();
    assert_eq!(web.host.stop(&["--kill", "1"])["way"], "sigterm");
    assert!(
        !fs::exists(format!("/proc/{pid}/exe")).unwrap()
            || fs::read_link(format!("/proc/{pid}/exe")).is_err()
    );
    assert_eq!(web.status()["state"], "off");
    fs::write(&gate, "").unwrap();
    web.host.start();
}

/// A wrapper that clears the environment takes the mark away: then the process is ended by the user's word only.
#[test]
fn one_that_cannot_be_known_is_not_ended_unasked() {
    let web = Wrapped::new(BECOMES);
    web.becomes(&web.kills_then("exec env -i PATH=\"$PATH\" qemu-system-x86_64 \"$@\""));
    web.killed(&["domain", "start", "web"]);
    let status = web.wait_for("running");
    assert!(status["since"].is_null(), "{status}");
    web.host.run(["create", "web", "m", "--memory"]).ok();
    web.host.refuses(5, ["revert", "web", "m"]).tells("not started by xlsnap");
    assert_eq!(web.host.stop(&["--powerdown", "0"])["pid"], status["pid"]);
    web.host.run(["revert", "web", "m"]).ok();
}

/// After an external snapshot the disk has another image, and a command line of the user's has to follow.
#[test]
fn a_command_line_names_the_disk_and_not_its_image() {
    let host = Startable::new("memory = 64\n");
    let [vda, vdb] = ["vda", "vdb"].map(|name| host.scratch.path(&format!("{name}.qcow2")));
    let argv = |first: &str| {
        format!(
            "argv = [\"qemu-system-x86_64\", \"-machine\", \"q35,accel=tcg\", \"-m\", \"64\", \"-nodefaults\", \"-display\", \
             \"none\", \"-drive\", \"if=virtio,format={{format:vda}},file={first}\", \"-drive\", \
             \"if=virtio,format=qcow2,file={}\"]\n",
            vdb.display()
        )
    };
    host.set_start(&argv(vda.to_str().unwrap()));
    for running in [false, true] {
        if running {
            host.start();
        }
        let external = ["create", "web", "e", "--external", "vda"];
        host.refuses(5, external).tells("[start] argv names its image; write {disk:vda} there");
    }
    host.stop(&["--powerdown", "0"]);
    host.set_start(&argv("{disk:vda}"));
    host.refuses(5, ["create", "web", "e", "--external", "vdb"]).tells("{disk:vdb}");
    host.start();
    host.run(["create", "web", "e", "--external", "vda"]).ok();
    host.stop(&["--powerdown", "0"]);
    let pid = host.start()["pid"].as_u64().unwrap();
    let overlay =
        host.json(&["domain", "show", "web"])["domain"]["disks"][0]["image"].as_str().unwrap().to_owned();
    assert_ne!(overlay, vda.to_str().unwrap());
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(String::from_utf8_lossy(&words).contains(&format!("file={overlay}")), "it has the overlay open");
    host.run(["create", "web", "i"]).ok();
}
