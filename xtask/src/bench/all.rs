//! All scenarios, and running them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::create::create;
use super::external;
use super::json::json;
use super::list::list;
use super::memory::{beside_qemu, memory, pause_beside_virsh};
use super::promise::{Line, Promise, table};
use super::revert::{revert, undo_points};
use super::startup::startup;
use super::used_memory::used_memory;
use super::virsh::virsh;
use crate::command::{cargo, run, target};
use crate::{Done, Echo, Failure};

/// What is asked of [`bench()`].
#[derive(Debug, Default)]
pub struct Options {
    /// Only scenarios whose name contains this.
    pub filter: Option<String>,
    /// How often each side of a scenario runs.
    pub rounds: usize,
    /// Whether a promise that is not kept is a failure.
    pub assert: bool,
    /// One small round of each with the unoptimised build: shows that the scenarios work, and measures nothing.
    pub smoke: bool,
}

/// What every scenario gets.
#[derive(Debug)]
pub(super) struct Bench {
    /// The command; built for release unless `smoke`.
    pub(super) xlsnap: PathBuf,
    /// How often each side runs.
    pub(super) rounds: usize,
    pub(super) smoke: bool,
}

impl Bench {
    /// The command on a store of its own, below `scratch`.
    pub(super) fn xlsnap<const N: usize>(&self, scratch: &Path, arguments: [&str; N]) -> Command {
        let mut command = Command::new(&self.xlsnap);
        command.arg("--root").arg(scratch.join("root")).args(arguments);
        command
    }
}

/// A scenario gives no lines where what it needs is not installed, and says so.
type Scenario = (&'static str, fn(&Bench) -> Result<Vec<Line>, Failure>);

const SCENARIOS: &[Scenario] = &[
    ("start-up", startup),
    ("create, two disks of a running QEMU", create),
    ("create beside virsh", virsh),
    ("create with memory", memory),
    ("create with memory, beside QEMU alone", beside_qemu),
    ("pause with memory, beside virsh", pause_beside_virsh),
    ("a gibibyte of memory: save and restore", used_memory),
    ("list", list),
    ("revert, 8 disks", revert),
    ("revert with undo points, 8 full disks", undo_points),
    ("external create and delete, beside virsh", external::beside_virsh),
    ("external delete of a running QEMU, beside its own job", external::merge),
    ("external delete, beside virsh", external::merge_beside_virsh),
    ("external revert, 8 disks", external::revert),
    ("external revert, 8 disks, beside virsh", external::revert_beside_virsh),
    ("libxl-json", json),
];

/// Runs the scenarios and prints a table of each, or why it cannot be run.
///
/// # Errors
/// After all of them: the scenarios that could not run, and with `assert` the number of promises that were not kept.
pub fn bench(options: &Options) -> Done {
    let (profile, directory) = if options.smoke { ("", "debug") } else { ("--release", "release") };
    run(Echo::Failures, cargo(&format!("build --quiet {profile} --locked --package xlsnap-cli")))?;
    let xlsnap = target().join(directory).join("xlsnap");
    let bench =
        Bench { xlsnap, rounds: if options.smoke { 1 } else { options.rounds }, smoke: options.smoke };
    let asked = |name: &str| options.filter.as_ref().is_none_or(|part| name.contains(part));
    let mut broken = 0;
    let mut not_run = Vec::new();
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| asked(name)) {
        let mut lines = match scenario(&bench) {
            Ok(lines) => lines,
            Err(Failure(why)) => {
                println!("{name}: cannot be run: {why}\n");
                not_run.push(format!("{name}: {why}"));
                continue;
            }
        };
        if lines.is_empty() {
            continue;
        }
        if options.smoke {
            // The promises are the optimised build's.
            lines.iter_mut().for_each(|line| line.promise = Promise::None);
        }
        broken += lines.iter().filter(|line| !line.is_kept()).count();
        println!("{}", table(name, &lines));
    }
    let mut failures = Vec::new();
    if !not_run.is_empty() {
        failures.push(format!("these scenarios could not be run:\n  {}", not_run.join("\n  ")));
    }
    if options.assert && broken > 0 {
        failures.push(format!("{broken} of the promises above are broken"));
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure(failures.join("\n"))) }
}
