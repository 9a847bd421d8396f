//! Why a text was not read.

use std::fmt;

use crate::text::{excerpt, position};

/// Why and where a text was not read. It changes nothing: reading has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JsonError {
    /// The line, from 1.
    pub line: usize,
    /// The character within the line, from 1.
    pub column: usize,
    /// The keys that lead to the place, like `disks[2].format`; empty at the top.
    pub path: String,
    /// What is wrong there.
    pub reason: JsonReason,
}

/// What is wrong at one place of a text. Quoted parts of the text are cut to a few dozen characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonReason {
    /// The grammar of JSON (RFC 8259) wants something else here.
    #[error("expected {expected}, found {found}")]
    Syntax {
        /// What the grammar wants.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// The bytes are not UTF-8.
    #[error("the text is not UTF-8 here")]
    NotUtf8,
    /// A `\uXXXX` escape is half of a surrogate pair, so it is no character.
    #[error("a \\u escape is half of a surrogate pair without the other half")]
    HalfSurrogate,
    /// `\u0000` in a key or a string that is used; a C string ends there, and libxl would cut it.
    #[error("contains \\u0000, where a C string would be cut")]
    Nul,
    /// Another type of JSON than the key's.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What the key holds.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A key that stands twice in its object (strict mode).
    #[error("the key stands twice in this object")]
    Duplicate,
    /// A key that stands twice in its object, with values that read differently (libxl mode).
    #[error("the key stands twice in this object, with different values")]
    Conflict,
    /// A string that names no disk format.
    #[error("{0:?} is not a disk format; known are unknown, qcow, qcow2, vhd, raw, empty and qed")]
    UnknownFormat(String),
    /// A time before 1970.
    #[error("{0} is negative; a time is whole seconds since 1970")]
    NegativeTime(String),
    /// A time with a fraction or an exponent.
    #[error("{0} is not written as a whole number; a time is whole seconds since 1970")]
    FractionalTime(String),
    /// A time that 64 bits cannot hold.
    #[error("{0} is more than 18446744073709551615, the last second that the format can hold")]
    TimeTooLarge(String),
}

/// The kinds of [`JsonReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// Not JSON, or not UTF-8.
    NotJson,
    /// JSON of another shape than the struct.
    WrongType,
    /// A key that stands twice.
    Duplicate,
    /// A value of the right type that the struct cannot hold as it stands.
    Value,
}

impl JsonError {
    /// The kind of the reason.
    pub fn kind(&self) -> JsonErrorKind {
        match self.reason {
            JsonReason::Syntax { .. } | JsonReason::NotUtf8 => JsonErrorKind::NotJson,
            JsonReason::WrongType { .. } => JsonErrorKind::WrongType,
            JsonReason::Duplicate | JsonReason::Conflict => JsonErrorKind::Duplicate,
            _ => JsonErrorKind::Value,
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.reason)
    }
}

impl std::error::Error for JsonError {}

/// An error while reading: the offset is turned into a line and the steps into a path once, at the top.
#[derive(Debug)]
pub(super) struct Fault(Box<FaultParts>);

#[derive(Debug)]
struct FaultParts {
    at: usize,
    reason: JsonReason,
    /// Innermost first.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Fault {
    pub(super) fn new(at: usize, reason: JsonReason) -> Self {
        Self(Box::new(FaultParts { at, reason, steps: Vec::new() }))
    }

    pub(super) fn in_key(mut self, key: &str) -> Self {
        self.0.steps.push(Step::Key(excerpt(key)));
        self
    }

    pub(super) fn in_element(mut self, index: usize) -> Self {
        self.0.steps.push(Step::Index(index));
        self
    }

    pub(super) fn locate(self, text: &[u8]) -> JsonError {
        let (line, column) = position(text, self.0.at);
        let mut path = String::new();
        for step in self.0.steps.iter().rev() {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Key(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    if !key.is_empty() && key.chars().all(word) {
                        path.push_str(key);
                    } else {
                        path.push_str(&format!("{key:?}"));
                    }
                }
            }
        }
        JsonError { line, column, path, reason: self.0.reason }
    }
}
