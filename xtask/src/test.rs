//! `cargo xtask test`: everything that runs and can fail.

use std::env;
use std::process::Command;

use crate::command::{cargo, run, target};
use crate::{Done, Echo, Failure, ci};

/// Runs all tests: of the workspace, of its documentation, of every seed of every fuzz target, and those on real
/// programs once more with the older QEMU that hosts with Xen run.
///
/// # Errors
/// The first group that failed; all tests of a group are run.
pub fn test(echo: Echo) -> Done {
    run(echo, cargo("test --quiet --workspace --no-fail-fast --locked"))?;
    run(echo, cargo("test --quiet --manifest-path fuzz/Cargo.toml --target-dir target --locked"))?;
    on_old_qemu(echo)
}

/// The test targets that start QEMU's programs; chosen by name, since of other packages than above parts would be built
/// anew.
const ON_REAL_PROGRAMS: [&str; 10] = [
    "agent",
    "behaviour_images",
    "behaviour_live",
    "guest",
    "images",
    "it",
    "live",
    "machine",
    "qmp",
    "real",
];

/// Every test finds the programs by `PATH`, and so does the code under test.
fn on_old_qemu(echo: Echo) -> Done {
    let mut tests = cargo("test --quiet --workspace --no-fail-fast --locked");
    tests.args(ON_REAL_PROGRAMS.iter().flat_map(|target| ["--test", target]));
    with_old_qemu(echo, tests)
}

/// Runs a command that finds the older QEMU's programs first, where Debian has them.
fn with_old_qemu(echo: Echo, mut command: Command) -> Done {
    ci::setup(&["qemu-7.2"])?;
    let programs = target().join("tools/qemu-7.2/usr/bin");
    if !programs.join("qemu-system-x86_64").exists() {
        eprintln!("not run: the tests on QEMU 7.2, which only Debian 12 has");
        return Ok(());
    }
    let given = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&given)))
        .map_err(|e| Failure(format!("the target directory cannot be on PATH: {e}")))?;
    command.env("PATH", path);
    run(echo, command)
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
    with_old_qemu(Echo::All, cycling())
}
