//! Saving memory, and what is left of a save that fails or is cut short.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use uuid::Uuid;
use xlsnap_orchestrator::{
    Can, Effect, Memory, MemoryFiles, MemorySave, PortErrorKind, Run, SaveTo, SavedMemory,
};
use xlsnap_types::model::{AbsoluteFile, Compression, MemoryMeta, MemoryWay, SavedIn};
use xlsnap_xen::XlDomain;
use xlsnap_xen::xl::Kind;

use crate::rig::{Rig, UUID, Unwatched, save_file};
use crate::store::{PV, Store};

fn save(rig: &Rig, was: Run) -> (MemorySave, PathBuf) {
    let file = rig.scratch.path("records/s1.save");
    (save_to(&file, was), file)
}

fn save_to(file: &Path, was: Run) -> MemorySave {
    let to = SaveTo::File {
        file: AbsoluteFile::new(file.to_str().unwrap()).unwrap(),
        way: MemoryWay::Toolstack,
        compression: Compression::None,
    };
    MemorySave { to, was, token: "0123456789abcdef".to_owned() }
}

/// A save from its beginning to its end.
async fn saved(domain: &XlDomain, save: &MemorySave) -> SavedMemory {
    let stopped = domain.begin(save, &Unwatched).await.unwrap();
    let (_, unfinished) = stopped.run_on().await.unwrap();
    unfinished.finish().await.unwrap()
}

fn meta_of(file: &Path, saved: SavedMemory) -> MemoryMeta {
    recorded(file, saved.bytes, saved.checksum, Compression::None)
}

fn recorded(file: &Path, bytes: u64, checksum: Option<String>, compression: Compression) -> MemoryMeta {
    let file = file.to_str().unwrap().to_owned();
    MemoryMeta { place: SavedIn::File { file, way: MemoryWay::Toolstack, checksum, compression }, bytes }
}

fn left(rig: &Rig) -> Vec<String> {
    let entries = std::fs::read_dir(rig.scratch.path("records")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_guest_is_saved_while_it_runs_where_that_can_be() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    rig.toolstack.lives.store(true, Ordering::Relaxed);
    let (save, _) = save(&rig, Run::Runs);
    let is_suspended = || rig.toolstack.suspended.load(Ordering::Relaxed);
    let stopped = domain.begin(&save, &Unwatched).await.unwrap();
    // It stands still, too, should xl let it go on before we do.
    assert!(is_suspended() && rig.toolstack.paused(1) == 1);
    let (_, unfinished) = stopped.run_on().await.unwrap();
    assert!(!is_suspended() && rig.toolstack.paused(1) == 0);
    let saved = unfinished.finish().await.unwrap();
    assert_eq!((left(&rig), saved.bytes), (vec!["s1.save".to_owned()], save_file(UUID).len() as u64));
    domain.abandon(&save).await.unwrap();

    // Given up in the middle, it goes on.
    let stopped = domain.begin(&save, &Unwatched).await.unwrap();
    assert!(is_suspended());
    drop(stopped);
    domain.abandon(&save).await.unwrap();
    assert!(!is_suspended() && left(&rig).is_empty() && rig.toolstack.paused(1) == 0);

    // One that fails is made up for by one that stops the guest, as is one for which there is no room.
    *rig.toolstack.fails.lock().unwrap() = Some((Kind::NoSpace, false));
    let stopped = domain.begin(&save, &Unwatched).await.unwrap();
    assert!(!is_suspended() && rig.toolstack.paused(1) == 1);
    stopped.run_on().await.unwrap().1.finish().await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 0);
    domain.abandon(&save).await.unwrap();

    // One that is paused stays that, and is saved as it stands.
    rig.toolstack.add_pause(1);
    let save = MemorySave { was: Run::Waits, ..save };
    let stopped = domain.begin(&save, &Unwatched).await.unwrap();
    assert!(!is_suspended() && rig.toolstack.paused(1) == 2);
    stopped.run_on().await.unwrap().1.finish().await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 1);
}

