//! Records what the installed QEMU says: transcripts and schemas for this crate's tests.
//!
//! `cargo run --example record -- DIRECTORY` starts `qemu-storage-daemon` and `qemu-system-x86_64` on images in a
//! temporary directory, executes the scenarios below, and writes `transcripts/*.txt` and `schemas/*.json` under
//! DIRECTORY (`crates/qmp-transport/tests`), named after the program and its version. Of another QEMU than the installed
//! one, when its programs are the first on `PATH`.
//!
//! `cargo run --example record -- prune < REPLY > SCHEMA` cuts the reply of `query-qmp-schema` of some other QEMU down
//! to the commands that this crate has, as it does for those above.
//!
//! It drives a [`Session`] over a plain blocking socket: an example of a driver without tokio, too.

use std::collections::HashSet;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use xlsnap_qmp_transport::Event;
use xlsnap_qmp_transport::session::{Config, Output, Session};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long QEMU may take to start, and for each step.
const PATIENCE: Duration = Duration::from_secs(30);

/// The commands whose part of the schema is kept.
const COMMANDS: &[&str] = &[
    "add-fd",
    "block-commit",
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-remove",
    "block-export-add",
    "block-export-del",
    "block-job-set-speed",
    "block-stream",
    "blockdev-add",
    "blockdev-del",
    "blockdev-set-active",
    "blockdev-snapshot",
    "blockdev-snapshot-delete-internal-sync",
    "blockdev-snapshot-internal-sync",
    "blockdev-snapshot-sync",
    "cont",
    "getfd",
    "human-monitor-command",
    "job-cancel",
    "job-complete",
    "job-dismiss",
    "job-finalize",
    "migrate",
    "migrate-continue",
    "migrate-incoming",
    "migrate-set-capabilities",
    "migrate-set-parameters",
    "migrate_cancel",
    "nbd-server-start",
    "nbd-server-stop",
    "qom-get",
    "qom-list",
    "qom-set",
    "query-block",
    "query-block-exports",
    "query-block-jobs",
    "query-commands",
    "query-jobs",
    "query-kvm",
    "query-memory-size-summary",
    "query-migrate",
    "query-migrate-capabilities",
    "query-migrate-parameters",
    "query-name",
    "query-named-block-nodes",
    "query-qmp-schema",
    "query-status",
    "query-uuid",
    "query-version",
    "quit",
    "remove-fd",
    "snapshot-delete",
    "snapshot-load",
    "snapshot-save",
    "stop",
    "system_powerdown",
    "system_reset",
    "transaction",
    "x-blockdev-set-iothread",
    "x-debug-query-block-graph",
    "xen-save-devices-state",
];

