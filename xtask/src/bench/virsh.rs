//! The command beside libvirt's.

use super::all::Bench;
use super::libvirt::Libvirt;
use super::paired::{Pairs, pairs};
use super::process::{Run, run, scratch};
use super::promise::{Line, Promise};
use crate::Failure;

/// `xlsnap create` beside `virsh snapshot-create-as` of the same disks of the same running machine. libvirt has nothing
/// that is quite the same: of a running machine it takes internal snapshots with the memory only, and disks alone only
/// as new files on top of them. So both are measured; what a round made is deleted after it.
pub(super) fn virsh(bench: &Bench) -> Result<Vec<Line>, Failure> {
    if !Libvirt::is_installed()? {
        return Ok(Vec::new());
    }
    let (ours, theirs) = (scratch()?, scratch()?);
    let libvirt = Libvirt::start(theirs.path())?;
    let socket = libvirt.qmp.display().to_string();
    run(&mut bench.xlsnap(ours.path(), ["domain", "add", "vm", "--qmp", &socket]))?;
    let beside = |options: &[&str]| -> Result<Pairs<Run>, Failure> {
        pairs(
            bench.rounds,
            || {
                let measured = run(&mut bench.xlsnap(ours.path(), ["create", "vm", "ours"]))?;
                run(&mut bench.xlsnap(ours.path(), ["delete", "vm", "ours"]))?;
                Ok(measured)
            },
            || {
                let mut create = libvirt.virsh(["snapshot-create-as", "bench", "theirs"])?;
                let measured = run(create.args(options))?;
                run(&mut libvirt.virsh(["snapshot-delete", "bench", "theirs"])?)?;
                Ok(measured)
            },
        )
    };
    let memory = beside(&[])?;
    let files = beside(&["--disk-only"])?;
    Ok(vec![
        Line::new("xlsnap create (ms)", memory.ours(Run::milliseconds), Promise::None),
        Line::new("virsh: internal, with memory (ms)", memory.theirs(Run::milliseconds), Promise::None),
        Line::new("ratio", memory.ratio(Run::milliseconds), Promise::AtMost(0.2)),
        Line::new("xlsnap create (ms)", files.ours(Run::milliseconds), Promise::None),
        Line::new("virsh --disk-only: external (ms)", files.theirs(Run::milliseconds), Promise::None),
        Line::new("ratio", files.ratio(Run::milliseconds), Promise::None),
    ])
}
