//! Writing aside, and the name at the end.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use xlsnap_memory_file::{Checksum, Effect, Header, Kind, MemoryFile, MissingDirectory, Packing};

use crate::fixtures::{OTHER, TOKEN, in_scratch, names, received, saved, stream, verify};

#[tokio::test]
async fn a_stream_becomes_a_file() {
    for packing in [Packing::None, Packing::Zstd] {
        let (scratch, file) = in_scratch("s.save");
        let sealed = received(&file, TOKEN, &stream(), packing).await.unwrap();
        assert_eq!(names(scratch.path()), [format!(".s.save.{TOKEN}.part")]);
        assert!(file.is_staged(TOKEN).unwrap() && !file.is_staged(OTHER).unwrap());
        assert_eq!(file.size().await.unwrap(), None);
        let header = sealed.header(packing).await.unwrap();
        assert_eq!(header, Header::Qemu { machine: Some("pc-q35-10.0".into()) });
        let (bytes, checksum) = (sealed.bytes(), sealed.checksum());
        sealed.publish().await.unwrap();
        assert_eq!(names(scratch.path()), ["s.save"]);
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the guest's memory is for its owner alone");
        let stored = std::fs::read(file.path()).unwrap();
        assert_eq!((stored.len() as u64, Checksum::of(&stored)), (bytes, checksum));
        assert_eq!(stored == stream(), packing == Packing::None);
    }
}

#[tokio::test]
async fn what_another_program_wrote_is_sealed() {
    let (scratch, file) = in_scratch("s.save");
    let staged = file.stage(TOKEN).unwrap();
    std::fs::write(staged.path(), stream()).unwrap();
    assert_eq!(staged.bytes().unwrap(), stream().len() as u64);
    let mut told = 0;
    let sealed = staged.seal(|bytes| told = bytes).await.unwrap();
    assert!(told <= sealed.bytes());
    assert_eq!((sealed.bytes(), sealed.checksum()), (stream().len() as u64, Checksum::of(&stream())));
    sealed.publish().await.unwrap();
    assert_eq!(names(scratch.path()), ["s.save"]);

    // A program that puts a file of its own there: what was summed is another one.
    let (scratch, file) = in_scratch("s.save");
    let staged = file.stage(TOKEN).unwrap();
    std::fs::remove_file(staged.path()).unwrap();
    std::fs::write(staged.path(), stream()).unwrap();
    let error = staged.seal(|_| {}).await.unwrap().publish().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Foreign, Effect::None), "{error}");
    file.discard(TOKEN).await.unwrap();
    assert!(names(scratch.path()).is_empty());
}

#[tokio::test]
async fn nothing_is_ever_replaced() {
    let (scratch, file) = in_scratch("s.save");
    let sealed = received(&file, TOKEN, &stream(), Packing::None).await.unwrap();
    assert_eq!(file.stage(TOKEN).unwrap_err().kind(), Kind::AlreadyExists);
    std::fs::write(file.path(), "another's").unwrap();
    let error = sealed.publish().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::AlreadyExists, Effect::None), "{error}");
    for _ in 0..2 {
        file.discard(TOKEN).await.unwrap();
        assert_eq!(names(scratch.path()), ["s.save"]);
        assert_eq!(std::fs::read(file.path()).unwrap(), b"another's");
    }
}

#[tokio::test]
async fn of_two_makers_one_has_the_name() {
    let (scratch, file) = in_scratch("s.save");
    let makers: Vec<_> = (0..8)
        .map(|number| {
            let file = file.clone();
            tokio::spawn(async move {
                let token = format!("maker{number}");
                let bytes = [&stream()[..], &[number; 9]].concat();
                let sealed = received(&file, &token, &bytes, Packing::None).await.unwrap();
                let result = sealed.publish().await;
                if let Err(error) = &result {
                    assert_eq!(error.kind(), Kind::AlreadyExists, "{error}");
                    file.discard(&token).await.unwrap();
                }
                result.is_ok().then_some(number)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for maker in makers {
        winners.extend(maker.await.unwrap());
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(names(scratch.path()), ["s.save"]);
    assert_eq!(std::fs::read(file.path()).unwrap().last(), Some(&winners[0]));
}

#[tokio::test]
async fn a_stream_that_is_ended_makes_no_file() {
    let (scratch, file) = in_scratch("s.save");
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut receiving = file.stage(TOKEN).unwrap().receive(ours, Packing::None).unwrap();
    theirs.write_all(b"QEVM").unwrap();
    assert!(receiving.within(Duration::from_millis(1)).await.is_none());
    receiving.end().await;
    assert!(theirs.write_all(b"more").is_err(), "the other side sees it");
    assert!(file.is_staged(TOKEN).unwrap(), "another program can know that it began");
    file.discard(TOKEN).await.unwrap();
    assert!(names(scratch.path()).is_empty());
}

#[tokio::test]
async fn names_of_any_length_have_a_place() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["x".repeat(200), "x".repeat(250), "x".repeat(400), "x".repeat(401), "\u{e9}".repeat(127)] {
        let file = MemoryFile::in_directory(scratch.path(), &name).unwrap();
        let recorded = saved(&file, Packing::None).await;
        verify(&file, &recorded).await.unwrap();
        assert!(!file.is_staged(TOKEN).unwrap());
    }
    assert_eq!(names(scratch.path()).len(), 5);
}

#[tokio::test]
async fn a_place_has_obstacles() {
    let (scratch, file) = in_scratch("m.save");
    let place = file.place(MissingDirectory::Refuse).await.unwrap();
    assert!(place.obstacle.is_none() && !place.taken && place.free.unwrap() > 0, "{place:?}");
    // A link that leads nowhere has the name, too.
    symlink("/nowhere", file.path()).unwrap();
    assert!(file.place(MissingDirectory::Refuse).await.unwrap().taken);

    let below = MemoryFile::new(scratch.path().join("none/m.save")).unwrap();
    assert!(below.place(MissingDirectory::Refuse).await.unwrap().obstacle.unwrap().contains("not there"));
    let place = below.place(MissingDirectory::Make).await.unwrap();
    assert!(place.obstacle.is_none() && place.free.unwrap() > 0);
    assert_eq!(below.stage(TOKEN).unwrap_err().kind(), Kind::NotFound);
    below.make_directory().unwrap();
    assert!(below.place(MissingDirectory::Refuse).await.unwrap().obstacle.is_none());

    std::fs::write(scratch.path().join("plain"), "").unwrap();
    let in_a_file = MemoryFile::new(scratch.path().join("plain/m.save")).unwrap();
    for missing in [MissingDirectory::Refuse, MissingDirectory::Make] {
        assert!(in_a_file.place(missing).await.unwrap().obstacle.is_some());
    }
    let read_only = MemoryFile::new("/proc/m.save").unwrap();
    assert!(read_only.stage(TOKEN).is_err());
}
