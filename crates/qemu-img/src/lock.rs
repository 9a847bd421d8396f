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

/// A process writes, changes the length, or lets no other process read: qemu-img does not open an image of a format then, but with `-U`.
const NOT_FOR_READERS: [u64; 3] = [101, 103, 200];

/// Whether a file has one of some locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Has {
    /// It has none.
    Not,
    /// A file of its inode has one, and of which file system that is cannot be told.
    Maybe,
    /// It has one.
    Surely,
}

/// Whether a process keeps others from writing to the image at `path`, or may do so. `false` too when that can't be told.
pub fn is_kept_from_writers(path: &Path) -> bool {
    has_lock(path, &WRITERS) != Has::Not
}

/// Whether qemu-img reads the image at `path` only when it passes the lock over. [`Has::Not`] too when that can't be told.
pub(crate) fn kept_from_readers(path: &Path) -> Has {
    has_lock(path, &NOT_FOR_READERS)
}

fn has_lock(path: &Path, bytes: &[u64]) -> Has {
    let Ok(found) = std::fs::metadata(path) else { return Has::Not };
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return Has::Not };
    shows(&locks, found.dev(), found.ino(), bytes)
}

/// Whether `locks`, the text of proc(5)'s locks, has one of these bytes of the file.
fn shows(locks: &str, device: u64, inode: u64, bytes: &[u64]) -> Has {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // "3: OFDLCK ADVISORY  READ -1 fe:00:10013924 201 201"; one that waits has "->" after the number.
        let [.., "OFDLCK", _, _, _, place, start, end] = words[..] else { return Has::Not };
        let mut place = place.split(':');
        let mut number = |radix| place.next().and_then(|text| u64::from_str_radix(text, radix).ok());
        let (Some(of_major), Some(of_minor), Some(of_inode)) = (number(16), number(16), number(10)) else {
            return Has::Not;
        };
        let end = if end == "EOF" { u64::MAX } else { end.parse().unwrap_or_default() };
        let covers = |byte: &u64| start.parse().is_ok_and(|start: u64| (start..=end).contains(byte));
        if of_inode != inode || !bytes.iter().any(covers) {
            Has::Not
        } else if (of_major, of_minor) == (u64::from(major), u64::from(minor)) {
            Has::Surely
        } else if major == 0 {
            // A file system of several devices, as btrfs, shows stat(2) another number than this.
            Has::Maybe
        } else {
            Has::Not
        }
    };
    locks.lines().map(of).max().unwrap_or(Has::Not)
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
        assert_eq!(on(0, 7), Has::Not, "a lock of another kind, and one of another byte");
        for (minor, inode) in [(0, 8), (1, 9), (1, 10)] {
            assert_eq!(on(minor, inode), Has::Surely, "{inode}");
        }
        assert_eq!(on(1, 8), Has::Not, "another device");
        let unnumbered = shows(locks, rustix::fs::makedev(0, 33), 8, &WRITERS);
        assert_eq!(unnumbered, Has::Maybe, "a device without a number of its own");
        let kept_out = |minor, inode| shows(locks, rustix::fs::makedev(0xfe, minor), inode, &NOT_FOR_READERS);
        for (minor, inode) in [(0, 7), (0, 8)] {
            assert_eq!(kept_out(minor, inode), Has::Not, "one that reads keeps no reader out");
        }
        assert_eq!((kept_out(1, 9), kept_out(1, 10)), (Has::Surely, Has::Surely));
    }
}
