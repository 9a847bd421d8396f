//! The guest's initramfs: compiled and packed when it is first needed.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PROGRAM: &str = include_str!("../../../guest/init.c");

/// Where `ci/setup` puts the part `name` of what comes from Debian: in the target directory.
pub(super) fn tools(name: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), |given| top.join(given));
    let tools = target.join("tools").join(name);
    tools.canonicalize().unwrap_or_else(|e| panic!("{}: {e}: ci/setup makes it", tools.display()))
}

/// The initramfs as a file, beside the kernel. It is made once, and again only when what goes into it is another.
pub(super) fn plain() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| make(Vec::new())).clone()
}

/// The same with the agent.
pub(super) fn with_agent() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| make(agent())).clone()
}

type Files = Vec<(String, Vec<u8>)>;

fn make(programs: Files) -> PathBuf {
    let tools = tools("guest");
    let modules = modules(&tools.join("modules"));
    let mut hasher = DefaultHasher::new();
    (PROGRAM, &modules, &programs).hash(&mut hasher);
    let file = tools.join(format!("initramfs-{:016x}", hasher.finish()));
    if file.exists() {
        return file;
    }
    // Other processes may do the same now; the last one wins, and all are equal.
    let scratch = tempfile::tempdir_in(&tools).expect("the target directory takes a new directory");
    let archive = scratch.path().join("initramfs");
    let mut executables = vec![("init".to_owned(), compile(scratch.path()))];
    executables.extend(programs);
    fs::write(&archive, pack(&executables, &modules)).expect("the target directory has space");
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

/// The files of a directory.
fn modules(directory: &Path) -> Files {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("a directory can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("its name is text");
        (format!("modules/{name}"), fs::read(&path).expect("a file can be read"))
    };
    let mut files: Files = entries.map(file).collect();
    files.sort();
    files
}

/// The agent, and what it links to, from this machine.
fn agent() -> Files {
    let program = tools("guest-agent").join("qemu-ga");
    let output = Command::new("ldd").arg(&program).output().expect("every libc has ldd");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !told.contains("not found"), "{}: {told}", program.display());
    // "name => path (address)", "path (address)" of the loader, and "name (address)" of what the kernel has.
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    let library = |path: String| {
        let content = fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        (path.trim_start_matches('/').to_owned(), content)
    };
    let mut files: Files = told.lines().filter_map(path).map(library).collect();
    files.push(("agent/qemu-ga".to_owned(), fs::read(&program).expect("a file can be read")));
    files
}

fn pack(executables: &[(String, Vec<u8>)], others: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    let names = executables.iter().chain(others).map(|(name, _)| Path::new(name));
    // Those above before those below.
    let directories: BTreeSet<&Path> = names.flat_map(|name| name.ancestors().skip(1)).collect();
    for directory in directories.into_iter().filter(|directory| *directory != Path::new("")) {
        archive.entry(directory.to_str().expect("it was text"), 0o040_755, &[]);
    }
    for (files, mode) in [(executables, 0o100_755), (others, 0o100_644)] {
        for (name, content) in files {
            archive.entry(name, mode, content);
        }
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
