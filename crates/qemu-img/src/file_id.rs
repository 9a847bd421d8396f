//! Which file a name leads to.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A file, whatever it is called: two names with one `FileId` are one file.
///
/// It holds while the file is there: a file system gives the number of a removed file to a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The device of its file system; of a block device the device itself, which may have several nodes.
    pub device: u64,
    /// Its inode; 0 of a block device.
    pub inode: u64,
}

impl FileId {
    /// That of the file that `path` leads to, through symbolic links.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|found| Self::from(&found))
    }
}

impl From<&std::fs::Metadata> for FileId {
    fn from(found: &std::fs::Metadata) -> Self {
        if found.file_type().is_block_device() {
            Self { device: found.rdev(), inode: 0 }
        } else {
            Self { device: found.dev(), inode: found.ino() }
        }
    }
}
