//! A file that is written aside, under a name of its own, and then gets its name; and whose it is.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags, XattrFlags};
use rustix::io::Errno;

/// Says which save made a file, so that after a crash no other one is taken for it.
const MARK: &str = "user.xlsnap.save";

/// The name of the file while it is written: beside the file, and no other save's.
pub(super) fn part_of(file: &Path, token: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(format!(".{token}.part"));
    file.with_file_name(name)
}

/// Makes the file to be written: empty, new, for nobody else to read. `xl save` would make one that everybody may.
pub(super) fn make(part: &Path, token: &str) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    match rustix::fs::fsetxattr(&file, MARK, token.as_bytes(), XattrFlags::CREATE) {
        // Not every file system can. `is_marked` knows.
        Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::NOSYS) => Ok(()),
        Err(errno) => {
            let _ = std::fs::remove_file(part);
            Err(errno.into())
        }
    }
}

/// Whether the save `token` made the file; `None` where the file system cannot tell.
pub(super) fn is_marked(file: &Path, token: &str) -> io::Result<Option<bool>> {
    let mut mark = [0; 64];
    match rustix::fs::lgetxattr(file, MARK, &mut mark) {
        Ok(length) => Ok(Some(&mark[..length] == token.as_bytes())),
        Err(Errno::NODATA | Errno::RANGE) => Ok(Some(false)),
        Err(Errno::NOTSUP | Errno::PERM | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives the file its name, durably. One that is there is not replaced.
pub(super) fn publish(part: &Path, file: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    match rustix::fs::renameat_with(CWD, part, CWD, file, RenameFlags::NOREPLACE) {
        // The file system does not know the flag; a second link is as atomic.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(CWD, part, CWD, file, AtFlags::empty())?;
            rustix::fs::unlink(part)?;
        }
        result => result?,
    }
    sync_directory(file)
}

/// Removes a file, durably; whether there was one.
pub(super) fn remove(file: &Path) -> io::Result<bool> {
    match std::fs::remove_file(file) {
        Ok(()) => sync_directory(file).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_directory(of: &Path) -> io::Result<()> {
    let directory = of.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(directory)?.sync_all() {
        // Some network file systems cannot flush a directory, and need not.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        result => result,
    }
}