enum Step {
    /// Execute this and wait for the reply.
    Do(&'static str, Value),
    /// Wait for an event of this name with this value in its data, since the command before.
    Until(&'static str, &'static str),
}
use Step::{Do, Until};

fn internal(device: &str, name: &str) -> Value {
    json!({"type": "blockdev-snapshot-internal-sync", "data": {"device": device, "name": name}})
}

/// Both programs: the errors of snapshots, transactions, jobs.
fn block_scenario(directory: &str) -> Vec<Step> {
    let snapshot = |device: &str, name: &str| {
        Do("blockdev-snapshot-internal-sync", json!({"device": device, "name": name}))
    };
    let delete = |arguments| Do("blockdev-snapshot-delete-internal-sync", arguments);
    let transaction = |actions: &[Value]| Do("transaction", json!({"actions": actions}));
    vec![
        Do("query-version", json!({})),
        Do("nosuch", json!({})),
        Do("query-version", json!({"x": 1})),
        Do("qmp_capabilities", json!({})),
        Do("blockdev-snapshot-internal-sync", json!({"device": "d0"})),
        Do("blockdev-snapshot-internal-sync", json!({"device": "d0", "name": 5})),
        snapshot("d0", "s1"),
        snapshot("d0", "s1"),
        snapshot("d0", ""),
        snapshot("nope", "s1"),
        snapshot("raw0", "s1"),
        snapshot("ro0", "s1"),
        snapshot("f0", "s1"),
        snapshot("d0", "\u{1f4be} \"quoted\" \\ {[ \u{e9}"),
        transaction(&[internal("d0", "t1"), internal("d1", "t1")]),
        transaction(&[internal("d0", "t2"), internal("nope", "t2"), internal("d1", "t2")]),
        transaction(&[internal("d0", "t2"), json!({"type": "abort", "data": {}})]),
        transaction(&[]),
        Do("query-named-block-nodes", json!({"flat": true})),
        Do("x-debug-query-block-graph", json!({})),
        delete(json!({"device": "d0", "name": "nosnap"})),
        delete(json!({"device": "d0"})),
        delete(json!({"device": "raw0", "name": "s1"})),
        delete(json!({"device": "d0", "name": "t1"})),
        Do("block-commit", json!({"device": "nope"})),
        // An overlay, and a job that takes it away again.
        Do(
            "blockdev-add",
            json!({"driver": "qcow2", "node-name": "ov", "backing": null,
                   "file": {"driver": "file", "filename": format!("{directory}/ov.qcow2")}}),
        ),
        Do("blockdev-snapshot", json!({"node": "d1", "overlay": "ov"})),
        Do("query-jobs", json!({})),
        Do("block-commit", json!({"job-id": "j0", "device": "ov", "auto-dismiss": false})),
        Until("BLOCK_JOB_READY", "j0"),
        Do("query-jobs", json!({})),
        Do("query-block-jobs", json!({})),
        Do("job-complete", json!({"id": "j0"})),
        Until("JOB_STATUS_CHANGE", "concluded"),
        Do("job-dismiss", json!({"id": "j0"})),
        Do("query-jobs", json!({})),
        Do("blockdev-del", json!({"node-name": "nope"})),
    ]
}

fn storage_daemon_scenario(directory: &str) -> Vec<Step> {
    let mut steps = block_scenario(directory);
    steps.extend([
        Do("query-status", json!({})),
        Do(
            "nbd-server-start",
            json!({"addr": {"type": "unix", "data": {"path": format!("{directory}/nbd")}}}),
        ),
        Do("block-export-add", json!({"type": "nbd", "id": "e0", "node-name": "d0", "writable": true})),
        Do("query-block-exports", json!({})),
        Do("block-export-del", json!({"id": "e0"})),
        Until("BLOCK_EXPORT_DELETED", "e0"),
        Do("quit", json!({})),
    ]);
    steps
}

fn system_scenario(directory: &str) -> Vec<Step> {
    let mut steps = block_scenario(directory);
    steps.extend([
        Do("query-name", json!({})),
        Do("query-uuid", json!({})),
        Do("qom-get", json!({"path": "/machine", "property": "type"})),
        Do("qom-set", json!({"path": "/machine/peripheral/vd0", "property": "drive", "value": "nope"})),
        Do("query-status", json!({})),
        Do("query-kvm", json!({})),
        Do("cont", json!({})),
        Do("query-status", json!({})),
        Do("system_reset", json!({})),
        Do("stop", json!({})),
        Do("query-status", json!({})),
        Do("query-block", json!({})),
        Do("human-monitor-command", json!({"command-line": "info status"})),
        Do("human-monitor-command", json!({"command-line": "nosuch"})),
        Do("blockdev-set-active", json!({"active": false})),
        Do("blockdev-set-active", json!({"active": true})),
    ]);
    steps.extend(memory_scenario());
    steps.push(Do("quit", json!({})));
    steps
}

/// The machine's state inside its images, and as a stream.
fn memory_scenario() -> Vec<Step> {
    let job = |command, tag: &str| {
        let mut arguments = json!({"job-id": "m0", "tag": tag, "devices": ["ov"]});
        if command != "snapshot-delete" {
            arguments["vmstate"] = json!("ov");
        }
        [
            Do(command, arguments),
            Until("JOB_STATUS_CHANGE", "concluded"),
            Do("query-jobs", json!({})),
            Do("job-dismiss", json!({"id": "m0"})),
        ]
    };
    let events = json!({"capabilities": [{"capability": "events", "state": true}]});
    let mut steps = vec![Do("query-memory-size-summary", json!({}))];
    for (command, tag) in
        [("snapshot-save", "m"), ("snapshot-load", "nope"), ("snapshot-load", "m"), ("snapshot-delete", "m")]
    {
        steps.extend(job(command, tag));
    }
    steps.extend([
        Do("query-migrate", json!({})),
        Do("query-migrate-capabilities", json!({})),
        Do("query-migrate-parameters", json!({})),
        Do("migrate-set-parameters", json!({"max-bandwidth": 1_u64 << 40})),
        Do("migrate-set-capabilities", events),
        Do("migrate-incoming", json!({"uri": "unix:/nowhere"})),
        Do("migrate-continue", json!({"state": "pre-switchover"})),
        Do("migrate", json!({"uri": "exec:cat >/dev/null"})),
        Until("MIGRATION", "completed"),
        Do("query-migrate", json!({})),
    ]);
    steps
}

/// A connection that writes down what goes over it.
struct Recorder<'a> {
    stream: UnixStream,
    session: Session,
    transcript: String,
    /// Replaced in the transcript, so that it is the same everywhere.
    directory: &'a str,
    version: String,
    /// Since the last command was sent.
    events: Vec<Event>,
}

