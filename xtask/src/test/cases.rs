//! The tests that there are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Failure;
use crate::command::{cargo, shown};

/// A program with tests.
#[derive(Debug)]
struct Program {
    executable: PathBuf,
    /// Where cargo runs it: the directory of its package.
    directory: PathBuf,
    /// Its package's directory and its target, as a person would name them.
    title: String,
}

/// One test.
#[derive(Debug)]
pub(super) struct Case {
    executable: PathBuf,
    directory: PathBuf,
    /// The title of its program.
    program: String,
    /// Its path inside the program.
    name: String,
    /// The same with the package and the target before it.
    pub(super) title: String,
    /// The code says `#[ignore = "why"]`.
    pub(super) is_ignored: bool,
}

/// The test targets that start QEMU's programs.
const ON_REAL_PROGRAMS: [&str; 11] = [
    "guest-agent agent",
    "qemu behaviour_images",
    "qemu behaviour_live",
    "testkit guest",
    "qemu images",
    "cli it",
    "qemu live",
    "qemu machine",
    "qmp-transport qmp",
    "qemu-img real",
    "testkit real",
];

impl Case {
    /// The process that runs this test and no other.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        // Not captured: what a test printed before its time was over is all that is known of it.
        command.args(["--exact", "--nocapture", &self.name]);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory).stdin(Stdio::null());
        command
    }
}

/// Builds the programs of `build`, a line for `cargo test`, and gives their tests.
///
/// # Errors
/// What the compiler says, or a program that does not list its tests.
pub(super) fn cases(build: &str) -> Result<Vec<Case>, Failure> {
    let mut command = cargo(build);
    command.args(["--quiet", "--no-run", "--locked", "--message-format", "json-render-diagnostics"]);
    let built = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure(format!("cannot run {}: {e}", shown(&command))))?;
    if !built.status.success() {
        return Err(Failure(format!("{} failed ({})", shown(&command), built.status)));
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let mut cases = Vec::new();
    for program in messages.lines().filter_map(program) {
        cases.extend(tests(&program)?);
    }
    Ok(cases)
}

/// Those that start QEMU's programs.
///
/// # Errors
/// The list of their targets names one that is not there: its tests would not be run.
pub(super) fn on_real_programs(all: &[Case]) -> Result<Vec<&Case>, Failure> {
    if let Some(gone) = ON_REAL_PROGRAMS.iter().find(|name| all.iter().all(|case| case.program != **name)) {
        return Err(Failure(format!("there is no test target {gone}: see xtask/src/test/cases.rs")));
    }
    Ok(all.iter().filter(|case| ON_REAL_PROGRAMS.contains(&case.program.as_str())).collect())
}

/// The program that a message of cargo tells of, if it has tests.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = directory.file_name()?.to_string_lossy().into_owned();
    let target = message["target"]["name"].as_str()?;
    let executable = message["executable"].as_str()?.into();
    Some(Program { executable, title: format!("{package} {target}"), directory })
}

fn tests(program: &Program) -> Result<Vec<Case>, Failure> {
    let ignored = list(program, &["--ignored"])?;
    let case = |name: String| Case {
        executable: program.executable.clone(),
        directory: program.directory.clone(),
        program: program.title.clone(),
        title: format!("{} {name}", program.title),
        is_ignored: ignored.contains(&name),
        name,
    };
    Ok(list(program, &[])?.into_iter().map(case).collect())
}

fn list(program: &Program, more: &[&str]) -> Result<Vec<String>, Failure> {
    let mut command = Command::new(&program.executable);
    command.args(["--list", "--format", "terse"]).args(more).current_dir(&program.directory);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| Failure(format!("cannot run {}: {e}", shown(&command))))?;
    if !output.status.success() {
        return Err(Failure(format!("{} does not list its tests ({})", program.title, output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_with_tests_has_any() {
        let message = |test: bool, reason: &str| {
            serde_json::json!({
                "reason": reason, "manifest_path": "/x/crates/cli/Cargo.toml", "target": {"name": "it"},
                "profile": {"test": test}, "executable": "/x/target/debug/deps/it-1",
            })
            .to_string()
        };
        let found = program(&message(true, "compiler-artifact")).unwrap();
        assert_eq!((found.title.as_str(), found.directory.as_path()), ("cli it", Path::new("/x/crates/cli")));
        assert!(program(&message(false, "compiler-artifact")).is_none());
        assert!(program(&message(true, "build-finished")).is_none());
        assert!(program("no JSON").is_none());
    }
}
