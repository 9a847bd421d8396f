//! What can go wrong with a memory file.

use std::io;
use std::path::Path;

/// What is known of the effect of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing was changed.
    None,
    /// It was done.
    Done,
    /// It was done, and a power cut may undo it; or half of it was done.
    Unknown,
}

/// The kind of an [`Error`], to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The file, or its directory, is not there.
    NotFound,
    /// Something has the name already, and stays.
    AlreadyExists,
    /// The file system, or the owner's quota, is full.
    NoSpace,
    /// The request cannot be carried out anywhere: the path names no file, the checksum's algorithm is not known.
    Refused,
    /// What has the name is not a memory file that this crate made: a link, a directory, a file without the mark.
    Foreign,
    /// The file is not what was recorded: its size, its checksum or its beginning is another.
    Damaged,
    /// The stream to or from the hypervisor broke; the hypervisor may know why.
    Stream,
    /// The file system failed in another way; the source says how.
    Failed,
}

/// An error about a memory file; its text names the file, and its source is the file system's error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    effect: Effect,
    message: String,
    #[source]
    source: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(kind: Kind, effect: Effect, message: impl Into<String>) -> Self {
        Self { kind, effect, message: message.into(), source: None }
    }

    /// Nothing was changed, and the file is not what it should be: `what` is a clause.
    pub(crate) fn about(kind: Kind, file: &Path, what: &str) -> Self {
        Self::new(kind, Effect::None, format!("the memory file {} {what}", file.display()))
    }

    /// The file system does not do what `what` says ("cannot be opened").
    pub(crate) fn io(file: &Path, what: &str, error: io::Error) -> Self {
        Self { source: Some(error), ..Self::about(Kind::Failed, file, what) }.with_kind_of_source()
    }

    /// What has the file's name is no regular file.
    pub(crate) fn not_regular(file: &Path, is_link: bool) -> Self {
        let what = if is_link { "is a symbolic link, and was saved as a file" } else { "is no regular file" };
        Self::about(Kind::Foreign, file, what)
    }

    pub(crate) fn with_source(mut self, source: io::Error) -> Self {
        self.source = Some(source);
        self
    }

    pub(crate) fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    fn with_kind_of_source(mut self) -> Self {
        if let Some(error) = &self.source {
            self.kind = match error.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                io::ErrorKind::AlreadyExists => Kind::AlreadyExists,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Kind::NoSpace
                }
                _ => Kind::Failed,
            };
        }
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is known of the call's effect.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The file system's error, for an error of the caller's that has this one's text.
    pub fn into_source(self) -> Option<io::Error> {
        self.source
    }
}
