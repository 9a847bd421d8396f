//! What is not what was saved.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::process::Command;

use xlsnap_memory_file::{Checksum, Effect, Header, Kind, MemoryFile, Packing, Recorded, XL_MAGIC};

use crate::fixtures::{in_scratch, saved, stream, verify};

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

/// What the other side gets.
async fn fed(
    feeding: impl Future<Output = Result<(), xlsnap_memory_file::Error>>,
    mut theirs: UnixStream,
) -> Result<Vec<u8>, xlsnap_memory_file::Error> {
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
        file.discard(crate::fixtures::TOKEN).await.unwrap();
        assert!(file.path().symlink_metadata().is_ok(), "{what} stays");
        if what == "directory" {
            std::fs::remove_dir(file.path()).unwrap();
        } else {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    assert_eq!(Checksum::of(&std::fs::read(&away).unwrap()), recorded.checksum.unwrap());
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
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(20), feeding).await;
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
