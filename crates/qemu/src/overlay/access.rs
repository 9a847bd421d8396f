//! The users who may use an overlay: those who may use its base, but "others".

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

/// The attribute in which Linux keeps a POSIX ACL (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// The most bytes of an attribute's value (`XATTR_SIZE_MAX`).
const MAX_ACL: usize = 65_536;

/// The entries of an ACL: a version, then a tag, the permissions and an id each, in little endian
/// (the kernel's `include/uapi/linux/posix_acl_xattr.h`).
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
const TAG_OWNER: u16 = 0x01;
const TAG_OTHERS: u16 = 0x20;
const READ_AND_WRITE: u16 = 6;

/// Gives `file`, which only its maker can use so far, the owner, the group, the mode and the ACL of `base`, with nothing for
/// "others"; durably.
///
/// # Errors
/// When the file cannot get the owner's group, or not the ACL: then some who may use the base could not use the overlay.
pub(super) fn like_base(file: &Path, base: &Path) -> io::Result<()> {
    let wanted = std::fs::metadata(base)?;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    own(&opened, &wanted)?;
    match acl_of(base)? {
        Some(acl) => rustix::fs::fsetxattr(&opened, ACL, &without_others(acl)?, XattrFlags::empty())?,
        None => {
            // One that the directory gave would say more with the mode of the base.
            match rustix::fs::fremovexattr(&opened, ACL) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(wanted.mode() & 0o770 | 0o600))?;
        }
    }
    opened.sync_all()
}

/// Gives the file the owner and the group. A user who is not root can give nothing away, and keeps it then, in the base's group.
fn own(file: &File, wanted: &std::fs::Metadata) -> io::Result<()> {
    let found = file.metadata()?;
    if (found.uid(), found.gid()) == (wanted.uid(), wanted.gid()) {
        return Ok(());
    }
    let group = Some(Gid::from_raw(wanted.gid()));
    match rustix::fs::fchown(file, Some(Uid::from_raw(wanted.uid())), group) {
        Err(Errno::PERM) => rustix::fs::fchown(file, None, group).map_err(|error| {
            let what = format!(
                "it cannot be given the owner ({}) and the group ({}) of its base ({error}); only root, or a member of the \
                 group, can",
                wanted.uid(),
                wanted.gid()
            );
            io::Error::new(io::Error::from(error).kind(), what)
        }),
        other => other.map_err(io::Error::from),
    }
}

/// The ACL of a file that has more than a mode.
fn acl_of(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_ACL];
    match rustix::fs::getxattr(file, ACL, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The ACL with nothing for "others", and enough for the owner.
fn without_others(mut acl: Vec<u8>) -> io::Result<Vec<u8>> {
    if acl.len() < ACL_HEADER || !(acl.len() - ACL_HEADER).is_multiple_of(ACL_ENTRY) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the base's ACL is not understood"));
    }
    for entry in acl[ACL_HEADER..].chunks_exact_mut(ACL_ENTRY) {
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let permissions = match u16::from_le_bytes([entry[0], entry[1]]) {
            TAG_OWNER => permissions | READ_AND_WRITE,
            TAG_OTHERS => 0,
            _ => permissions,
        };
        entry[2..4].copy_from_slice(&permissions.to_le_bytes());
    }
    Ok(acl)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(directory: &Path, name: &str, mode: u32) -> std::path::PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_mode_is_the_bases_without_others() {
        let scratch = tempfile::tempdir().unwrap();
        for (number, (base, expected)) in
            [(0o660, 0o660), (0o644, 0o640), (0o600, 0o600), (0o440, 0o640), (0o777, 0o770), (0o4755, 0o750)]
                .into_iter()
                .enumerate()
        {
            let base = file(scratch.path(), &format!("base{number}"), base);
            let top = file(scratch.path(), &format!("top{number}"), 0o600);
            like_base(&top, &base).unwrap();
            assert_eq!(std::fs::metadata(&top).unwrap().mode() & 0o7777, expected);
        }
    }

    #[test]
    fn an_acl_is_taken_over_and_one_of_the_directory_is_not() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let acl = |others| {
            let none = u32::MAX;
            [
                2_u32.to_le_bytes().to_vec(),
                entry(TAG_OWNER, 6, none),
                entry(0x02, 6, 1234),
                entry(0x04, 4, none),
                entry(0x10, 6, none),
                entry(TAG_OTHERS, others, none),
            ]
            .concat()
        };
        let scratch = tempfile::tempdir().unwrap();
        let base = file(scratch.path(), "base", 0o664);
        if rustix::fs::setxattr(&base, ACL, &acl(4), XattrFlags::empty()) == Err(Errno::OPNOTSUPP) {
            // This file system keeps none.
            return;
        }
        let top = file(scratch.path(), "top", 0o600);
        like_base(&top, &base).unwrap();
        assert_eq!(acl_of(&top).unwrap(), Some(acl(0)));

        let plain = file(scratch.path(), "plain", 0o660);
        like_base(&top, &plain).unwrap();
        assert_eq!(acl_of(&top).unwrap(), None);
        assert_eq!(std::fs::metadata(&top).unwrap().mode() & 0o777, 0o660);
        assert!(without_others(vec![2, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn the_owner_is_the_bases() {
        let scratch = tempfile::tempdir().unwrap();
        let (base, top) = (file(scratch.path(), "base", 0o660), file(scratch.path(), "top", 0o600));
        if std::os::unix::fs::chown(&base, Some(1234), Some(2345)).is_err() {
            // Only root can give a file away.
            return;
        }
        like_base(&top, &base).unwrap();
        let found = std::fs::metadata(&top).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (1234, 2345, 0o660));
    }
}
