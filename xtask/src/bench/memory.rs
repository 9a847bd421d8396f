//! Saving a guest's memory.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::all::Bench;
use super::libvirt::Libvirt;
use super::machine::{Machine, until};
use super::monitor::Monitor;
use super::paired::pairs;
use super::process::{Run, run, scratch};
use super::promise::{Line, Promise};
use super::sample::Sample;
use crate::Failure;

/// The memory of the machine, of which a quarter is in use.
const MEMORY_MIB: u32 = 256;

/// That of a larger one, of which as large a part is in use: its guest is to stand still no longer.
const LARGE_MIB: u32 = 2048;

/// How long a guest is to stand still at most while its memory is saved in the background, in milliseconds, in the median.
const PAUSE: f64 = 20.0;

/// `xlsnap create --memory` beside `dd` of the same bytes to the same file system: the whole, made durable; and the pause of the
/// guest, as QEMU's own events tell it on a second monitor. What a round made is deleted after it.
pub(super) fn memory(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let mut machine = Machine::with_memory(directory.path(), MEMORY_MIB)?;
    let socket = machine.qmp.display().to_string();
    run(&mut bench.xlsnap(directory.path(), ["domain", "add", "vm", "--qmp", &socket]))?;
    machine.bare.execute("cont", &json!({}))?;
    let mut lines = Vec::new();
    for (mode, promise) in
        [("background", Promise::AtMost(PAUSE)), ("switchover", Promise::None), ("stop", Promise::None)]
    {
        let way = Way { options: &["--memory-mode", mode], pause: promise };
        lines.extend(way.lines(bench, directory.path(), &mut machine.bare, mode)?);
    }
    let packed = Way { options: &["--compress", "zstd"], pause: Promise::None };
    lines.extend(packed.lines(bench, directory.path(), &mut machine.bare, "zstd")?);
    drop(machine);
    lines.extend(of_a_large_one(bench)?);
    Ok(lines)
}

/// In the background, with much more memory.
fn of_a_large_one(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let mut machine = Machine::with_memory(directory.path(), LARGE_MIB)?;
    let socket = machine.qmp.display().to_string();
    run(&mut bench.xlsnap(directory.path(), ["domain", "add", "vm", "--qmp", &socket]))?;
    machine.bare.execute("cont", &json!({}))?;
    let way = Way { options: &["--memory-mode", "background"], pause: Promise::AtMost(PAUSE) };
    way.lines(bench, directory.path(), &mut machine.bare, "background, 2 GiB")
}

struct Way<'a> {
    options: &'a [&'a str],
    pause: Promise,
}

impl Way<'_> {
    fn lines(
        &self,
        bench: &Bench,
        directory: &Path,
        events: &mut Monitor,
        name: &str,
    ) -> Result<Vec<Line>, Failure> {
        let save = directory.join("ours.save");
        let copy = directory.join("copy");
        let mut pauses = Vec::new();
        let mut bytes = Vec::new();
        let pairs = pairs(
            bench.rounds,
            || {
                let mut create = bench.xlsnap(directory, ["create", "vm", "ours", "--memory"]);
                create.arg(&save).args(self.options);
                let measured = run(&mut create)?;
                pauses.push(events.pause()?);
                bytes.push(size(&save)? / f64::from(1 << 20));
                // The file stays for dd; the record and the images' part go.
                fs::copy(&save, &copy).map_err(|e| Failure(format!("{}: {e}", save.display())))?;
                run(&mut bench.xlsnap(directory, ["delete", "vm", "ours"]))?;
                Ok(measured)
            },
            || {
                let mut of = std::ffi::OsString::from("of=");
                of.push(directory.join("dd"));
                let mut input = std::ffi::OsString::from("if=");
                input.push(&copy);
                let _ = fs::remove_file(directory.join("dd"));
                run(Command::new("dd").arg(input).arg(of).args(["bs=1M", "conv=fsync", "status=none"]))
            },
        )?;
        let judged = if name == "background" { Promise::AtMost(1.3) } else { Promise::None };
        Ok(vec![
            Line::new(&format!("{name}: pause (ms)"), Sample::new(pauses), self.pause),
            Line::new(&format!("{name}: file (MiB)"), Sample::new(bytes), Promise::None),
            Line::new(
                &format!("{name}: xlsnap create --memory (ms)"),
                pairs.ours(Run::milliseconds),
                Promise::None,
            ),
            Line::new(
                "dd of the same bytes, conv=fsync (ms)",
                pairs.theirs(Run::milliseconds),
                Promise::None,
            ),
            Line::new("ratio", pairs.ratio(Run::milliseconds), judged),
            Line::new("peak memory (MiB)", pairs.ours(Run::mebibytes), Promise::AtMost(32.0)),
        ])
    }
}

