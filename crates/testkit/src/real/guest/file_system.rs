//! The guest's file system, seen from outside.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::real::{Scratch, qemu_img};

/// A new qcow2 image with an empty ext4 file system.
pub(super) fn make(scratch: &Scratch, name: &str) -> PathBuf {
    let raw = scratch.raw(&format!("{name}.raw"), 16 << 20);
    let output = Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4"]).arg(&raw).output();
    let output = output.expect("e2fsprogs is installed");
    assert!(output.status.success(), "mke2fs: {}", String::from_utf8_lossy(&output.stderr));
    let image = scratch.path(name);
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", text(&raw), text(&image)]);
    fs::remove_file(raw).expect("a file can be removed");
    image
}

/// Whether the ext4 file system in a snapshot of the image held still when that was taken: its journal needs no recovery. One
/// that is mounted and not frozen always needs it.
pub fn was_frozen(scratch: &Scratch, image: &Path, snapshot: &str) -> bool {
    /// Of the superblock, at 1 KiB: `s_magic`, `s_feature_incompat`, and in it `INCOMPAT_RECOVER` (the kernel's
    /// Documentation/filesystems/ext4/super.rst).
    const MAGIC: (u64, u16) = (1024 + 0x38, 0xef53);
    const RECOVER: (u64, u16) = (1024 + 0x60, 0x4);
    let raw = scratch.path("snapshot.raw");
    let tag = format!("snapshot.name={snapshot}");
    qemu_img(&["convert", "-U", "-f", "qcow2", "-l", &tag, "-O", "raw", text(image), text(&raw)]);
    let disk = File::open(&raw).expect("qemu-img makes the file");
    let word = |at: u64| {
        let mut bytes = [0; 2];
        disk.read_exact_at(&mut bytes, at).expect("a file system has a superblock");
        u16::from_le_bytes(bytes)
    };
    assert_eq!(word(MAGIC.0), MAGIC.1, "it is an ext4 file system");
    let needs_recovery = word(RECOVER.0) & RECOVER.1 != 0;
    fs::remove_file(raw).expect("a file can be removed");
    !needs_recovery
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a fixture's path is text")
}
