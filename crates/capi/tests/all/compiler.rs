//! The C compiler, and the library as cargo built it for this test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use xlsnap_testkit::real::Scratch;

/// The crate's directory.
pub(crate) fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where cargo put the shared and the static library: beside this test.
pub(crate) fn built(file: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test.parent().expect("a file is in a directory").join(file);
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// How a program is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    C99,
    Cxx,
}

/// What watches a program while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    Valgrind,
    /// AddressSanitizer, and its search for leaks at the end.
    Address,
}

/// No warning, and nothing that the standard does not have.
pub(crate) const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

/// Whether the library was built with AddressSanitizer too (`cargo xtask sanitize`): then only what has its runtime can load it.
fn is_sanitized() -> bool {
    std::env::var_os("XLSNAP_SANITIZED").is_some()
}

/// A program that was compiled without a warning, and its library, in a directory of its own.
pub(crate) struct Program {
    scratch: Scratch,
    watch: Option<Watch>,
}

impl Program {
    /// Compiles `source` with what the macros in `flags` choose, against the shared library under its own soname.
    pub(crate) fn new(source: &Path, language: Language, flags: &[&str]) -> Self {
        Self::watched(source, language, flags, None)
    }

    pub(crate) fn watched(source: &Path, language: Language, flags: &[&str], watch: Option<Watch>) -> Self {
        let watch = if is_sanitized() { Some(Watch::Address) } else { watch };
        let scratch = Scratch::new();
        let library = built("libxlsnap_capi.so");
        std::os::unix::fs::symlink(&library, scratch.path("libxlsnap.so")).expect("a new name");
        std::os::unix::fs::symlink(&library, scratch.path("libxlsnap.so.0")).expect("a new name");
        let mut compiler = match language {
            Language::C99 => command("cc", &["-std=c99"]),
            Language::Cxx => command("c++", &["-x", "c++"]),
        };
        compiler.args(["-g"]).args(STRICT);
        if watch == Some(Watch::Address) {
            compiler.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        }
        compiler.arg("-I").arg(here("include")).arg("-o").arg(scratch.path("program")).arg(source);
        compiler.args(["-x", "none"]).arg("-L").arg(scratch.dir()).arg("-Wl,-rpath").arg(scratch.dir());
        compiler.args(flags).args(["-lxlsnap", "-lpthread"]);
        must(&mut compiler);
        Self { scratch, watch }
    }

    /// A command that runs it.
    pub(crate) fn command(&self) -> Command {
        let program = self.scratch.path("program");
        let mut command = match self.watch {
            // A child of the program is qemu-img, which has leaks of its own and is not what is looked at.
            Some(Watch::Valgrind) => {
                let mut valgrind = command("valgrind", &["-q", "--leak-check=full", "--error-exitcode=99"]);
                valgrind.args(["--errors-for-leak-kinds=definite,indirect,possible", "--trace-children=no"]);
                valgrind.arg(format!("--suppressions={}", here("tests/c/valgrind.supp").display()));
                valgrind.arg(program).env("UNDER_VALGRIND", "yes");
                valgrind
            }
            _ => Command::new(program),
        };
        command.env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0");
        command
    }

    /// Runs it; what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        must(self.command().args(arguments))
    }
}

/// Every way in which a program is run: as C and as C++, and watched by each watcher.
pub(crate) fn ways() -> impl Iterator<Item = (Language, Option<Watch>)> {
    let ways = [
        (Language::Cxx, None),
        (Language::C99, Some(Watch::Valgrind)),
        (Language::C99, Some(Watch::Address)),
    ];
    // Two watchers do not go together.
    ways.into_iter().filter(|(_, watch)| !is_sanitized() || *watch != Some(Watch::Valgrind))
}

pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs a command that has to work; what it printed.
pub(crate) fn must(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|e| panic!("{:?} is not installed: {e}", command.get_program()));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}
