//! Errors of ports and of operations; each says what is known of its effect.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Recovered;

/// What is known of the effect of something that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing was changed, or all of it was undone.
    None,
    /// It was done.
    Done,
    /// It may have been done, or half of it: `recover` looks.
    Unknown,
}

/// The kind of a [`PortError`], to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PortErrorKind {
    /// The disk, image or snapshot is not there.
    NotFound,
    /// A snapshot or file of that name is there.
    AlreadyExists,
    /// Another process uses the image or the monitor.
    Busy,
    /// The backend refuses: the disk or its format can't.
    Refused,
    /// No space left.
    NoSpace,
    /// The image is damaged.
    Corrupt,
    /// The backend is gone, does not answer, or speaks nonsense.
    Unreachable,
    /// Anything else.
    Failed,
}

/// An error of a port: what failed, on which disk or file, and what is known of the effect.
#[derive(Debug)]
pub struct PortError {
    /// Its kind.
    pub kind: PortErrorKind,
    /// What is known of the effect.
    pub effect: Effect,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    /// A new error; `message` names the disk or the file, without the source's text.
    pub fn new(kind: PortErrorKind, effect: Effect, message: impl Into<String>) -> Self {
        Self { kind, effect, message: message.into(), source: None }
    }

    /// The same of something that came after another one had been done: whatever failed, that may have happened.
    #[must_use]
    pub fn after_effect(mut self) -> Self {
        if self.effect == Effect::None {
            self.effect = Effect::Unknown;
        }
        self
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PortError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}

/// The kind of an [`Error`]: what a caller decides on, and what the command line's exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The domain, snapshot or disk is not there.
    NotFound,
    /// Another process holds the domain, an image or the monitor.
    Busy,
    /// A check before any effect refused it: the message names the disk or the name, and what to do.
    Refused,
    /// It failed, and everything is as it was.
    Failed,
    /// It failed, and `recover` has to finish or undo it.
    RecoveryPending,
}

/// An error of an operation on a domain.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    effect: Effect,
    message: String,
    advice: Option<String>,
    recovered: Option<Box<Recovered>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error; `message` names the domain and the disk, without the source's text.
    pub fn new(kind: Kind, effect: Effect, message: impl Into<String>) -> Self {
        Self { kind, effect, message: message.into(), advice: None, recovered: None, source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same with a sentence that says what to do.
    #[must_use]
    pub fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The same in other words.
    #[must_use]
    pub(crate) fn reworded(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// The same of another kind, and with another thing known of the effect.
    #[must_use]
    pub(crate) fn ended_as(mut self, kind: Kind, effect: Effect) -> Self {
        self.kind = kind;
        self.effect = effect;
        self
    }

    /// The same with what was finished or undone before it failed.
    #[must_use]
    pub(crate) fn with_recovered(mut self, recovered: Option<Recovered>) -> Self {
        self.recovered = recovered.map(Box::new);
        self
    }

    /// What was finished or undone before it failed.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_deref()
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is known of the operation's effect.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
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

impl From<PortErrorKind> for Kind {
    /// The one mapping of a port's kind to an operation's.
    fn from(kind: PortErrorKind) -> Self {
        match kind {
            PortErrorKind::NotFound => Self::NotFound,
            PortErrorKind::Busy => Self::Busy,
            PortErrorKind::AlreadyExists | PortErrorKind::Refused | PortErrorKind::Corrupt => Self::Refused,
            PortErrorKind::NoSpace | PortErrorKind::Unreachable | PortErrorKind::Failed => Self::Failed,
        }
    }
}

impl From<xlsnap_conf_store::Kind> for Kind {
    /// The one mapping of a store's kind to an operation's.
    fn from(kind: xlsnap_conf_store::Kind) -> Self {
        use xlsnap_conf_store::Kind as Store;
        match kind {
            Store::NotFound => Self::NotFound,
            Store::Busy => Self::Busy,
            Store::AlreadyExists | Store::Malformed | Store::Newer | Store::Denied => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl From<xlsnap_conf_store::Effect> for Effect {
    fn from(effect: xlsnap_conf_store::Effect) -> Self {
        match effect {
            xlsnap_conf_store::Effect::None => Self::None,
            xlsnap_conf_store::Effect::Unknown => Self::Unknown,
        }
    }
}

/// An error of the store before any effect, as an operation's.
pub(crate) fn from_store(error: xlsnap_conf_store::Error, message: impl Into<String>) -> Error {
    Error::new(error.kind().into(), Effect::None, message).with_source(error)
}

/// An error of a port before any effect, as an operation's.
pub(crate) fn from_port(error: PortError, message: impl Into<String>) -> Error {
    Error::new(error.kind.into(), Effect::None, message).with_source(error)
}
