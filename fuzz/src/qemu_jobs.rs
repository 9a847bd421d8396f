//! What a QEMU that may be anything says of a job that moves data between layers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::broadcast;
use xlsnap_orchestrator::{FileIdentity, LayerFile, Layers, Merge, PortError, Progress, Stream};
use xlsnap_qemu::{DiskSpec, Live};
use xlsnap_qmp_transport::{Effect, Error, Event, EventStream, Kind, Qmp};
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::headers::Headers;
use crate::qemu_inventory::Nowhere;

/// The layers of the disk, from the top down.
const LAYERS: [&str; 3] = ["top", "middle", "base"];

/// The word of the operation; the job has its name from it.
const TOKEN: &str = "fuzz";
const JOB: &str = "xls-fuzz";

/// More commands than this for each answer to `query-jobs`, and what follows a job does not end.
const COMMANDS_AN_ANSWER: usize = 100;

/// The first byte says what is done: the layer in the middle is merged, or the one on top; into the one on top is copied what is below
/// it, or all; or one of these is parked. Each line of the rest is an answer to `query-jobs`, in letters (see [`Told::letters`]) or as JSON, or
/// after `B` one to `query-block-jobs`, or after `V` an event. When there are no more lines QEMU has no job.
///
/// It ends, and is not called done unless the layers are so by then, and the job is gone or concluded without an error; nor without an
/// effect while the job is at work.
pub fn qemu_jobs(data: &[u8]) {
    follow(data);
}

/// Whether it is called done.
fn follow(data: &[u8]) -> bool {
    let Some((&mode, script)) = data.split_first() else { return false };
    FILES.with(|files| {
        let told = Arc::new(Told::new(files.path(), mode, script));
        let done = carry_out(Arc::clone(&told), files.path(), mode);
        let state = told.state();
        match &done {
            Ok(()) => {
                assert!(state.is_moved, "it is called done, and the layers are as before");
                let last = state.last.as_ref().and_then(Value::as_array).into_iter().flatten();
                for job in last.filter(|job| job["id"] == JOB) {
                    let (status, error) = (&job["status"], &job["error"]);
                    assert_eq!((status, error), (&json!("concluded"), &Value::Null), "it is called done");
                }
            }
            Err(Some(error)) => {
                let said = error.to_string();
                assert!(!said.contains(char::is_control), "{said}");
                let has_effect = error.effect != xlsnap_orchestrator::Effect::None;
                assert!(has_effect || !state.is_at_work, "its job is at work, and it has no effect: {said}");
            }
            Err(None) => {}
        }
        done.is_ok()
    })
}

thread_local! {
    static FILES: TempDir = files();
}

/// The files are empty: what their headers say is in [`State`].
fn files() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for name in LAYERS {
        fs::write(directory.path().join(name), "").expect("a file can be written");
    }
    directory
}

/// Whether it is done; `None` of what is parked, which may be either.
fn carry_out(told: Arc<Told>, directory: &Path, mode: u8) -> Result<(), Option<PortError>> {
    let spec = DiskSpec {
        name: disk(),
        file: path(directory, "top"),
        format: ImageFormat::Qcow2,
        read_only: false,
        removable: false,
        node: None,
        key_file: None,
        overlays: None,
    };
    let headers = Arc::clone(&told);
    let below = move |file: &Path| headers.below(file.file_name()?.to_str()?).map(|name| headers.path(name));
    let live = Live::new(told, Arc::new(Headers(below)), vec![spec], Arc::new(Nowhere));
    let layer = |name: &str| layer(directory, name);
    let merge = |from: &str, into: &str, above: &[&str]| Merge {
        from: layer(from),
        into: layer(into),
        active: above.is_empty(),
        above: above.iter().map(|name| layer(name)).collect(),
        rate: None,
        token: TOKEN.to_owned(),
    };
    let stream = |below: Option<&str>| Stream {
        into: layer("top"),
        was: layer("middle"),
        below: below.map(layer),
        rate: None,
        token: TOKEN.to_owned(),
    };
    let parks = mode & 4 != 0;
    let work = async {
        match Moves::of(mode) {
            Moves::Middle | Moves::Top => {
                let merge = match Moves::of(mode) {
                    Moves::Middle => merge("middle", "base", &["top"]),
                    _ => merge("top", "middle", &[]),
                };
                match parks {
                    true => live.park(&merge).await.map(drop),
                    false => live.merge(&merge, &Unwatched).await,
                }
            }
            Moves::Up | Moves::AllUp => {
                let stream = stream(matches!(Moves::of(mode), Moves::Up).then_some("base"));
                match parks {
                    true => live.park_stream(&stream).await.map(drop),
                    false => live.stream(&stream, &Unwatched).await,
                }
            }
        }
    };
    // Time passes at once when nothing else is to be done.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let done = runtime.expect("a runtime can be built").block_on(work);
    if parks { Err(None) } else { done.map_err(Some) }
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("it is text").to_owned()
}

fn disk() -> DiskName {
    DiskName::new("vda").expect("it is a name")
}

