//! The guest's initramfs: compiled and packed when it is first needed.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PROGRAM: &str = include_str!("../../../guest/init.c");

/// Where `ci/setup` puts what comes from Debian: in the target directory.
pub(super) fn tools() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), |given| top.join(given));
    let tools = target.join("tools/guest");
    tools.canonicalize().unwrap_or_else(|e| panic!("{}: {e}: ci/setup makes it", tools.display()))
}

/// The initramfs as a file, beside the kernel. It is made once, and again only when what goes into it is another.
pub(super) fn made() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| make(&tools())).clone()
}

fn make(tools: &Path) -> PathBuf {
    let modules = files(&tools.join("modules"));
    let mut hasher = DefaultHasher::new();
    (PROGRAM, &modules).hash(&mut hasher);
    let file = tools.join(format!("initramfs-{:016x}", hasher.finish()));
    if file.exists() {
        return file;
    }
    // Other processes may do the same now; the last one wins, and all are equal.
    let scratch = tempfile::tempdir_in(tools).expect("the target directory takes a new directory");
    let archive = scratch.path().join("initramfs");
    fs::write(&archive, pack(&compile(scratch.path()), &modules)).expect("the target directory has space");
    fs::rename(&archive, &file).expect("a file can be renamed in its directory");
    file
}

fn compile(scratch: &Path) -> Vec<u8> {
    let (source, program) = (scratch.join("init.c"), scratch.join("init"));
    fs::write(&source, PROGRAM).expect("the target directory has space");
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(&source);
    let output = cc.output().expect("a C compiler is installed");
    assert!(output.status.success(), "init.c: {}", String::from_utf8_lossy(&output.stderr));
    fs::read(&program).expect("the compiler makes the program")
}

/// The files of a directory by name.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("a directory can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("its name is text").to_owned();
        (name, fs::read(&path).expect("a file can be read"))
    };
    let mut files: Vec<_> = entries.map(file).collect();
    files.sort();
    files
}

fn pack(init: &[u8], modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.directory("dev");
    archive.directory("modules");
    archive.program("init", init);
    for (name, module) in modules {
        archive.file(&format!("modules/{name}"), module);
    }
    archive.end()
}

/// A cpio archive in the form that the kernel reads (its Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, content);
    }

    fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_644, content);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let length = |bytes: usize| u32::try_from(bytes).expect("a file of the guest is small");
        // Magic, then: ino, mode, uid, gid, nlink, mtime, filesize, major and minor twice, namesize, check.
        let fields = [
            [self.entries, mode, 0, 0, 1, 0, length(content.len())],
            [0, 0, 0, 0, length(name.len() + 1), 0, 0],
        ]
        .concat();
        self.bytes.extend(b"070701");
        for field in &fields[..13] {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
