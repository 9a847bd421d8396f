//! Listing many snapshots.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::all::Bench;
use super::machine::image;
use super::paired::pairs;
use super::process::{Run, run, scratch};
use super::promise::{Line, Promise};
use crate::Failure;

/// The name that the copies replace: found in no file but as the name.
const FIRST: &str = "first-of-many";

/// How many snapshots, in how many rounds at most, and what is promised: the time in milliseconds, and the memory in MiB.
const LISTS: [(usize, usize, f64, f64); 2] = [(10_000, usize::MAX, 100.0, 16.0), (100_000, 5, 1000.0, 64.0)];

/// `xlsnap list` of a domain with many snapshots beside `cat` of the same files.
pub(super) fn list(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let disk = directory.path().join("vda");
    image(&disk)?;
    let option = format!("vda={}", disk.display());
    run(&mut bench.xlsnap(directory.path(), ["domain", "add", "vm", "--disk", &option]))?;
    run(&mut bench.xlsnap(directory.path(), ["create", "vm", FIRST]))?;
    let mut lines = Vec::new();
    for (snapshots, rounds, milliseconds, mebibytes) in LISTS {
        let store =
            copies(&directory.path().join("root"), if bench.smoke { snapshots / 100 } else { snapshots })?;
        let pairs = pairs(
            bench.rounds.min(rounds),
            || run(&mut bench.xlsnap(directory.path(), ["list", "vm"])),
            || run(Command::new("find").arg(&store).args(["-type", "f", "-exec", "cat", "{}", "+"])),
        )?;
        lines.extend([
            Line::new(
                &format!("xlsnap list, {snapshots} snapshots (ms)"),
                pairs.ours(Run::milliseconds),
                Promise::AtMost(milliseconds),
            ),
            Line::new("cat of the same files (ms)", pairs.theirs(Run::milliseconds), Promise::None),
            Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::None),
            Line::new(
                "processor time of xlsnap list (ms)",
                pairs.ours(Run::processor_milliseconds),
                Promise::None,
            ),
            Line::new("peak memory (MiB)", pairs.ours(Run::mebibytes), Promise::AtMost(mebibytes)),
        ]);
    }
    Ok(lines)
}

/// Makes of the one snapshot below `root` as many as `wanted`, and gives the directory that holds them.
fn copies(root: &Path, wanted: usize) -> Result<PathBuf, Failure> {
    let failed = |e| Failure(format!("{}: {e}", root.display()));
    let mut made = None;
    for domain in std::fs::read_dir(root).map_err(failed)? {
        let domain = domain.map_err(failed)?.path();
        for file in std::fs::read_dir(&domain).map_err(failed)? {
            let file = file.map_err(failed)?;
            let name = file.file_name().to_string_lossy().into_owned();
            if !name.contains(FIRST) {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).map_err(failed)?;
            for number in 1..wanted {
                let copy = format!("nightly-{number}");
                std::fs::write(domain.join(name.replace(FIRST, &copy)), text.replace(FIRST, &copy))
                    .map_err(failed)?;
            }
            made = Some(domain.clone());
        }
    }
    made.ok_or_else(|| Failure("the snapshot is not in the store".into()))
}
