//! Programs that the chores need and that neither Rust nor Debian brings.

use std::path::PathBuf;

use crate::command::{cargo, run, target};
use crate::{Echo, Failure};

const CARGO_DENY: &str = "cargo-deny@0.20.2";

const CARGO_C: &str = "cargo-c@0.10.24";

const CARGO_DEB: &str = "cargo-deb@3.8.0";

/// cargo-deb, built on the first call.
pub(crate) fn cargo_deb() -> Result<PathBuf, Failure> {
    Ok(installed(CARGO_DEB)?.join("bin/cargo-deb"))
}

/// The directory with the commands of cargo-c, built on the first call: that takes some minutes. OpenSSL's headers are needed.
pub(crate) fn cargo_c() -> Result<PathBuf, Failure> {
    Ok(installed(CARGO_C)?.join("bin"))
}

/// cargo-deny of the version that the project uses, built on the first call.
pub(crate) fn cargo_deny() -> Result<PathBuf, Failure> {
    Ok(installed(CARGO_DENY)?.join("bin/cargo-deny"))
}

/// A program of this version, as `NAME@VERSION`, in the directory that is given.
fn installed(program: &str) -> Result<PathBuf, Failure> {
    let tools = target().join("tools");
    // Cargo itself sees whether it is there. A debug build takes a fifth of the time, and it runs for a second.
    let mut install = cargo(&format!("install --quiet --locked --debug {program} --root"));
    install.arg(&tools).env("CARGO_PROFILE_DEV_DEBUG", "false").env_remove("CARGO_TARGET_DIR");
    run(Echo::Failures, install)?;
    Ok(tools)
}
