//! Saving memory in each way, and what it leaves.

use std::time::Duration;

use serde_json::{Value, json};
use xlsnap_orchestrator::{
    Disks, Memory, MemoryFiles, MemorySave, PortError, PortErrorKind, Power, Run, SaveTo, SnapshotAction,
};
use xlsnap_qemu::Machine;
use xlsnap_testkit::real::{Disk, Scratch, StorageDaemon, qemu_version};
use xlsnap_types::model::{Compression, MemoryMeta, MemoryWay};

use crate::rig::{PATTERN, Rig, Unwatched, meta, to_file};

/// All ways through a file.
const FILES: [MemoryWay; 3] = [MemoryWay::Background, MemoryWay::Switchover, MemoryWay::Stopped];

/// Those that this QEMU has for an emulated guest that runs.
pub(crate) fn files() -> Vec<MemoryWay> {
    let since = |way: &MemoryWay| match way {
        MemoryWay::Background => (8, 1),
        MemoryWay::Switchover => (10, 0),
        _ => (0, 0),
    };
    FILES.into_iter().filter(|way| qemu_version() >= since(way)).collect()
}

pub(crate) fn internal(disk: &str, tag: &str) -> SnapshotAction {
    SnapshotAction::Internal { disk: disk.parse().unwrap(), tag: tag.into(), image: String::new() }
}

/// The whole of it, with the disks in between.
pub(crate) async fn whole(machine: &Machine, save: &MemorySave, tag: &str) -> (Duration, MemoryMeta) {
    let stopped = machine.begin(save, &Unwatched).await.unwrap();
    machine.snapshot(&[internal("vda", tag), internal("vdb", tag)]).await.unwrap();
    let (pause, unfinished) = stopped.run_on().await.unwrap();
    let saved = unfinished.finish().await.unwrap();
    (pause, meta(save, &saved))
}

/// Whether a save begins; what it holds of the machine is let go of.
pub(crate) async fn begins(machine: &Machine, save: &MemorySave) -> Result<(), PortError> {
    machine.begin(save, &Unwatched).await.map(drop)
}

#[tokio::test]
async fn every_way_saves_and_the_guest_goes_on() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let survey = machine.survey(None).await.unwrap();
    let all: Vec<MemoryWay> = files().into_iter().chain([MemoryWay::Internal]).collect();
    assert_eq!((survey.ways, survey.lacking.len()), (all, FILES.len() - files().len()));
    for way in files() {
        for compression in [Compression::None, Compression::Zstd] {
            let tag = format!("{}-{compression:?}", way.word());
            let save = rig.packed(way, compression);
            let (pause, meta) = whole(&machine, &save, &tag).await;
            assert_eq!(rig.status(), "running", "{tag}");
            assert!(pause > Duration::ZERO && pause < Duration::from_secs(5), "{tag}: {pause:?}");
            let file = meta.file().unwrap();
            assert_eq!(machine.size(file).await.unwrap(), Some(meta.bytes));
            assert!(meta.bytes > PATTERN as u64 && meta.bytes < survey.needed, "{tag}: {}", meta.bytes);
            let header = machine.verify(&meta, &Unwatched).await.unwrap();
            assert!(header.machine.unwrap().starts_with("pc-q35-"), "{tag}");
            assert_eq!(rig.left(), [format!("{}.save", save.token)], "{tag}");
            machine.remove(file).await.unwrap();
            assert_eq!(machine.size(file).await.unwrap(), None);
        }
    }
}

/// What QEMU's migration is set up with: everything that is on, and what is used of the rest.
pub(crate) fn settings(rig: &Rig) -> Value {
    let mut monitor = rig.monitor();
    let capabilities = monitor.must("query-migrate-capabilities", json!({}));
    let on: Vec<&Value> = capabilities.as_array().unwrap().iter().filter(|c| c["state"] == true).collect();
    let parameters = monitor.must("query-migrate-parameters", json!({}));
    json!([on, parameters["max-bandwidth"], parameters["tls-creds"]])
}

