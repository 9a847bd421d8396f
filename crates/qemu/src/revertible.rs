//! What stands in the way of a revert, as far as it can be looked at before anything changes.
//!
//! Each answer is a clause for people ("its image is marked as damaged"); `None` means that nothing was found.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, IFlags, OFlags};
use rustix::io::Errno;
use xlsnap_qemu_img::FileId;

/// The bytes of an image's file that QEMU locks while it writes, and while it lets no other process write (block/file-posix.c:
/// `RAW_LOCK_PERM_BASE` and `RAW_LOCK_SHARED_BASE`, each and the bit of `BLK_PERM_WRITE`). A process that only reads a qcow2
/// image has the second.
const WRITERS_LOCKS: [u64; 2] = [101, 201];

/// Why no overlay is put on an encrypted image, as a clause.
pub(crate) const OVERLAY_IN_CLEAR: &str =
    "its image is encrypted, and what is written to an overlay on it would not be";

/// The most processes that a message names.
const NAMED: usize = 4;

/// Why qemu-img, run by this process, could not write `file`.
pub(crate) fn not_writable(file: &str) -> Option<String> {
    let found = match std::fs::metadata(file) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some(format!("its image {file} is not there"));
        }
        Err(error) => return Some(format!("its image {file} cannot be looked at ({error})")),
    };
    if !found.is_file() && !found.file_type().is_block_device() {
        return Some(format!("its image {file} is neither a regular file nor a block device"));
    }
    if found.is_file()
        && let Ok(opened) = for_looking(file)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&opened)
    {
        if flags.contains(IFlags::IMMUTABLE) {
            return Some(format!("its image {file} is immutable (chattr -i {file})"));
        }
        if flags.contains(IFlags::APPEND) {
            return Some(format!("its image {file} takes only appended data (chattr -a {file})"));
        }
    }
    match rustix::fs::accessat(CWD, file, Access::WRITE_OK, AtFlags::EACCESS) {
        // Kernels before 5.8 cannot answer for the effective user.
        Ok(()) | Err(Errno::NOSYS) => None,
        Err(Errno::ROFS) => Some(format!("its image {file} is on a file system that is mounted read-only")),
        Err(error) => Some(format!("its image {file} cannot be written ({error})")),
    }
}

/// Why an image's data cannot be read.
pub(crate) fn no_key(encrypted: bool, key_file: Option<&Path>) -> Option<String> {
    let Some(key_file) = key_file.filter(|_| encrypted) else {
        return encrypted.then(|| {
            "its image is encrypted, and the domain's description names no file with its key (key-file = \"FILE\")".to_owned()
        });
    };
    let readable = match std::fs::metadata(key_file) {
        Ok(found) if !found.is_file() => Err("it is no regular file".to_owned()),
        _ => for_looking(key_file)
            .and_then(|mut file| file.read(&mut [0]))
            .map_err(|error| error.to_string())
            .and_then(|read| if read == 0 { Err("it is empty".to_owned()) } else { Ok(()) }),
    };
    readable.err().map(|why| {
        format!("its image is encrypted, and its key-file {} does not serve: {why}", key_file.display())
    })
}

/// Why qemu-img cannot have `file` for itself: another process has it open and keeps others from writing. QEMU and its programs
/// lock images so; Xen's disks have no such lock. Locks of another host, on a network file system, are not seen.
pub(crate) fn locked(file: &str) -> Option<String> {
    let found = std::fs::metadata(file).ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    has_lock(&locks, found.dev(), found.ino()).then(|| format!("{} has its image {file} open", holders(file)))
}

/// Whether `locks`, the text of proc(5)'s locks, has one of [`WRITERS_LOCKS`] on the file. (The system call that asks for one file,
/// `F_OFD_GETLK`, is in no safe crate that is here.)
fn has_lock(locks: &str, device: u64, inode: u64) -> bool {
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
        same_device && of_inode == inode && WRITERS_LOCKS.iter().any(covers)
    })
}

/// The other processes that have `file` open, as the subject of a sentence. It looks at every process, and is asked only for a message.
pub(crate) fn holders(file: &str) -> String {
    let named = users(file);
    if named.is_empty() { "another process".to_owned() } else { named.join(" and ") }
}

/// The other processes that have `file` open, as far as they may be looked at, and at most a few: a look at every process.
pub(crate) fn users(file: &str) -> Vec<String> {
    users_but(file, None)
}

/// The same without this process.
pub(crate) fn users_but(file: &str, but: Option<u32>) -> Vec<String> {
    let Ok(wanted) = FileId::of(Path::new(file)) else { return Vec::new() };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        *pid != std::process::id()
            && Some(*pid) != but
            && OpenFiles::of(*pid).is_some_and(|open| open.files.contains(&wanted))
    };
    pids.filter(holds)
        .take(NAMED)
        .map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} (process {pid})", name.trim().replace(char::is_control, "?"))
        })
        .collect()
}

/// The files that a process has open.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    files: HashSet<FileId>,
    /// Whether its program is called like a QEMU.
    called_qemu: bool,
}

impl OpenFiles {
    /// Those of the process with this id; `None` when they may not be looked at.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        // To look at a descriptor opens nothing, and does not wait for what is behind it.
        let files = descriptors.flatten().filter_map(|entry| FileId::of(&entry.path()).ok()).collect();
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Some(Self { files, called_qemu: name.contains("qemu") || name.contains("kvm") })
    }

    /// The same, if this is the QEMU that has these images: it has one of them open, or its program is called so. The process at
    /// the other end of a monitor's socket may be another one, which made the socket for QEMU.
    pub(crate) fn if_it_has(self, images: impl Iterator<Item = FileId>) -> Option<Self> {
        (self.called_qemu || images.into_iter().any(|image| self.files.contains(&image))).then_some(self)
    }

    /// Whether it has the file of this name open.
    pub(crate) fn has(&self, file: &str) -> bool {
        FileId::of(Path::new(file)).is_ok_and(|found| self.files.contains(&found))
    }

    /// Why the file that is called `file` now is not the one that is written.
    pub(crate) fn other_than(&self, file: &str) -> Option<String> {
        let found = FileId::of(Path::new(file)).ok()?;
        (!self.files.contains(&found)).then(|| {
            format!(
                "{file} is not the file that QEMU has open: it was replaced or renamed after QEMU opened it"
            )
        })
    }
}

/// Opens for reading, without waiting.
fn for_looking(file: impl AsRef<Path>) -> std::io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(file)
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
        let on = |minor, inode| has_lock(locks, rustix::fs::makedev(0xfe, minor), inode);
        assert!(!on(0, 7), "a lock of another kind, and one of another byte");
        assert!(on(0, 8) && on(1, 9) && on(1, 10));
        assert!(!on(1, 8), "another device");
        assert!(has_lock(locks, rustix::fs::makedev(0, 33), 8), "a device without a number of its own");
    }
}
