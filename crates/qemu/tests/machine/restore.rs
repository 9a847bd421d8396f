//! Memory comes back from its file, or the domain stays off.

use std::path::Path;

use xlsnap_orchestrator::{Can, Disks, Effect, MemoryFiles, PortErrorKind, Power, Run, SnapshotId};
use xlsnap_qemu::Machine;
use xlsnap_testkit::real::qemu_version;
use xlsnap_types::model::{Compression, MemoryMeta, MemoryWay, SavedIn};

use crate::rig::{MIB, Rig, Unwatched, told};
use crate::save::{files, whole};

/// A domain that is off again, with its memory of pattern 1 in a file; the next QEMU starts with pattern 2.
async fn saved(rig: &Rig, way: MemoryWay, compression: Compression) -> (Machine, MemoryMeta) {
    let machine = rig.started().await;
    let (_, meta) = whole(&machine, &rig.packed(way, compression), "s").await;
    machine.end().await.unwrap();
    rig.next_pattern(2);
    (machine, meta)
}

#[tokio::test]
async fn memory_and_disks_come_back() {
    let kinds = [(Compression::None, Run::Runs), (Compression::Zstd, Run::Waits)];
    for (way, (compression, run)) in files().into_iter().flat_map(|way| kinds.map(|kind| (way, kind))) {
        let rig = Rig::new();
        let machine = rig.started().await;
        rig.write("vda", 7);
        let (_, meta) = whole(&machine, &rig.packed(way, compression), "s").await;
        rig.write("vda", 8);
        machine.end().await.unwrap();
        rig.next_pattern(2);
        machine.start(Run::Waits).await.unwrap();
        assert!(rig.remembers(2) && rig.read("vda") == 8, "another start remembers nothing");
        machine.end().await.unwrap();

        let inventory = machine.inventory().await.unwrap();
        for disk in &inventory.disks {
            let id = SnapshotId { name: "s".into(), id: disk.snapshots[0].id.clone() };
            machine.revert(&disk.name, &id).await.unwrap();
        }
        machine.verify(&meta, &Unwatched).await.unwrap();
        machine.restore(&meta, run, &Unwatched).await.unwrap();
        assert!(rig.remembers(1), "{way:?}");
        assert_eq!(rig.read("vda"), 7, "{way:?}");
        assert_eq!(rig.status(), if run.runs() { "running" } else { "paused" });
        // Its disks are in reach, also of a guest that waits.
        machine.snapshot(&[crate::save::internal("vda", "after")]).await.unwrap();
        assert_eq!(rig.left().len(), 1, "{:?}", rig.left());
    }
}

/// A record of the same file that says this of it.
fn recorded(meta: &MemoryMeta, bytes: usize, sum: Option<&str>) -> MemoryMeta {
    let mut meta = MemoryMeta { bytes: bytes as u64, ..meta.clone() };
    if let SavedIn::File { checksum, .. } = &mut meta.place {
        *checksum = sum.map(str::to_owned);
    }
    meta
}

async fn refused(rig: &Rig, machine: &Machine, meta: &MemoryMeta) -> (PortErrorKind, String) {
    let error = machine.restore(meta, Run::Runs, &Unwatched).await.unwrap_err();
    assert_eq!(error.effect, Effect::None, "{error}");
    assert_eq!(rig.state(machine).await, xlsnap_orchestrator::GuestState::Off);
    assert_eq!(rig.pid(), None, "no process is left");
    let told = told(&error);
    (error.kind, told)
}

#[tokio::test]
async fn a_file_that_is_not_what_was_saved_leaves_the_domain_off() {
    let rig = Rig::new();
    let (machine, meta) = saved(&rig, MemoryWay::Stopped, Compression::None).await;
    let file = Path::new(meta.file().unwrap());
    let whole = std::fs::read(file).unwrap();

    // One byte is another: in the pattern, which no QEMU would notice.
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(file, &changed).unwrap();
    let error = machine.verify(&meta, &Unwatched).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Corrupt, Effect::None), "{error}");
    let (kind, told) = refused(&rig, &machine, &meta).await;
    assert_eq!(kind, PortErrorKind::Corrupt, "{told}");
    assert!(told.contains("checksum"), "{told}");

    // It ends too early: as the record says, and unnoticed by it.
    std::fs::write(file, &whole[..middle]).unwrap();
    assert_eq!(machine.verify(&meta, &Unwatched).await.unwrap_err().kind, PortErrorKind::Corrupt);
    let error = machine.restore(&meta, Run::Runs, &Unwatched).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Corrupt, "{error}");
    let unknown = recorded(&meta, middle, None);
    let (kind, told) = refused(&rig, &machine, &unknown).await;
    assert!(matches!(kind, PortErrorKind::Refused | PortErrorKind::Failed), "{kind:?}");
    assert!(told.contains("load of migration failed"), "the log's end is told: {told}");

    // It is something else.
    for (content, says) in [
        (&b"Xen saved domain, xl format\n \0 \rmore"[..], "Xen"),
        (b"hello, this is no memory", "does not begin"),
        (b"", "ends within"),
    ] {
        std::fs::write(file, content).unwrap();
        let other = recorded(&meta, content.len(), None);
        let error = machine.verify(&other, &Unwatched).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Corrupt);
        assert!(error.to_string().contains(says), "{error}");
        let (_, told) = refused(&rig, &machine, &other).await;
        // In its log, or on its monitor: 11.1 may be ended before it has written it to both.
        assert!(told.contains("it said") || told.contains("load of migration failed"), "{told}");
    }
    std::fs::remove_file(file).unwrap();
    let error = machine.restore(&meta, Run::Runs, &Unwatched).await.unwrap_err();
    assert_eq!((error.kind, rig.pid()), (PortErrorKind::NotFound, None), "{error}");
    let md5 = recorded(&meta, whole.len(), Some("md5:00"));
    assert_eq!(machine.verify(&md5, &Unwatched).await.unwrap_err().kind, PortErrorKind::Refused);

    // And the one that was saved is good still.
    std::fs::write(file, &whole).unwrap();
    machine.restore(&meta, Run::Runs, &Unwatched).await.unwrap();
    assert!(rig.remembers(1));
}

