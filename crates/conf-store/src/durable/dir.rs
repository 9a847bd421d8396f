//! The directory handle.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{Opened, Staged, calls, refusal};
use crate::{Effect, Error, Kind};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// How the names of temporary files start; [`Dir::names`] does not show them.
const TEMPORARY: &str = ".xlsnap-new-";

/// An open directory that only its owner may change.
///
/// It must belong to the effective user or to root, and not all users may write to it, unless it is sticky. Directories are
/// made with mode 0700, files with 0600. Names are single components of a path; anything else is [`Kind::Malformed`].
/// Its methods block for as long as the disk takes.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the directory at `path`, which the caller trusts: symbolic links on the way to it are followed.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none; [`Kind::Denied`] when others could change what is in it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty())
            .map_err(|errno| refusal::failed("open the directory", path, errno))?;
        Self::check(fd, path.to_owned())
    }

    /// Opens the directory at `path`, and makes it first, with those above it, where there is none.
    ///
    /// # Errors
    /// As [`Dir::open`], and what making a directory can fail with.
    pub fn create(path: &Path) -> Result<Self, Error> {
        match Self::open(path) {
            Err(error) if error.kind() == Kind::NotFound => {}
            result => return result,
        }
        let failed = |what: &str, errno| refusal::failed(what, path, errno);
        // `..` and an empty path have no name to make.
        let name = path.file_name().ok_or_else(|| failed("make the directory", Errno::NOENT))?;
        let above = match path.parent() {
            Some(above) if above != Path::new("") => above,
            _ => Path::new("."),
        };
        // Those above are not ours to judge, so that `/var/lib` may belong to any user; only made where missing.
        let above = match rustix::fs::openat(CWD, above, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => Self::create(above)?.fd,
            Err(errno) => return Err(refusal::failed("open the directory", above, errno)),
            Ok(fd) => fd,
        };
        make_dir(above.as_fd(), Path::new(name)).map_err(|errno| failed("make the directory", errno))?;
        Self::open(path)
    }

    /// Opens the directory `name` in this one. A symbolic link there is [`Kind::Denied`].
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn open_dir(&self, name: &str) -> Result<Self, Error> {
        let path = self.path_of(name)?;
        let fd = rustix::fs::openat(&self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map_err(
            |errno| match errno {
                Errno::NOTDIR | Errno::LOOP => Error::new(
                    Kind::Denied,
                    format!("{} is not a directory, or a symbolic link to one: remove it", path.display()),
                ),
                _ => refusal::failed("open the directory", &path, errno),
            },
        )?;
        Self::check(fd, path)
    }

    /// Opens the directory `name` in this one, and makes it first where there is none.
    ///
    /// # Errors
    /// As [`Dir::open_dir`], and what making a directory can fail with.
    pub fn create_dir(&self, name: &str) -> Result<Self, Error> {
        match self.open_dir(name) {
            Err(error) if error.kind() == Kind::NotFound => {}
            result => return result,
        }
        make_dir(self.fd(), Path::new(name))
            .map_err(|errno| refusal::failed("make the directory", &self.path.join(name), errno))?;
        self.open_dir(name)
    }

    /// The path that it was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of the regular file `name`. Neither a symbolic link nor a FIFO or a device is read
    /// ([`Kind::Denied`]), nor a file of more than `limit` bytes ([`Kind::Malformed`]).
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none.
    pub fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        self.open_file(name)?.read(&mut content, limit, || self.path.join(name))?;
        Ok(content)
    }

    /// Writes the file `name`, whole and durably; one that is there is replaced.
    ///
    /// # Errors
    /// The old content is still there, unless [`Error::effect`] is unknown: then it could not be flushed.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.write(name, content, true)
    }

    /// Writes the file `name`, whole and durably. Of two writers at once exactly one succeeds.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`] when there is anything of that name. For its effect see [`Dir::replace`].
    pub fn create_new(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.write(name, content, false)
    }

    /// Removes the file `name`, or the symbolic link itself if it is one, durably.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path_of(name)?;
        calls::unlink(self.fd(), name).map_err(|errno| refusal::failed("remove", &path, errno))?;
        self.sync()
    }

    /// Calls `visit` with the name of each entry, whatever it is, in no order. Names that are not UTF-8, `.`, `..` and
    /// temporary files are left out.
    ///
    /// # Errors
    /// What reading a directory can fail with.
    pub fn names(&self, visit: &mut dyn FnMut(&str)) -> Result<(), Error> {
        self.all_names(&mut |name| {
            if !name.starts_with(TEMPORARY) {
                visit(name);
            }
        })
    }

    /// Removes the temporary files that writers left when they crashed. They are never read nor listed, but take room.
    /// Only for a caller that knows that no process writes in this directory now: else a writer's file is removed under it, and
    /// its write fails without effect.
    ///
    /// # Errors
    /// What listing a directory and removing a file can fail with.
    pub fn remove_temporaries(&self) -> Result<(), Error> {
        let mut temporaries = Vec::new();
        self.all_names(&mut |name| {
            if name.starts_with(TEMPORARY) {
                temporaries.push(name.to_owned());
            }
        })?;
        temporaries.iter().try_for_each(|name| self.discard(name))
    }

    /// [`Dir::names`] with the temporary files.
    fn all_names(&self, visit: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let failed = |errno| refusal::failed("list", &self.path, errno);
        // A descriptor of its own, for it has a position in the directory.
        let listing = rustix::fs::openat(&self.fd, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
        let mut entries = RawDir::new(listing, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => visit(name),
            }
        }
        Ok(())
    }

    /// Opens the regular file `name` for reading, never waiting for it.
    pub(crate) fn open_file(&self, name: &str) -> Result<Opened, Error> {
        self.open_regular(name, OFlags::RDONLY)
    }

    /// Opens the regular file `name` for reading and writing, and makes it where there is none.
    pub(crate) fn open_or_create_file(&self, name: &str) -> Result<Opened, Error> {
        self.open_regular(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_regular(&self, name: &str, how: OFlags) -> Result<Opened, Error> {
        check_name(name, || self.path.join(name))?;
        // NONBLOCK: opening a FIFO must not wait for its other end.
        let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR).map_err(
                |errno| match errno {
                    Errno::ISDIR => refusal::failed("open", &self.path.join(name), Errno::NXIO),
                    _ => refusal::failed("open", &self.path.join(name), errno),
                },
            )?;
        Opened::check(fd, || self.path.join(name))
    }

    /// Whether `name` is `file` now, neither replaced nor removed.
    pub(crate) fn has(&self, name: &str, file: &Opened) -> Result<bool, Error> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(file.is(&stat)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(refusal::failed("examine", &self.path.join(name), errno)),
        }
    }

    /// Whether there is a regular file `name`; anything else of that name is [`Kind::Denied`].
    pub(crate) fn has_file(&self, name: &str) -> Result<bool, Error> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => refusal::only_regular(&stat, || self.path.join(name)).map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(refusal::failed("examine", &self.path.join(name), errno)),
        }
    }

    /// Whether the directory `name` in this one is `dir` now.
    pub(crate) fn has_dir(&self, name: &str, dir: &Dir) -> Result<bool, Error> {
        let failed = |errno| refusal::failed("examine", &dir.path, errno);
        let ours = rustix::fs::fstat(&dir.fd).map_err(failed)?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Writes `content` into the temporary file of that `slot`. Two writers must not use one slot at a time.
    pub(crate) fn stage(&self, slot: &str, content: &[u8]) -> Result<Staged<'_>, Error> {
        Staged::write(self, format!("{TEMPORARY}{slot}"), content)
    }

    /// The name of the temporary file of a `slot`.
    pub(crate) fn slot(slot: &str) -> String {
        format!("{TEMPORARY}{slot}")
    }

    /// Renames a file, replacing what has the name `to`.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        calls::rename(self.fd(), from, to, true)
            .map_err(|errno| refusal::failed("rename", &self.path.join(from), errno))
    }

    /// Removes a file if it is there, without flushing the directory.
    pub(crate) fn discard(&self, name: &str) -> Result<(), Error> {
        match calls::unlink(self.fd(), name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(refusal::failed("remove", &self.path.join(name), errno)),
        }
    }

    /// Removes the directory `name` in this one, durably, if it is empty; one that is not, or is not there, stays as it is.
    pub(crate) fn discard_dir(&self, name: &str) -> Result<(), Error> {
        match calls::remove_dir(self.fd(), name) {
            Ok(()) => self.sync(),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(refusal::failed("remove the directory", &self.path.join(name), errno)),
        }
    }

    /// Flushes the directory's entries to the disk. A change that could not be flushed may be lost in a power cut.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        calls::sync_dir(self.fd())
            .map_err(|errno| refusal::failed("flush", &self.path, errno).with_effect(Effect::Unknown))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn write(&self, name: &str, content: &[u8], replace: bool) -> Result<(), Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        self.path_of(name)?;
        // Nothing excludes other writers here, so each has a temporary name of its own.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let staged = self.stage(&format!("{}-{count}", std::process::id()), content)?;
        staged.sync()?;
        staged.publish(name, replace)?;
        self.sync()
    }

    fn path_of(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        check_name(name, || path.clone())?;
        Ok(path)
    }

    fn check(fd: OwnedFd, path: PathBuf) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| refusal::failed("examine", &path, errno))?;
        refusal::only_ours(&stat, &path)?;
        Ok(Self { fd, path })
    }
}

/// Makes a directory durably; one that is there already is none of its business.
fn make_dir(dir: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
    match calls::make_dir(dir, name) {
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
        Ok(()) => calls::sync_dir(dir),
    }
}

fn check_name(name: &str, path: impl Fn() -> PathBuf) -> Result<(), Error> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let message = format!("{:?} is not the name of a file in a directory", path());
        return Err(Error::new(Kind::Malformed, message));
    }
    Ok(())
}
