//! The files of the checkout.

use std::path::{Path, PathBuf};

use crate::Failure;
use crate::command::{command, output, top};

/// A text file that belongs to the project.
#[derive(Debug)]
pub(super) struct File {
    /// From the top of the checkout, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    /// Its directory and every other part of its path is a name; this is the last one.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().expect("a split has one part at least")
    }

    pub(super) fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|given| given == extension)
    }
}

/// Every text file that is in git or could be added to it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
}

impl Tree {
    pub(super) fn read() -> Result<Self, Failure> {
        // The user who runs this may not own the checkout; nothing of what git would refuse then is asked for.
        let line = "-c safe.directory=* ls-files -z --cached --others --exclude-standard";
        let listed = output(command("git", line.split(' ')))?;
        let listed = String::from_utf8(listed).map_err(|_| Failure("a file name is not UTF-8".into()))?;
        let mut files = Vec::new();
        for path in listed.split_terminator('\0') {
            // What is not text is data of tests; what cannot be read was deleted and not yet committed.
            if let Ok(text) = std::fs::read_to_string(top().join(path)) {
                files.push(File { path: path.to_owned(), text });
            }
        }
        Ok(Self { files })
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a file or directory of the project is at `path`, which may have `.` and `..` in it.
    pub(super) fn has(&self, path: &Path) -> bool {
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir => {
                    if !plain.pop() {
                        return false;
                    }
                }
                part => plain.push(part),
            }
        }
        self.files.iter().any(|file| Path::new(&file.path).starts_with(&plain))
    }
}
