//! What would be in the way of a memory file.

use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};

use crate::{Error, MemoryFile, worker};

/// What is to become of a directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingDirectory {
    /// It is in the way of the file.
    Refuse,
    /// The caller makes it, with [`MemoryFile::make_directory`].
    Make,
}

/// What is where a memory file is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Why no file can be made there, as a clause ("its directory /srv/x is not there").
    pub obstacle: Option<String>,
    /// How many bytes are free there for this user; `None` where that cannot be told.
    pub free: Option<u64>,
    /// Whether something has the file's name already.
    pub taken: bool,
}

impl MemoryFile {
    /// Looks at what would be in the way of the file. What cannot be looked at is an obstacle.
    ///
    /// # Errors
    /// No thread can be started.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn place(&self, missing: MissingDirectory) -> Result<Place, Error> {
        let file = self.clone();
        worker::run(self.path(), move |_| Ok(look(&file, missing))).await
    }
}

fn look(file: &MemoryFile, missing: MissingDirectory) -> Place {
    let directory = file.directory();
    let there =
        directory.ancestors().find(|above| above.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let asked = match missing {
        MissingDirectory::Refuse => directory,
        MissingDirectory::Make => there,
    };
    Place {
        obstacle: obstacle(asked),
        free: rustix::fs::statvfs(there).ok().map(|found| found.f_bavail.saturating_mul(found.f_frsize)),
        taken: file.path().symlink_metadata().is_ok(),
    }
}

fn obstacle(directory: &Path) -> Option<String> {
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Some(format!("its directory {shown} is not there")),
        Err(e) => Some(format!("its directory {shown} cannot be looked at: {e}")),
        Ok(found) if !found.is_dir() => Some(format!("{shown} is no directory")),
        Ok(_) => rustix::fs::accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .err()
            .map(|e| format!("its directory {shown} takes no new files: {e}")),
    }
}
