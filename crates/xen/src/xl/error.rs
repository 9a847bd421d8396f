//! What can go wrong with xl.

/// What is known of the effect of a command that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing happened.
    None,
    /// It may have happened, or half of it: look at the domain.
    Unknown,
}

/// The kind of an [`Error`], to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// There is no such domain.
    NoSuchDomain,
    /// xl cannot be started.
    NoProgram,
    /// xl cannot talk to Xen: it is not root in dom0, or this is no Xen host.
    NoXen,
    /// A domain of that name or uuid runs already.
    NameInUse,
    /// The disk is full, or there is not enough free memory.
    NoSpace,
    /// It did not end in time, and was ended.
    TimedOut,
    /// What it was to read is no such thing, or damaged.
    Malformed,
    /// Anything else.
    Failed,
}

/// An error of xl: the command, how it ended and what it said.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    effect: Effect,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` names the command.
    pub fn new(kind: Kind, effect: Effect, message: impl Into<String>) -> Self {
        Self { kind, effect, message: message.into(), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is known of the command's effect.
    pub fn effect(&self) -> Effect {
        self.effect
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
