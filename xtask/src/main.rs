//! `cargo xtask`: the project's chores, each one command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{
    Echo, Seed, bench, check, chroots, ci, e2e, fuzz, package, record, sanitize, test, tidy, xen_lab,
};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The project's chores", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Formatting, lints, documentation, licences.
    Check,
    /// What no compiler checks: layers, sizes of files, links and claims of the documents.
    Tidy,
    /// All tests: the workspace's, the documentation's, and the replay of the fuzz seeds.
    Test {
        /// Only tests whose title (package, target, path) contains this, and not the documentation's.
        filter: Option<String>,
        /// Only those that start QEMU's programs, with this QEMU, which is unpacked beside the installed one first.
        #[arg(long, value_name = "VERSION", value_parser = ["7.2", "11.1"])]
        qemu: Option<String>,
        /// How many run at once; as many as there are processors without it.
        #[arg(long, value_name = "N")]
        at_once: Option<usize>,
    },
    /// Save and restore a guest's memory many times in each way, on each QEMU: longer than the tests do.
    Soak {
        /// How often in each way.
        #[arg(long, default_value_t = 20)]
        cycles: u32,
    },
    /// Kill xlsnap and QEMU at many moments of operations, make system calls fail, or cut the power, recover, and compare every snapshot's bytes:
    /// longer than the tests do.
    Campaign {
        /// Which operations; all of them without it.
        #[arg(value_parser = ["disks", "external", "memory", "power", "faults"])]
        area: Option<String>,
        /// How many kills or faults of each operation in a test; 10 without it.
        #[arg(long, visible_alias = "faults")]
        kills: Option<u32>,
        /// Begin tests for so long, each round with the next seed; one round without it.
        #[arg(long, conflicts_with = "hours")]
        minutes: Option<u64>,
        /// The same in hours.
        #[arg(long)]
        hours: Option<u64>,
        /// Moves the moments; drawn by the clock without it, and told.
        #[arg(long)]
        seed: Option<u64>,
        /// With this QEMU, which is unpacked beside the installed one first.
        #[arg(long, value_name = "VERSION", value_parser = ["7.2", "11.1"])]
        qemu: Option<String>,
    },
    /// Set up, then the main job on real images: a running QEMU with two disks, create, overwrite, revert, compare.
    E2e,
    /// Fuzz one target, or each in turn, from its seeds.
    Fuzz {
        /// The target; all of them without it.
        target: Option<String>,
        /// How long to fuzz each.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Build the C library and the C programs of its tests with AddressSanitizer, and run these.
    Sanitize,
    /// Write fuzz/Cargo.lock anew from Cargo.lock, so that both build the same versions.
    Lock,
    /// Measure what the project promises about speed, as paired ratios in one run.
    Bench {
        /// Only scenarios whose name contains this.
        filter: Option<String>,
        /// Rounds of each scenario; each runs both sides once.
        #[arg(long, default_value_t = 21)]
        rounds: usize,
        /// Fail when a promise is not kept.
        #[arg(long)]
        assert: bool,
        /// One small round of each with the unoptimised build, only to see that the scenarios work.
        #[arg(long, conflicts_with = "assert")]
        smoke: bool,
    },
    /// Record the transcripts of a real QEMU that the transport's tests replay.
    Record {
        /// Passed on to the recorder.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Package every published crate, and build each from its package.
    Package {
        /// Instead, install the C library by cargo-c below target/installed, and use it there. Not part of `ci`, because
        /// building cargo-c takes minutes.
        #[arg(long)]
        install: bool,
        /// Instead, make Debian packages of the command and of the C library in target/debian.
        #[arg(long, conflicts_with = "install")]
        deb: bool,
    },
    /// Try in a minimal Debian 12 and 13 what people do first: install, use, upgrade and purge the Debian packages; and with the Rust of this
    /// machine set up, run the README's commands (of the second a few tests) and `cargo install`. Root is needed.
    Chroots {
        /// In this release only (12 and 13 do too).
        release: Option<chroots::Release>,
        /// Nothing but this.
        #[arg(long, value_enum, value_name = "PART")]
        only: Option<chroots::Part>,
        /// Run the README's second command whole, which is all of CI: most of an hour in each release.
        #[arg(long)]
        tests: bool,
    },
    /// A real Xen host in an emulated machine (ci/xen-lab): build it, boot it, run the scenarios, end it.
    XenLab {
        /// Of this Xen: Debian 12's, or Debian 13's.
        #[arg(long, value_enum, value_name = "RELEASE", default_value = "4.17")]
        xen: xen_lab::Release,
        #[command(subcommand)]
        only: Option<XenLab>,
    },
    /// Set up, then everything above that can fail: what CI runs. Of the tests on other QEMUs and of the lab's scenarios a sample.
    Ci {
        /// Draw the samples by this number, which a run prints; without it each run has another.
        #[arg(long, value_name = "N", conflicts_with = "all")]
        seed: Option<u64>,
        /// Run all of them.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Subcommand)]
enum XenLab {
    /// Build the lab if the cache has none of this recipe.
    Build,
    /// Boot a lab with this build of the command and the scenarios in it, and leave it running.
    Start,
    /// Run scenarios, in the lab that runs or in one for this.
    Run {
        /// The scenarios; all of them without it.
        scenarios: Vec<String>,
    },
    /// Reset dom0 in the middle of operations, and compare every snapshot when it has booted again: some minutes for each.
    Resets {
        /// How often.
        #[arg(long, default_value_t = 7)]
        count: usize,
        /// Draws the operations and the moments; drawn by the clock without it, and told.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// A shell in dom0 of the lab that runs, or these words for one.
    Shell {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// End the lab that runs.
    Stop,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Check => check::check(Echo::All),
        Chore::Tidy => tidy::tidy(),
        Chore::Test { filter, qemu, at_once } => {
            test::test(&test::Options { filter, qemu, at_once, drawn: None }, Echo::All)
        }
        Chore::Soak { cycles } => test::soak(cycles),
        Chore::Campaign { area, kills, minutes, hours, seed, qemu } => {
            let seed = seed.map_or_else(Seed::of_now, Seed);
            let minutes = minutes.or(hours.map(|hours| 60 * hours));
            let areas = area.into_iter().collect();
            test::campaign(&test::Campaign { areas, kills, minutes, seed, qemu }, Echo::All)
        }
        Chore::E2e => e2e::e2e(Echo::All),
        Chore::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds, Echo::All),
        Chore::Sanitize => sanitize::sanitize(Echo::All),
        Chore::Lock => fuzz::lock(),
        Chore::Bench { filter, rounds, assert, smoke } => {
            bench::bench(&bench::Options { filter, rounds, assert, smoke })
        }
        Chore::Record { arguments } => record::record(&arguments),
        Chore::Package { deb: true, .. } => package::deb(Echo::All),
        Chore::Package { install: true, .. } => package::install(Echo::All),
        Chore::Package { .. } => package::package(Echo::All),
        Chore::Chroots { release, only, tests } => {
            chroots::chroots(&chroots::Options { release, only, tests }, Echo::All)
        }
        Chore::XenLab { xen, only } => match only {
            None => xen_lab::run(xen, &[], Echo::All),
            Some(XenLab::Build) => xen_lab::build(xen, Echo::All),
            Some(XenLab::Start) => xen_lab::start(xen, Echo::All),
            Some(XenLab::Run { scenarios }) => xen_lab::run(xen, &scenarios, Echo::All),
            Some(XenLab::Resets { count, seed }) => {
                xen_lab::resets(xen, count, seed.map_or_else(Seed::of_now, Seed), Echo::All)
            }
            Some(XenLab::Shell { words }) => xen_lab::shell(xen, &words),
            Some(XenLab::Stop) => xen_lab::stop(xen),
        },
        Chore::Ci { all: true, .. } => ci::ci(ci::Extent::All),
        Chore::Ci { seed, .. } => ci::ci(ci::Extent::Drawn(seed.map_or_else(Seed::of_now, Seed))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The release and the scenarios that `line` runs.
    fn lab_of(line: &str) -> Result<(String, Vec<String>), clap::Error> {
        let words = ["xtask", "xen-lab"].into_iter().chain(line.split_whitespace());
        match Arguments::try_parse_from(words)?.chore {
            Chore::XenLab { xen, only: None } => Ok((xen.to_string(), vec![])),
            Chore::XenLab { xen, only: Some(XenLab::Run { scenarios }) } => Ok((xen.to_string(), scenarios)),
            _ => panic!("{line} runs no scenarios"),
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_lab_is_of_the_release_that_is_asked_for() {
        let run = |release: &str, names: &[&str]| {
            (release.to_owned(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(lab_of("").unwrap(), run("4.17", &[]));
        assert_eq!(lab_of("run off").unwrap(), run("4.17", &["off"]));
        assert_eq!(lab_of("--xen 4.20").unwrap(), run("4.20", &[]));
        assert_eq!(lab_of("--xen 4.20 run off pv-memory").unwrap(), run("4.20", &["off", "pv-memory"]));
        let refused = lab_of("--xen 4.18").unwrap_err().to_string();
        assert!(refused.contains("4.17, 4.20"), "{refused}");
    }

    /// Where `line` tries what.
    fn chroots_of(line: &str) -> Result<chroots::Options, clap::Error> {
        let words = ["xtask", "chroots"].into_iter().chain(line.split_whitespace());
        match Arguments::try_parse_from(words)?.chore {
            Chore::Chroots { release, only, tests } => Ok(chroots::Options { release, only, tests }),
            _ => panic!("{line} tries nothing in a minimal Debian"),
        }
    }

    #[test]
    fn a_release_of_debian_has_a_name_and_a_number() {
        use chroots::{Options, Part, Release};
        assert_eq!(chroots_of("").unwrap(), Options::default());
        for (line, release) in [
            ("bookworm", Release::Bookworm),
            ("12", Release::Bookworm),
            ("trixie", Release::Trixie),
            ("13", Release::Trixie),
        ] {
            assert_eq!(chroots_of(line).unwrap(), Options { release: Some(release), ..Options::default() });
        }
        let asked = Options { release: Some(Release::Trixie), only: Some(Part::Checkout), tests: true };
        assert_eq!(chroots_of("13 --only checkout --tests").unwrap(), asked);
        let refused = chroots_of("11").unwrap_err().to_string();
        assert!(refused.contains("bookworm, trixie"), "{refused}");
    }
}
