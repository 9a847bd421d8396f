//! The commands.

use std::time::Instant;

use super::machine::{Machine, Throwaway};
use super::recipe::{Lab, lab};
use super::{install, scenario};
use crate::{Done, Echo, Failure, Seed};

/// Builds the lab if the cache has none of this recipe.
///
/// # Errors
/// What the recipe says.
pub fn build(echo: Echo) -> Done {
    lab(echo).map(drop)
}

/// Installs the command that is built now in a lab, and runs the scenarios there: those that are `named`, or all. The lab
/// is the one that [`start`] left running, or one that is booted for this and ended in any case.
///
/// # Errors
/// What stopped it, or which scenarios failed, after what they said.
pub fn run(named: &[String], echo: Echo) -> Done {
    let scenarios = scenario::chosen(named)?;
    let files = install::stage()?;
    let lab = lab(echo)?;
    if let Some(machine) = running_of(&lab)? {
        let _mine = machine.reserve()?;
        return drive(&machine, &files, &scenarios, echo);
    }
    let start = Instant::now();
    let throwaway = Throwaway::boot(&lab)?;
    tell(echo, "booted", start);
    drive(&throwaway.machine, &files, &scenarios, echo)
}

/// Runs so many of the scenarios, drawn by the seed: all of them take longer than a change may wait.
///
/// # Errors
/// As [`run`].
pub fn run_drawn(seed: Seed, count: usize, echo: Echo) -> Done {
    let drawn = seed.draw(scenario::chosen(&[])?, count, |name| name);
    eprintln!("xen-lab: the scenarios of seed {}: {}", seed.0, drawn.join(", "));
    run(&drawn, echo)
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

/// Boots a lab, unless one runs, with the command and the scenarios in it, and leaves it running.
///
/// # Errors
/// What stopped it.
pub fn start(echo: Echo) -> Done {
    let files = install::stage()?;
    let lab = lab(echo)?;
    let machine = running_of(&lab)?.map_or_else(|| Machine::boot(&lab), Ok)?;
    install::install(&machine.dom0, &files)?;
    eprintln!("xen-lab: {}", machine.dom0.line());
    Ok(())
}

/// Runs `words` in dom0 of the lab that was left running, or a shell.
///
/// # Errors
/// None runs, or how the words ended.
pub fn shell(words: &[String]) -> Done {
    running()?.dom0.interactive(words)
}

/// Ends the lab that was left running.
///
/// # Errors
/// None runs, or it does not end.
pub fn stop() -> Done {
    running()?.stop()
}

fn running() -> Result<Machine, Failure> {
    Machine::left_running()?.ok_or_else(|| Failure("no lab runs: `cargo xtask xen-lab start`".into()))
}

/// The one that was left running, which must be of this recipe.
fn running_of(lab: &Lab) -> Result<Option<Machine>, Failure> {
    let running = Machine::left_running()?;
    if running.as_ref().is_some_and(|machine| !machine.is_of(lab)) {
        return Err(Failure("the lab that runs is of another recipe: `cargo xtask xen-lab stop`".into()));
    }
    Ok(running)
}
