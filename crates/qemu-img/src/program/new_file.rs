//! A file that is being made: not there before, and gone again unless it is finished.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::argument::quote;
use crate::{Effect, Error, Kind};

/// An empty file of ours, which no other user can read. qemu-img itself would take any file that is there and empty it.
#[derive(Debug)]
#[must_use = "dropping it removes the file"]
pub(super) struct NewFile {
    path: PathBuf,
    /// `None` when it is finished.
    file: Option<File>,
}

impl NewFile {
    /// Makes the file. One that is there, or a symbolic link, is refused.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|source| {
            let kind = match source.kind() {
                io::ErrorKind::AlreadyExists => Kind::Ambiguous,
                io::ErrorKind::NotFound => Kind::NotFound,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::NoSpace,
                _ => Kind::Failed,
            };
            Error::new(kind, format!("the image {} can't be made", quote(path.as_os_str())))
                .with_source(source)
        })?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Finishes it: the file and its name in the directory are on the disk when this returns.
    pub(super) fn keep(mut self) -> Result<(), Error> {
        let synced = match &self.file {
            Some(file) => file.sync_all().and_then(|()| sync_directory(&self.path)),
            None => Ok(()),
        };
        synced.map_err(|source| {
            let kind = if source.kind() == io::ErrorKind::StorageFull { Kind::NoSpace } else { Kind::Failed };
            let message = format!("the image {} can't be brought to the disk", quote(self.path.as_os_str()));
            let effect = if self.remove() { Effect::None } else { Effect::Unknown };
            Error::new(kind, message).with_effect(effect).with_source(source)
        })?;
        self.file = None;
        Ok(())
    }

    /// Removes what is not finished; whether it is gone.
    fn remove(&mut self) -> bool {
        let Some(file) = self.file.take() else { return true };
        // Another program may have put another file in its place meanwhile: that is not ours.
        let ours = |file: &File| {
            let (made, found) = (file.metadata()?, fs::symlink_metadata(&self.path)?);
            io::Result::Ok((made.dev(), made.ino()) == (found.dev(), found.ino()))
        };
        if matches!(ours(&file), Ok(true))
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "the half-made image {} stays behind", quote(self.path.as_os_str()));
            return false;
        }
        true
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn sync_directory(file: &Path) -> io::Result<()> {
    File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}
