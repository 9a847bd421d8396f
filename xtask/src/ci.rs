//! `cargo xtask ci`: the README's second command, which CI runs too.

use std::time::{Duration, Instant};

use crate::command::{command, run};
use crate::{Done, Echo, Failure, Seed, check, e2e, fuzz, package, sanitize, test, tidy, xen_lab};

/// Long enough to reach past the seeds, short enough for every change.
const FUZZ_SECONDS: u32 = 10;

/// One of so many tests on real programs runs, so many of them on each other QEMU, and so many of the scenarios of all labs, unless all
/// are asked for. All of them take longer than a change may wait; `cargo xtask ci --all` runs them, the scenarios in the lab of each Xen.
const ONE_IN: usize = 2;
const ON_OTHER_QEMUS: usize = 25;
const SCENARIOS: usize = 1;

/// For how many minutes tests that kill something are begun; `cargo xtask campaign` runs them for longer.
const KILLING: u64 = 5;

/// What of a campaign every change meets. Failing calls still find faults that are older than the change: `cargo xtask campaign faults`
/// looks for those, and `cargo xtask test faults` meets a few.
const KILLED: [&str; 4] = ["disks", "external", "memory", "power"];

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What takes long is drawn by the seed.
    Drawn(Seed),
    /// Everything.
    All,
}

type Stage = (&'static str, fn(Extent) -> Done);

/// In the order in which they are likely to fail soon.
const STAGES: &[Stage] = &[
    ("setup", |_| setup(&[])),
    ("tidy", |_| tidy::tidy()),
    ("check", |_| check::check(Echo::Failures)),
    ("test", |extent| {
        let drawn = match extent {
            Extent::Drawn(seed) => Some(test::Drawn { seed, one_in: ONE_IN, on_others: ON_OTHER_QEMUS }),
            Extent::All => None,
        };
        test::test(&test::Options { drawn, ..test::Options::default() }, Echo::Failures)
    }),
    ("campaign", |extent| {
        let seed = if let Extent::Drawn(seed) = extent { seed } else { Seed::of_now() };
        let areas = KILLED.map(str::to_owned).to_vec();
        let asked = test::Campaign { areas, kills: None, minutes: Some(KILLING), seed, qemu: None };
        test::campaign(&asked, Echo::Failures)
    }),
    ("e2e", |_| e2e::e2e(Echo::Failures)),
    ("xen-lab", |extent| match extent {
        Extent::Drawn(seed) => xen_lab::run_drawn(seed, SCENARIOS, Echo::Failures),
        Extent::All => {
            xen_lab::Release::ALL.iter().try_for_each(|&release| xen_lab::run(release, &[], Echo::Failures))
        }
    }),
    ("fuzz", |_| fuzz::fuzz(None, FUZZ_SECONDS, Echo::Failures)),
    // It builds all that the C library needs once more, for minutes.
    ("sanitize", |extent| match extent {
        Extent::Drawn(_) => Ok(()),
        Extent::All => sanitize::sanitize(Echo::Failures),
    }),
    ("package", |_| package::package(Echo::Failures)),
];

/// Sets up and runs what can fail, and tells at the end what each stage took, also when one failed.
///
/// # Errors
/// The first stage that failed, after what it printed.
pub fn ci(extent: Extent) -> Done {
    if let Extent::Drawn(Seed(seed)) = extent {
        eprintln!("ci: the samples are those of seed {seed}; the same again: cargo xtask ci --seed {seed}");
    }
    let mut took = Vec::new();
    let mut done = Ok(());
    for (name, stage) in STAGES {
        eprintln!("== {name}");
        let start = Instant::now();
        done = stage(extent).map_err(|Failure(why)| Failure(format!("{name} failed: {why}")));
        took.push((*name, start.elapsed()));
        if done.is_err() {
            break;
        }
        // At once too: a run that is ended from outside has told so far what took its time.
        eprintln!("== {name} took {} s", start.elapsed().as_secs());
    }
    eprint!("{}", table(&took));
    done
}

/// What each stage took, and all together.
fn table(took: &[(&str, Duration)]) -> String {
    let all = ("all", took.iter().map(|(_, time)| *time).sum());
    let line = |(name, time): &(&str, Duration)| {
        let seconds = time.as_secs();
        format!("{name:<10} {:>3} min {:>2} s\n", seconds / 60, seconds % 60)
    };
    took.iter().chain([&all]).map(line).collect()
}

/// Installs what is missing, with the `extras` that `ci/setup` knows.
pub(crate) fn setup(extras: &[&str]) -> Done {
    run(Echo::All, command("bash", ["ci/setup"].iter().chain(extras)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_table_is_the_sum() {
        let told = table(&[("setup", Duration::from_millis(1_700)), ("test", Duration::from_millis(70_600))]);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines, ["setup        0 min  1 s", "test         1 min 10 s", "all          1 min 12 s"]);
    }
}
