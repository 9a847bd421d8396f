//! How long the command takes to do nothing.

use std::process::Command;

use super::all::Bench;
use super::paired::pairs;
use super::process::{Run, run};
use super::promise::{Line, Promise};
use crate::Failure;

/// `xlsnap --version` beside a program that only ends.
pub(super) fn startup(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let pairs = pairs(
        bench.rounds,
        || run(Command::new(&bench.xlsnap).arg("--version")),
        || run(&mut Command::new("true")),
    )?;
    Ok(vec![
        Line::new("xlsnap --version (ms)", pairs.ours(Run::milliseconds), Promise::AtMost(3.0)),
        Line::new("true (ms)", pairs.theirs(Run::milliseconds), Promise::None),
        Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::None),
        Line::new(
            "processor time of xlsnap --version (ms)",
            pairs.ours(Run::processor_milliseconds),
            Promise::None,
        ),
        Line::new("peak memory (MiB)", pairs.ours(Run::mebibytes), Promise::AtMost(16.0)),
    ])
}
