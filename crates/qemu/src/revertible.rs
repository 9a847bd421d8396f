//! What stands in the way of a revert, as far as it can be looked at before anything changes.
//!
//! Each answer is a clause for people ("its image is marked as damaged"); `None` means that nothing was found.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, IFlags, OFlags};
use rustix::io::Errno;
use xlsnap_qemu_img::{FileId, is_kept_from_writers};

use crate::process::has_ended;

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

/// How long a lock may stay of which no process is seen: one that was killed keeps it until its last write has ended.
const ENDING: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(10);

/// Why qemu-img cannot have `file` for itself: another process has it open and keeps others from writing. It waits for one that has just
/// ended.
pub(crate) fn locked(file: &str) -> Option<String> {
    let users = keepers(|| is_kept_from_writers(Path::new(file)), || users(file))?;
    Some(format!("{} has its image {file} open", called(&users)))
}

/// Those who keep others from writing, seen or not; `None` where nobody does, or nobody any more.
fn keepers(is_kept: impl Fn() -> bool, users: impl Fn() -> Vec<String>) -> Option<Vec<String>> {
    let begin = Instant::now();
    while is_kept() {
        let users = users();
        if !users.is_empty() || begin.elapsed() > ENDING {
            return Some(users);
        }
        std::thread::sleep(SOON);
    }
    None
}

/// The other processes that have `file` open, as the subject of a sentence. It looks at every process, and is asked only for a message.
pub(crate) fn holders(file: &str) -> String {
    called(&users(file))
}

fn called(users: &[String]) -> String {
    if users.is_empty() { "another process".to_owned() } else { users.join(" and ") }
}

/// The other processes that have `file` open, as far as they may be looked at, and at most a few: a look at every process.
pub(crate) fn users(file: &str) -> Vec<String> {
    users_but(file, None)
}

/// The same without this process.
pub(crate) fn users_but(file: &str, but: Option<u32>) -> Vec<String> {
    users_of_each_but(&[file], but).remove(0)
}

/// The users of each of these files, from one look at every process.
pub(crate) fn users_of_each(files: &[&str]) -> Vec<Vec<String>> {
    users_of_each_but(files, None)
}

fn users_of_each_but(files: &[&str], but: Option<u32>) -> Vec<Vec<String>> {
    let wanted: Vec<Option<FileId>> = files.iter().map(|file| FileId::of(Path::new(file)).ok()).collect();
    let mut users = vec![Vec::new(); files.len()];
    if wanted.iter().all(Option::is_none) {
        return users;
    }
    let processes = match std::fs::read_dir("/proc") {
        Ok(processes) => processes.flatten(),
        Err(error) => {
            each_by(&mut users, &format!("a process that cannot be looked at ({error})"));
            return users;
        }
    };
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| *pid != std::process::id() && Some(*pid) != but) {
        let open = match OpenFiles::look(pid) {
            Ok(open) => open,
            // Of another user, or of none any more.
            Err(error) if error.kind() == ErrorKind::PermissionDenied || has_ended(&error) => continue,
            Err(error) => {
                each_by(&mut users, &format!("process {pid}, which cannot be looked at ({error})"));
                continue;
            }
        };
        let holds = |file: &Option<FileId>| file.is_some_and(|file| open.files.contains(&file));
        for (_, users) in
            wanted.iter().zip(&mut users).filter(|(file, users)| holds(file) && users.len() < NAMED)
        {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            users.push(format!("{} (process {pid})", name.trim().replace(char::is_control, "?")));
        }
    }
    users
}

/// A process that cannot be looked at, although it could be, may have each of the files.
fn each_by(users: &mut [Vec<String>], who: &str) {
    for users in users.iter_mut().filter(|users| users.len() < NAMED) {
        users.push(who.to_owned());
    }
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
        Self::look(pid).ok()
    }

    fn look(pid: u32) -> io::Result<Self> {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
        // To look at a descriptor opens nothing, and does not wait for what is behind it.
        let files = descriptors.flatten().filter_map(|entry| FileId::of(&entry.path()).ok()).collect();
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { files, called_qemu: name.contains("qemu") || name.contains("kvm") })
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
fn for_looking(file: impl AsRef<Path>) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(file)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_lock_of_a_process_that_has_just_ended_is_waited_for() {
        let looks = Cell::new(0);
        let until = |last: usize| {
            looks.set(0);
            let looks = &looks;
            move || {
                looks.set(looks.get() + 1);
                looks.get() <= last
            }
        };
        assert_eq!(keepers(until(0), || unreachable!()), None);
        assert_eq!(keepers(until(3), Vec::new), None);
        assert_eq!(looks.get(), 4);
        let qemu = vec!["qemu-system-x86 (process 7)".to_owned()];
        assert_eq!(keepers(until(usize::MAX), || qemu.clone()), Some(qemu.clone()), "one that is seen");
        assert_eq!(looks.get(), 1);
        assert_eq!(keepers(until(usize::MAX), Vec::new), Some(Vec::new()), "one that does not end");
    }
}
