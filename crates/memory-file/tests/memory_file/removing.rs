//! Only what was made here is removed.

use std::os::unix::fs::symlink;

use xlsnap_memory_file::{Effect, Kind, MemoryFile, Packing};

use crate::fixtures::{OTHER, TOKEN, in_scratch, names, saved, stream};

#[tokio::test]
async fn what_was_saved_is_removed() {
    let (scratch, file) = in_scratch("s.save");
    saved(&file, Packing::Zstd).await;
    file.remove().await.unwrap();
    file.remove().await.unwrap();
    assert!(names(scratch.path()).is_empty());
    MemoryFile::new("/none/such/s.save").unwrap().remove().await.unwrap();
}

#[tokio::test]
async fn a_file_without_the_mark_stays() {
    let (_scratch, file) = in_scratch("s.save");
    std::fs::write(file.path(), stream()).unwrap();
    let error = file.remove().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Foreign, Effect::None));
    let says = format!("rm '{}'", file.path().display());
    assert!(error.to_string().contains(&says), "{error}");
    assert_eq!(file.size().await.unwrap(), Some(stream().len() as u64));
}

#[tokio::test]
async fn a_finished_file_is_given_up_by_its_token_only() {
    let (scratch, file) = in_scratch("s.save");
    saved(&file, Packing::None).await;
    file.discard(OTHER).await.unwrap();
    assert_eq!(names(scratch.path()), ["s.save"], "another operation's");
    // With a file aside of that token there, the finished one is another's.
    drop(file.stage(TOKEN).unwrap());
    file.discard(TOKEN).await.unwrap();
    assert_eq!(names(scratch.path()), ["s.save"]);
    file.discard(TOKEN).await.unwrap();
    file.discard(TOKEN).await.unwrap();
    assert!(names(scratch.path()).is_empty());
    assert_eq!(file.discard("a/b").await.unwrap_err().kind(), Kind::Refused);
    MemoryFile::new("/none/such/s.save").unwrap().discard(TOKEN).await.unwrap();
}

#[tokio::test]
async fn a_link_where_the_file_is_made_leads_nowhere() {
    let (scratch, file) = in_scratch("s.save");
    let precious = scratch.path().join("precious");
    std::fs::write(&precious, stream()).unwrap();
    symlink(&precious, scratch.path().join(format!(".s.save.{TOKEN}.part"))).unwrap();
    assert_eq!(file.stage(TOKEN).unwrap_err().kind(), Kind::AlreadyExists);
    file.discard(TOKEN).await.unwrap();
    assert_eq!(names(scratch.path()), ["precious"], "the link goes, and what it leads to stays");
    assert_eq!(std::fs::read(&precious).unwrap(), stream());
}