#[tokio::test]
async fn what_was_set_up_before_is_put_back() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let capability = |name: &str| json!({"capability": name, "state": true});
    let on = json!({"capabilities": [capability("multifd"), capability("auto-converge")]});
    rig.monitor().must("migrate-set-capabilities", on);
    rig.monitor().must("migrate-set-parameters", json!({"max-bandwidth": 7 << 20, "tls-creds": "absent"}));
    let before = settings(&rig);
    assert!(machine.survey(None).await.unwrap().ways.contains(&MemoryWay::Stopped));
    assert_eq!(settings(&rig), before, "asking changes nothing");
    for way in files() {
        let save = rig.save(way);
        whole(&machine, &save, way.word()).await;
        assert_eq!(settings(&rig), before, "{way:?}");
        let save = rig.save(way);
        let stopped = machine.begin(&save, &Unwatched).await.unwrap();
        assert_ne!(settings(&rig), before);
        drop(stopped);
        machine.abandon(&save).await.unwrap();
        assert_eq!(settings(&rig), before, "{way:?}");
    }
}

#[tokio::test]
async fn a_paused_guest_is_saved_only_as_it_can_be_left() {
    let rig = Rig::new();
    let machine = rig.started().await;
    rig.monitor().must("stop", json!({}));
    let survey = machine.survey(None).await.unwrap();
    let kept = qemu_version() >= (9, 0);
    let ways =
        if kept { vec![MemoryWay::Background, MemoryWay::Internal] } else { vec![MemoryWay::Internal] };
    assert_eq!(survey.ways, ways);
    for way in FILES {
        let save = rig.of_paused(way);
        if ways.contains(&way) {
            let (pause, _) = whole(&machine, &save, "s").await;
            assert_eq!(pause, Duration::ZERO);
            // Twice: what the first left is no obstacle.
            whole(&machine, &rig.of_paused(way), "t").await;
        } else {
            let error = begins(&machine, &save).await.unwrap_err();
            assert_eq!(error.kind, PortErrorKind::Refused, "{way:?}");
        }
        assert_eq!(rig.status(), "paused", "{way:?}");
    }
}

#[tokio::test]
async fn a_guest_that_never_ran_does_not_end_qemu() {
    let rig = Rig::new();
    let machine = rig.reach().await;
    machine.start(Run::Waits).await.unwrap();
    assert_eq!(rig.status(), "prelaunch");
    assert_eq!(machine.survey(None).await.unwrap().ways, [MemoryWay::Internal]);
    for way in FILES {
        let save = rig.of_paused(way);
        let error = begins(&machine, &save).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Refused, "{way:?}: {error}");
    }
    // Nor one that runs by now, or has stopped.
    let save = rig.save(MemoryWay::Stopped);
    begins(&machine, &save).await.unwrap_err();
    assert_eq!((rig.status().as_str(), rig.left().len()), ("prelaunch", 0));
}

#[tokio::test]
async fn what_is_in_the_way_is_said() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let file = rig.scratch.path("none/x.save");
    let survey = machine.survey(file.to_str()).await.unwrap();
    assert!(survey.place.why().unwrap().contains("none"), "no directory");
    let raw = rig.scratch.path("saves/x.save");
    std::fs::write(&raw, "").unwrap();
    let survey = machine.survey(raw.to_str()).await.unwrap();
    assert!(survey.taken && survey.place.is_yes() && survey.free.unwrap() > survey.needed);
    assert!((PATTERN as u64..256 << 20).contains(&survey.needed), "{}", survey.needed);

    let mut monitor = rig.monitor();
    monitor.must("blockdev-add", json!({"driver": "null-co", "node-name": "null", "size": 4 << 20}));
    let mirror = json!({"job-id": "m0", "device": "vda", "target": "null", "sync": "full"});
    monitor.must("blockdev-mirror", mirror);
    let survey = machine.survey(None).await.unwrap();
    assert!(survey.ways.is_empty() && survey.lacking.len() == 4, "{survey:?}");
    assert!(survey.lacking[0].1.contains("\"m0\" (mirror)"), "{survey:?}");
    let abilities = machine.abilities().await.unwrap();
    let no_release = abilities.release.why().unwrap();
    assert!(no_release.contains("\"m0\" (mirror)"), "{no_release}");
    drop(monitor);
    machine.end().await.unwrap();
    let survey = machine.survey(None).await.unwrap();
    assert!(survey.lacking.iter().all(|(_, why)| why == "the domain is off"), "{survey:?}");
}

