//! Whether a place keeps what is written to it.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// File systems without a disk below (statfs(2)). The kernel's devtmpfs, in /dev, has the number of tmpfs or of ramfs.
const IN_MEMORY: [(i64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// A file system that writes to a directory of another one.
const OVERLAYFS: i64 = 0x794c_7630;

/// How many overlay file systems may lie on each other: the kernel allows two.
const MAX_STACKED: usize = 4;

/// Why `file` must not take what is written over `base`, as a clause: what is there is lost at a reboot, and the base is not.
///
/// # Errors
/// When the place cannot be looked at.
pub(crate) fn less_durable(base: &str, file: &str) -> io::Result<Option<String>> {
    let directory = Path::new(file).parent().unwrap_or(Path::new("/"));
    let how = match in_memory(directory) {
        Ok(Some(how)) => how,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(format!("the directory {} is not there", directory.display())));
        }
        Err(error) => return Err(error),
    };
    let found = std::fs::metadata(base)?;
    if !found.file_type().is_block_device() && in_memory(Path::new(base))?.is_some() {
        return Ok(None);
    }
    let directory = directory.display();
    Ok(Some(format!("{directory} is in memory ({how}) and is lost at a reboot, and {base} is not")))
}

/// Which file system in memory `path` is on, if it is on one.
fn in_memory(path: &Path) -> io::Result<Option<&'static str>> {
    let mut path = path.to_owned();
    for _ in 0..MAX_STACKED {
        let kind = rustix::fs::statfs(&path)?.f_type;
        if let Some((_, name)) = IN_MEMORY.iter().find(|(number, _)| *number == kind) {
            return Ok(Some(*name));
        }
        if kind != OVERLAYFS {
            return Ok(None);
        }
        // In a container the directory that takes the writes has a name of the host's, which is not there.
        match upper_directory(&path)? {
            Some(upper) if upper.is_dir() => path = upper,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// The directory that takes the writes to the overlay file system of `path`.
fn upper_directory(path: &Path) -> io::Result<Option<PathBuf>> {
    let device = std::fs::metadata(path)?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(upper_in(&mounts, &device).map(PathBuf::from))
}

/// The same by proc(5)'s mountinfo: the third field is the device, the last one the options of the file system.
fn upper_in(mounts: &str, device: &str) -> Option<String> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let options = line.rsplit(' ').next()?;
    let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir="))?;
    Some(upper.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_directory_is_found_by_the_device() {
        let mounts = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
            31 22 0:41 / /merged rw - overlay overlay rw,lowerdir=/a,upperdir=/run/live\\040cow,workdir=/w\n";
        assert_eq!(upper_in(mounts, "0:41").as_deref(), Some("/run/live cow"));
        assert_eq!(upper_in(mounts, "8:1"), None);
        assert_eq!(upper_in(mounts, "0:9"), None);
    }

    #[test]
    fn memory_may_lie_on_memory_and_a_disk_on_a_disk() {
        let scratch = tempfile::tempdir().unwrap();
        let on_disk = scratch.path().join("disk");
        std::fs::write(&on_disk, "").unwrap();
        let on_disk = on_disk.to_str().unwrap();
        // Every Linux has the one, and a machine under test the other.
        let shm = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        let in_shm = shm.path().to_str().unwrap();
        assert_eq!(less_durable(in_shm, "/dev/shm/x").unwrap(), None);
        if in_memory(scratch.path()).unwrap().is_none() {
            let why = less_durable(on_disk, "/dev/shm/x").unwrap().unwrap();
            assert!(why.contains("/dev/shm is in memory (tmpfs)"), "{why}");
        }
        assert_eq!(less_durable(in_shm, on_disk).unwrap(), None, "more durable than its base");
        let why = less_durable(on_disk, "/nowhere/x").unwrap().unwrap();
        assert!(why.contains("/nowhere is not there"), "{why}");
    }
}
