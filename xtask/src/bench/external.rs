//! External snapshots: made, merged and reverted to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::all::Bench;
use super::libvirt::Libvirt;
use super::machine::{Machine, image, until};
use super::monitor::Monitor;
use super::paired::pairs;
use super::process::{Run, on_each, run, scratch};
use super::promise::{Line, Promise};
use super::revert::{DISKS, add_domain};
use super::sample::Sample;
use crate::Failure;

/// How much is merged, in MiB, and what is promised of it: less than the second is promised 20 ms more than QEMU's own job.
const MERGED: [u32; 2] = [64, 1024];

/// `xlsnap create --external` beside `virsh snapshot-create-as --disk-only`, each of two disks of a running machine of its own, since
/// libvirt does not look at what others put on its disks. What a round made is deleted after it.
pub(super) fn beside_virsh(bench: &Bench) -> Result<Vec<Line>, Failure> {
    if !Libvirt::is_installed()? {
        return Ok(Vec::new());
    }
    let (ours, theirs) = (scratch()?, scratch()?);
    let machine = Machine::start(ours.path())?;
    let libvirt = Libvirt::start(theirs.path())?;
    let socket = machine.qmp.display().to_string();
    run(&mut bench.xlsnap(ours.path(), ["domain", "add", "vm", "--qmp", &socket]))?;
    let mut deleted = Vec::new();
    let mut deleted_theirs = Vec::new();
    let pairs = pairs(
        bench.rounds,
        || {
            let measured = run(&mut external(bench, ours.path(), "ours", ["vda", "vdb"]))?;
            deleted.push(run(&mut bench.xlsnap(ours.path(), ["delete", "vm", "ours"]))?.milliseconds());
            Ok(measured)
        },
        || {
            let measured =
                run(&mut libvirt.virsh(["snapshot-create-as", "bench", "theirs", "--disk-only"])?)?;
            deleted_theirs
                .push(run(&mut libvirt.virsh(["snapshot-delete", "bench", "theirs"])?)?.milliseconds());
            Ok(measured)
        },
    )?;
    Ok(vec![
        Line::new("xlsnap create --external (ms)", pairs.ours(Run::milliseconds), Promise::None),
        Line::new("virsh --disk-only (ms)", pairs.theirs(Run::milliseconds), Promise::None),
        Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::AtMost(0.2)),
        Line::new("xlsnap delete of it (ms)", Sample::new(deleted), Promise::None),
        Line::new("virsh snapshot-delete of it (ms)", Sample::new(deleted_theirs), Promise::None),
    ])
}

/// `xlsnap delete` of an external snapshot of a running machine, with so much data above it, beside `virsh snapshot-delete` of the same
/// chain on a machine of libvirt's.
pub(super) fn merge_beside_virsh(bench: &Bench) -> Result<Vec<Line>, Failure> {
    if !Libvirt::is_installed()? {
        return Ok(Vec::new());
    }
    let (ours, theirs) = (scratch()?, scratch()?);
    let mut machine = Machine::with_disks(ours.path(), "2G")?;
    let libvirt = Libvirt::start_with_disks(theirs.path(), "2G")?;
    let mut monitor = Monitor::connect(&libvirt.qmp)?;
    let socket = machine.qmp.display().to_string();
    run(&mut bench.xlsnap(ours.path(), ["domain", "add", "vm", "--qmp", &socket]))?;
    let mut lines = Vec::new();
    for mebibytes in MERGED {
        let written = if bench.smoke { 4 } else { mebibytes };
        let pairs = pairs(
            bench.rounds.min(7),
            || {
                run(external(bench, ours.path(), "ours", ["vda"]).args(["--exclude", "vdb"]))?;
                fill(&mut machine.bare, "vda", written)?;
                run(&mut bench.xlsnap(ours.path(), ["delete", "vm", "ours"]))
            },
            || {
                let one = ["--diskspec", "vda", "--diskspec", "vdb,snapshot=no"];
                let take = ["snapshot-create-as", "bench", "theirs", "--disk-only"];
                run(libvirt.virsh(take)?.args(one))?;
                fill(&mut monitor, "virtio-disk0", written)?;
                run(&mut libvirt.virsh(["snapshot-delete", "bench", "theirs"])?)
            },
        )?;
        lines.extend([
            Line::new(
                &format!("xlsnap delete, {written} MiB (ms)"),
                pairs.ours(Run::milliseconds),
                Promise::None,
            ),
            Line::new("virsh snapshot-delete (ms)", pairs.theirs(Run::milliseconds), Promise::None),
            Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::None),
        ]);
    }
    Ok(lines)
}