fn layer(directory: &Path, name: &str) -> LayerFile {
    let file = path(directory, name);
    let found = fs::metadata(&file).expect("the file is there");
    let identity = Some(FileIdentity { device: found.dev(), inode: found.ino() });
    LayerFile { disk: disk(), file, format: ImageFormat::Qcow2, identity }
}

/// What is done.
#[derive(Clone, Copy)]
enum Moves {
    /// The layer in the middle is merged into the base.
    Middle,
    /// The one on top is merged into the one below it.
    Top,
    /// The layer in the middle is copied into the one on top.
    Up,
    /// All is copied into the one on top.
    AllUp,
}

impl Moves {
    fn of(mode: u8) -> Self {
        [Self::Middle, Self::Top, Self::Up, Self::AllUp][usize::from(mode % 4)]
    }

    /// The layers of the disk after it.
    fn after(self) -> &'static [&'static str] {
        match self {
            Self::Middle | Self::Up => &["top", "base"],
            Self::Top => &["middle", "base"],
            Self::AllUp => &["top"],
        }
    }
}

/// A QEMU that says what the input says of jobs, and of its disks what is so.
struct Told {
    directory: PathBuf,
    moves: Moves,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

struct State {
    /// The lines that are to come, the next one last.
    script: Vec<String>,
    /// Whether the data was moved, and the layers are those after it.
    is_moved: bool,
    /// Whether commands that are no questions are refused, until the next answer.
    refuses: bool,
    /// Whether the connection is lost.
    is_lost: bool,
    /// What a flush says.
    flush: String,
    /// Whether the job was there by the last answer, and was not concluded.
    is_at_work: bool,
    /// The last answer to `query-jobs`.
    last: Option<Value>,
    /// The answers to `query-block-jobs`, where they are not those to `query-jobs`.
    block_jobs: Option<Value>,
    /// How many commands may come before the next answer.
    commands: usize,
}

impl Told {
    fn new(directory: &Path, mode: u8, script: &[u8]) -> Self {
        let script = String::from_utf8_lossy(script);
        let state = State {
            script: script.lines().rev().map(str::to_owned).collect(),
            is_moved: false,
            refuses: false,
            is_lost: false,
            flush: String::new(),
            is_at_work: false,
            last: None,
            block_jobs: None,
            commands: COMMANDS_AN_ANSWER,
        };
        Self {
            directory: directory.to_owned(),
            moves: Moves::of(mode),
            state: Mutex::new(state),
            events: broadcast::channel(16).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test holds it when it panics")
    }

    fn path(&self, name: &str) -> String {
        path(&self.directory, name)
    }

    /// The layers of the disk, from the top down.
    fn chain(&self) -> &'static [&'static str] {
        if self.state().is_moved { self.moves.after() } else { &LAYERS }
    }

    /// What a file's header names.
    fn below(&self, name: &str) -> Option<&'static str> {
        let of = |chain: &[&'static str]| {
            let at = chain.iter().position(|layer| *layer == name)?;
            Some(chain.get(at + 1).copied())
        };
        of(self.chain()).or_else(|| of(&LAYERS)).flatten()
    }

    fn send(&self, name: &str, data: Value) {
        let Value::Object(data) = data else { return };
        // Without a receiver it is lost, as it is in QEMU.
        let _ = self.events.send(Event { name: name.to_owned(), data, timestamp_us: None });
    }

    /// The next answer to `query-jobs`.
    fn jobs(&self) -> Value {
        let mut jobs = json!([]);
        self.state().is_at_work = false;
        loop {
            let Some(line) = self.state().script.pop() else { break };
            match line.as_bytes().first() {
                Some(b'B') => self.state().block_jobs = serde_json::from_str(&line[1..]).ok(),
                Some(b'V') => {
                    let event: Value = serde_json::from_str(&line[1..]).unwrap_or_default();
                    self.send(event["event"].as_str().unwrap_or_default(), event["data"].clone());
                }
                Some(b'[' | b'{' | b'"') => {
                    jobs = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    break;
                }
                _ => {
                    jobs = self.letters(&line);
                    break;
                }
            }
        }
        let mut state = self.state();
        state.last = Some(jobs.clone());
        state.commands = COMMANDS_AN_ANSWER;
        jobs
    }

