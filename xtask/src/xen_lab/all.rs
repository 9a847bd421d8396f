//! The commands.

use std::time::Instant;

use super::machine::{Machine, Throwaway};
use super::recipe::{Lab, lab};
use super::{Release, install, scenario};
use crate::{Done, Echo, Failure, Seed};

/// Builds the lab of this release if the cache has none of this recipe.
///
/// # Errors
/// What the recipe says.
pub fn build(release: Release, echo: Echo) -> Done {
    lab(release, echo).map(drop)
}

/// Installs the command that is built now in a lab of this release, and runs the scenarios there: those that are `named`, or all. The lab
/// is the one that [`start`] left running, or one that is booted for this and ended in any case.
///
/// # Errors
/// What stopped it, or which scenarios failed, after what they said.
pub fn run(release: Release, named: &[String], echo: Echo) -> Done {
    let scenarios = scenario::chosen(named)?;
    let files = install::stage()?;
    let lab = lab(release, echo)?;
    if let Some(machine) = running_of(&lab)? {
        let _mine = machine.reserve()?;
        return drive(&machine, &files, &scenarios, echo);
    }
    let start = Instant::now();
    let throwaway = Throwaway::boot(&lab)?;
    tell(echo, "booted", start);
    drive(&throwaway.machine, &files, &scenarios, echo)
}

/// Runs so many of the scenarios of all releases, drawn by the seed: all of them take longer than a change may wait.
///
/// # Errors
/// As [`run`].
pub fn run_drawn(seed: Seed, count: usize, echo: Echo) -> Done {
    let scenarios = scenario::chosen(&[])?;
    let of =
        |release: Release| scenarios.iter().map(move |name| (release, format!("{release} {name}"), name));
    let drawn = seed.draw(Release::ALL.into_iter().flat_map(of), count, |(_, both, _)| both);
    for release in Release::ALL {
        let names: Vec<String> =
            drawn.iter().filter(|(of, _, _)| *of == release).map(|(_, _, name)| (*name).clone()).collect();
        if !names.is_empty() {
            eprintln!("xen-lab: the scenarios of seed {} on Xen {release}: {}", seed.0, names.join(", "));
            run(release, &names, echo)?;
        }
    }
    Ok(())
}

fn drive(machine: &Machine, files: &install::Files, scenarios: &[String], echo: Echo) -> Done {
    let start = Instant::now();
    install::install(&machine.dom0, files)?;
    tell(echo, "installed", start);
    let done = scenario::run(&machine.dom0, scenarios, echo).map_err(|failure| machine.with_console(failure));
    tell(echo, "all scenarios", start);
    done
}

/// Says how long something took, where a person reads it.
pub(super) fn tell(echo: Echo, what: &str, start: Instant) {
    if echo == Echo::All {
        eprintln!("xen-lab: {what}: {:.1} s", start.elapsed().as_secs_f64());
    }
}

/// Boots a lab of this release, unless one runs, with the command and the scenarios in it, and leaves it running.
///
/// # Errors
/// What stopped it.
pub fn start(release: Release, echo: Echo) -> Done {
    let files = install::stage()?;
    let lab = lab(release, echo)?;
    let machine = running_of(&lab)?.map_or_else(|| Machine::boot(&lab), Ok)?;
    install::install(&machine.dom0, &files)?;
    eprintln!("xen-lab: {}", machine.dom0.line());
    Ok(())
}

/// Runs `words` in dom0 of the lab that was left running, or a shell.
///
/// # Errors
/// None runs, or how the words ended.
pub fn shell(release: Release, words: &[String]) -> Done {
    running(release)?.dom0.interactive(words)
}

/// Ends the lab that was left running.
///
/// # Errors
/// None runs, or it does not end.
pub fn stop(release: Release) -> Done {
    running(release)?.stop()
}

fn running(release: Release) -> Result<Machine, Failure> {
    Machine::left_running(release)?.ok_or_else(|| {
        Failure(format!("no lab of Xen {release} runs: `cargo xtask xen-lab --xen {release} start`"))
    })
}

/// The one of its release that was left running, which must be of this recipe.
fn running_of(lab: &Lab) -> Result<Option<Machine>, Failure> {
    let running = Machine::left_running(lab.release())?;
    if running.as_ref().is_some_and(|machine| !machine.is_of(lab)) {
        let release = lab.release();
        return Err(Failure(format!(
            "the lab that runs is of another recipe: `cargo xtask xen-lab --xen {release} stop`"
        )));
    }
    Ok(running)
}
