//! The locks of QEMU and its programs on the file of an image, as proc(5)'s `/proc/locks` shows them: one byte for each thing that a
//! process does with the image, and one for each that it lets no other process do (QEMU's block/file-posix.c: `RAW_LOCK_PERM_BASE` is
//! 100, `RAW_LOCK_SHARED_BASE` 200, and the bits are those of `BLK_PERM_*`).
//!
//! Xen's own disks have no such locks, and those of another host, on a network file system, are not seen. The system call that asks for
//! one file, `F_OFD_GETLK`, is in no safe crate that is here.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process writes, or lets no other process write. One that only reads a qcow2 image has the second.
const WRITERS: [u64; 2] = [101, 201];

/// A process writes, changes the length, or lets no other process read: qemu-img does not open the image then, but with `-U`.
const NOT_FOR_READERS: [u64; 3] = [101, 103, 200];

/// Whether a process keeps others from writing to the image at `path`. `false` too when that can't be told.
pub fn is_kept_from_writers(path: &Path) -> bool {
    has_lock(path, &WRITERS)
}

/// Whether qemu-img reads the image at `path` only when it passes the lock over. `false` too when that can't be told.
pub(crate) fn is_kept_from_readers(path: &Path) -> bool {
    has_lock(path, &NOT_FOR_READERS)
}

fn has_lock(path: &Path, bytes: &[u64]) -> bool {
    let Ok(found) = std::fs::metadata(path) else { return false };
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return false };
    shows(&locks, found.dev(), found.ino(), bytes)
}

/// Whether `locks`, the text of proc(5)'s locks, has one of these bytes of the file.
fn shows(locks: &str, device: u64, inode: u64, bytes: &[u64]) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    locks.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // "3: OFDLCK ADVISORY  READ -1 fe:00:10013924 201 201"; one that waits has "->" after the number.
        let [.., "OFDLCK", _, _, _, place, start, end] = words[..] else { return false };
        let mut place = place.split(':');
        let mut number = |radix| place.next().and_then(|text| u64::from_str_radix(text, radix).ok());
        let (Some(of_major), Some(of_minor), Some(of_inode)) = (number(16), number(16), number(10)) else {
            return false;
        };
        // A file system of several devices, as btrfs, shows stat(2) another number than this.
        let same_device = major == 0 || (of_major, of_minor) == (u64::from(major), u64::from(minor));
        let end = if end == "EOF" { u64::MAX } else { end.parse().unwrap_or_default() };
        let covers = |byte: &u64| start.parse().is_ok_and(|start: u64| (start..=end).contains(byte));
        same_device && of_inode == inode && bytes.iter().any(covers)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_known_by_file_and_byte() {
        let locks = "1: POSIX  ADVISORY  WRITE 812 fe:00:7 0 EOF\n\
            2: OFDLCK ADVISORY  READ -1 fe:00:7 100 100\n\
            3: OFDLCK ADVISORY  READ -1 fe:00:8 201 201\n\
            4: OFDLCK ADVISORY  READ -1 fe:01:9 100 EOF\n\
            4: -> OFDLCK ADVISORY  WRITE -1 fe:01:10 101 103\n\
            nonsense\n";
        let on = |minor, inode| shows(locks, rustix::fs::makedev(0xfe, minor), inode, &WRITERS);
        assert!(!on(0, 7), "a lock of another kind, and one of another byte");
        assert!(on(0, 8) && on(1, 9) && on(1, 10));
        assert!(!on(1, 8), "another device");
        assert!(
            shows(locks, rustix::fs::makedev(0, 33), 8, &WRITERS),
            "a device without a number of its own"
        );
        let reads = |minor, inode| !shows(locks, rustix::fs::makedev(0xfe, minor), inode, &NOT_FOR_READERS);
        assert!(reads(0, 7) && reads(0, 8), "one that reads keeps no reader out");
        assert!(!reads(1, 9) && !reads(1, 10));
    }
}
