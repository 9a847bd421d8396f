//! A file system that cannot mark files.
//!
//! The tests of other file systems run themselves again in a mount namespace of their own. That needs root, or a kernel that lets users
//! make namespaces.

use std::path::{Path, PathBuf};
use std::process::Command;

use xlsnap_memory_file::{Kind, MemoryFile, Packing};

use crate::fixtures::{OTHER, TOKEN, in_scratch, names, saved, verify};

const INSIDE: &str = "XLSNAP_TEST_FILE_SYSTEM";

/// The file system's root, for the test that runs inside; `None` for the one that ran it there.
pub(crate) fn inside(test: &str, kind: &str, options: &str) -> Option<PathBuf> {
    if let Some(root) = std::env::var_os(INSIDE) {
        return Some(root.into());
    }
    let scratch = tempfile::tempdir().unwrap();
    let mount = format!("mount -t {kind} -o {options} none \"$0\"");
    // Being root may not be enough in a container, and not needed elsewhere.
    let namespaces: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let possible = namespaces.into_iter().find(|namespace| {
        unshare(namespace, &mount, scratch.path()).output().is_ok_and(|output| output.status.success())
    });
    let namespace = possible.expect("mounting a file system needs root, or user namespaces");
    let script = format!("{mount} && {INSIDE}=\"$0\" exec \"$1\" --exact {test} --nocapture");
    let mut run = unshare(namespace, &script, scratch.path());
    let output = run.arg(std::env::current_exe().unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{complaint}");
    None
}

fn unshare(namespace: &[&str], script: &str, root: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(namespace).args(["sh", "-c", script]).arg(root);
    command
}

#[tokio::test]
async fn a_file_that_begins_as_memory_counts_as_marked() {
    let test = "unmarkable::a_file_that_begins_as_memory_counts_as_marked";
    let Some(root) = inside(test, "ramfs", "mode=700") else { return };
    for packing in [Packing::None, Packing::Zstd] {
        let file = MemoryFile::in_directory(&root, "s").unwrap();
        let recorded = saved(&file, packing).await;
        verify(&file, &recorded).await.unwrap();
        file.remove().await.unwrap();
        saved(&file, packing).await;
        file.discard(OTHER).await.unwrap();
        assert!(names(&root).is_empty(), "this file system keeps no mark of the operation");
        std::fs::write(file.path(), "something else").unwrap();
        file.discard(TOKEN).await.unwrap();
        assert_eq!(file.remove().await.unwrap_err().kind(), Kind::Foreign);
        assert_eq!(names(&root), ["s.save"]);
        std::fs::remove_file(file.path()).unwrap();
    }
}

#[tokio::test]
async fn here_files_are_marked() {
    // What the other tests stand on.
    let (_scratch, file) = in_scratch("s.save");
    saved(&file, Packing::None).await;
    file.discard(OTHER).await.unwrap();
    assert!(file.path().exists());
}
