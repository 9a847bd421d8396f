//! Reading and writing again by a type that is known only at run time.

use std::fmt;
use std::str::FromStr;

use super::{DiskSnapshot, DomainSnapshot, JsonError, Mode};

/// Which of the two structs a text holds; libxl-json does not say it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StructType {
    /// [`DomainSnapshot`].
    #[default]
    DomainSnapshot,
    /// [`DiskSnapshot`].
    DiskSnapshot,
}

/// A string that names no [`StructType`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a type of libxl-json that is known here (domain-snapshot or disk-snapshot)")]
pub struct UnknownStructType(pub String);

impl fmt::Display for StructType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DomainSnapshot => "domain-snapshot",
            Self::DiskSnapshot => "disk-snapshot",
        })
    }
}

/// `domain-snapshot` and `disk-snapshot`; C's names, with `_`, too.
impl FromStr for StructType {
    type Err = UnknownStructType;
    fn from_str(s: &str) -> Result<Self, UnknownStructType> {
        match s {
            "domain-snapshot" | "domain_snapshot" => Ok(Self::DomainSnapshot),
            "disk-snapshot" | "disk_snapshot" => Ok(Self::DiskSnapshot),
            _ => Err(UnknownStructType(s.to_owned())),
        }
    }
}

/// Reads `json` as `of` and writes it in the canonical form.
///
/// # Errors
/// [`JsonError`] of `from_json`.
pub fn normalise(json: &[u8], of: StructType, mode: Mode) -> Result<String, JsonError> {
    match of {
        StructType::DomainSnapshot => Ok(DomainSnapshot::from_json(json, mode)?.to_json()),
        StructType::DiskSnapshot => Ok(DiskSnapshot::from_json(json, mode)?.to_json()),
    }
}

/// `file` without the one NUL byte that libxl writes at the end of its userdata files.
///
/// A NUL is not JSON, and `from_json` refuses it; a reader of files of libxl's calls this first.
pub fn without_terminator(file: &[u8]) -> &[u8] {
    file.strip_suffix(b"\0").unwrap_or(file)
}