#[tokio::test]
async fn a_packed_file_that_is_cut_or_changed_is_refused() {
    let rig = Rig::new();
    let (machine, meta) = saved(&rig, MemoryWay::Stopped, Compression::Zstd).await;
    let file = Path::new(meta.file().unwrap());
    let whole = std::fs::read(file).unwrap();
    let cut = &whole[..whole.len() - 7];
    std::fs::write(file, cut).unwrap();
    let unknown = recorded(&meta, cut.len(), None);
    let (kind, told) = refused(&rig, &machine, &unknown).await;
    assert_eq!(kind, PortErrorKind::Corrupt, "{told}");
    // With something behind its end.
    let longer = [&whole[..], b"more"].concat();
    std::fs::write(file, &longer).unwrap();
    let unknown = recorded(&meta, longer.len(), None);
    assert_eq!(refused(&rig, &machine, &unknown).await.0, PortErrorKind::Corrupt);
    std::fs::write(file, &whole).unwrap();
    machine.restore(&meta, Run::Waits, &Unwatched).await.unwrap();
    assert!(rig.remembers(1));
}

#[tokio::test]
async fn another_machine_refuses_it() {
    let mut rig = Rig::new();
    let (machine, meta) = saved(&rig, MemoryWay::Stopped, Compression::None).await;
    machine.close().await;
    for (change, says) in [("pc", "Machine type received is 'pc-q35-"), ("q35", "Size mismatch")] {
        rig.spec.machine = change.into();
        rig.spec.memory = if change == "pc" { 64 } else { 96 };
        let other = rig.reach().await;
        let (kind, told) = refused(&rig, &other, &meta).await;
        assert!(told.contains(says), "{told}");
        let survives = qemu_version() >= (9, 1);
        assert_eq!(kind, if survives { PortErrorKind::Refused } else { PortErrorKind::Failed }, "{told}");
    }
}

#[tokio::test]
async fn what_runs_is_known_before_it_is_ended() {
    let rig = Rig::new();
    let machine = rig.reach().await;
    let abilities = machine.abilities().await.unwrap();
    let version = qemu_version();
    let said = abilities.hypervisor.qemu.clone().unwrap();
    assert!(said.starts_with(&format!("{}.{}.", version.0, version.1)), "{said}");
    assert_eq!(
        [&abilities.restart, &abilities.restore, &abilities.load, &abilities.release].map(Can::is_yes),
        [true, true, true, false]
    );
    let off = abilities.hypervisor;
    assert!(off.machine.as_deref().unwrap().starts_with("pc-q35-"));
    assert_eq!(
        (off.memory_bytes, &off.devices[..]),
        (Some(64 * MIB), &["vda (virtio-blk)".to_owned(), "vdb (virtio-blk)".into()][..])
    );
    machine.start(Run::Runs).await.unwrap();
    let abilities = machine.abilities().await.unwrap();
    assert!([&abilities.restart, &abilities.release, &abilities.load].iter().all(|can| can.is_yes()));
    assert_eq!(
        (&abilities.hypervisor.machine, abilities.hypervisor.memory_bytes),
        (&off.machine, off.memory_bytes)
    );
    // A running QEMU says the same of itself.
    let on = machine.inventory().await.unwrap().hypervisor;
    assert_eq!((on.machine, on.memory_bytes, on.devices), (off.machine, off.memory_bytes, off.devices));
    machine.close().await;
    // Its description does not say how it is started.
    let client = xlsnap_qmp_transport::Client::connect_unix(rig.qmp(), Default::default()).await.unwrap();
    let foreign = rig.parts(Some(client), None);
    let abilities = foreign.abilities().await.unwrap();
    assert!(abilities.restart.why().unwrap().contains("[start]"));
    assert!(!abilities.restore.is_yes() && abilities.release.is_yes());
    assert_eq!(foreign.end().await.unwrap_err().kind, PortErrorKind::Refused);
    assert_eq!(rig.status(), "running");
}
