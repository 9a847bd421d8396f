//! Saving memory, and what is left of a save that fails or is cut short.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use uuid::Uuid;
use xlsnap_orchestrator::{Effect, Memory, MemoryFiles, MemorySave, PortErrorKind, Power};
use xlsnap_types::model::{Compression, MemoryMeta, MemoryWay};
use xlsnap_xen::xl::Kind;

use crate::store::{PV, Store};
use crate::world::{UUID, Unwatched, World, save_file};

fn save(world: &World, was_running: bool) -> (MemorySave, PathBuf) {
    let file = world.scratch.path("records/s1.save");
    let save = MemorySave {
        way: MemoryWay::Toolstack,
        file: Some(file.to_str().unwrap().to_owned()),
        compression: Compression::None,
        was_running,
        token: "0123456789abcdef".to_owned(),
    };
    (save, file)
}

fn left(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.scratch.path("records")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_guest_stands_still_from_the_save_until_it_is_let_go() {
    let world = World::off();
    let domain = world.domain(None);
    let (save, file) = save(&world, true);
    let survey = domain.survey(save.file.as_deref()).await.unwrap();
    assert_eq!(survey.ways, [MemoryWay::Toolstack]);
    assert!(survey.needed > 160 << 20 && survey.free.is_some());
    assert_eq!((survey.no_place, survey.taken), (None, false));

    domain.begin(&save, &Unwatched).await.unwrap();
    assert_eq!(world.toolstack.paused(1), 1);
    assert!(!file.exists());
    let part = left(&world);
    assert!(part.len() == 1 && part[0].ends_with(".part"), "{part:?}");
    let mode = std::fs::metadata(world.scratch.path("records").join(&part[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the guest's memory is nobody else's");
    domain.resume(&save, &Unwatched).await.unwrap();
    assert_eq!(world.toolstack.paused(1), 0);
    let saved = domain.finish(&save, &Unwatched).await.unwrap();
    assert_eq!(left(&world), ["s1.save"]);
    assert_eq!(saved.bytes, save_file(UUID).len() as u64);
    let checksum = saved.checksum.unwrap();
    assert!(checksum.strip_prefix("xxh3-128:").unwrap().len() == 32, "{checksum}");
    assert!(domain.survey(save.file.as_deref()).await.unwrap().taken);

    // What is finished can be given up still, by whoever comes after a crash.
    world.domain(None).abandon(&save).await.unwrap();
    assert!(left(&world).is_empty());
}

#[tokio::test]
async fn a_failure_puts_everything_back() {
    // Whether the domain is left paused depends on where xl fails.
    for done in [false, true] {
        for kind in [Kind::NoSpace, Kind::TimedOut, Kind::Failed] {
            let world = World::off();
            let (save, _) = save(&world, true);
            *world.toolstack.fails.lock().unwrap() = Some((kind, done));
            let error = world.domain(None).begin(&save, &Unwatched).await.unwrap_err();
            assert_eq!(error.effect, Effect::None, "{error}");
            assert_eq!(world.toolstack.paused(1), 0);
            assert!(left(&world).is_empty());
        }
    }
}

#[tokio::test]
async fn what_a_crash_left_is_taken_away_by_another_process() {
    let world = World::off();
    let (save, _) = save(&world, true);
    world.domain(None).abandon(&save).await.unwrap();
    world.domain(None).begin(&save, &Unwatched).await.unwrap();
    let other = world.domain(None);
    other.abandon(&save).await.unwrap();
    assert_eq!(world.toolstack.paused(1), 0);
    assert!(left(&world).is_empty());
    other.abandon(&save).await.unwrap();
    world.store.end(1);
    other.abandon(&save).await.unwrap();
}

#[tokio::test]
async fn a_file_of_somebody_elses_is_neither_overwritten_nor_removed() {
    let world = World::off();
    let domain = world.domain(None);
    let (save, file) = save(&world, true);
    domain.begin(&save, &Unwatched).await.unwrap();
    domain.resume(&save, &Unwatched).await.unwrap();
    std::fs::write(&file, save_file(UUID)).unwrap();
    let error = domain.finish(&save, &Unwatched).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::AlreadyExists);
    domain.abandon(&save).await.unwrap();
    assert_eq!(left(&world), ["s1.save"]);
    domain.abandon(&save).await.unwrap();
    assert_eq!(left(&world), ["s1.save"], "its mark is another one's");
}

#[tokio::test]
async fn pauses_of_others_count() {
    let world = World::off();
    let domain = world.domain(None);
    world.toolstack.pause(1);
    // A PV guest that is paused never answers xl.
    let survey = domain.survey(None).await.unwrap();
    assert!(survey.ways.is_empty());
    assert!(survey.lacking.iter().any(|(way, why)| *way == MemoryWay::Toolstack && why.contains("unpause")));
    let (running, _) = save(&world, true);
    assert_eq!(domain.begin(&running, &Unwatched).await.unwrap_err().kind, PortErrorKind::Busy);
    // One that was paused before has one pause less after the save, and so as many as before.
    let (paused, _) = save(&world, false);
    domain.begin(&paused, &Unwatched).await.unwrap();
    assert_eq!(world.toolstack.paused(1), 2);
    domain.resume(&paused, &Unwatched).await.unwrap();
    assert_eq!(world.toolstack.paused(1), 1);
    domain.abandon(&paused).await.unwrap();
    assert_eq!(world.toolstack.paused(1), 1);
}

#[tokio::test]
async fn a_guest_that_is_not_let_go_is_told() {
    let world = World::off();
    let domain = world.domain(None);
    let (save, _) = save(&world, true);
    domain.begin(&save, &Unwatched).await.unwrap();
    *world.toolstack.fails.lock().unwrap() = Some((Kind::Failed, false));
    let error = domain.resume(&save, &Unwatched).await.unwrap_err();
    assert_eq!(error.effect, Effect::Unknown);
    assert!(error.to_string().contains("unpause"), "{error}");
    domain.abandon(&save).await.unwrap();
    assert_eq!(world.toolstack.paused(1), 0);
}

#[tokio::test]
async fn a_memory_file_is_read_to_its_end() {
    let world = World::off();
    let domain = world.domain(None);
    let (save, file) = save(&world, true);
    assert_eq!(domain.place(&"s1".parse().unwrap()), file.to_str().unwrap());
    domain.begin(&save, &Unwatched).await.unwrap();
    domain.resume(&save, &Unwatched).await.unwrap();
    let saved = domain.finish(&save, &Unwatched).await.unwrap();
    let meta = MemoryMeta {
        way: MemoryWay::Toolstack,
        file: save.file.clone(),
        bytes: saved.bytes,
        checksum: saved.checksum,
        compression: Compression::None,
    };
    domain.verify(&meta, &Unwatched).await.unwrap();
    assert_eq!(domain.size(file.to_str().unwrap()).await.unwrap(), Some(saved.bytes));
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let short = good[..good.len() - 1].to_vec();
    let foreign = save_file(Uuid::from_u128(7));
    for (content, why) in
        [(bad, "checksum"), (short, "bytes"), (foreign, "another domain"), (vec![0; good.len()], "no memory")]
    {
        std::fs::write(&file, &content).unwrap();
        let error = domain.verify(&meta, &Unwatched).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Corrupt);
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    std::fs::write(&file, &good).unwrap();
    world.store.again(&Store::of(PV), 1, 9);
    world.store.set("/local/domain/9/vm", format!("/vm/{}", Uuid::from_u128(9)));
    let error = domain.verify(&meta, &Unwatched).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Busy, "xl would refuse the name, when it is too late");
    assert!(error.to_string().contains("domain 9"), "{error}");
    world.store.end(9);
    let unknown = MemoryMeta { checksum: Some("md5:1".into()), ..meta.clone() };
    std::fs::write(&file, &good).unwrap();
    assert_eq!(domain.verify(&unknown, &Unwatched).await.unwrap_err().kind, PortErrorKind::Refused);
    domain.remove(file.to_str().unwrap()).await.unwrap();
    domain.remove(file.to_str().unwrap()).await.unwrap();
    assert_eq!(domain.size(file.to_str().unwrap()).await.unwrap(), None);
    assert_eq!(domain.verify(&meta, &Unwatched).await.unwrap_err().kind, PortErrorKind::NotFound);
}

#[tokio::test]
async fn a_domain_is_ended_and_made_again() {
    let world = World::off();
    let kept = world.domain(None).to_keep().await.unwrap();
    let domain = world.domain(kept);
    let abilities = domain.abilities().await.unwrap();
    assert_eq!((abilities.no_restart, abilities.no_restore), (None, None));
    assert!(abilities.no_release.is_some() && abilities.no_load.is_some());
    let meta = MemoryMeta {
        way: MemoryWay::Toolstack,
        file: Some("/somewhere".into()),
        bytes: 0,
        checksum: None,
        compression: Compression::None,
    };
    assert_eq!(domain.restore(&meta, true, &Unwatched).await.unwrap_err().kind, PortErrorKind::Busy);
    domain.destroy().await.unwrap();
    domain.destroy().await.unwrap();
    assert_eq!(domain.running().await.unwrap(), None);

    domain.restore(&meta, true, &Unwatched).await.unwrap();
    assert_eq!(domain.running().await.unwrap().unwrap().domid.number(), 2);
    assert_eq!(world.toolstack.paused(2), 0);
    domain.destroy().await.unwrap();
    domain.restore(&meta, false, &Unwatched).await.unwrap();
    assert_eq!(world.toolstack.paused(3), 1);
    domain.destroy().await.unwrap();

    std::fs::create_dir_all(world.scratch.path("records")).unwrap();
    domain.start(true).await.unwrap();
    assert_eq!(world.toolstack.paused(4), 0);
    assert!(left(&world).is_empty(), "the configuration was only for xl");
    domain.destroy().await.unwrap();

    // However far it came: the domain is off.
    for done in [false, true] {
        *world.toolstack.fails.lock().unwrap() = Some((Kind::NoSpace, done));
        let error = domain.restore(&meta, true, &Unwatched).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::NoSpace);
        assert_eq!(domain.running().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_domain_that_leaves_something_behind_is_not_gone() {
    let world = World::off();
    let mut qemu = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    world.store.set("/local/domain/1/image/device-model-pid", qemu.id().to_string());
    let error = world.domain(None).destroy().await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::Unknown));
    assert!(error.to_string().contains(&qemu.id().to_string()), "{error}");
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    world.domain(None).destroy().await.unwrap();
}
