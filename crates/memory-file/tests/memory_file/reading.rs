//! What is not what was saved.

use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use xlsnap_memory_file::{Checksum, Effect, Error, Header, Kind, MemoryFile, Packing, Recorded, XL_MAGIC};

use crate::fixtures::{OTHER, TOKEN, in_scratch, saved, stream, verify};

async fn refused(file: &MemoryFile, recorded: &Recorded) -> (Kind, String) {
    let error = verify(file, recorded).await.unwrap_err();
    assert_eq!(error.effect(), Effect::None, "{error}");
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "it names the file: {error}");
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn what_was_saved_is_read() {
    for packing in [Packing::None, Packing::Zstd] {
        let (_scratch, file) = in_scratch("s.save");
        let recorded = saved(&file, packing).await;
        let opened = file.open(&recorded).await.unwrap();
        let header = opened.header().await.unwrap();
        assert_eq!(header, Header::Qemu { machine: Some("pc-q35-10.0".into()) });
        let mut told = 0;
        opened.verify(|bytes| told = bytes).await.unwrap();
        assert_eq!(told, recorded.bytes);
        // Another file that gets its name is not the one that was opened.
        std::fs::rename(file.path(), file.path().with_extension("away")).unwrap();
        std::fs::write(file.path(), "another's").unwrap();
        opened.verify(|_| {}).await.unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(fed(opened.feed(ours, |_| {}), theirs).await.unwrap(), stream());
    }
}

#[tokio::test]
async fn a_file_keeps_its_mark_under_another_name_and_a_copy_has_none() {
    let (_scratch, file) = in_scratch("s.save");
    let recorded = saved(&file, Packing::None).await;
    let moved = MemoryFile::new(file.path().with_extension("moved")).unwrap();
    std::fs::rename(file.path(), moved.path()).unwrap();
    let opened = moved.open(&recorded).await.unwrap();
    for (start, is_it) in [(TOKEN, true), (&TOKEN[..20], true), (OTHER, false), (&OTHER[..20], false)] {
        assert_eq!(opened.is_marked(start).await.unwrap(), is_it, "{start}");
    }
    std::fs::write(file.path(), std::fs::read(moved.path()).unwrap()).unwrap();
    assert!(!file.open(&recorded).await.unwrap().is_marked(TOKEN).await.unwrap());
}

/// What the other side gets.
async fn fed(
    feeding: impl Future<Output = Result<(), Error>>,
    mut theirs: UnixStream,
) -> Result<Vec<u8>, Error> {
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).map(|_| got)
    });
    feeding.await?;
    Ok(reader.join().unwrap().unwrap())
}

#[tokio::test]
async fn a_file_that_was_cut_or_changed_is_found_out() {
    for packing in [Packing::None, Packing::Zstd] {
        let (_scratch, file) = in_scratch("s.save");
        let recorded = saved(&file, packing).await;
        let good = std::fs::read(file.path()).unwrap();
        for at in [good.len() / 2, good.len() - 1] {
            let mut changed = good.clone();
            changed[at] ^= 1;
            std::fs::write(file.path(), &changed).unwrap();
            let (kind, text) = refused(&file, &recorded).await;
            assert!(kind == Kind::Damaged && text.contains("checksum"), "{text}");
            // It shows on the way to a hypervisor, too.
            let (ours, theirs) = UnixStream::pair().unwrap();
            let opened = file.open(&recorded).await.unwrap();
            assert_eq!(fed(opened.feed(ours, |_| {}), theirs).await.unwrap_err().kind(), Kind::Damaged);
        }
        std::fs::write(file.path(), &good[..good.len() - 1]).unwrap();
        let (kind, text) = refused(&file, &recorded).await;
        assert!(kind == Kind::Damaged && text.contains("bytes"), "{text}");
        std::fs::write(file.path(), [&good[..], b"x"].concat()).unwrap();
        assert_eq!(refused(&file, &recorded).await.0, Kind::Damaged);
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(refused(&file, &recorded).await.0, Kind::NotFound);
    }
}