/// `xlsnap revert` of 8 disks that are off to an external snapshot, beside `virsh snapshot-revert` of as many.
pub(super) fn revert_beside_virsh(bench: &Bench) -> Result<Vec<Line>, Failure> {
    if !Libvirt::is_installed()? {
        return Ok(Vec::new());
    }
    let (ours, theirs) = (scratch()?, scratch()?);
    add_domain(bench, ours.path(), image)?;
    let disks: Vec<String> = ('a'..).take(DISKS).map(|letter| format!("vd{letter}")).collect();
    let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
    run(&mut external(bench, ours.path(), "e1", disks.iter().copied()))?;
    let libvirt = Libvirt::off(theirs.path(), &disks)?;
    run(&mut libvirt.virsh(["snapshot-create-as", "bench", "e1", "--disk-only"])?)?;
    let pairs = pairs(
        bench.rounds,
        || run(&mut bench.xlsnap(ours.path(), ["revert", "vm", "e1"])),
        || {
            // libvirt names the new files after the second, and refuses one that is there.
            std::thread::sleep(Duration::from_millis(1100));
            run(&mut libvirt.virsh(["snapshot-revert", "bench", "e1"])?)
        },
    )?;
    Ok(vec![
        Line::new("xlsnap revert (ms)", pairs.ours(Run::milliseconds), Promise::None),
        Line::new("virsh snapshot-revert (ms)", pairs.theirs(Run::milliseconds), Promise::None),
        Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::None),
    ])
}

/// `xlsnap delete` of an external snapshot of a running machine, with so much data above it, beside QEMU's own job on the same data
/// on another disk of the same machine, told by hand. And the pause of the guest while its device gets the image below.
pub(super) fn merge(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let mut machine = Machine::with_disks(directory.path(), "2G")?;
    let socket = machine.qmp.display().to_string();
    run(&mut bench.xlsnap(directory.path(), ["domain", "add", "vm", "--qmp", &socket]))?;
    let mut lines = Vec::new();
    for mebibytes in MERGED {
        let written = if bench.smoke { 4 } else { mebibytes };
        let mut pauses = Vec::new();
        let monitor = std::cell::RefCell::new(&mut machine.bare);
        let pairs = pairs(
            bench.rounds.min(7),
            || {
                run(external(bench, directory.path(), "ours", ["vda"]).args(["--exclude", "vdb"]))?;
                fill(&mut monitor.borrow_mut(), "vda", written)?;
                monitor.borrow_mut().events()?;
                let measured = run(&mut bench.xlsnap(directory.path(), ["delete", "vm", "ours"]))?;
                pauses.push(monitor.borrow_mut().pause()?);
                Ok(measured)
            },
            || job(&mut monitor.borrow_mut(), directory.path(), written),
        )?;
        let ratio = pairs.ratio(Run::milliseconds);
        let difference = pairs.difference(Run::milliseconds);
        let (of_ratio, of_difference) = match mebibytes {
            1024.. => (Promise::AtMost(1.1), Promise::None),
            _ => (Promise::None, Promise::AtMost(20.0)),
        };
        lines.extend([
            Line::new(
                &format!("xlsnap delete, {written} MiB (ms)"),
                pairs.ours(Run::milliseconds),
                Promise::None,
            ),
            Line::new("QEMU's own job (ms)", pairs.theirs(Run::milliseconds), Promise::None),
            Line::new("ratio", ratio, of_ratio),
            Line::new("difference (ms)", difference, of_difference),
            Line::new("pause of the guest (ms)", Sample::new(pauses), Promise::None),
            Line::new("peak memory (MiB)", pairs.ours(Run::mebibytes), Promise::AtMost(16.0)),
        ]);
    }
    Ok(lines)
}

