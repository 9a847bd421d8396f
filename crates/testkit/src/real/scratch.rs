//! A directory of images that goes away with its guard.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::Data;
use super::data::{Target, byte_at, holds, write};

/// A temporary directory for one test; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    /// A new, empty one, with a short name: a Unix socket's path has at most 107 bytes.
    #[expect(clippy::new_without_default, reason = "it makes a directory, which no default should")]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("xlsnap-").tempdir();
        Self { dir: dir.expect("a temporary directory can be made") }
    }

    /// The same in a directory that is there.
    pub fn below(directory: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("xlsnap-").tempdir_in(directory);
        Self { dir: dir.expect("a temporary directory can be made") }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of `name` in it; nothing is made.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A new empty qcow2 image of `size` bytes.
    pub fn qcow2(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        qemu_img(&["create", "-q", "-f", "qcow2", text(&path), &size.to_string()]);
        path
    }

    /// A new qcow2 image of `size` bytes with [`Data::of`]`(byte)` in it.
    pub fn qcow2_with(&self, name: &str, size: u64, byte: u8) -> PathBuf {
        let path = self.qcow2(name, size);
        write_offline(&path, "qcow2", Data::of(byte));
        path
    }

    /// A new qcow2 image on top of `base`.
    pub fn qcow2_on(&self, name: &str, base: &Path) -> PathBuf {
        let path = self.path(name);
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", text(base), text(&path)]);
        path
    }

    /// A new qcow2 image of `size` bytes that keeps the guest's data in another file.
    pub fn qcow2_with_data_file(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        let option = format!("data_file={}.data", path.display());
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", &option, text(&path), &size.to_string()]);
        path
    }

    /// A new raw image of `size` zero bytes.
    pub fn raw(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        let file = File::create_new(&path).expect("the scratch directory takes a new file");
        file.set_len(size).expect("a sparse file takes any size");
        path
    }
}

/// Writes to an image that no process has open.
pub fn write_offline(file: &Path, format: &str, data: Data) {
    write(Target::File(file, format), data);
}

/// Whether an image that no process has open holds `data`.
pub fn holds_offline(file: &Path, format: &str, data: Data) -> bool {
    holds(Target::File(file, format), data)
}

/// The byte at `offset` of an image that no process has open.
pub fn byte_offline(file: &Path, format: &str, offset: u64) -> u8 {
    byte_at(Target::File(file, format), offset)
}

/// Runs qemu-img and gives what it printed.
///
/// # Panics
/// When it fails.
pub fn qemu_img(arguments: &[&str]) -> String {
    let run = || Command::new("qemu-img").args(arguments).output().expect("qemu-img is installed");
    // How costly a key is made, qemu-img measures by the processor's time, which may not have moved on (7.2).
    let unmeasured = |output: &Output| {
        String::from_utf8_lossy(&output.stderr).contains("Unable to get accurate CPU usage")
    };
    let output = (0..10).map(|_| run()).find(|output| !unmeasured(output)).unwrap_or_else(run);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The byte that the first 64 KiB of an image have, or of a snapshot inside it, whatever process has it open.
///
/// # Panics
/// When they are not one byte throughout.
pub fn layer_byte(file: &str, format: &str, inside: Option<&str>) -> u8 {
    let read = format!("{file}.read");
    let inside = inside.map(|tag| format!("snapshot.name={tag}"));
    let mut arguments = vec!["convert", "-U", "-f", format, "-O", "raw"];
    arguments.extend(inside.iter().flat_map(|inside| ["-l", inside]));
    arguments.extend([file, &read]);
    qemu_img(&arguments);
    let bytes = std::fs::read(&read).expect("qemu-img wrote it");
    std::fs::remove_file(&read).expect("it is there");
    let bytes = &bytes[..64 << 10];
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "{file} holds more than one pattern");
    bytes[0]
}

/// The major and minor version of the QEMU whose programs are the first on `PATH`, which is where everything here and the
/// code under test find them.
pub fn qemu_version() -> (u32, u32) {
    let said = qemu_img(&["--version"]);
    let mut numbers = said.split_whitespace().nth(2).into_iter().flat_map(|version| version.split('.'));
    let mut number = || numbers.next()?.parse().ok();
    let version = number().zip(number());
    version.unwrap_or_else(|| panic!("qemu-img does not say its version: {said}"))
}

/// The names of the snapshots inside an image, oldest first, whichever process has it open.
pub fn snapshots_in(file: &Path) -> Vec<String> {
    let info = qemu_img(&["info", "-U", "--output=json", "-f", "qcow2", text(file)]);
    let info: serde_json::Value = serde_json::from_str(&info).expect("qemu-img prints JSON");
    let names = info["snapshots"].as_array().into_iter().flatten();
    names.map(|snapshot| snapshot["name"].as_str().expect("a name is text").to_owned()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a fixture's path is text")
}