#[tokio::test]
async fn what_does_not_begin_as_memory_is_not_taken_for_it() {
    let (_scratch, file) = in_scratch("s.save");
    let check = async |content: &[u8], packing, says: &str| {
        std::fs::write(file.path(), content).unwrap();
        let recorded =
            Recorded { bytes: content.len() as u64, checksum: Some(Checksum::of(content)), packing };
        let (kind, text) = refused(&file, &recorded).await;
        assert!(kind == Kind::Damaged && text.contains(says), "{says}: {text}");
    };
    check(b"", Packing::None, "ends within").await;
    check(b"hello, this is no memory", Packing::None, "does not begin").await;
    check(&stream()[..20], Packing::None, "ends within").await;
    check(&stream(), Packing::Zstd, "cannot be read").await;
    check(&XL_MAGIC[..], Packing::None, "xl").await;
}

#[tokio::test]
async fn only_a_regular_file_is_opened() {
    let (scratch, file) = in_scratch("s.save");
    let recorded = saved(&file, Packing::None).await;
    let away = scratch.path().join("away");
    std::fs::rename(file.path(), &away).unwrap();
    for what in ["link", "link to nowhere", "directory", "fifo"] {
        match what {
            "link" => symlink(&away, file.path()).unwrap(),
            "link to nowhere" => symlink("/nowhere", file.path()).unwrap(),
            "directory" => std::fs::create_dir(file.path()).unwrap(),
            _ => assert!(Command::new("mkfifo").arg(file.path()).status().unwrap().success()),
        }
        let error = file.open(&recorded).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Foreign, Effect::None), "{what}: {error}");
        assert_eq!(error.to_string().contains("link"), what.contains("link"), "{what}: {error}");
        assert_eq!(file.size().await.unwrap_err().kind(), Kind::Foreign, "{what}");
        assert_eq!(file.remove().await.unwrap_err().kind(), Kind::Foreign, "{what}");
        file.discard(TOKEN).await.unwrap();
        assert!(file.path().symlink_metadata().is_ok(), "{what} stays");
        if what == "directory" {
            std::fs::remove_dir(file.path()).unwrap();
        } else {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    assert_eq!(Checksum::of(&std::fs::read(&away).unwrap()), recorded.checksum.unwrap());
}

/// What another program does with the descriptor, on a thread of its own: `half` happens when it has read half.
async fn followed(
    file: &MemoryFile,
    recorded: &Recorded,
    half: impl FnOnce() + Send + 'static,
) -> Result<Vec<u8>, Error> {
    let opened = file.open(recorded).await.unwrap();
    opened.header().await.unwrap();
    let mut theirs = std::fs::File::from(opened.descriptor().unwrap().unwrap());
    assert!(theirs.write_all(b"x").is_err(), "it is there to be read");
    let reading = tokio::task::spawn_blocking(move || {
        let mut read = vec![0; stream().len() / 2];
        theirs.read_exact(&mut read).unwrap();
        half();
        theirs.read_to_end(&mut read).unwrap();
        read
    });
    let mut told = Vec::new();
    let read = opened.follow(reading, |bytes| told.push(bytes)).await?.unwrap();
    assert!(told.is_sorted() && told.last() == Some(&recorded.bytes), "{told:?}");
    Ok(read)
}

