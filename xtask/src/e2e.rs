//! `cargo xtask e2e`: the README's first command.

use crate::command::{cargo, run, target};
use crate::{Done, Echo, ci};

/// Sets up, builds the command, and lets it do its main job on the disks and the memory of running QEMUs, each step shown as the line
/// that a user would type.
///
/// # Errors
/// The first step that went wrong; the machine is ended in any case.
pub fn e2e(echo: Echo) -> Done {
    ci::setup(&[])?;
    run(Echo::Failures, cargo("build --quiet --locked --package xlsnap-cli"))?;
    // An example of the test kit, so that this crate, through which every chore goes, stays small.
    let mut job = cargo("run --quiet --locked --package xlsnap-testkit --example main_job --");
    job.arg(target().join("debug/xlsnap"));
    run(echo, job)
}
