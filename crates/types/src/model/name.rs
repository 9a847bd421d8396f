//! Names that were checked once and need no check again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a string is not a name of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing at all.
    #[error("the {what} is empty; give it 1 to {max} bytes")]
    Empty {
        /// Which kind of name.
        what: &'static str,
        /// The most bytes it may have.
        max: usize,
    },
    /// More bytes than the kind allows.
    #[error("the {what} has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its bytes.
        len: usize,
        /// The most bytes it may have.
        max: usize,
    },
    /// A character, or a place for one, that the kind does not allow.
    #[error("the {what} {name:?} {problem}")]
    Forbidden {
        /// Which kind of name.
        what: &'static str,
        /// The name as given.
        name: String,
        /// What is wrong with it and what is allowed, as the end of a sentence.
        problem: &'static str,
    },
}

fn check_file_name(what: &'static str, max: usize, name: &str) -> Result<(), NameError> {
    let forbidden = |problem| Err(NameError::Forbidden { what, name: name.to_owned(), problem });
    if name.is_empty() {
        return Err(NameError::Empty { what, max });
    }
    if name.len() > max {
        return Err(NameError::TooLong { what, len: name.len(), max });
    }
    if name.contains('/') {
        return forbidden("contains '/', and it becomes part of a file name");
    }
    if name.chars().any(char::is_control) {
        return forbidden("contains a control character");
    }
    if name == "." || name == ".." {
        return forbidden("is the name of a directory");
    }
    if name.starts_with('-') {
        return forbidden("starts with '-', which reads as an option");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `name` and wraps it.
            ///
            /// # Errors
            /// [`NameError`] says which rule it breaks.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(&name)?;
                Ok(Self(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The name of a snapshot, unique in its domain: also the name of the internal snapshot in every image, and part
    /// of a file name. 1 to 200 bytes of UTF-8, no `/`, no control characters, not `.` or `..`, no leading `-`.
    SnapshotName, |name| check_file_name("snapshot name", 200, name)
}

name! {
    /// The name of a domain that a file describes (`domains/<name>.toml`). The same rules as [`SnapshotName`], and no
    /// leading `.`.
    DomainName, |name| {
        check_file_name("domain name", 200, name)?;
        if name.starts_with('.') {
            return Err(NameError::Forbidden {
                what: "domain name",
                name: name.to_owned(),
                problem: "starts with '.', which hides its file",
            });
        }
        Ok(())
    }
}

name! {
    /// What a person calls a disk of a domain: a vdev on Xen (`xvda`), any short word elsewhere (`vda`, `nvram`).
    /// 1 to 64 bytes of ASCII letters, digits, `.`, `_` and `-`, starting with a letter or a digit.
    DiskName, |name| {
        const WHAT: &str = "disk name";
        check_file_name(WHAT, 64, name)?;
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(word) {
            return Err(NameError::Forbidden {
                what: WHAT,
                name: name.to_owned(),
                problem: "is not one word of ASCII letters, digits, '.', '_' and '-' that starts with a letter or digit",
            });
        }
        Ok(())
    }
}

impl SnapshotName {
    /// The default name: `epoch_seconds`, or that with `-2`, `-3`, ... appended, whichever is first not `taken`.
    pub fn from_time(epoch_seconds: u64, taken: impl Fn(&SnapshotName) -> bool) -> Self {
        let plain = Self(epoch_seconds.to_string());
        if !taken(&plain) {
            return plain;
        }
        (2u64..)
            .map(|n| Self(format!("{epoch_seconds}-{n}")))
            .find(|name| !taken(name))
            .expect("fewer than 2^64 names are taken")
    }
}
