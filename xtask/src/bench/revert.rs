//! Reverting many disks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::all::Bench;
use super::machine::image;
use super::paired::pairs;
use super::process::{Run, on_each, run, scratch};
use super::promise::{Line, Promise};
use super::sample::Sample;
use crate::Failure;

/// How many disks the domain has.
pub(super) const DISKS: usize = 8;

/// `xlsnap revert`, which works on all disks at once, beside a script that does the same to one after the other: looks at
/// the image, applies, looks again.
pub(super) fn revert(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let files = add_domain(bench, directory.path(), image)?;
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

/// `xlsnap revert` of full disks, which marks what is on each disk before it changes any and removes the marks after it, beside
/// qemu-img alone that does the same to all eight at once: looks, marks, applies, looks, removes the marks. That the marks cost two
/// runs a disk is a test of the command (`an_undo_point_costs_two_runs_a_disk`); how long those take is told here.
pub(super) fn undo_points(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let size = if bench.smoke { "4M" } else { "256M" };
    let files = add_domain(bench, directory.path(), |file| full_image(file, size))?;
    run(&mut bench.xlsnap(directory.path(), ["create", "vm", "s1"]))?;

    let mut marking = Vec::with_capacity(bench.rounds);
    let pairs = pairs(
        bench.rounds,
        || run(&mut bench.xlsnap(directory.path(), ["revert", "vm", "s1"])),
        || {
            let start = Instant::now();
            qemu_img(&files, &["info"])?;
            let mut marks = took(|| qemu_img(&files, &["snapshot", "-c", "undo"]))?;
            qemu_img(&files, &["snapshot", "-a", "s1"])?;
            qemu_img(&files, &["info"])?;
            marks += took(|| qemu_img(&files, &["snapshot", "-d", "undo"]))?;
            marking.push(marks.as_secs_f64() * 1e3);
            Ok(Run::of_wall(start.elapsed()))
        },
    )?;
    Ok(vec![
        Line::new("xlsnap revert, with undo points (ms)", pairs.ours(Run::milliseconds), Promise::None),
        Line::new(
            "qemu-img: look, mark, apply, look, remove the mark (ms)",
            pairs.theirs(Run::milliseconds),
            Promise::None,
        ),
        Line::new("of that: mark, and remove the mark (ms)", Sample::new(marking), Promise::None),
        Line::new("difference (ms)", pairs.difference(Run::milliseconds), Promise::None),
        Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::AtMost(1.5)),
    ])
}

/// Describes a domain `vm` that is off, and makes the images of its disks, `vda` and so on.
pub(super) fn add_domain(
    bench: &Bench,
    directory: &Path,
    make: impl Fn(&Path) -> Result<(), Failure>,
) -> Result<Vec<PathBuf>, Failure> {
    let files: Vec<_> = (0..DISKS).map(|number| directory.join(format!("disk{number}"))).collect();
    let mut add = bench.xlsnap(directory, ["domain", "add", "vm"]);
    for (file, letter) in files.iter().zip('a'..) {
        make(file)?;
        add.arg("--disk").arg(format!("vd{letter}={}", file.display()));
    }
    run(&mut add)?;
    Ok(files)
}

fn took(work: impl FnOnce() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// An image of which every cluster has data.
fn full_image(file: &Path, size: &str) -> Result<(), Failure> {
    run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(file).arg(size))?;
    run(Command::new("qemu-io").args(["-f", "qcow2", "-c", &format!("write -P 1 0 {size}")]).arg(file))?;
    Ok(())
}

/// One qemu-img for each image, all at once.
fn qemu_img(files: &[PathBuf], words: &[&str]) -> Result<(), Failure> {
    on_each(files, |file| {
        let mut qemu_img = Command::new("qemu-img");
        qemu_img.args(words).arg(file);
        qemu_img
    })
}
