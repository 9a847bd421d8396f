//! What the command adds to QEMU's own work.

use std::time::Instant;

use serde_json::{Value, json};

use super::all::Bench;
use super::machine::Machine;
use super::monitor::Monitor;
use super::paired::pairs;
use super::process::{Run, run, scratch};
use super::promise::{Line, Promise};
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
        Ok(Run { wall, peak_memory: 0 })
    };
    let pairs = pairs(bench.rounds, ours, bare)?;
    let ratio = pairs.ratio(Run::milliseconds);
    Ok(vec![
        Line::new("xlsnap create (ms)", pairs.ours(Run::milliseconds), Promise::None),
        Line::new("the bare transaction (ms)", pairs.theirs(Run::milliseconds), Promise::None),
        Line::new("difference (ms)", pairs.difference(Run::milliseconds), Promise::AtMost(10.0)),
        Line::new("ratio", ratio, Promise::None),
        Line::new("peak memory (MiB)", pairs.ours(Run::mebibytes), Promise::AtMost(16.0)),
    ])
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
