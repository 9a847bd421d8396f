//! Names of files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a file, from the root directory on: it begins with `/`, does not end with one, has at most 4095 bytes
/// (`PATH_MAX` without its end) and no control character. Nothing is said of whether the file is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsoluteFile(String);

/// A text that is no [`AbsoluteFile`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an absolute file name")]
pub struct FileNameError(String);

impl AbsoluteFile {
    /// The most bytes of a name.
    pub const MAX_BYTES: usize = 4095;

    /// Checks a name.
    ///
    /// # Errors
    /// When it is relative, names a directory, is too long, or has control characters.
    pub fn new(name: impl Into<String>) -> Result<Self, FileNameError> {
        let name = name.into();
        let is_one = name.starts_with('/')
            && !name.ends_with('/')
            && name.len() <= Self::MAX_BYTES
            && !name.chars().any(char::is_control);
        if is_one { Ok(Self(name)) } else { Err(FileNameError(name)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AbsoluteFile {
    type Error = FileNameError;

    fn try_from(name: String) -> Result<Self, FileNameError> {
        Self::new(name)
    }
}

impl From<AbsoluteFile> for String {
    fn from(file: AbsoluteFile) -> Self {
        file.0
    }
}

impl AsRef<std::path::Path> for AbsoluteFile {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

impl fmt::Display for AbsoluteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::AbsoluteFile;

    #[test]
    fn only_absolute_names_of_files() {
        for good in ["/a", "/srv/vm/web.qcow2", "/a b/ü"] {
            assert_eq!(AbsoluteFile::new(good).unwrap().as_str(), good);
        }
        let long = format!("/{}", "a".repeat(AbsoluteFile::MAX_BYTES));
        for bad in ["", "/", "a", "./a", "/a/", "/a\nb", "/a\0", &long] {
            assert!(AbsoluteFile::new(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<AbsoluteFile>(bad.into()).is_err(), "{bad:?}");
        }
    }
}
