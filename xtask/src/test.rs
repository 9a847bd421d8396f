//! `cargo xtask test`: everything that runs and can fail.

use crate::command::{cargo, run};
use crate::{Done, Echo};

/// Runs all tests: of the workspace, of its documentation, and of every seed of every fuzz target.
///
/// # Errors
/// The first group that failed; all tests of a group are run.
pub fn test(echo: Echo) -> Done {
    run(echo, cargo("test --quiet --workspace --no-fail-fast --locked"))?;
    run(echo, cargo("test --quiet --manifest-path fuzz/Cargo.toml --target-dir target --locked"))
}
