//! `cargo xtask check`: what reads the code and runs none of it.

use crate::command::{cargo, command, run};
use crate::{Done, Echo, tools};

/// Formatting, lints and documentation without a warning, and licences and sources that we allow.
///
/// # Errors
/// The first of them that has something to say, after it said it.
pub fn check(echo: Echo) -> Done {
    for line in ["ci/setup", ".ci/run"] {
        run(echo, command("bash", ["-n", line]))?;
    }
    run(echo, cargo("fmt --all --check"))?;
    run(echo, cargo("fmt --manifest-path fuzz/Cargo.toml --check"))?;
    run(echo, cargo("clippy --quiet --workspace --all-targets --locked -- -D warnings"))?;
    run(
        echo,
        cargo(
            "clippy --quiet --manifest-path fuzz/Cargo.toml --target-dir target --locked --lib --tests -- -D warnings",
        ),
    )?;
    let mut documentation = cargo("doc --quiet --workspace --no-deps --locked");
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    run(echo, documentation)?;
    // Not the advisories: they are fetched from a repository that a build machine need not reach.
    let deny = tools::cargo_deny()?;
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        // Without a configuration given, the one beside the manifest would be taken, and fuzz/ has none.
        let line = [
            "--log-level",
            "error",
            "--locked",
            "--manifest-path",
            manifest,
            "--config",
            "deny.toml",
            "check",
        ];
        run(echo, command(&deny, line.into_iter().chain(["licenses", "bans", "sources"])))?;
    }
    Ok(())
}