#[tokio::test]
async fn memory_that_cannot_be_tracked_is_saved_otherwise() {
    let mut rig = Rig::new();
    // A file on a disk, which the kernel does not track so.
    let target = std::env::current_dir().unwrap();
    let file = tempfile::NamedTempFile::new_in(target).unwrap();
    let backend = format!("memory-backend-file,id=m,size=64M,share=on,mem-path={}", file.path().display());
    rig.spec.machine = "q35,memory-backend=m".into();
    rig.spec.arguments.extend(["-object", &backend].map(str::to_owned));
    let machine = rig.started().await;
    let survey = machine.survey(None).await.unwrap();
    let others = files().into_iter().filter(|way| *way != MemoryWay::Background);
    assert_eq!(survey.ways, others.chain([MemoryWay::Internal]).collect::<Vec<_>>());
    let (way, why) = &survey.lacking[0];
    assert_eq!(*way, MemoryWay::Background);
    let says = "QEMU says: Background-snapshot is not compatible";
    assert!(why.starts_with(says) || qemu_version() < (8, 1), "{why}");
    let save = rig.save(MemoryWay::Background);
    let error = begins(&machine, &save).await.unwrap_err();
    assert_eq!(error.effect, xlsnap_orchestrator::Effect::None, "{error}");
    assert_eq!((rig.status().as_str(), rig.left().len()), ("running", 0));
    whole(&machine, &rig.save(MemoryWay::Stopped), "s").await;
}

#[tokio::test]
async fn a_storage_daemon_has_no_memory() {
    let rig = Rig::new();
    let scratch = Scratch::new();
    let disks = rig.described.disks();
    let fixtures: Vec<Disk> =
        disks.iter().map(|spec| Disk::qcow2(spec.name.as_str(), spec.file.as_ref())).collect();
    let daemon = StorageDaemon::start(&scratch, &fixtures);
    let client = xlsnap_qmp_transport::Client::connect_unix(daemon.qmp(), Default::default()).await.unwrap();
    let machine = rig.machine(Some(client));
    assert!(machine.survey(None).await.unwrap().ways.is_empty());
    let abilities = machine.abilities().await.unwrap();
    assert!(abilities.release.why().unwrap().contains("storage daemon"));
    assert!(abilities.load.why().unwrap().contains("snapshot-load"));
    assert!(abilities.restart.why().unwrap().contains("not started by xlsnap"));
    let error = machine.end().await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    assert_eq!(machine.inventory().await.unwrap().disks.len(), 2);
}

#[tokio::test]
async fn a_save_that_cannot_begin_changes_nothing() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let save = MemorySave { token: "x".repeat(100), ..rig.save(MemoryWay::Stopped) };
    let error = begins(&machine, &save).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    let nowhere = to_file("/nowhere/at/all/x.save", MemoryWay::Stopped, Compression::None);
    for to in [SaveTo::Inside, nowhere] {
        let save = MemorySave { to: to.clone(), ..rig.save(MemoryWay::Stopped) };
        let error = begins(&machine, &save).await.unwrap_err();
        assert_eq!(error.effect, xlsnap_orchestrator::Effect::None, "{to:?}: {error}");
    }
    assert_eq!((rig.status().as_str(), rig.left().len()), ("running", 0));
}
