//! What the tests have in common.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use xlsnap_memory_file::{Error, MemoryFile, Packing, Recorded, Sealed};

pub(crate) const TOKEN: &str = "0123456789abcdef01234567";
pub(crate) const OTHER: &str = "fedcba9876543210fedcba98";

/// A stream of QEMU's: its beginning, and 3 MiB that do not compress well.
pub(crate) fn stream() -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0".to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while bytes.len() < 3 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend((state >> 16).to_le_bytes());
    }
    bytes
}

pub(crate) fn in_scratch(name: &str) -> (TempDir, MemoryFile) {
    let scratch = tempfile::tempdir().unwrap();
    let file = MemoryFile::new(scratch.path().join(name)).unwrap();
    (scratch, file)
}

/// Receives the bytes into the file aside.
pub(crate) async fn received(
    file: &MemoryFile,
    token: &str,
    bytes: &[u8],
    packing: Packing,
) -> Result<Sealed, Error> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut receiving = file.stage(token)?.receive(ours, packing)?;
    let bytes = bytes.to_vec();
    // It is told no more when the file cannot be written.
    let sender = std::thread::spawn(move || drop(theirs.write_all(&bytes)));
    let sealed = receiving.within(Duration::from_secs(60)).await.expect("it ends");
    sender.join().unwrap();
    sealed
}

/// A file that was saved.
pub(crate) async fn saved(file: &MemoryFile, packing: Packing) -> Recorded {
    let sealed = received(file, TOKEN, &stream(), packing).await.unwrap();
    let recorded = Recorded { bytes: sealed.bytes(), checksum: Some(sealed.checksum()), packing };
    sealed.publish().await.unwrap();
    recorded
}

/// Opens the file, reads its beginning, and all of it.
pub(crate) async fn verify(file: &MemoryFile, recorded: &Recorded) -> Result<(), Error> {
    let opened = file.open(recorded).await?;
    opened.header().await?;
    opened.verify(|_| {}).await
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