    fn block_jobs(&self) -> Value {
        let state = self.state();
        if let Some(told) = &state.block_jobs {
            return told.clone();
        }
        let mut jobs = state.last.clone().unwrap_or(json!([]));
        for job in jobs.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            let id = job.get("id").cloned().unwrap_or_default();
            job.insert("device".to_owned(), id);
        }
        jobs
    }

    /// An answer in letters.
    fn letters(&self, line: &str) -> Value {
        let (mut status, mut error, mut others, mut progress) = (None, None, 0, 0);
        self.state().refuses = false;
        for letter in line.chars() {
            match letter {
                'c' => status = Some("created"),
                'r' => status = Some("running"),
                'p' => status = Some("paused"),
                'y' => status = Some("ready"),
                's' => status = Some("standby"),
                'w' => status = Some("waiting"),
                'd' => status = Some("pending"),
                'a' => status = Some("aborting"),
                'k' => status = Some("concluded"),
                'u' => status = Some("undefined"),
                'n' => status = Some("null"),
                'x' => status = Some("one that came later"),
                'E' => error = Some("No space left on device\nand more"),
                'M' => self.state().is_moved = true,
                'F' => self.state().refuses = true,
                'L' => self.state().is_lost = true,
                'H' => self.state().flush = "qemu-io: flush failed: \u{1b}[2J".to_owned(),
                'O' => others += 1,
                '9' => progress = u64::MAX,
                'R' => self.send("BLOCK_JOB_READY", json!({"device": JOB, "type": "commit"})),
                'C' => self.send("BLOCK_JOB_COMPLETED", json!({"device": JOB, "type": "commit"})),
                'X' => self.send("BLOCK_JOB_COMPLETED", json!({"device": JOB, "error": "\u{1b}No\nspace"})),
                'A' => self.send("BLOCK_JOB_CANCELLED", json!({"device": JOB, "type": "stream"})),
                'I' => self.send("BLOCK_JOB_ERROR", json!({"device": JOB, "action": "stop"})),
                'P' => self.send("BLOCK_JOB_PENDING", json!({"id": JOB, "type": "stream"})),
                'S' => self.send("JOB_STATUS_CHANGE", json!({"id": JOB, "status": status})),
                _ => {}
            }
        }
        self.state().is_at_work = status.is_some_and(|status| status != "concluded");
        let job_type = if matches!(self.moves, Moves::Middle | Moves::Top) { "commit" } else { "stream" };
        let job = |id: &str, status: &str| {
            json!({
                "id": id, "type": job_type, "status": status, "error": error,
                "current-progress": progress, "total-progress": progress,
            })
        };
        let others = (0..others).map(|number| job(&format!("other{number}"), "concluded"));
        status.into_iter().map(|status| job(JOB, status)).chain(others).collect()
    }

    fn image(&self, chain: &[&str]) -> Value {
        let Some((name, below)) = chain.split_first() else { return Value::Null };
        json!({
            "filename": self.path(name), "format": "qcow2", "virtual-size": 1 << 20,
            "backing-filename": below.first().map(|name| self.path(name)),
            "full-backing-filename": below.first().map(|name| self.path(name)),
            "backing-image": self.image(below),
        })
    }

    fn node(&self, chain: &[&str]) -> Value {
        json!({
            "node-name": format!("node-{}", chain[0]), "drv": "qcow2", "file": self.path(chain[0]), "ro": false,
            "active": true, "image": self.image(chain), "cache": {}, "backing_file_depth": chain.len() - 1,
            "backing_file": chain.get(1).map(|name| self.path(name)),
        })
    }
}

#[async_trait]
impl Qmp for Told {
    async fn execute_raw(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        {
            let mut state = self.state();
            state.commands = state.commands.checked_sub(1).expect("what follows a job does not end");
            if state.is_lost {
                return Err(Error::new(
                    Kind::Disconnected,
                    Effect::Unknown,
                    format!("{command}: it is closed"),
                ));
            }
        }
        let chain = self.chain();
        Ok(match command {
            "query-jobs" => self.jobs(),
            "query-block-jobs" => self.block_jobs(),
            "query-block" => {
                json!([{"device": "", "qdev": "/machine/peripheral/vda", "inserted": self.node(chain)}])
            }
            "query-named-block-nodes" => (0..chain.len()).map(|at| self.node(&chain[at..])).collect(),
            "x-debug-query-block-graph" => json!({"nodes": [], "edges": []}),
            "query-status" => json!({"status": "running", "running": true}),
            "qom-get" if arguments.get("property") == Some(&json!("type")) => json!("pc-q35-10.0-machine"),
            _ if self.state().refuses => return Err(Error::rejected(command, "GenericError", "not now")),
            "human-monitor-command" => json!(self.state().flush),
            "block-commit"
            | "block-stream"
            | "block-job-set-speed"
            | "blockdev-del"
            | "stop"
            | "cont"
            | "job-complete"
            | "job-finalize"
            | "job-cancel"
            | "job-dismiss" => json!({}),
            _ => return Err(Error::rejected(command, "CommandNotFound", "it has not been found")),
        })
    }

    fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    fn version(&self) -> (u32, u32, u32) {
        (10, 0, 2)
    }
}

struct Unwatched;

impl Progress for Unwatched {
    fn step(&self, _number: usize, _total: usize, _what: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_ends_well_is_done_and_nothing_else() {
        for (seed, is_done) in [
            ("merge_middle", true),
            ("merge_top", true),
            ("stream", true),
            ("merge_top_fails", false),
            ("stream_all_fails", false),
            ("cancelled", false),
            ("refused", false),
            ("lost", false),
            ("met_again", true),
        ] {
            assert_eq!(follow(&fs::read(format!("seeds/qemu_jobs/{seed}")).unwrap()), is_done, "{seed}");
        }
    }
}
