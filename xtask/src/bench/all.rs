//! All scenarios, and running them.

use std::path::PathBuf;

use super::promise::{Line, table};
use super::startup::startup;
use crate::command::{cargo, run, target};
use crate::{Done, Echo, Failure};

/// What every scenario gets.
#[derive(Debug)]
pub(super) struct Bench {
    /// The command, built for release.
    pub(super) xlsnap: PathBuf,
    /// How often each side runs.
    pub(super) rounds: usize,
}

type Scenario = (&'static str, fn(&Bench) -> Result<Vec<Line>, Failure>);

const SCENARIOS: &[Scenario] = &[("start-up", startup)];

/// Runs the scenarios whose name contains `filter` and prints a table of each.
///
/// # Errors
/// A scenario that cannot run; with `assert`, the number of promises that were not kept.
pub fn bench(filter: Option<&str>, rounds: usize, assert: bool) -> Done {
    run(Echo::All, cargo("build --quiet --release --locked --package xlsnap-cli"))?;
    let bench = Bench { xlsnap: target().join("release/xlsnap"), rounds };
    let mut broken = 0;
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| filter.is_none_or(|part| name.contains(part)))
    {
        let lines = scenario(&bench)?;
        broken += lines.iter().filter(|line| !line.is_kept()).count();
        println!("{}", table(name, &lines));
    }
    if assert && broken > 0 {
        return Err(Failure(format!("{broken} of the promises above are broken")));
    }
    Ok(())
}
