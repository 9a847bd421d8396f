//! Which file a name leads to, as ledgers and journals note it: it holds after a reboot.

use std::fs::Metadata;
use std::path::Path;

use xlsnap_orchestrator::FileIdentity;
use xlsnap_qemu_img::FileId;

/// Which file `file` leads to, whatever its name; `found` is what stat(2) says of it.
///
/// A file system that is on no one block device (Btrfs, ZFS) gets another device number each time it is mounted. There its own number
/// stands for that, which is of its uuid, and on Btrfs of the subvolume too (`f_fsid` in statfs(2)). One without such a number keeps the
/// device's (NFS).
pub fn file_identity(file: &Path, found: &Metadata) -> FileIdentity {
    let FileId { device, inode } = FileId::from(found);
    let is_anonymous = inode != 0 && rustix::fs::major(device) == 0;
    let own = is_anonymous.then(|| rustix::fs::statvfs(file).ok()).flatten();
    let own = own.map(|system| system.f_fsid).filter(|number| *number != 0);
    FileIdentity { device: own.unwrap_or(device), inode }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use xlsnap_testkit::real::Scratch;

    use super::*;

    fn identity(file: &Path) -> FileIdentity {
        file_identity(file, &std::fs::metadata(file).unwrap())
    }

    #[test]
    fn a_file_is_the_same_by_each_of_its_names_and_another_one_is_not() {
        let scratch = Scratch::new();
        let (one, other) = (scratch.raw("one", 1), scratch.raw("other", 1));
        let link = scratch.path("link");
        std::fs::hard_link(&one, &link).unwrap();
        assert_eq!(identity(&one), identity(&link));
        assert_ne!(identity(&one), identity(&other));
    }

    #[test]
    fn a_file_system_without_a_block_device_has_its_own_number() {
        // One of the kernel's own.
        let (file, found) = (Path::new("/proc/version"), std::fs::metadata("/proc/version").unwrap());
        assert_eq!(rustix::fs::major(found.dev()), 0);
        let own = rustix::fs::statvfs(file).unwrap().f_fsid;
        assert_eq!(identity(file).device, if own == 0 { found.dev() } else { own });
    }
}
