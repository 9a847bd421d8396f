//! Kills and faults in the middle of operations, for longer than the tests do.

use std::process::Command;
use std::time::{Duration, Instant};

use super::all::{BOUND, path_to, told};
use super::cases::{Case, cases};
use super::pool::Pool;
use crate::{Done, Echo, Failure, Seed, ci};

/// What operations there are, with the module of the tests that kill them; and of all of them, that which cuts the power, and that in which
/// system calls fail.
const AREAS: [(&str, &str); 5] = [
    ("disks", " it crash::"),
    ("external", " it layers_crash::"),
    ("memory", " it memory_crash::"),
    ("power", " it power_cut::"),
    ("faults", " it faults::"),
];

/// How many kills or faults of each operation a test has when nothing is said.
const KILLS: u32 = 10;

/// What is asked of [`campaign()`].
#[derive(Debug)]
pub struct Campaign {
    /// Which operations; all of them where it is empty.
    pub areas: Vec<String>,
    /// How many kills or faults of each operation a test has.
    pub kills: Option<u32>,
    /// How long tests are begun, in minutes, each time with the next seed; once each without it.
    pub minutes: Option<u64>,
    /// Moves the moments.
    pub seed: Seed,
    /// The QEMU, where it is not the installed one.
    pub qemu: Option<String>,
}

/// Whether a test kills something, in these areas or in any, at moments that are drawn.
pub(super) fn is_of(case: &Case, asked: &[String]) -> bool {
    let mut areas = AREAS.iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|one| one == name));
    areas.any(|(_, tests)| case.title.contains(tests)) && !case.title.contains("::mended::")
}

/// Kills xlsnap, and QEMU with it, at many moments and before many system calls of its operations, makes such calls fail, and cuts the power.
/// After each recovery what every snapshot and every disk holds is compared, and `check` finds nothing.
///
/// A test that fails does not end it.
///
/// # Errors
/// The tests that found something lost; the seed repeats them.
pub fn campaign(asked: &Campaign, echo: Echo) -> Done {
    ci::setup(&[])?;
    let is_asked = |case: &&Case| !case.is_ignored && is_of(case, &asked.areas);
    let all = cases("test --package xlsnap-cli --test it")?;
    let all: Vec<&Case> = all.iter().filter(is_asked).collect();
    if all.is_empty() {
        let areas = AREAS.map(|(area, _)| area).join(", ");
        return Err(Failure(format!("no test kills anything in {:?}; there are: {areas}", asked.areas)));
    }
    let path = match &asked.qemu {
        None => None,
        Some(qemu) => match path_to(qemu)? {
            Some(path) => Some(path),
            None => return Ok(()),
        },
    };
    let kills = asked.kills.unwrap_or(KILLS);
    let bound = BOUND * (kills / KILLS).max(1);
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    let pool = Pool { at_once, bound, echo };
    let end = asked.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let (mut hits, mut failures) = (0, Vec::new());
    for seed in asked.seed.0.. {
        let with = |command: &mut Command| {
            command.env("XLSNAP_MOMENTS", kills.to_string()).env("XLSNAP_SEED", seed.to_string());
            command.envs(path.iter().map(|path| ("PATH", path)));
        };
        eprintln!("campaign: {kills} kills or faults of each operation, moved by seed {seed}");
        let drawn = Seed(seed).draw(all.iter().copied(), all.len(), |case| &case.title);
        let in_time = drawn.into_iter().take_while(|_| end.is_none_or(|end| Instant::now() < end));
        let summary = pool.run(in_time, with)?;
        hits += summary.hits;
        if let Err(Failure(why)) = told("campaign", summary) {
            let area = if let [area] = &asked.areas[..] { format!(" {area}") } else { String::new() };
            failures.push(format!("{why}\nagain: cargo xtask campaign{area} --kills {kills} --seed {seed}"));
        }
        if end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
    }
    eprintln!("campaign: {hits} operations were hit in all, seeds from {}", asked.seed.0);
    if failures.is_empty() { Ok(()) } else { Err(Failure(failures.join("\n"))) }
}
