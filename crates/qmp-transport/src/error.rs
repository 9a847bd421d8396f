//! What can go wrong between a client and QEMU.

use std::error::Error as _;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// What is known of the effect of a command that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing happened.
    None,
    /// It happened.
    Done,
    /// It may have happened: look.
    Unknown,
}

/// The kind of an [`Error`], to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No connection could be made.
    Connect,
    /// Connected, but no greeting: another client holds the monitor (each serves one).
    Busy,
    /// What came is not QMP.
    Protocol,
    /// QEMU refused the command.
    Rejected,
    /// No reply in time; the command may still be executed.
    TimedOut,
    /// The connection closed with the command in flight.
    Disconnected,
    /// A message is longer than the limit.
    TooLarge,
}

/// An error of a QMP client.
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

    /// QEMU's refusal of `command`: it had no effect.
    pub fn rejected(command: &str, class: impl Into<String>, desc: &str) -> Self {
        Self {
            kind: Kind::Rejected,
            effect: Effect::None,
            message: format!("{command}: {desc}"),
            class: Some(class.into()),
            source: None,
        }
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

    /// Whether this failure to connect to `socket` says that the socket is not there, or is left over from a QEMU that has
    /// ended. A file that is no socket refuses connections too, and says nothing of QEMU; so the file is looked at.
    pub fn no_listener(&self, socket: &Path) -> bool {
        let kind = self.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
        match kind {
            Some(io::ErrorKind::NotFound) => true,
            Some(io::ErrorKind::ConnectionRefused) => {
                socket.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
            }
            _ => false,
        }
    }

    /// QEMU's error class of a [`Kind::Rejected`]: `GenericError`, `CommandNotFound`, `DeviceNotFound`, ...
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }
}