impl<'a> Recorder<'a> {
    fn connect(child: &mut Child, directory: &'a str) -> Result<Self> {
        let socket = Path::new(directory).join("qmp");
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            if let Some(status) = child.try_wait()? {
                return Err(format!("QEMU ended with {status}").into());
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let session = Session::new(Config::new("qmp", 0), Instant::now());
        let (transcript, version) = (String::new(), String::new());
        let mut recorder = Self { stream, session, transcript, directory, version, events: Vec::new() };
        while !matches!(recorder.next()?, Output::Negotiated) {}
        Ok(recorder)
    }

    fn note(&mut self, arrow: &str, bytes: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(bytes)?.replace(self.directory, "/lab");
        for line in text.lines() {
            writeln!(self.transcript, "{arrow} {line}")?;
        }
        Ok(())
    }

    /// The next output of the session; reads whole lines, one at a time, so that they are recorded in order.
    fn next(&mut self) -> Result<Output> {
        loop {
            while let Some(message) = self.session.poll_transmit() {
                self.stream.write_all(&message)?;
                self.note("->", &message)?;
            }
            if let Some(output) = self.session.poll_output() {
                if let Output::Greeting(greeting) = &output {
                    let (major, minor, micro) = greeting.version;
                    self.version = format!("{major}.{minor}.{micro}");
                }
                return Ok(output);
            }
            let mut line = Vec::new();
            let mut byte = [0];
            while !line.ends_with(b"\n") {
                match self.stream.read(&mut byte) {
                    Ok(1) => line.extend(byte),
                    Ok(_) => break,
                    // QEMU may end before it has taken note that we read its last words.
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if line.is_empty() {
                self.session.handle_close(None);
                self.transcript.push_str("!! closed\n");
            } else {
                self.note("<-", &line)?;
                self.session.handle_input(Instant::now(), &line);
            }
        }
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        self.events.clear();
        let sent = self.session.send(command, &arguments, None)?;
        loop {
            match self.next()? {
                Output::Reply { id, result } if id == sent => return Ok(result.unwrap_or_default()),
                Output::Event(event) => self.events.push(event),
                Output::Closed { cause, .. } => return Err(cause.into()),
                _ => {}
            }
        }
    }

    fn play(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            match step {
                Do(command, arguments) => {
                    self.execute(command, arguments)?;
                }
                Until(name, value) => {
                    let is_it =
                        |event: &Event| event.name == *name && event.data.values().any(|is| is == value);
                    while !self.events.iter().any(is_it) {
                        match self.next()? {
                            Output::Event(event) => self.events.push(event),
                            Output::Closed { cause, .. } => return Err(cause.into()),
                            _ => {}
                        }
                    }
                }
            }
        }
        // Each scenario ends with quit.
        while !matches!(self.next()?, Output::Closed { .. }) {}
        Ok(())
    }
}

fn images(directory: &Path) -> Result<()> {
    for (name, format) in [
        ("d0.qcow2", "qcow2"),
        ("d1.qcow2", "qcow2"),
        ("ro.qcow2", "qcow2"),
        ("ov.qcow2", "qcow2"),
        ("r.raw", "raw"),
    ] {
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", format])
            .arg(directory.join(name))
            .arg("16M")
            .status()?;
        if !made.success() {
            return Err(format!("qemu-img create {name} failed").into());
        }
    }
    Ok(())
}

fn blockdevs(flag: &str, directory: &str) -> Vec<String> {
    let node = |options: String| [flag.to_owned(), options];
    let file = |name: &str| format!("file.driver=file,file.filename={directory}/{name}");
    [
        node(format!("driver=qcow2,node-name=d0,{},file.node-name=f0", file("d0.qcow2"))),
        node(format!("driver=qcow2,node-name=d1,{},file.node-name=f1", file("d1.qcow2"))),
        node(format!("driver=raw,node-name=raw0,{}", file("r.raw"))),
        node(format!("driver=qcow2,node-name=ro0,read-only=on,{}", file("ro.qcow2"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A child that is killed when something fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that ended is neither there to be killed nor to be waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn record(program: &str, out: &Path) -> Result<()> {
    let directory = tempfile::tempdir()?;
    images(directory.path())?;
    let here = directory.path().to_str().ok_or("the temporary directory's name is not UTF-8")?;
    let mut command = Command::new(program);
    let system = program != "qemu-storage-daemon";
    let steps = if system {
        command.args(["-machine", "q35,accel=tcg", "-nodefaults", "-display", "none", "-m", "64", "-S"]);
        command.args(["-name", "lab", "-uuid", "00000000-0000-4000-8000-000000000001"]);
        command.args(blockdevs("-blockdev", here));
        command.args([
            "-device",
            "virtio-blk-pci,drive=d0,id=vd0",
            "-device",
            "virtio-blk-pci,drive=d1,id=vd1",
        ]);
        command.args(["-qmp", &format!("unix:{here}/qmp,server=on,wait=off")]);
        system_scenario(here)
    } else {
        command.args(blockdevs("--blockdev", here));
        command.args(["--chardev", &format!("socket,path={here}/qmp,server=on,wait=off,id=c0")]);
        command.args(["--monitor", "chardev=c0"]);
        storage_daemon_scenario(here)
    };
    let mut child = Killed(command.stdin(Stdio::null()).spawn()?);

    let mut first = Recorder::connect(&mut child.0, here)?;
    let schema = first.execute("query-qmp-schema", &json!({}))?;
    drop(first);
    let mut recorder = Recorder::connect(&mut child.0, here)?;
    if let Err(error) = recorder.play(&steps) {
        eprint!("{}", recorder.transcript);
        return Err(error);
    }

    let name = format!("{program}-{}", recorder.version);
    std::fs::create_dir_all(out.join("transcripts"))?;
    std::fs::create_dir_all(out.join("schemas"))?;
    std::fs::write(out.join("transcripts").join(format!("{name}.txt")), &recorder.transcript)?;
    std::fs::write(out.join("schemas").join(format!("{name}.json")), prune(schema)?)?;
    println!("{name}");
    Ok(())
}

/// The commands of [`COMMANDS`] and the types that they reach, an entry a line.
fn prune(schema: Value) -> Result<String> {
    let Value::Array(entries) = schema else { return Err("the schema is not an array".into()) };
    let mut kept: HashSet<String> = COMMANDS.iter().map(|&name| name.to_owned()).collect();
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    // Until it grows no more: types refer to types in any order.
    loop {
        let before = kept.len();
        for entry in entries.iter().filter(|entry| kept.contains(&name(entry))).collect::<Vec<_>>() {
            let lists =
                ["members", "variants"].into_iter().filter_map(|list| entry[list].as_array()).flatten();
            let own = ["arg-type", "ret-type", "element-type"].into_iter().map(|member| &entry[member]);
            let types = own.chain(lists.map(|member| &member["type"]));
            kept.extend(types.filter_map(Value::as_str).map(str::to_owned));
        }
        if kept.len() == before {
            break;
        }
    }
    let mut lines = Vec::new();
    for mut entry in entries.into_iter().filter(|entry| kept.contains(&name(entry))) {
        // An enumeration stands twice in newer schemas.
        if entry["meta-type"] == "enum" {
            entry.as_object_mut().and_then(|entry: &mut Map<String, Value>| entry.remove("members"));
        }
        lines.push(serde_json::to_string(&entry)?);
    }
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn main() -> Result<()> {
    let argument = std::env::args_os().nth(1).ok_or("give the directory to write to, or prune")?;
    if argument == "prune" {
        let mut reply: Value = serde_json::from_reader(std::io::stdin())?;
        print!("{}", prune(reply["return"].take())?);
        return Ok(());
    }
    for program in ["qemu-storage-daemon", "qemu-system-x86_64"] {
        record(program, Path::new(&argument)).map_err(|error| format!("{program}: {error}"))?;
    }
    Ok(())
}
