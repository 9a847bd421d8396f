//! What the command adds to QEMU's own work.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::all::Bench;
use super::machine::Machine;
use super::monitor::Monitor;
use super::paired::pairs;
use super::process::{Run, run, scratch};
use super::promise::{Line, Promise};
use super::sample::Sample;
use crate::Failure;

/// `xlsnap create` as a whole process, its record on the disk, beside nothing but the transaction, sent by a client that
/// was connected before. Both on the same running QEMU and images; what a round made is deleted after it.
pub(super) fn create(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let directory = scratch()?;
    let mut machine = Machine::start(directory.path())?;
    let socket = machine.qmp.display().to_string();
    run(&mut bench.xlsnap(directory.path(), ["domain", "add", "vm", "--qmp", &socket]))?;
    let ours = || {
        let measured = run(&mut bench.xlsnap(directory.path(), ["create", "vm", "ours"]))?;
        run(&mut bench.xlsnap(directory.path(), ["delete", "vm", "ours"]))?;
        Ok(measured)
    };
    let bare = || {
        let start = Instant::now();
        transaction(&mut machine.bare, "bare")?;
        let wall = start.elapsed();
        delete(&mut machine.bare, "bare")?;
        Ok(Run::of_wall(wall))
    };
    let pairs = pairs(bench.rounds, ours, bare)?;
    let ratio = pairs.ratio(Run::milliseconds);
    let durable = (0..bench.rounds).map(|_| durable_file(directory.path())).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![
        Line::new("xlsnap create (ms)", pairs.ours(Run::milliseconds), Promise::None),
        Line::new("the bare transaction (ms)", pairs.theirs(Run::milliseconds), Promise::None),
        Line::new("difference (ms)", pairs.difference(Run::milliseconds), Promise::AtMost(8.0)),
        Line::new("ratio", ratio, Promise::None),
        Line::new(
            "processor time of xlsnap create (ms)",
            pairs.ours(Run::processor_milliseconds),
            Promise::None,
        ),
        Line::new("one file made durable (ms)", Sample::new(durable), Promise::None),
        Line::new("peak memory (MiB)", pairs.ours(Run::mebibytes), Promise::AtMost(16.0)),
    ])
}

/// The milliseconds to replace one file durably, of which `create` does four: they say how much of its time is the disk's.
fn durable_file(directory: &Path) -> Result<f64, Failure> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(directory.join("new"))?;
        file.write_all(&[b'x'; 500])?;
        file.sync_data()?;
        std::fs::rename(directory.join("new"), directory.join("durable"))?;
        File::open(directory)?.sync_all()
    };
    let start = Instant::now();
    write().map_err(|e| Failure(format!("{}: {e}", directory.display())))?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn transaction(monitor: &mut Monitor, name: &str) -> Result<Value, Failure> {
    let action =
        |disk| json!({"type": "blockdev-snapshot-internal-sync", "data": {"device": disk, "name": name}});
    monitor.execute("transaction", &json!({"actions": [action("vda"), action("vdb")]}))
}

fn delete(monitor: &mut Monitor, name: &str) -> Result<(), Failure> {
    for disk in ["vda", "vdb"] {
        monitor.execute("blockdev-snapshot-delete-internal-sync", &json!({"device": disk, "name": name}))?;
    }
    Ok(())
}