#[tokio::test]
async fn a_file_that_another_program_reads_is_verified_behind_it() {
    let (_scratch, file) = in_scratch("s.save");
    let recorded = saved(&file, Packing::None).await;
    assert_eq!(followed(&file, &recorded, || {}).await.unwrap(), stream(), "from its beginning on");
    // Longer than it takes to tell how far it is.
    let wait = || std::thread::sleep(Duration::from_millis(250));
    assert_eq!(followed(&file, &recorded, wait).await.unwrap(), stream());

    // It is changed after a half was read: in the other one, and at its end.
    let good = std::fs::read(file.path()).unwrap();
    for (at, byte) in [(good.len() as u64 / 2 + 9, good[good.len() / 2 + 9] ^ 1), (good.len() as u64, 7)] {
        let writing = std::fs::OpenOptions::new().write(true).open(file.path()).unwrap();
        let change = move || writing.write_all_at(&[byte], at).unwrap();
        assert_eq!(followed(&file, &recorded, change).await.unwrap_err().kind(), Kind::Damaged);
        std::fs::write(file.path(), &good).unwrap();
    }

    // It is cut behind the reader.
    let cut = std::fs::OpenOptions::new().write(true).open(file.path()).unwrap();
    let change = move || cut.set_len(7).unwrap();
    assert_eq!(followed(&file, &recorded, change).await.unwrap_err().kind(), Kind::Damaged);
    std::fs::write(file.path(), &good).unwrap();

    // A program that reads nothing, or leaves the end, is no reason not to.
    let opened = file.open(&recorded).await.unwrap();
    assert_eq!(opened.follow(async { 7 }, |_| {}).await.unwrap(), 7);
    std::fs::write(file.path(), [&good[..good.len() - 1], b"x"].concat()).unwrap();
    let opened = file.open(&recorded).await.unwrap();
    assert_eq!(opened.follow(async {}, |_| {}).await.unwrap_err().kind(), Kind::Damaged);

    let (_scratch, packed) = in_scratch("s.save");
    let recorded = saved(&packed, Packing::Zstd).await;
    assert!(packed.open(&recorded).await.unwrap().descriptor().unwrap().is_none(), "it has to be unpacked");
}

#[tokio::test]
async fn a_side_that_takes_no_more_is_told() {
    let (_scratch, file) = in_scratch("s.save");
    let recorded = saved(&file, Packing::None).await;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut some = [0; 100];
    let reader = std::thread::spawn(move || theirs.read_exact(&mut some).map(|()| drop(theirs)));
    let error = file.open(&recorded).await.unwrap().feed(ours, |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Stream, "{error}");
    reader.join().unwrap().unwrap();

    // One that takes nothing, of a caller that does not wait.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let feeding = file.open(&recorded).await.unwrap().feed(ours, |_| {});
    let dropped = tokio::time::timeout(Duration::from_millis(20), feeding).await;
    assert!(dropped.is_err());
    let mut got = Vec::new();
    let _ = theirs.read_to_end(&mut got);
    assert!(got.len() < stream().len());
    assert!(theirs.write_all(b"x").is_err());
}

/// Of a file of which nothing was written down, all is found that would have been.
#[tokio::test]
async fn what_was_not_written_down_is_found() {
    for packing in [Packing::None, Packing::Zstd] {
        let (_scratch, file) = in_scratch("s.save");
        let recorded = saved(&file, packing).await;
        let mut told = 0;
        let examined = file.examine(|bytes| told = bytes).await.unwrap();
        assert_eq!((&examined.recorded, told), (&recorded, recorded.bytes));
        assert_eq!(examined.header, Header::Qemu { machine: Some("pc-q35-10.0".into()) });
        let written = file.path().metadata().unwrap().modified().unwrap();
        let written = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(examined.written, written);
        // A copy has no mark; and what is no memory is told.
        std::fs::copy(file.path(), file.path().with_extension("copy")).unwrap();
        let copy = MemoryFile::new(file.path().with_extension("copy")).unwrap();
        assert_eq!(copy.examine(|_| {}).await.unwrap_err().kind(), Kind::Foreign);
        std::fs::OpenOptions::new().write(true).open(file.path()).unwrap().set_len(2).unwrap();
        assert_eq!(file.examine(|_| {}).await.unwrap_err().kind(), Kind::Damaged);
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(file.examine(|_| {}).await.unwrap_err().kind(), Kind::NotFound);
        symlink(copy.path(), file.path()).unwrap();
        assert_eq!(file.examine(|_| {}).await.unwrap_err().kind(), Kind::Foreign);
    }
}
