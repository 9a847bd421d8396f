//! Whether two file names are one file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use xlsnap_qemu_img::FileId;

use crate::revertible::OpenFiles;

/// Answers whether names are the same file: by text, and else by what they lead to, each file looked up once.
pub(crate) struct Files {
    /// Where QEMU's relative names start, if that is known.
    directory: Option<PathBuf>,
    /// What QEMU has open, if that is known.
    open: Option<OpenFiles>,
    seen: HashMap<PathBuf, Option<FileId>>,
}

impl Files {
    pub(crate) fn new(directory: Option<&Path>) -> Self {
        Self { directory: directory.map(Path::to_owned), open: None, seen: HashMap::new() }
    }

    /// The same with what the process `pid` has open, if it is the QEMU that has the images of these names.
    pub(crate) fn with_process<'a>(
        mut self,
        pid: Option<u32>,
        images: impl Iterator<Item = &'a str>,
    ) -> Self {
        let absolute: Vec<PathBuf> = images.map(|name| PathBuf::from(self.absolute(name))).collect();
        let known = |path: &PathBuf| path.is_absolute().then(|| self.identity(path)).flatten();
        let images: Vec<FileId> = absolute.iter().filter_map(known).collect();
        self.open = pid.and_then(OpenFiles::of).and_then(|open| open.if_it_has(images.into_iter()));
        self
    }

    /// What QEMU has open, if that is known.
    pub(crate) fn open_in_qemu(&self) -> Option<&OpenFiles> {
        self.open.as_ref()
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

    fn identity(&mut self, path: &Path) -> Option<FileId> {
        if let Some(known) = self.seen.get(path) {
            return *known;
        }
        let identity = FileId::of(path).ok();
        self.seen.insert(path.to_owned(), identity);
        identity
    }
}