/// The command that takes an external snapshot of disks, whose new files take the writes under names of their own.
fn external<'a>(
    bench: &Bench,
    directory: &Path,
    name: &str,
    disks: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut create = bench.xlsnap(directory, ["create", "vm", name, "--no-keep-name"]);
    for disk in disks {
        create.args(["--external", disk]);
    }
    create
}

/// Writes to a disk as its guest would.
fn fill(monitor: &mut Monitor, disk: &str, mebibytes: u32) -> Result<(), Failure> {
    const AT_ONCE: u32 = 32;
    for at in (0..mebibytes).step_by(AT_ONCE as usize) {
        let device = format!("/machine/peripheral/{disk}/virtio-backend");
        let count = AT_ONCE.min(mebibytes - at);
        let line = format!("qemu-io -d {device} \"write -P 7 {at}M {count}M\"");
        monitor.execute("human-monitor-command", &json!({"command-line": line}))?;
    }
    Ok(())
}

/// An overlay on `vdb`, filled, and QEMU's job that commits it; the job's time.
fn job(monitor: &mut Monitor, directory: &Path, mebibytes: u32) -> Result<Run, Failure> {
    let overlay = directory.join("bare.qcow2");
    let snapshot = json!({"node-name": "vdb", "snapshot-file": overlay, "snapshot-node-name": "bare"});
    monitor.execute("blockdev-snapshot-sync", &snapshot)?;
    fill(monitor, "vdb", mebibytes)?;
    monitor.events()?;
    let start = Instant::now();
    monitor.execute("block-commit", &json!({"job-id": "merge", "device": "bare"}))?;
    until_event(monitor, "BLOCK_JOB_READY")?;
    monitor.execute("job-complete", &json!({"id": "merge"}))?;
    until_event(monitor, "BLOCK_JOB_COMPLETED")?;
    let measured = Run::of_wall(start.elapsed());
    fs::remove_file(&overlay).map_err(|e| Failure(format!("{}: {e}", overlay.display())))?;
    Ok(measured)
}

fn until_event(monitor: &mut Monitor, name: &str) -> Result<(), Failure> {
    until(|| {
        let came: Vec<Value> = monitor.events()?;
        let is_there = came.iter().any(|event| event["event"] == name);
        if is_there { Ok(()) } else { Err(Failure(format!("QEMU told no {name}"))) }
    })
}

/// `xlsnap revert` of 8 disks that are off to an external snapshot, beside qemu-img alone that makes the same overlays, all at once,
/// and the removal of those before.
pub(super) fn revert(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let files = add_domain(bench, directory.path(), image)?;
    let disks: Vec<String> = ('a'..).take(DISKS).map(|letter| format!("vd{letter}")).collect();
    run(&mut external(bench, directory.path(), "e1", disks.iter().map(String::as_str)))?;
    let overlays: Vec<PathBuf> = files.iter().map(|file| file.with_extension("bare")).collect();
    let pairs = pairs(
        bench.rounds,
        || run(&mut bench.xlsnap(directory.path(), ["revert", "vm", "e1"])),
        || {
            let start = Instant::now();
            on_each(&overlays, |overlay| {
                let mut make = Command::new("qemu-img");
                make.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
                make.arg(overlay.with_extension("")).arg(overlay);
                make
            })?;
            let took: Duration = start.elapsed();
            for overlay in &overlays {
                fs::remove_file(overlay).map_err(|e| Failure(format!("{}: {e}", overlay.display())))?;
            }
            Ok(Run::of_wall(took))
        },
    )?;
    Ok(vec![
        Line::new("xlsnap revert (ms)", pairs.ours(Run::milliseconds), Promise::None),
        Line::new("qemu-img create of each, at once (ms)", pairs.theirs(Run::milliseconds), Promise::None),
        Line::new("difference (ms)", pairs.difference(Run::milliseconds), Promise::AtMost(50.0)),
        Line::new("peak memory (MiB)", pairs.ours(Run::mebibytes), Promise::AtMost(16.0)),
    ])
}
