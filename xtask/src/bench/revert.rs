//! Reverting many disks.

use std::process::Command;
use std::time::Duration;

use super::all::Bench;
use super::machine::image;
use super::paired::pairs;
use super::process::{Run, run, scratch};
use super::promise::{Line, Promise};
use crate::Failure;

const DISKS: usize = 8;

/// `xlsnap revert`, which works on all disks at once, beside a script that does the same to one after the other: looks at
/// the image, applies, looks again.
pub(super) fn revert(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let files: Vec<_> = (0..DISKS).map(|number| directory.path().join(format!("disk{number}"))).collect();
    let mut add = bench.xlsnap(directory.path(), ["domain", "add", "vm"]);
    for (file, letter) in files.iter().zip('a'..) {
        image(file)?;
        add.arg("--disk").arg(format!("vd{letter}={}", file.display()));
    }
    run(&mut add)?;
    run(&mut bench.xlsnap(directory.path(), ["create", "vm", "s1"]))?;

    let pairs = pairs(
        bench.rounds,
        || run(&mut bench.xlsnap(directory.path(), ["revert", "vm", "s1"])),
        || {
            let mut wall = Duration::ZERO;
            for file in &files {
                for words in [&["info"][..], &["snapshot", "-a", "s1"], &["info"]] {
                    wall += run(Command::new("qemu-img").args(words).arg(file))?.wall;
                }
            }
            Ok(Run::of_wall(wall))
        },
    )?;
    Ok(vec![
        Line::new("xlsnap revert (ms)", pairs.ours(Run::milliseconds), Promise::None),
        Line::new("qemu-img, disk after disk (ms)", pairs.theirs(Run::milliseconds), Promise::None),
        Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::None),
        Line::new("peak memory (MiB)", pairs.ours(Run::mebibytes), Promise::AtMost(16.0)),
    ])
}
