//! A file system without room.

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