#[tokio::test]
async fn a_guest_stands_still_from_the_save_until_it_is_let_go() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    let (save, file) = save(&rig, Run::Runs);
    let survey = domain.survey(save.file()).await.unwrap();
    assert_eq!(survey.ways, [MemoryWay::Toolstack]);
    assert!(survey.needed > 160 << 20 && survey.free.is_some());
    assert_eq!((survey.place, survey.taken), (Can::Yes, false));

    let stopped = domain.begin(&save, &Unwatched).await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 1);
    assert!(!file.exists());
    let part = left(&rig);
    assert!(part.len() == 1 && part[0].ends_with(".part"), "{part:?}");
    let mode = std::fs::metadata(rig.scratch.path("records").join(&part[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only root reads the guest's memory");
    let (_, unfinished) = stopped.run_on().await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 0);
    let saved = unfinished.finish().await.unwrap();
    assert_eq!(left(&rig), ["s1.save"]);
    assert_eq!(saved.bytes, save_file(UUID).len() as u64);
    let checksum = saved.checksum.unwrap();
    assert!(checksum.strip_prefix("xxh3-128:").unwrap().len() == 32, "{checksum}");
    assert!(domain.survey(save.file()).await.unwrap().taken);

    // What is finished can be given up still, by the process that comes after a crash.
    rig.domain(None).abandon(&save).await.unwrap();
    assert!(left(&rig).is_empty());
}

#[tokio::test]
async fn a_failure_puts_everything_back() {
    // Whether the domain is left paused depends on where xl fails.
    for done in [false, true] {
        for kind in [Kind::NoSpace, Kind::TimedOut, Kind::Failed] {
            let rig = Rig::off();
            let (save, _) = save(&rig, Run::Runs);
            *rig.toolstack.fails.lock().unwrap() = Some((kind, done));
            let error = rig.domain(None).begin(&save, &Unwatched).await.err().unwrap();
            assert_eq!(error.effect, Effect::None, "{error}");
            assert_eq!(rig.toolstack.paused(1), 0);
            assert!(left(&rig).is_empty());
        }
    }
}

#[tokio::test]
async fn what_a_crash_left_is_taken_away_by_another_process() {
    let rig = Rig::off();
    let (save, _) = save(&rig, Run::Runs);
    rig.domain(None).abandon(&save).await.unwrap();
    drop(rig.domain(None).begin(&save, &Unwatched).await.unwrap());
    let other = rig.domain(None);
    other.abandon(&save).await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 0);
    assert!(left(&rig).is_empty());
    other.abandon(&save).await.unwrap();
    rig.store.end(1);
    other.abandon(&save).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_there_is_neither_overwritten_nor_removed() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    let (save, file) = save(&rig, Run::Runs);
    let stopped = domain.begin(&save, &Unwatched).await.unwrap();
    let (_, unfinished) = stopped.run_on().await.unwrap();
    std::fs::write(&file, save_file(UUID)).unwrap();
    let error = unfinished.finish().await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::AlreadyExists);
    domain.abandon(&save).await.unwrap();
    assert_eq!(left(&rig), ["s1.save"]);
    domain.abandon(&save).await.unwrap();
    assert_eq!(left(&rig), ["s1.save"], "its mark is another one's");
}

#[tokio::test]
async fn pauses_of_others_count() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    rig.toolstack.add_pause(1);
    // A PV guest that is paused never answers xl.
    let survey = domain.survey(None).await.unwrap();
    assert!(survey.ways.is_empty());
    assert!(survey.lacking.iter().any(|(way, why)| *way == MemoryWay::Toolstack && why.contains("unpause")));
    let (running, _) = save(&rig, Run::Runs);
    assert_eq!(domain.begin(&running, &Unwatched).await.err().unwrap().kind, PortErrorKind::Busy);
    // One that was paused before has one pause less after the save, and so as many as before.
    let (paused, _) = save(&rig, Run::Waits);
    let stopped = domain.begin(&paused, &Unwatched).await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 2);
    drop(stopped.run_on().await.unwrap());
    assert_eq!(rig.toolstack.paused(1), 1);
    domain.abandon(&paused).await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 1);
    // So has one whose save is given up while it stands still.
    drop(domain.begin(&paused, &Unwatched).await.unwrap());
    assert_eq!(rig.toolstack.paused(1), 2);
    domain.abandon(&paused).await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 1);
}