/// The whole in the background beside what QEMU itself takes for it: the same capability and bandwidth, told by hand, into a file
/// that is not flushed.
pub(super) fn beside_qemu(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let scratch = scratch()?;
    let directory = scratch.path();
    let mut machine = Machine::with_memory(directory, MEMORY_MIB)?;
    let socket = machine.qmp.display().to_string();
    run(&mut bench.xlsnap(directory, ["domain", "add", "vm", "--qmp", &socket]))?;
    let monitor = &mut machine.bare;
    monitor.execute("cont", &json!({}))?;
    let save = directory.join("ours.save");
    let bare = directory.join("bare.save");
    let pairs = pairs(
        bench.rounds,
        || {
            let mut create = bench.xlsnap(directory, ["create", "vm", "ours", "--memory"]);
            let measured = run(create.arg(&save).args(["--memory-mode", "background"]))?;
            run(&mut bench.xlsnap(directory, ["delete", "vm", "ours"]))?;
            Ok(measured)
        },
        || {
            let start = Instant::now();
            background(monitor, true)?;
            monitor.execute("stop", &json!({}))?;
            monitor.execute("migrate", &json!({"uri": format!("exec:cat > {}", bare.display())}))?;
            let mut stopped = true;
            until(|| {
                let info = monitor.execute("query-migrate", &json!({}))?;
                if stopped && info["ram"]["normal"].as_u64().is_some_and(|pages| pages > 0) {
                    monitor.execute("cont", &json!({}))?;
                    stopped = false;
                }
                migration(&info)
            })??;
            let measured = Run::of_wall(start.elapsed());
            background(monitor, false)?;
            Ok(measured)
        },
    )?;
    Ok(vec![
        Line::new("background: xlsnap create --memory (ms)", pairs.ours(Run::milliseconds), Promise::None),
        Line::new("QEMU alone, by hand, not flushed (ms)", pairs.theirs(Run::milliseconds), Promise::None),
        Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::None),
    ])
}

/// How the migration is: done, failed with QEMU's reason, or not at its end (the outer failure).
fn migration(info: &Value) -> Result<Result<(), Failure>, Failure> {
    let status = info["status"].as_str().unwrap_or("unknown");
    match status {
        "completed" => Ok(Ok(())),
        "failed" | "cancelled" => {
            let why = info["error-desc"].as_str().unwrap_or("QEMU gives no reason");
            Ok(Err(Failure(format!("QEMU's migration ended as {status}: {why}"))))
        }
        _ => Err(Failure(format!("QEMU's migration is still {status}: {info}"))),
    }
}

fn background(monitor: &mut Monitor, on: bool) -> Result<(), Failure> {
    let capability = json!({"capability": "background-snapshot", "state": on});
    monitor.execute("migrate-set-capabilities", &json!({"capabilities": [capability]}))?;
    monitor.execute("migrate-set-parameters", &json!({"max-bandwidth": 10_u64 << 30}))?;
    Ok(())
}

/// The pause beside that of `virsh snapshot-create-as`, internal and with memory, of the same machine.
pub(super) fn pause_beside_virsh(bench: &Bench) -> Result<Vec<Line>, Failure> {
    if !Libvirt::is_installed()? {
        return Ok(Vec::new());
    }
    let home = scratch()?;
    let libvirt = Libvirt::start(home.path())?;
    let root = libvirt.directory("xlsnap")?;
    let mut events = Monitor::connect(&libvirt.events)?;
    let socket = libvirt.qmp.display().to_string();
    let xlsnap = |words: &[&str]| -> Result<Command, Failure> {
        let mut command = libvirt.as_its_user(&bench.xlsnap)?;
        command.arg("--root").arg(&root).args(words);
        Ok(command)
    };
    run(&mut xlsnap(&["domain", "add", "vm", "--qmp", &socket])?)?;
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..bench.rounds {
        run(&mut xlsnap(&["create", "vm", "ours", "--memory"])?)?;
        ours.push(events.pause()?);
        run(&mut xlsnap(&["delete", "vm", "ours"])?)?;
        run(&mut libvirt.virsh(["snapshot-create-as", "bench", "theirs"])?)?;
        theirs.push(events.pause()?);
        run(&mut libvirt.virsh(["snapshot-delete", "bench", "theirs"])?)?;
    }
    let ratio: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    Ok(vec![
        Line::new("pause of xlsnap create --memory (ms)", Sample::new(ours), Promise::AtMost(100.0)),
        Line::new("pause of virsh: internal, with memory (ms)", Sample::new(theirs), Promise::None),
        Line::new("ratio", Sample::new(ratio), Promise::AtMost(0.25)),
    ])
}

fn size(file: &Path) -> Result<f64, Failure> {
    fs::metadata(file).map(|meta| meta.len() as f64).map_err(|e| Failure(format!("{}: {e}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_that_failed_tells_the_reason_that_qemu_gives() {
        let failed = migration(&json!({"status": "failed", "error-desc": "no space"})).unwrap().unwrap_err();
        assert_eq!(failed.0, "QEMU's migration ended as failed: no space");
        assert!(migration(&json!({"status": "active"})).is_err());
        assert!(migration(&json!({"status": "completed"})).unwrap().is_ok());
    }
}
