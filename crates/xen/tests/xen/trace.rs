//! What had an effect, in the order in which it happened: commands of xl, of qemu-img, and of QEMU's monitor.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use xlsnap_orchestrator::Command;
use xlsnap_qemu_img::{Check, CreateOptions, Error, Image, ImageInfo, Program, QemuImg, Repair, SnapshotRef};

/// The trace. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    commands: Vec<Command>,
    /// The log of the QEMU that lives, and how much of it was read.
    log: Option<(PathBuf, usize)>,
}

impl Trace {
    /// Further arguments of a QEMU that logs the commands of its monitors, and whose log is read from now on.
    pub(crate) fn of_qemu(&self, log: &Path) -> Vec<String> {
        self.0.lock().unwrap().log = Some((log.to_owned(), 0));
        ["-trace", "handle_qmp_command", "-D", log.to_str().unwrap()].map(str::to_owned).into()
    }

    pub(crate) fn push(&self, command: Command) {
        let mut state = self.0.lock().unwrap();
        state.read_log();
        state.commands.push(command);
    }

    /// What happened since the last time.
    pub(crate) fn take(&self) -> Vec<Command> {
        let mut state = self.0.lock().unwrap();
        state.read_log();
        std::mem::take(&mut state.commands)
    }
}

impl State {
    fn read_log(&mut self) {
        let Some((log, read)) = &mut self.log else { return };
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines = text[*read..].split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for line in lines {
            *read += line.len();
            let Some((_, request)) = line.split_once("req: ") else { continue };
            self.commands.extend(effect_of(&serde_json::from_str(request).unwrap()));
        }
    }
}

/// A command of the monitor that changes an image. Nodes are called after the images of this test's rig.
fn effect_of(request: &Value) -> Option<Command> {
    let (command, arguments) = (request["execute"].as_str().unwrap(), &request["arguments"]);
    let image = |node: &Value| node.as_str().unwrap().replace("-qcow2", ".qcow2");
    match command {
        "transaction" => {
            let actions = arguments["actions"].as_array().unwrap();
            let mut types: Vec<&str> =
                actions.iter().map(|action| action["type"].as_str().unwrap()).collect();
            types.dedup();
            let images = actions.iter().map(|action| image(&action["data"]["device"]));
            Some(Command::on_all(format!("QMP transaction: {}", types.join(", ")), images))
        }
        "blockdev-snapshot-delete-internal-sync" => {
            Some(Command::on(format!("QMP {command}"), image(&arguments["device"])))
        }
        "block-dirty-bitmap-remove" => Some(Command::on(format!("QMP {command}"), image(&arguments["node"]))),
        "blockdev-add" => {
            let file = arguments["file"]["filename"].as_str();
            Some(Command::on_all(format!("QMP {command}"), file.map(str::to_owned)))
        }
        "blockdev-del"
        | "qom-set"
        | "block-commit"
        | "job-complete"
        | "job-finalize"
        | "job-dismiss"
        | "human-monitor-command" => Some(Command::new(format!("QMP {command}"))),
        _ => None,
    }
}

/// qemu-img, with its writes in a trace.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) program: Program,
    pub(crate) trace: Trace,
}

impl Traced {
    fn push(&self, words: &str, image: &Image) {
        self.trace.push(Command::on(format!("qemu-img {words}"), image.path.to_str().unwrap()));
    }
}

#[async_trait]
impl QemuImg for Traced {
    async fn info(&self, image: &Image) -> Result<ImageInfo, Error> {
        self.program.info(image).await
    }

    async fn snapshot_create(&self, image: &Image, name: &str) -> Result<(), Error> {
        self.push("snapshot -c", image);
        self.program.snapshot_create(image, name).await
    }

    async fn snapshot_apply(&self, image: &Image, snapshot: &SnapshotRef) -> Result<(), Error> {
        self.push("snapshot -a", image);
        self.program.snapshot_apply(image, snapshot).await
    }

    async fn snapshot_delete(&self, image: &Image, snapshot: &SnapshotRef) -> Result<(), Error> {
        self.push("snapshot -d", image);
        self.program.snapshot_delete(image, snapshot).await
    }

    async fn bitmap_remove(&self, image: &Image, name: &str) -> Result<(), Error> {
        self.push("bitmap --remove", image);
        self.program.bitmap_remove(image, name).await
    }

    async fn check(&self, image: &Image, repair: Option<Repair>) -> Result<Check, Error> {
        if repair.is_some() {
            self.push("check -r", image);
        }
        self.program.check(image, repair).await
    }

    async fn commit(
        &self,
        top: &Image,
        base: &Image,
        rate: Option<NonZeroU64>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        self.push("commit", top);
        self.program.commit(top, base, rate, done).await
    }

    async fn copy_snapshot(
        &self,
        image: &Image,
        snapshot: &SnapshotRef,
        to: &Image,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        self.push("convert", to);
        self.program.copy_snapshot(image, snapshot, to, done).await
    }

    async fn copy(&self, image: &Image, to: &Image, done: &(dyn Fn(f64) + Send + Sync)) -> Result<(), Error> {
        self.push("convert", to);
        self.program.copy(image, to, done).await
    }

    async fn rebase(
        &self,
        image: &Image,
        below: Option<&Image>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        self.push("rebase", image);
        self.program.rebase(image, below, done).await
    }

    async fn rebase_unsafe(&self, image: &Image, base: &Image) -> Result<(), Error> {
        self.push("rebase -u", image);
        self.program.rebase_unsafe(image, base).await
    }

    async fn create(&self, image: &Image, options: &CreateOptions) -> Result<(), Error> {
        self.push("create", image);
        self.program.create(image, options).await
    }
}
