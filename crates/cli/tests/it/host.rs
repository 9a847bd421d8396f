//! A host for one test: a scratch directory with a root, and the binary run on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use xlsnap_testkit::real::Scratch;

/// A host of its own.
pub(crate) struct Host {
    pub(crate) scratch: Scratch,
}

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Host {
    /// One whose root is there and empty.
    pub(crate) fn new() -> Self {
        Self::of(Scratch::new())
    }

    /// The same in this directory.
    pub(crate) fn of(scratch: Scratch) -> Self {
        let host = Self { scratch };
        fs::create_dir(host.root()).unwrap();
        host
    }

    /// One whose root nothing has made yet.
    pub(crate) fn without_root() -> Self {
        Self { scratch: Scratch::new() }
    }

    /// A host with a domain `web` that is off: disks `vda` and `vdb`, with the data 1 and 2 in them.
    pub(crate) fn with_two_disks() -> (Self, [PathBuf; 2]) {
        let host = Self::new();
        let images = [("vda", 1), ("vdb", 2)]
            .map(|(name, byte)| host.scratch.qcow2_with(&format!("{name}.qcow2"), 4 << 20, byte));
        host.add("web", &images, &[]);
        (host, images)
    }

    /// Describes a domain with the disks `vda`, `vdb`, ...
    pub(crate) fn add(&self, name: &str, images: &[PathBuf], more: &[&str]) {
        let disks: Vec<String> = ["vda", "vdb", "vdc"]
            .iter()
            .zip(images)
            .flat_map(|(disk, image)| ["--disk".to_owned(), format!("{disk}={}", image.display())])
            .collect();
        let words = ["domain", "add", name].into_iter().chain(disks.iter().map(String::as_str));
        self.run(words.chain(more.iter().copied())).ok();
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path("root")
    }

    /// The command, with this host's root and nothing of the environment that changes its words.
    pub(crate) fn command<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xlsnap"));
        command.args(words).env("XLSNAP_ROOT", self.root()).env("TZ", "UTC").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).current_dir(self.scratch.dir());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Ran {
        finish(&mut self.command(words))
    }

    /// Runs it with `--json` and gives the answer.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        self.json_of(0, words)
    }

    /// The same of what ends with `code` and answers all the same.
    pub(crate) fn json_of(&self, code: i32, words: &[&str]) -> Value {
        let ran = self.run(words.iter().chain(&["--json"]));
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.err, "", "{words:?}");
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{words:?}: {e}: {}", ran.out))
    }

    /// The names of the domain's snapshots.
    pub(crate) fn names(&self, domain: &str) -> Vec<String> {
        let list = self.json(&["list", domain]);
        let snapshots = list["domains"][0]["snapshots"].as_array().unwrap();
        snapshots.iter().map(|snapshot| snapshot["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Where the domain's records are.
    pub(crate) fn records(&self, domain: &str) -> PathBuf {
        let uuid = self.json(&["domain", "show", domain])["domain"]["uuid"].as_str().unwrap().to_owned();
        self.root().join(uuid)
    }

    /// Every file of the host with its content, but logs, sockets and locks (a lock's file names the process that held it last).
    pub(crate) fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.files().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// Their paths.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        collect(self.scratch.dir(), &mut files);
        files
    }

    /// Runs what has to fail with `code`, and checks that it changed nothing.
    pub(crate) fn refuses<W: AsRef<OsStr>>(&self, code: i32, words: impl IntoIterator<Item = W>) -> Ran {
        let before = self.state();
        let ran = self.run(words);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.out, "", "a failure answers nothing");
        assert!(ran.err.starts_with("xlsnap: ") || ran.err.starts_with('{'), "{}", ran.err);
        self.assert_state(&before);
        ran
    }

    pub(crate) fn assert_state(&self, before: &BTreeMap<PathBuf, Vec<u8>>) {
        let after = self.state();
        let paths = |state: &BTreeMap<PathBuf, Vec<u8>>| state.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&after), paths(before));
        for (path, content) in &after {
            assert!(before[path] == *content, "{} was changed", path.display());
        }
    }
}

impl Ran {
    /// Checks that it did it.
    #[track_caller]
    pub(crate) fn ok(&self) -> &Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Checks that it says so on standard error.
    #[track_caller]
    pub(crate) fn tells(&self, what: &str) -> &Self {
        assert!(self.err.contains(what), "{what:?} is not in {}", self.err);
        self
    }
}

pub(crate) fn finish(command: &mut Command) -> Ran {
    let output = command.output().expect("the binary is built");
    Ran {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).expect("answers are UTF-8"),
        err: String::from_utf8(output.stderr).expect("errors are UTF-8"),
    }
}

fn collect(dir: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        let name = path.file_name().unwrap().to_str().unwrap();
        if kind.is_dir() {
            collect(&path, files);
        } else if kind.is_file() && !name.ends_with("lock") && !name.ends_with(".log") {
            files.insert(path);
        }
    }
}
