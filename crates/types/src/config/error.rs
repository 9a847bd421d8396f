//! What is wrong with a configuration file, and where.

use std::fmt;

use crate::model::NameError;
use crate::text::{excerpt, position};

/// What is wrong with a configuration file, and where. Parsing has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The line, from 1.
    pub line: usize,
    /// The character within the line, from 1.
    pub column: usize,
    /// The text that is wrong, or its start when it is long; empty where nothing stands.
    pub text: String,
    /// What is wrong with it.
    pub reason: ConfigReason,
}

/// What is wrong at one place of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigReason {
    /// The file is longer than is read.
    #[error("the file has more than {most} bytes")]
    TooLong {
        /// The most bytes that are read.
        most: usize,
    },
    /// The bytes are not UTF-8.
    #[error("the byte 0x{byte:02x} is not UTF-8 here")]
    NotUtf8 {
        /// The first byte that is wrong.
        byte: u8,
    },
    /// The syntax wants something else here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A key that is not known.
    #[error("not a key; known are {known}")]
    UnknownKey {
        /// The keys that may stand there.
        known: &'static str,
    },
    /// A key, or a disk, that stands twice.
    #[error("stands twice")]
    Twice,
    /// A name that breaks a rule.
    #[error("{0}")]
    Name(NameError),
    /// A value that is none of those that the key takes.
    #[error("not a value of {key}, which is {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// A part of a disk that must be there.
    #[error("the disk has no {key}; {hint}")]
    Missing {
        /// The key that is missing.
        key: &'static str,
        /// What to write.
        hint: &'static str,
    },
    /// Two settings that exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.text.is_empty() {
            write!(f, "{:?}: ", self.text)?;
        }
        write!(f, "{}", self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// An error while parsing, at a part of the file.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) text: String,
    pub(super) reason: ConfigReason,
}

impl Fault {
    pub(super) fn new(at: usize, text: &str, reason: ConfigReason) -> Self {
        Self { at, text: excerpt(text), reason }
    }

    pub(super) fn locate(self, file: &[u8]) -> ConfigError {
        let (line, column) = position(file, self.at);
        ConfigError { line, column, text: self.text, reason: self.reason }
    }
}
