//! Programs that the chores need and that neither Rust nor Debian brings.

use std::path::PathBuf;

use crate::command::{cargo, run, target};
use crate::{Echo, Failure};

const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// cargo-deny of the version that the project uses, built on the first call.
pub(crate) fn cargo_deny() -> Result<PathBuf, Failure> {
    let tools = target().join("tools");
    // Cargo itself sees whether it is there. A debug build takes a fifth of the time, and it runs for a second.
    let mut install = cargo(&format!("install --quiet --locked --debug {CARGO_DENY} --root"));
    install.arg(&tools).env("CARGO_PROFILE_DEV_DEBUG", "false").env_remove("CARGO_TARGET_DIR");
    run(Echo::Failures, install)?;
    Ok(tools.join("bin/cargo-deny"))
}
