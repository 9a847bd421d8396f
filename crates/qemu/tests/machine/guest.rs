//! A Linux guest that counts on two disks and in its memory, and says when they disagree.

use std::path::PathBuf;

use xlsnap_orchestrator::{Disks, InsideMemory, Memory, MemoryInside, MemorySave, Power, Run, SnapshotId};
use xlsnap_qemu::Machine;
use xlsnap_qemu::process::MachineSpec;
use xlsnap_testkit::real::guest::{Boot, Console, Count};
use xlsnap_testkit::real::{DEADLINE, wait_until};
use xlsnap_types::model::{Compression, MemoryMeta, MemoryWay};

use crate::rig::{Rig, Unwatched};
use crate::save::{files, internal, whole};

/// A domain with the guest in it, and its console.
pub(crate) fn counting() -> (Rig, PathBuf) {
    let mut rig = Rig::new();
    let boot = Boot::new(Count { fill_mib: 16, dirty_pages: 256, ..Count::default() });
    let serial = rig.scratch.path("console");
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    // Without the pattern: its place is the guest's.
    let arguments = rig.spec.arguments[..2].to_vec();
    rig.spec = MachineSpec {
        memory: boot.memory_mib,
        kernel: Some(text(&boot.kernel)),
        initrd: Some(text(&boot.initrd)),
        append: Some(boot.append),
        serial: Some(text(&serial)),
        arguments,
        ..rig.spec.clone()
    };
    (rig, serial)
}

/// Brings disks and memory back: to the snapshot `tag`.
async fn back(machine: &Machine, tag: &str, meta: &MemoryMeta) {
    machine.end().await.unwrap();
    for disk in machine.inventory().await.unwrap().disks {
        let kept = disk.snapshots.iter().find(|snapshot| snapshot.name == tag).unwrap();
        let id = SnapshotId { name: tag.into(), id: kept.id.clone() };
        machine.revert(&disk.name, &id).await.unwrap();
    }
    machine.restore(meta, Run::Runs, &Unwatched).await.unwrap();
}

/// Waits until it counts from where it was again, no later than `latest`, and gives its first count then. What it counts after
/// the console was cleared and before it was brought back is a run of its own.
fn first_again(console: &Console, latest: u64) -> u64 {
    wait_until("it counts from where it was", || {
        let first = *console.runs().last()?.start();
        // A line that was cut in two by the save is none.
        (first <= latest + 2).then_some(first)
    })
}

#[tokio::test]
async fn it_goes_on_where_it_was() {
    let (rig, serial) = counting();
    let machine = rig.started().await;
    let mut console = Console::from_now(&serial);
    let mut last = console.wait_tick_beyond(20, DEADLINE);
    for (round, way) in files().into_iter().chain(files()).enumerate() {
        let compression = if round % 2 == 0 { Compression::None } else { Compression::Zstd };
        let tag = format!("s{round}");
        let save = rig.packed(way, compression);
        let (_, meta) = whole(&machine, &save, &tag).await;
        let after = console.last_tick().unwrap();
        console.wait_tick_beyond(after + 20, DEADLINE);
        console.forget();
        back(&machine, &tag, &meta).await;
        let first = first_again(&console, after);
        assert!(first >= last, "{way:?}: {first} is before {last}");
        last = console.wait_tick_beyond(first + 10, DEADLINE);
        assert_eq!(console.disagreement(), None, "{way:?}");
    }
    let inside = rig.save(MemoryWay::Internal);
    machine.take_inside(&inside, &[internal("vda", "in"), internal("vdb", "in")], &Unwatched).await.unwrap();
    let after = console.last_tick().unwrap();
    console.wait_tick_beyond(after + 20, DEADLINE);
    console.forget();
    let disks = ["vda", "vdb"].map(|name| name.parse().unwrap()).into();
    let inside = MemoryInside { tag: "in".into(), state: "vda".parse().unwrap(), disks };
    machine.load(&inside, Run::Runs, &Unwatched).await.unwrap();
    let first = first_again(&console, after);
    assert!(first >= last, "{first} is before {last}");
    console.wait_tick_beyond(first + 10, DEADLINE);
    assert_eq!(console.disagreement(), None);
}

/// Begins a save, and goes so far with it.
async fn broken_off(machine: &Machine, save: &MemorySave, at: u8) {
    let stopped = machine.begin(save, &Unwatched).await.unwrap();
    if at == 0 {
        return;
    }
    let (_, unfinished) = stopped.run_on().await.unwrap();
    if at == 2 {
        let wait = std::time::Duration::from_millis(30);
        let _ = tokio::time::timeout(wait, unfinished.finish()).await;
    }
}

#[tokio::test]
async fn it_goes_on_when_a_save_is_broken_off() {
    let (rig, serial) = counting();
    let mut machine = rig.started().await;
    let console = Console::from_now(&serial);
    let mut last = console.wait_tick_beyond(10, DEADLINE);
    for (at, way) in files().into_iter().flat_map(|way| [0, 1, 2, 3].map(|at| (at, way))) {
        let save = rig.save(way);
        broken_off(&machine, &save, at).await;
        if at == 3 {
            // By a crash: the stream breaks, and another program comes.
            drop(machine);
            machine = rig.reach_soon().await;
        }
        machine.abandon(&save).await.unwrap();
        // Everything of its memory is written by itself, which waits for ever if its writes are tracked still.
        last = console.wait_tick_beyond(last + 30, DEADLINE);
        assert_eq!(console.disagreement(), None, "{way:?} {at}");
    }
}
