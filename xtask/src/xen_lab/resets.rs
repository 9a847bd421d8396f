//! Power cuts of the whole host: dom0 is reset in the middle of an operation, and after it has booted again everything is compared.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::all::tell;
use super::dom0::Dom0;
use super::install::SCENARIOS;
use super::machine::Throwaway;
use super::recipe::lab;
use super::{Release, install};
use crate::{Done, Echo, Failure, Seed};

/// The operations in the middle of which it is reset: those of `ci/xen-lab/scenarios/lib/reset`.
const OPERATIONS: [&str; 7] =
    ["create", "external", "memory", "revert", "revert-external", "revert-memory", "delete"];

/// An operation is cut after one of so many of its files, or, where it makes fewer, when it has ended.
const FILES: usize = 5;

/// By this machine's clock, which is ahead of dom0's while it is busy.
const LIMIT: Duration = Duration::from_secs(2400);

/// Resets dom0 so many times, each in the middle of another operation, as the seed has them.
///
/// # Errors
/// What stopped it, or what was not as it should be afterwards, with all that was said.
pub fn resets(release: Release, count: usize, seed: Seed, echo: Echo) -> Done {
    let files = install::stage()?;
    let lab = lab(release, echo)?;
    let mut host = Throwaway::boot(&lab)?;
    install::install(&host.machine.dom0, &files)?;
    let moments = OPERATIONS.iter().flat_map(|operation| (1..=FILES).map(move |file| (operation, file)));
    let named = moments.map(|(operation, file)| (*operation, file, format!("{operation} {file}")));
    let drawn = seed.draw(named, usize::MAX, |(_, _, name)| name);
    for (operation, file, name) in drawn.iter().cycle().take(count) {
        let start = Instant::now();
        eprintln!("xen-lab: a reset after file {file} of {operation} (seed {})", seed.0);
        let wrong = |failure: Failure| host_failure(&failure, name, seed);
        phase(&host.machine.dom0, "prepare").map_err(wrong)?;
        operate(&host.machine.dom0, operation, *file).map_err(wrong)?;
        host.reset(&lab)?;
        phase(&host.machine.dom0, &format!("after {operation}"))
            .map_err(|failure| host.machine.with_console(failure))
            .map_err(wrong)?;
        tell(echo, name, start);
    }
    Ok(())
}

fn host_failure(failure: &Failure, name: &str, seed: Seed) -> Failure {
    Failure(format!(
        "{failure}\nnot so after a reset at {name}; again: cargo xtask xen-lab resets --seed {}",
        seed.0
    ))
}

/// Runs one part of a reset's script to its end.
fn phase(dom0: &Dom0, words: &str) -> Done {
    let mut ssh = dom0.shell(LIMIT, &format!("bash {SCENARIOS}/lib/reset {words} 2>&1"));
    let ended = ssh.output().map_err(|e| Failure(format!("cannot run ssh: {e}")))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(Failure(format!("{}{words} ended with {}", String::from_utf8_lossy(&ended.stdout), ended.status)))
}

/// Begins an operation, and comes back when it has put its `file`-th file in its place, or has ended.
fn operate(dom0: &Dom0, operation: &str, file: usize) -> Done {
    let failed = |e| Failure(format!("cannot run ssh: {e}"));
    let mut ssh = dom0.shell(LIMIT, &format!("bash {SCENARIOS}/lib/reset operate {operation} 2>&1"));
    let mut child = ssh.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut files = said.map_while(Result::ok).filter(|line| line.starts_with("file "));
    let is_cut = files.nth(file - 1).is_some();
    if !is_cut {
        eprintln!("xen-lab: {operation} had ended before its file {file}");
    }
    // Its end does not reach dom0 any more, which is reset now.
    child.kill().and_then(|()| child.wait()).map_err(failed).map(drop)
}
