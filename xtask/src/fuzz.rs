//! `cargo xtask fuzz`: libFuzzer on a stable compiler.

use std::fs;

use crate::command::{build_target, cargo, command, output, run, target, top};
use crate::{Done, Echo, Failure};

/// What LLVM adds for libFuzzer to see which way an input went. All of these are stable options; the one that is not, a
/// sanitizer, would look for faults that code without `unsafe` does not have.
const INSTRUMENTED: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Fuzzes `only`, or every target, for `seconds` each. The corpus grows in `fuzz/corpus`, a failing input is left in
/// `fuzz/artifacts`; it belongs into `fuzz/seeds` with the mend.
///
/// # Errors
/// A target that does not exist, or the first that failed, with libFuzzer's report.
pub fn fuzz(only: Option<&str>, seconds: u32, echo: Echo) -> Done {
    let targets = targets()?;
    if let Some(name) = only
        && !targets.iter().any(|target| target == name)
    {
        return Err(Failure(format!("there is no fuzz target {name}; there are {}", targets.join(", "))));
    }
    let host = build_target()?;
    let directory = target().join("fuzz");
    let mut build =
        cargo("build --quiet --release --locked --manifest-path fuzz/Cargo.toml --bins --features libfuzzer");
    // With --target given, the flags are for the targets only, and not for build scripts and macros.
    build.args(["--target", &host]).arg("--target-dir").arg(&directory);
    build.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTED.join("\x1f"));
    run(echo, build)?;
    for name in targets.iter().filter(|name| only.is_none_or(|only| only == *name)) {
        let corpus = top().join("fuzz/corpus").join(name);
        let artifacts = top().join("fuzz/artifacts").join(name);
        for directory in [&corpus, &artifacts] {
            fs::create_dir_all(directory)
                .map_err(|e| Failure(format!("cannot make {}: {e}", directory.display())))?;
        }
        let mut fuzzer = command(directory.join(&host).join("release").join(name), [corpus]);
        fuzzer
            .arg(top().join("fuzz/seeds").join(name))
            .arg(format!("-artifact_prefix={}/", artifacts.display()));
        fuzzer.args([
            format!("-max_total_time={seconds}"),
            "-timeout=10".into(),
            "-rss_limit_mb=1024".into(),
        ]);
        run(echo, fuzzer)?;
    }
    Ok(())
}

/// Writes `fuzz/Cargo.lock` anew: the versions of `Cargo.lock`, and what only fuzzing needs.
///
/// # Errors
/// A file that cannot be written, or what cargo says.
pub fn lock() -> Done {
    fs::copy(top().join("Cargo.lock"), top().join("fuzz/Cargo.lock"))
        .map_err(|e| Failure(format!("cannot copy Cargo.lock to fuzz/Cargo.lock: {e}")))?;
    output(cargo("metadata --format-version 1 --manifest-path fuzz/Cargo.toml")).map(drop)
}

fn targets() -> Result<Vec<String>, Failure> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(top().join("fuzz/fuzz_targets"))? {
            let path = entry?.path();
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
        names.sort();
        Ok(names)
    };
    read().map_err(|e| Failure(format!("cannot list fuzz/fuzz_targets: {e}")))
}
