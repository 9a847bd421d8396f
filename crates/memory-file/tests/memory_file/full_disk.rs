//! A file system without room.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use xlsnap_memory_file::{Effect, Kind, MemoryFile, MissingDirectory, Packing};

use crate::fixtures::{TOKEN, names, received, stream};
use crate::unmarkable::inside;

#[tokio::test]
async fn no_room_is_told_and_leaves_nothing() {
    // The stream has 3 MiB.
    let Some(root) = inside("full_disk::no_room_is_told_and_leaves_nothing", "tmpfs", "size=1m,mode=700")
    else {
        return;
    };
    let file = MemoryFile::in_directory(&root, "s").unwrap();
    assert!(file.place(MissingDirectory::Refuse).await.unwrap().free.unwrap() <= 1 << 20);
    for packing in [Packing::None, Packing::Zstd] {
        let error = received(&file, TOKEN, &stream(), packing).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::NoSpace, Effect::None), "{error}");
        assert!(error.to_string().contains("s.save"), "{error}");
        file.discard(TOKEN).await.unwrap();
        assert!(names(&root).is_empty());
    }
    // With what fits all is well again.
    received(&file, TOKEN, &stream()[..1000], Packing::None).await.unwrap().publish().await.unwrap();
    assert_eq!(names(&root), ["s.save"]);
}

#[tokio::test]
async fn a_hypervisor_is_not_kept_waiting_for_a_full_disk() {
    let test = "full_disk::a_hypervisor_is_not_kept_waiting_for_a_full_disk";
    let Some(root) = inside(test, "tmpfs", "size=1m,mode=700") else { return };
    let file = MemoryFile::in_directory(&root, "s").unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut receiving = file.stage(TOKEN).unwrap().receive(ours, Packing::None).unwrap();
    let sender = std::thread::spawn(move || {
        // More than is on its way to the disk at most.
        let sent = theirs.write_all(&vec![7; 24 << 20]);
        // It sends no more, and has not ended either.
        (sent.map_err(|e| e.kind()), theirs)
    });
    let error = receiving.within(Duration::from_secs(60)).await.expect("it ends").unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NoSpace, Effect::None), "{error}");
    let (sent, theirs) = sender.join().unwrap();
    assert_eq!(sent, Err(ErrorKind::BrokenPipe));
    drop(theirs);
    file.discard(TOKEN).await.unwrap();
    // As much as waits in memory: the stream stands still when the disk turns out to be full.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut receiving = file.stage(TOKEN).unwrap().receive(ours, Packing::None).unwrap();
    // It may be told while it sends the last of this.
    let _ = theirs.write_all(&vec![7; (2 << 20) + 1]);
    let error = receiving.within(Duration::from_secs(60)).await.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    assert_eq!(theirs.write_all(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
}
