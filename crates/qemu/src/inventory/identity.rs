//! Whether two file names are one file.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Answers whether names are the same file: by text, and else by device and inode, each file looked up once.
pub(crate) struct Files {
    /// Where QEMU's relative names start, if that is known.
    directory: Option<PathBuf>,
    seen: HashMap<PathBuf, Option<(u64, u64)>>,
}

impl Files {
    pub(crate) fn new(directory: Option<&Path>) -> Self {
        Self { directory: directory.map(Path::to_owned), seen: HashMap::new() }
    }

    /// QEMU's `name` as others can use it.
    pub(crate) fn absolute(&self, name: &str) -> String {
        let is_relative = !name.is_empty() && Path::new(name).is_relative() && !name.contains(':');
        match &self.directory {
            Some(directory) if is_relative => directory.join(name).to_string_lossy().into_owned(),
            _ => name.to_owned(),
        }
    }

    /// Whether our file `ours` is the one that QEMU calls `theirs`.
    pub(crate) fn same(&mut self, ours: &str, theirs: &str) -> bool {
        if ours == theirs {
            return true;
        }
        let theirs = self.absolute(theirs);
        // A relative name of QEMU's must not be looked up in our own directory.
        if ours == theirs || Path::new(&theirs).is_relative() {
            return ours == theirs;
        }
        let ours = self.identity(Path::new(ours));
        ours.is_some() && ours == self.identity(Path::new(&theirs))
    }

    /// Whether the file that QEMU calls `theirs` is there for us.
    pub(crate) fn exists(&mut self, theirs: &str) -> bool {
        let theirs = self.absolute(theirs);
        self.identity(Path::new(&theirs)).is_some()
    }

    fn identity(&mut self, path: &Path) -> Option<(u64, u64)> {
        if let Some(known) = self.seen.get(path) {
            return *known;
        }
        let identity = std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        self.seen.insert(path.to_owned(), identity);
        identity
    }
}
