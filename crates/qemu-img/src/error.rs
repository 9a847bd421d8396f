//! What can go wrong when qemu-img runs.

/// The kind of an [`Error`], to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// qemu-img itself could not be started.
    NoProgram,
    /// The image or the snapshot is not there.
    NotFound,
    /// Another process has the image open.
    Locked,
    /// A name is taken, or means two things in the image.
    Ambiguous,
    /// The image's format has no such thing, or what was asked for can't be asked of qemu-img.
    Unsupported,
    /// The image is damaged, or not of the format that was given.
    Corrupt,
    /// The file system is full.
    NoSpace,
    /// Any other failure, told by its status and the end of its standard error.
    Failed,
}

/// What is known of the effect of something that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// The image is as it was.
    None,
    /// The image may be as it was, or changed, or half of it: look with [`crate::QemuImg::info`].
    Unknown,
}

/// A failure of qemu-img: which program with which arguments, how it ended, and the end of what it said.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    effect: Effect,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that had no effect; `message` has no text of the source.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, effect: Effect::None, message: message.into(), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same with what is known of its effect.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is known of its effect on the image.
    pub fn effect(&self) -> Effect {
        self.effect
    }
}
