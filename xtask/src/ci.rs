//! `cargo xtask ci`: the README's second command, which CI runs too.

use std::time::Instant;

use crate::command::{command, run};
use crate::{Done, Echo, Failure, check, e2e, fuzz, package, test, tidy, xen_lab};

/// Long enough to reach past the seeds, short enough for every change.
const FUZZ_SECONDS: u32 = 10;

type Stage = (&'static str, fn() -> Done);

/// In the order in which they are likely to fail soon.
const STAGES: &[Stage] = &[
    ("setup", || setup(&[])),
    ("tidy", tidy::tidy),
    ("check", || check::check(Echo::Failures)),
    ("test", || test::test(Echo::Failures)),
    ("e2e", || e2e::e2e(Echo::Failures)),
    ("xen-lab", || xen_lab::run(&[], Echo::Failures)),
    ("fuzz", || fuzz::fuzz(None, FUZZ_SECONDS, Echo::Failures)),
    ("package", || package::package(Echo::Failures)),
];

/// Sets up and runs everything that can fail, a line for each stage, and nothing else while all is well.
///
/// # Errors
/// The first stage that failed, after what it printed.
pub fn ci() -> Done {
    for (name, stage) in STAGES {
        eprintln!("== {name}");
        let start = Instant::now();
        stage().map_err(|Failure(why)| Failure(format!("{name} failed: {why}")))?;
        eprintln!("== {name}: done in {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Installs what is missing, with the `extras` that `ci/setup` knows.
pub(crate) fn setup(extras: &[&str]) -> Done {
    run(Echo::All, command("bash", ["ci/setup"].iter().chain(extras)))
}
