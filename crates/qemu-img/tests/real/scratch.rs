//! A directory of images, and what is done to them behind the runner's back.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use xlsnap_qemu_img::{Image, Program, QemuImg, SnapshotRef};

pub(crate) struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join(name.as_ref())
    }

    /// A new qcow2 image of 1 MiB.
    pub(crate) fn qcow2(&self, name: impl AsRef<OsStr>) -> Image {
        // Made under a name without hazards: the runner's own create is not what most tests are about.
        let plain = self.path("plain.tmp");
        qemu_img([
            OsStr::new("create"),
            "-q".as_ref(),
            "-f".as_ref(),
            "qcow2".as_ref(),
            plain.as_ref(),
            "1M".as_ref(),
        ]);
        std::fs::rename(&plain, self.path(&name)).unwrap();
        image(self.path(name), "qcow2")
    }

    /// The names of all files in it, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

pub(crate) fn image(path: impl Into<PathBuf>, format: &str) -> Image {
    Image::new(path, format)
}

pub(crate) fn program() -> Program {
    Program::default()
}

pub(crate) fn named(name: &str) -> SnapshotRef {
    SnapshotRef { name: name.into(), id: None }
}

pub(crate) fn named_with_id(name: &str, id: &str) -> SnapshotRef {
    SnapshotRef { name: name.into(), id: Some(id.into()) }
}

/// The ids and names of the snapshots in `image`.
pub(crate) async fn snapshots(image: &Image) -> Vec<(String, String)> {
    let info = program().info(image).await.unwrap();
    info.snapshots.into_iter().map(|s| (s.id, s.name)).collect()
}

/// Runs qemu-img as a user would.
pub(crate) fn qemu_img<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) {
    must(Command::new("qemu-img").args(arguments));
}

/// Fills the first 64 KiB of a disk with `byte`.
pub(crate) fn write(image: &Image, byte: u8) {
    must(qemu_io(image).arg("-c").arg(format!("write -P {byte} 0 64k")));
}

/// Whether the first 64 KiB of a disk are all `byte`.
pub(crate) fn holds(image: &Image, byte: u8) -> bool {
    let output = qemu_io(image).arg("-r").arg("-c").arg(format!("read -P {byte} 0 64k")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("read 65536/65536"), "{said} {}", String::from_utf8_lossy(&output.stderr));
    !said.contains("Pattern verification failed")
}

fn qemu_io(image: &Image) -> Command {
    let mut file = image.path.to_str().unwrap().replace(',', ",,");
    file.insert_str(0, &format!("driver={},file.driver=file,file.filename=", image.format));
    let mut command = Command::new("qemu-io");
    command.arg("--image-opts").arg(file);
    command
}

fn must(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Another process that has an image open until this is dropped.
pub(crate) struct Holder {
    child: Child,
    _stdin: ChildStdin,
}

impl Holder {
    pub(crate) fn writing(image: &Image) -> Self {
        Self::start(&mut qemu_io(image))
    }

    pub(crate) fn reading(image: &Image) -> Self {
        Self::start(qemu_io(image).arg("-r"))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"length\n").unwrap();
        // It has answered, so it has opened the image.
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !line.contains("1 MiB") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "qemu-io ended");
        }
        Self { child, _stdin: stdin }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file system of 1 MiB, in a mount namespace of its own, which needs no privilege and leaves no mount behind.
pub(crate) struct SmallFs {
    child: Child,
    _stdin: ChildStdin,
    /// Its root as others see it.
    pub(crate) root: PathBuf,
    _on: tempfile::TempDir,
}

impl SmallFs {
    pub(crate) fn new() -> Self {
        let on = tempfile::tempdir().unwrap();
        Self::try_new(&["-m"], on.path())
            .or_else(|| Self::try_new(&["-U", "-r", "-m"], on.path()))
            .map(|(child, stdin, root)| Self { child, _stdin: stdin, root, _on: on })
            .expect("unshare gives a mount namespace, or a user namespace with one")
    }

    fn try_new(how: &[&str], on: &Path) -> Option<(Child, ChildStdin, PathBuf)> {
        let script = "mount -t tmpfs -o size=1m none \"$0\" && echo mounted && exec cat";
        let mut command = Command::new("unshare");
        command.args(how).args(["sh", "-c", script]).arg(on);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            child.wait().unwrap();
            return None;
        }
        let root = format!("/proc/{}/root{}", child.id(), on.display());
        let stdin = child.stdin.take().unwrap();
        Some((child, stdin, root.into()))
    }
}

impl Drop for SmallFs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
