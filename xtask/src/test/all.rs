//! The groups of tests.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::time::Duration;

use super::campaign;
use super::cases::{Case, cases, on_real_programs};
use super::pool::{Pool, Summary};
use crate::command::{cargo, run, target};
use crate::{Done, Echo, Failure, Seed, ci};

/// How long a test may take. The longest takes two minutes on two cores that do nothing else; a machine that is five times slower
/// has no fault.
pub(super) const BOUND: Duration = Duration::from_secs(600);

/// How long the examples in one crate's documentation may take, all together, as coreutils' `timeout` reads it.
const BOUND_OF_EXAMPLES: &str = "300";

/// What is asked of [`test()`].
#[derive(Debug, Default)]
pub struct Options {
    /// Only tests whose title (package, target, path) contains this; the documentation's examples are not run then.
    pub filter: Option<String>,
    /// Only those on real programs, with this QEMU alone.
    pub qemu: Option<String>,
    /// How many tests run at once; as many as there are processors without it.
    pub at_once: Option<usize>,
    /// Not all of the tests on real programs, and none of those that a [campaign](super::campaign()) runs; all of them without it.
    pub drawn: Option<Drawn>,
}

/// How much is drawn of the tests on real programs, which take most of the time. The lines of the documents are always run.
#[derive(Debug, Clone, Copy)]
pub struct Drawn {
    /// By what is drawn.
    pub seed: Seed,
    /// One of so many runs on the QEMU that is installed.
    pub one_in: usize,
    /// So many run on each other QEMU.
    pub on_others: usize,
}

