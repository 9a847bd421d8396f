//! What is carried into dom0: the command, the scenarios, and tests that want a real host.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::dom0::Dom0;
use crate::command::{build_programs, cargo, command, output, target, top};
use crate::{Done, Failure};

/// Where the scenarios are in dom0.
pub(super) const SCENARIOS: &str = "/lab/scenarios";

/// The limit of what is done in a second or two.
const SOON: Duration = Duration::from_secs(120);

/// The files as one archive.
#[derive(Debug)]
pub(super) struct Files {
    archive: PathBuf,
    _directory: TempDir,
}

/// Builds what is to be installed.
pub(super) fn stage() -> Result<Files, Failure> {
    build_programs()?;
    let xenstore = test_program("xenstored")?;

    let directory = tempfile::tempdir().map_err(|e| cannot("make a directory", &e))?;
    let root = directory.path().join("root");
    let (bin, scenarios) = (root.join("usr/local/bin"), root.join(SCENARIOS.trim_start_matches('/')));
    for directory in [&bin, &scenarios] {
        fs::create_dir_all(directory).map_err(|e| cannot("make a directory", &e))?;
    }
    strip(&target().join("debug/xlsnap"), &bin.join("xlsnap"))?;
    strip(&xenstore, &scenarios.join("xenstore-tests"))?;
    let mut copy = command("cp", ["-R", "--"]);
    copy.arg(top().join("ci/xen-lab/scenarios/.")).arg(&scenarios);
    output(copy)?;

    let archive = directory.path().join("files.tar");
    let mut pack = command("tar", ["--create", "--owner=0", "--group=0", "--file"]);
    pack.arg(&archive).arg("--directory").arg(&root).args(["usr/local/bin/xlsnap", &SCENARIOS[1..]]);
    output(pack)?;
    Ok(Files { archive, _directory: directory })
}

/// Line tables are most of a program.
fn strip(program: &Path, to: &Path) -> Done {
    let mut strip = command("strip", ["-o"]);
    strip.args([to, program]);
    output(strip).map(drop)
}

/// The program of a test target, built.
fn test_program(test: &str) -> Result<PathBuf, Failure> {
    let line = format!("test --quiet --locked --workspace --test {test} --no-run --message-format=json");
    let told = output(cargo(&line))?;
    String::from_utf8_lossy(&told)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == test)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| Failure(format!("cargo does not tell where the test {test} is")))
}

/// Puts the files into dom0, where they take the place of those of an earlier time.
pub(super) fn install(dom0: &Dom0, files: &Files) -> Done {
    let archive = File::open(&files.archive).map_err(|e| cannot("open the archive", &e))?;
    let mut unpack = dom0.shell(SOON, &format!("rm -rf {SCENARIOS} && tar --extract --directory /"));
    unpack.stdin(archive);
    output(unpack)?;
    let hello = dom0.shell(SOON, "xlsnap --version 2>&1").output().map_err(|e| cannot("run ssh", &e))?;
    if hello.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&hello.stdout);
    Err(Failure(if said.contains("GLIBC_") {
        format!(
            "dom0 is {}, and what is built here wants a newer C library: {}",
            dom0.release.debian(),
            said.trim()
        )
    } else {
        format!("xlsnap does not run in dom0: {}", said.trim())
    }))
}

fn cannot(what: &str, e: &std::io::Error) -> Failure {
    Failure(format!("cannot {what}: {e}"))
}
