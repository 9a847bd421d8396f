//! What can go wrong between a client and the agent.

/// What is known of the effect of a command that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing happened.
    None,
    /// It happened.
    Done,
    /// It may have happened, or half of it, or may still happen.
    Unknown,
}

/// The kind of an [`Error`], to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No connection could be made.
    Connect,
    /// Others hold the socket and wait for it.
    Busy,
    /// Connected, and no agent answers: none runs in the guest, the guest stands still, or another client holds the socket.
    Silent,
    /// What came is not an agent's answer.
    Protocol,
    /// The agent refused the command, or it failed.
    Rejected,
    /// The file systems are frozen already, by whomever.
    Frozen,
    /// The agent answers, and did not answer this in time.
    TimedOut,
    /// The connection closed with the command in flight.
    Disconnected,
}

/// An error of a guest agent's client.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    effect: Effect,
    message: String,
    class: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` names the socket or the command.
    pub fn new(kind: Kind, effect: Effect, message: impl Into<String>) -> Self {
        Self { kind, effect, message: message.into(), class: None, source: None }
    }

    /// The agent's error in answer to `command`. Only one of class `CommandNotFound` says that nothing was done: a freeze that
    /// fails half way thaws what it froze, and does not say whether it could.
    pub fn rejected(command: &str, class: impl Into<String>, desc: &str) -> Self {
        let class = class.into();
        let effect = if class == "CommandNotFound" { Effect::None } else { Effect::Unknown };
        Self { class: Some(class), ..Self::new(Kind::Rejected, effect, format!("{command}: {desc}")) }
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

    /// What is known of the command's effect.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The agent's error class of a [`Kind::Rejected`]: `GenericError`, or `CommandNotFound` of a command that it does not
    /// have or may not execute.
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }
}
