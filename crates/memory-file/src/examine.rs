//! What a memory file is, of which nothing was written down.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::header::Header;
use crate::pack::{Packing, ZSTD_MAGIC};
use crate::reading::{header, open, sum};
use crate::worker::Worker;
use crate::{Error, Kind, MemoryFile, Recorded, mark};

/// What a whole memory file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// What would have been written down of it.
    pub recorded: Recorded,
    /// What its beginning says.
    pub header: Header,
    /// When it was written to last, in seconds since 1970-01-01 UTC.
    pub written: u64,
}

impl MemoryFile {
    /// Reads a whole file that was made here and of which nothing was written down, or of which that was lost. `progress` is told how
    /// many bytes were read.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Foreign`] of what is no regular file, and of a file without the mark that every file made here has,
    /// where the file system can mark files; [`Kind::Damaged`] when it does not begin as memory.
    ///
    /// # Cancel safety
    /// It only looks. Dropped, its thread ends soon after.
    pub async fn examine(&self, mut progress: impl FnMut(u64)) -> Result<Examined, Error> {
        let path = self.path().to_owned();
        let mut worker = Worker::start(self.path(), move |shared| {
            let (handle, found) = open(&path)?;
            let unread = |e| Error::io(&path, "cannot be read", e);
            if !mark::is_of_any(&handle).map_err(unread)? {
                let what = "does not have the mark of a file that was saved here, so it may be another one";
                return Err(Error::about(Kind::Foreign, &path, what));
            }
            let packing = packing(&handle, &path)?;
            // First what takes no time.
            let header = header(&handle, packing, &path)?;
            let read = sum(&handle, shared).map_err(unread)?;
            let recorded = Recorded { bytes: read.bytes, checksum: Some(read.checksum), packing };
            Ok(Examined { recorded, header, written: u64::try_from(found.mtime()).unwrap_or_default() })
        })?;
        let examined = worker.done(&mut progress).await?;
        progress(examined.recorded.bytes);
        Ok(examined)
    }
}

/// How a file is packed, by its first bytes.
fn packing(file: &File, path: &Path) -> Result<Packing, Error> {
    let mut start = [0; ZSTD_MAGIC.len()];
    match file.read_exact_at(&mut start, 0) {
        Ok(()) if start == ZSTD_MAGIC => Ok(Packing::Zstd),
        // What is shorter is told by its header.
        Ok(()) => Ok(Packing::None),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Packing::None),
        Err(e) => Err(Error::io(path, "cannot be read", e)),
    }
}
