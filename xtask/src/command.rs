//! Running other programs from the top of the checkout.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a chore failed, for the person who called it.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// How a chore ends.
pub type Done = Result<(), Failure>;

/// What is seen of the programs that a chore runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Everything, as it comes.
    All,
    /// The output of a program that failed, and nothing else.
    Failures,
}

/// The top of the checkout.
pub(crate) fn top() -> PathBuf {
    // What `cargo run` says comes first: the binary may have been built in another checkout with the same target directory.
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().expect("xtask is a directory of the checkout").to_owned()
}

/// The target directory that everything shares, fuzzing too.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), |given| top().join(given))
}

/// `program` with `arguments`, in the top directory and without an input.
pub(crate) fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(top()).stdin(Stdio::null());
    command
}

/// The cargo that runs us, with the words of `line` as its arguments.
pub(crate) fn cargo(line: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command(cargo, line.split_whitespace())
}

/// Builds the workspace's programs and examples with the features that its tests are built with. One package alone has others, and
/// what it needs would be built once more for it.
pub(crate) fn build_programs() -> Done {
    run(Echo::Failures, cargo("build --quiet --locked --workspace --bins --examples"))
}

/// How long a program may run where no person watches, as coreutils' `timeout` reads it.
const UNWATCHED: &str = "20m";

/// What `timeout` ends with when it had to end the program.
const TIMED_OUT: i32 = 124;

/// Runs `command` to its end.
pub(crate) fn run(echo: Echo, mut command: Command) -> Done {
    let line = shown(&command);
    let cannot_run = |e| Failure(format!("cannot run {line}: {e}"));
    let (status, output) = match echo {
        Echo::All => {
            eprintln!("$ {line}");
            (command.status().map_err(cannot_run)?, None)
        }
        Echo::Failures => {
            // One file for both outputs keeps their lines in order, and a program that prints much never waits for us.
            let output = tempfile::tempfile().map_err(cannot_run)?;
            // Only there: `timeout` takes what it runs out of the reach of a terminal's Ctrl-C.
            let mut command = if std::env::var_os("CI").is_some() { bounded(&command) } else { command };
            command.stdout(output.try_clone().map_err(cannot_run)?);
            command.stderr(output.try_clone().map_err(cannot_run)?);
            (command.status().map_err(cannot_run)?, Some(output))
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    if let Some(mut output) = output
        && output.rewind().is_ok()
        && output.read_to_end(&mut text).is_ok()
    {
        eprint!("{}", String::from_utf8_lossy(&text));
    }
    if echo == Echo::Failures && status.code() == Some(TIMED_OUT) {
        return Err(Failure(format!("{line} was ended after {UNWATCHED}")));
    }
    Err(Failure(format!("{line} failed ({status})")))
}

/// `command` under a time limit, with all the processes that it starts, so that it cannot hang for ever.
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after=10s", UNWATCHED]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded.current_dir(command.get_current_dir().unwrap_or(Path::new("."))).stdin(Stdio::null());
    bounded
}

/// What `command` prints; its errors go to the terminal.
pub(crate) fn output(mut command: Command) -> Result<Vec<u8>, Failure> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure(format!("cannot run {}: {e}", shown(&command))))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Failure(format!("{} failed ({})", shown(&command), output.status)))
    }
}

/// The triple that rustc builds for when it is not told.
pub(crate) fn build_target() -> Result<String, Failure> {
    let said = output(command(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()), ["-vV"]))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure(format!("rustc -vV names no host: {said}")))
}

/// `command` as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_line_as_typed() {
        for echo in [Echo::All, Echo::Failures] {
            assert!(run(echo, command("true", ["x"])).is_ok());
            let failure = run(echo, command("false", ["x", "y"])).unwrap_err();
            assert_eq!(failure.to_string(), "false x y failed (exit status: 1)");
        }
    }

    #[test]
    fn a_bounded_program_has_the_environment_and_the_place_it_was_given() {
        let mut shell = command(
            "sh",
            ["-c", "[ \"$GIVEN\" = yes ] && [ -z \"${CARGO_PKG_NAME+set}\" ] && [ -f Cargo.lock ]"],
        );
        shell.env("GIVEN", "yes").env_remove("CARGO_PKG_NAME");
        assert!(run(Echo::All, bounded(&shell)).is_ok());
    }
}
