//! The place of a memory file, and the names in it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::checksum::Checksum;
use crate::{Effect, Error, Kind};

/// The longest name that a file may have (Linux: `NAME_MAX`).
const MAX_NAME: usize = 255;

/// The longest token.
const MAX_TOKEN: usize = 64;

/// The path of a memory file, which may be there or not: absolute, with a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemoryFile {
    path: PathBuf,
    /// `path`'s last part.
    name: String,
    directory: PathBuf,
}

impl MemoryFile {
    /// The file at `path`. Nothing is looked at.
    ///
    /// # Errors
    /// [`Kind::Refused`] unless the path is absolute and ends with a file's name: UTF-8, of 255 bytes at most.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let refused = |why: &str| {
            let message = format!("{} is no place for a memory file: {why}", path.display());
            Error::new(Kind::Refused, Effect::None, message)
        };
        if !path.is_absolute() {
            return Err(refused("it is no absolute path"));
        }
        let (Some(name), Some(directory)) = (path.file_name().and_then(OsStr::to_str), path.parent()) else {
            return Err(refused("it names no file"));
        };
        if name.len() > MAX_NAME || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(refused("it ends with no file's name, which has 1 to 255 bytes"));
        }
        Ok(Self { path: path.to_owned(), name: name.to_owned(), directory: directory.to_owned() })
    }

    /// `NAME.save` in `directory`. A name that is too long is cut, and has its checksum at the end, so that two long names with one
    /// beginning are two files. Nothing is looked at.
    ///
    /// # Errors
    /// As [`MemoryFile::new`]: a relative directory, a name with a slash.
    pub fn in_directory(directory: &Path, name: &str) -> Result<Self, Error> {
        const SUFFIX: &str = ".save";
        if name.contains('/') {
            let message = format!("{name:?} cannot be the name of a memory file: it has a slash");
            return Err(Error::new(Kind::Refused, Effect::None, message));
        }
        if name.len() + SUFFIX.len() <= MAX_NAME {
            return Self::new(directory.join(format!("{name}{SUFFIX}")));
        }
        let sum = Checksum::of(name.as_bytes()).to_string();
        let sum = &sum[sum.len() - 32..];
        let head = cut(name, MAX_NAME - SUFFIX.len() - "-".len() - sum.len());
        Self::new(directory.join(format!("{head}-{sum}{SUFFIX}")))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name of the file while the operation `token` writes it: `.NAME.TOKEN.part`, with as much of the name as there is room for.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a token that is not 1 to 64 ASCII letters and digits.
    pub(crate) fn part(&self, token: &str) -> Result<String, Error> {
        let is_token =
            (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_token {
            let message = format!(
                "{token:?} cannot mark a memory file: it is not 1 to {MAX_TOKEN} ASCII letters and digits"
            );
            return Err(Error::new(Kind::Refused, Effect::None, message));
        }
        let around = ".".len() + ".".len() + token.len() + ".part".len();
        Ok(format!(".{}.{token}.part", cut(&self.name, MAX_NAME - around)))
    }

    pub(crate) fn open_directory(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, &self.directory, flags, Mode::empty())?)
    }

    /// Where the file of the operation `token` is while it is written: what [`crate::Staged::path`] is, for a program that did not begin it.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a token that is none; see [`MemoryFile::stage`].
    pub fn staged_path(&self, token: &str) -> Result<PathBuf, Error> {
        Ok(self.directory.join(self.part(token)?))
    }

    /// Whether something is at [`MemoryFile::staged_path`]: a sign that the operation began and did not end.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a token that is none, see [`MemoryFile::stage`]; the file system's, where that cannot be told.
    pub fn is_staged(&self, token: &str) -> Result<bool, Error> {
        let part = self.staged_path(token)?;
        match rustix::fs::statat(CWD, &part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(Error::io(&part, "cannot be looked for", e.into())),
        }
    }

    /// Makes its directory, for its owner alone, where it is not there yet.
    ///
    /// # Errors
    /// The file system's.
    pub fn make_directory(&self) -> Result<(), Error> {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|e| Error::io(&self.path, "has no directory, and none can be made", e))
    }
}

/// Flushes a directory. Some network file systems cannot, and need not.
pub(crate) fn sync(directory: &OwnedFd) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        Err(Errno::INVAL) => Ok(()),
        result => Ok(result?),
    }
}

/// The beginning of a text, in so many bytes at most.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef01234567";

    #[test]
    fn a_place_is_an_absolute_path_of_a_file() {
        for wrong in ["", "relative", "/", "/a/..", "/a/b/", &format!("/{}", "x".repeat(256))] {
            assert_eq!(MemoryFile::new(wrong).unwrap_err().kind(), Kind::Refused, "{wrong}");
        }
        let file = MemoryFile::new("/srv/saves/s1.save").unwrap();
        assert_eq!((file.directory(), file.name()), (Path::new("/srv/saves"), "s1.save"));
        assert_eq!(file.part(TOKEN).unwrap(), ".s1.save.0123456789abcdef01234567.part");
        for wrong in ["", "a/b", "a.b", "\u{e9}", &"x".repeat(65)] {
            assert_eq!(file.part(wrong).unwrap_err().kind(), Kind::Refused, "{wrong}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_stays_itself() {
        let directory = Path::new("/srv");
        let place = |name: &str| MemoryFile::in_directory(directory, name).unwrap();
        assert_eq!(place("s1").path(), Path::new("/srv/s1.save"));
        assert_eq!(place(&"x".repeat(250)).name(), format!("{}.save", "x".repeat(250)));
        for (one, other) in [("x".repeat(251), "x".repeat(252)), ("\u{e9}".repeat(200), "\u{e9}".repeat(201))]
        {
            let (one, other) = (place(&one), place(&other));
            assert!(one.name().len() <= MAX_NAME && one.name().ends_with(".save"), "{one:?}");
            assert_ne!(one, other);
        }
        for length in [1, 200, 240, 255] {
            let file = MemoryFile::new(format!("/srv/{}", "x".repeat(length))).unwrap();
            assert!(file.part(TOKEN).unwrap().len() <= MAX_NAME);
        }
        assert_eq!(MemoryFile::in_directory(directory, "a/../b").unwrap_err().kind(), Kind::Refused);
        assert_eq!(MemoryFile::in_directory(Path::new("srv"), "a").unwrap_err().kind(), Kind::Refused);
    }
}
