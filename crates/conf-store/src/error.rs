//! What can go wrong in a store.

use std::fmt;

/// The kind of an [`Error`], to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No such record.
    NotFound,
    /// A record of that name is there already.
    AlreadyExists,
    /// Another process holds the domain's lock.
    Busy,
    /// Data that breaks the rules of its format: what is stored cannot be read (the message names the place in it), or
    /// what was given cannot be stored. Storing reports it of its argument only.
    Malformed,
    /// What is stored was written by a newer version, and is not overwritten.
    Newer,
    /// Something hostile or not permitted stands in the way: a symbolic link, another owner, no permission.
    Denied,
    /// The store is full.
    NoSpace,
    /// Anything else that the storage reports.
    Io,
}

/// What is known of the effect of a change that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing that a reader sees has changed.
    None,
    /// It may have happened, or may be undone by a power cut: look.
    Unknown,
}

/// An error of a store: what failed, on which object. [`std::error::Error::source`] tells why.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    effect: Effect,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` without effect; `message` names the object and says what could be done, without the
    /// source's text.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, effect: Effect::None, message: message.into(), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same with another effect.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is known of the change that failed.
    pub fn effect(&self) -> Effect {
        self.effect
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}