#[tokio::test]
async fn a_guest_that_is_not_let_go_is_told() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    let (save, _) = save(&rig, Run::Runs);
    let stopped = domain.begin(&save, &Unwatched).await.unwrap();
    *rig.toolstack.fails.lock().unwrap() = Some((Kind::Failed, false));
    let error = stopped.run_on().await.err().unwrap();
    assert_eq!(error.effect, Effect::Unknown);
    assert!(error.to_string().contains("unpause"), "{error}");
    domain.abandon(&save).await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 0);
}

#[tokio::test]
async fn a_memory_file_is_read_to_its_end() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    let (save, file) = save(&rig, Run::Runs);
    assert_eq!(domain.place(&"s1".parse().unwrap()), file.to_str().unwrap());
    let saved = saved(&domain, &save).await;
    let bytes = saved.bytes;
    let meta = meta_of(&file, saved);
    domain.verify(&meta, &Unwatched).await.unwrap();
    assert_eq!(domain.size(file.to_str().unwrap()).await.unwrap(), Some(bytes));
    assert_eq!(domain.list().await.unwrap(), [file.to_str().unwrap()]);
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
    rig.store.again(&Store::of(PV), 1, 9);
    rig.store.set("/local/domain/9/vm", format!("/vm/{}", Uuid::from_u128(9)));
    let error = domain.verify(&meta, &Unwatched).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Busy, "xl would refuse the name, when it is too late");
    assert!(error.to_string().contains("domain 9"), "{error}");
    rig.store.end(9);
    let unknown = recorded(&file, meta.bytes, Some("md5:1".into()), Compression::None);
    std::fs::write(&file, &good).unwrap();
    assert_eq!(domain.verify(&unknown, &Unwatched).await.unwrap_err().kind, PortErrorKind::Refused);
    domain.remove(file.to_str().unwrap()).await.unwrap();
    domain.remove(file.to_str().unwrap()).await.unwrap();
    assert_eq!(domain.size(file.to_str().unwrap()).await.unwrap(), None);
    assert_eq!(domain.verify(&meta, &Unwatched).await.unwrap_err().kind, PortErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_no_file_of_its_own_is_not_taken_for_memory() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    let (save, file) = save(&rig, Run::Runs);
    let meta = meta_of(&file, saved(&domain, &save).await);
    let name = file.to_str().unwrap();
    let away = rig.scratch.path("away");
    std::fs::rename(&file, &away).unwrap();
    for kind in ["link", "directory", "fifo"] {
        match kind {
            "link" => std::os::unix::fs::symlink(&away, &file).unwrap(),
            "directory" => std::fs::create_dir(&file).unwrap(),
            _ => assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success()),
        }
        let error = domain.verify(&meta, &Unwatched).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Corrupt, Effect::None), "{kind}: {error}");
        assert!(domain.size(name).await.is_err() && domain.remove(name).await.is_err(), "{kind}");
        assert!(file.symlink_metadata().is_ok(), "{kind}: it stays");
        let gone = if kind == "directory" { std::fs::remove_dir(&file) } else { std::fs::remove_file(&file) };
        gone.unwrap();
    }
    // A copy has no mark: it can be reverted to, and is not removed as if it were ours.
    std::fs::write(&file, std::fs::read(&away).unwrap()).unwrap();
    domain.verify(&meta, &Unwatched).await.unwrap();
    let error = domain.remove(name).await.unwrap_err();
    assert!(error.to_string().contains(&format!("rm '{name}'")), "{error}");
    std::fs::rename(&away, &file).unwrap();
    domain.remove(name).await.unwrap();
    let packed = recorded(&file, meta.bytes, None, Compression::Zstd);
    assert_eq!(domain.verify(&packed, &Unwatched).await.unwrap_err().kind, PortErrorKind::Refused);
}

#[tokio::test]
async fn the_longest_name_has_a_file() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    for length in [200, 250] {
        let file = rig.scratch.path(&format!("records/{}.save", "x".repeat(length)));
        let save = save_to(&file, Run::Runs);
        saved(&domain, &save).await;
        assert!(file.is_file());
        rig.domain(None).abandon(&save).await.unwrap();
        assert!(left(&rig).is_empty());
    }
}
