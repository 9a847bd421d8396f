//! What an operation does, stage for stage.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;
use xlsnap_orchestrator::{Command, Progress};
use xlsnap_testkit::fake::Faults;

use super::tap::Tap;

/// Images that have other names than before.
pub(super) const RENAME: &str = "xlsnap: rename";

/// What was done between two stages' beginnings.
#[derive(Debug, Default)]
struct Windows {
    done: Vec<Vec<Command>>,
    calls: usize,
    memory_files: BTreeSet<PathBuf>,
    /// With their inodes.
    images: BTreeMap<PathBuf, u64>,
}

/// Hears of each stage's beginning, and notes what was done before it.
pub(super) struct Recorder {
    tap: Tap,
    /// The calls of the store.
    store: Faults,
    /// The directory of memory files.
    saves: PathBuf,
    /// The directory of images.
    images: PathBuf,
    windows: Mutex<Windows>,
    /// Where the operation is to be left.
    cut: Mutex<Option<&'static str>>,
    reached: Notify,
}

impl Recorder {
    pub(super) fn new(tap: Tap, store: Faults, saves: PathBuf, images: PathBuf) -> Self {
        let (windows, cut, reached) = (Mutex::default(), Mutex::default(), Notify::new());
        Self { tap, store, saves, images, windows, cut, reached }
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap()
    }

    /// Returns when a step that is told so has begun.
    pub(super) async fn reaches(&self, step: &'static str) {
        *self.cut.lock().unwrap() = Some(step);
        self.reached.notified().await;
    }

    /// Forgets what was done until now.
    pub(super) fn begin(&self) {
        self.close();
        self.windows().done.clear();
    }

    /// What was done: before the first stage, and in each.
    pub(super) fn end(&self) -> Vec<Vec<Command>> {
        self.close();
        std::mem::take(&mut self.windows().done)
    }

    fn close(&self) {
        let mut windows = self.windows();
        let mut done = self.tap.take();
        let calls = self.store.calls();
        for call in &calls[windows.calls..] {
            if ["lock.store", "lock.delete", "lock.set_domain_record"].contains(&call.method) {
                done.push(Command::new("xlsnap: the domain's records"));
            }
        }
        let name = |file: &PathBuf| file.to_str().unwrap().to_owned();
        let all = inodes(&self.images);
        let is_image = |file: &std::path::Path| file.extension().is_some_and(|found| found == "qcow2");
        let mut renamed = false;
        for (file, inode) in &windows.images {
            let made_anew = |command: &Command| {
                command.command == "qemu-img create" && command.files.first() == Some(&name(file))
            };
            if done.iter().any(made_anew) {
                done.push(Command::on("xlsnap: unlink", name(file)));
            } else if all.get(file) != Some(inode) {
                // It has another name now, or is gone, with or without another one in its place.
                let lives = all.values().any(|other| other == inode);
                renamed |= lives || all.contains_key(file);
                if !lives && !all.contains_key(file) {
                    done.push(Command::on("xlsnap: unlink", name(file)));
                }
            }
        }
        done.extend(renamed.then(|| Command::new(RENAME)));
        windows.images = all.into_iter().filter(|(file, _)| is_image(file) || waits(file)).collect();
        let found = std::fs::read_dir(&self.saves).unwrap().map(|entry| entry.unwrap().path());
        let found: BTreeSet<PathBuf> = found.collect();
        let whole = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "save");
        let new: Vec<&PathBuf> = found.difference(&windows.memory_files).filter(whole).collect();
        for file in windows.memory_files.difference(&found) {
            // A file aside that is gone has got its name, or is given up.
            if new.is_empty() || whole(&file) {
                done.push(Command::on("xlsnap: unlink", name(file)));
            }
        }
        done.extend(new.into_iter().map(|file| Command::on("xlsnap: fsync, rename", name(file))));
        windows.calls = calls.len();
        windows.memory_files = found;
        windows.done.push(done);
    }
}

/// Whether a new file waits under this name for that of an image.
fn waits(file: &std::path::Path) -> bool {
    file.extension().is_some_and(|found| found == "name")
}

/// The files in a directory.
fn inodes(directory: &std::path::Path) -> BTreeMap<PathBuf, u64> {
    let found = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    found.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.ino()))).collect()
}

impl Progress for Recorder {
    fn step(&self, _number: usize, _total: usize, what: &str) {
        self.close();
        if self.cut.lock().unwrap().take_if(|at| what.starts_with(*at)).is_some() {
            self.reached.notify_one();
        }
    }

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}