impl Drawn {
    /// Of all tests, those that run on the installed QEMU. What starts programs comes first: two of the long ones at the end would leave
    /// a processor idle.
    fn of<'a>(self, all: Vec<&'a Case>, real: &[&'a Case]) -> Vec<&'a Case> {
        let is_real = |case: &Case| real.iter().any(|real| real.title == case.title);
        let (mut some, rest): (Vec<&Case>, Vec<&Case>) = all.into_iter().partition(|case| is_real(case));
        let (documents, others): (Vec<&Case>, Vec<&Case>) =
            some.drain(..).partition(|case| case.title.starts_with(DOCUMENTS));
        let count = others.len().div_ceil(self.one_in);
        let drawn = self.seed.draw(others, count, |case| &case.title);
        documents.into_iter().chain(drawn).chain(rest).collect()
    }
}

/// The tests that run the lines of the documents.
const DOCUMENTS: &str = "cli it documents::";

/// Runs all tests: of the workspace, of every seed of every fuzz target, of the documentation, and those on real programs once
/// more with each other QEMU that is supported.
///
/// # Errors
/// What does not build, and the tests that failed; all tests of a group are run.
pub fn test(options: &Options, echo: Echo) -> Done {
    let at_once = options.at_once.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let pool = Pool { at_once: at_once.unwrap_or(2), bound: BOUND, echo };
    let is_asked = |case: &&Case| {
        let is_left = options.drawn.is_some() && campaign::is_of(case, &[]);
        !is_left && options.filter.as_ref().is_none_or(|part| case.title.contains(part))
    };
    let workspace = cases("test --workspace")?;
    let real = on_real_programs(&workspace)?;
    let real: Vec<&Case> = real.into_iter().filter(is_asked).collect();
    if options.qemu.is_none() {
        let seeds = cases("test --manifest-path fuzz/Cargo.toml --target-dir target")?;
        let mut all: Vec<&Case> = workspace.iter().chain(&seeds).filter(is_asked).collect();
        some(&all, options)?;
        if let Some(drawn) = options.drawn {
            all = drawn.of(all, &real);
        }
        told("tests", pool.run(all, |_| ())?)?;
        if options.filter.is_none() {
            documentation(echo)?;
        }
    }
    match &options.qemu {
        Some(qemu) => {
            some(&real, options)?;
            on(qemu, &pool, &real)
        }
        None => OTHER_QEMUS.iter().try_for_each(|qemu| match options.drawn {
            Some(Drawn { seed, on_others, .. }) => {
                on(qemu, &pool, &seed.with(qemu).draw(real.iter().copied(), on_others, |case| &case.title))
            }
            None => on(qemu, &pool, &real),
        }),
    }
}

/// No test at all would pass: of a filter that is misspelt, or that names a test of before.
fn some(cases: &[&Case], options: &Options) -> Done {
    match &options.filter {
        Some(part) if cases.is_empty() => Err(Failure(format!("no test's title contains {part:?}"))),
        _ => Ok(()),
    }
}

/// The examples in the documentation. `timeout` runs those of a crate; cargo gives it to rustdoc.
fn documentation(echo: Echo) -> Done {
    let mut examples = cargo("test --doc --quiet --workspace --locked");
    let runner = format!("target.'cfg(unix)'.runner=['timeout', '--kill-after=10s', '{BOUND_OF_EXAMPLES}']");
    examples.args(["--config", &runner]);
    run(echo, examples)
}

/// The QEMUs that tests on real programs run with, beside the installed one.
const OTHER_QEMUS: [&str; 2] = ["7.2", "11.1"];

/// Runs the tests with that QEMU's programs, where Debian has them.
fn on(qemu: &str, pool: &Pool, cases: &[&Case]) -> Done {
    if cases.is_empty() {
        return Ok(());
    }
    let Some(path) = path_to(qemu)? else { return Ok(()) };
    let with = |command: &mut Command| {
        command.env("PATH", &path);
    };
    told(&format!("tests-on-qemu-{qemu}"), pool.run(cases.iter().copied(), with)?)
}

/// The `PATH` on which a QEMU comes first: every test finds the programs so, and so does the code under test.
pub(super) fn path_to(qemu: &str) -> Result<Option<OsString>, Failure> {
    ci::setup(&[&format!("qemu-{qemu}")])?;
    let programs = target().join(format!("tools/qemu-{qemu}/usr/bin"));
    if !programs.join("qemu-system-x86_64").exists() {
        eprintln!("not run: the tests on QEMU {qemu}, which this Debian has not");
        return Ok(None);
    }
    let given = env::var_os("PATH").unwrap_or_default();
    env::join_paths([programs].into_iter().chain(env::split_paths(&given)))
        .map(Some)
        .map_err(|e| Failure(format!("the target directory cannot be on PATH: {e}")))
}

/// Prints how they ended, and which took longest; what each took is written to a file below the target directory.
pub(super) fn told(group: &str, mut summary: Summary) -> Done {
    let failed = summary.failed.len();
    eprintln!("{group}: {} passed, {failed} failed, {} skipped", summary.passed, summary.ignored);
    for line in &summary.left_out {
        eprintln!("  {line}");
    }
    summary.times.sort_unstable_by(|one, other| other.cmp(one));
    let lines: String =
        summary.times.iter().map(|(took, title)| format!("{:>7.2} {title}\n", took.as_secs_f64())).collect();
    let times = target().join(format!("times-of-{group}.txt"));
    fs::write(&times, lines).map_err(|e| Failure(format!("{}: {e}", times.display())))?;
    eprintln!("  all of them, with what each took: {}", times.display());
    for (took, title) in summary.times.iter().take(5) {
        eprintln!("  {:>6.1} s  {title}", took.as_secs_f64());
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Failure(format!("{group}: {failed} failed:\n  {}", summary.failed.join("\n  "))))
}

/// Saves and restores the memory of a guest that compares it with its disks, so many times in each way, on each QEMU.
///
/// # Errors
/// The first QEMU on which a cycle went wrong.
pub fn soak(cycles: u32) -> Done {
    ci::setup(&[])?;
    let cycling = || {
        let mut tests = cargo("test --quiet --locked --package xlsnap-cli --test it");
        tests.args(["--", "--nocapture", "memory::it_goes_on_from_there_in_every_way"]);
        tests.env("XLSNAP_CYCLES", cycles.to_string());
        tests
    };
    run(Echo::All, cycling())?;
    for qemu in OTHER_QEMUS {
        let with = |mut command: Command, path| {
            command.env("PATH", path);
            run(Echo::All, command)
        };
        path_to(qemu)?.map_or(Ok(()), |path| with(cycling(), path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_no_title_contains_is_a_failure() {
        let misspelt = Options { filter: Some("powercut".to_owned()), ..Options::default() };
        let failure = some(&[], &misspelt).unwrap_err();
        assert_eq!(failure.to_string(), "no test's title contains \"powercut\"");
        // Without a filter there may be none, of a sample say.
        assert!(some(&[], &Options::default()).is_ok());
    }
}
