//! `cargo xtask test`: everything that runs and can fail.

use std::env;

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
const ON_REAL_PROGRAMS: [&str; 9] =
    ["agent", "behaviour_images", "behaviour_live", "guest", "images", "it", "live", "qmp", "real"];

/// Every test finds the programs by `PATH`, and so does the code under test.
fn on_old_qemu(echo: Echo) -> Done {
    ci::setup(&["qemu-7.2"])?;
    let programs = target().join("tools/qemu-7.2/usr/bin");
    if !programs.join("qemu-system-x86_64").exists() {
        eprintln!("not run: the tests on QEMU 7.2, which only Debian 12 has");
        return Ok(());
    }
    let given = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&given)))
        .map_err(|e| Failure(format!("the target directory cannot be on PATH: {e}")))?;
    let mut tests = cargo("test --quiet --workspace --no-fail-fast --locked");
    tests.args(ON_REAL_PROGRAMS.iter().flat_map(|target| ["--test", target])).env("PATH", path);
    run(echo, tests)
}
