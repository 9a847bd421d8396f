//! How long the command takes to do nothing.

use std::process::Command;

use super::all::Bench;
use super::paired::pairs;
use super::process::run;
use super::promise::{Line, Promise};
use crate::Failure;

/// `xlsnap --version` beside a program that only ends.
pub(super) fn startup(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let pairs = pairs(
        bench.rounds,
        || run(Command::new(&bench.xlsnap).arg("--version")),
        || run(&mut Command::new("true")),
    )?;
    let milliseconds = |run: &super::process::Run| run.wall.as_secs_f64() * 1e3;
    let mebibytes = |run: &super::process::Run| run.peak_memory as f64 / f64::from(1 << 20);
    Ok(vec![
        Line {
            what: "xlsnap --version (ms)".into(),
            sample: pairs.ours(milliseconds),
            promise: Promise::AtMost(3.0),
        },
        Line { what: "true (ms)".into(), sample: pairs.theirs(milliseconds), promise: Promise::None },
        Line { what: "ratio".into(), sample: pairs.ratio(milliseconds), promise: Promise::None },
        Line {
            what: "peak memory (MiB)".into(),
            sample: pairs.ours(mebibytes),
            promise: Promise::AtMost(16.0),
        },
    ])
}
