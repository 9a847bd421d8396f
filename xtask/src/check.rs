//! `cargo xtask check`: what reads the code and runs none of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::{cargo, command, run, top};
use crate::{Done, Echo, Failure, tools};

/// Formatting, lints and documentation without a warning, and licences and sources that we allow.
///
/// # Errors
/// The first of them that has something to say, after it said it.
pub fn check(echo: Echo) -> Done {
    for script in scripts()? {
        let mut read = command("bash", ["-n"]);
        read.arg(script);
        run(echo, read)?;
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

/// The shell scripts of the tree.
fn scripts() -> Result<Vec<PathBuf>, Failure> {
    let mut scripts = vec![top().join(".ci/run")];
    add_scripts(&top().join("ci"), &mut scripts).map_err(|e| Failure(format!("cannot read ci: {e}")))?;
    Ok(scripts)
}

fn add_scripts(directory: &Path, scripts: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            add_scripts(&path, scripts)?;
        } else if path.extension().is_some_and(|extension| extension == "sh")
            || fs::read(&path)?.starts_with(b"#!/bin/bash")
        {
            scripts.push(path);
        }
    }
    Ok(())
}
