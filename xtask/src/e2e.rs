//! `cargo xtask e2e`: the README's first command.

use crate::command::{build_programs, command, run, target};
use crate::{Done, Echo, ci};

/// Sets up, builds the command, and lets it do its main job on the disks and the memory of running QEMUs, each step shown as the line
/// that a user would type.
///
/// # Errors
/// The first step that went wrong; the machine is ended in any case.
pub fn e2e(echo: Echo) -> Done {
    ci::setup(&[])?;
    build_programs()?;
    // An example of the test kit, so that this crate, through which every chore goes, stays small.
    let job = target().join("debug/examples/main_job");
    run(echo, command(job, [target().join("debug/xlsnap")]))
}
