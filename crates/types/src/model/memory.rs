//! What is known of a guest's saved memory.

use serde::{Deserialize, Serialize};

/// How a guest's memory is saved. Each stops the guest for another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MemoryWay {
    /// The guest stops until its writes are tracked, and runs on while its memory, as it was then, is saved.
    Background,
    /// The memory is saved while the guest runs; it stops for what is left at the end.
    Switchover,
    /// The guest stops until all of its memory is saved.
    Stopped,
    /// By the toolstack's own command (`xl save`); the guest stops until all of its memory is saved.
    Toolstack,
    /// Inside the disks' images, together with their internal snapshots; the guest stops for all of it.
    Internal,
    /// In a file that was found: how the guest was stopped for it is not known.
    Unknown,
}

impl MemoryWay {
    /// The word for it, as it is stored and given on a command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Switchover => "switchover",
            Self::Stopped => "stopped",
            Self::Toolstack => "toolstack",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        }
    }
}

/// How a memory file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Compression {
    /// As it came from the hypervisor.
    #[default]
    None,
    /// One zstd frame (RFC 8878).
    Zstd,
}

/// What is known of a snapshot's memory beyond libxl's struct.
///
/// In JSON it is flat: `way`, `file`, `bytes`, `checksum`, `compression`. A file is named in every way but `internal`; what
/// contradicts that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Flat", into = "Flat")]
pub struct MemoryMeta {
    /// Where it is.
    pub place: SavedIn,
    /// The file's size in bytes; inside an image, the size of the machine's state there.
    pub bytes: u64,
}

/// Where a guest's memory was saved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SavedIn {
    /// Inside the disks' images.
    Inside,
    /// In a file.
    File {
        /// The file, which we made and so may unlink.
        file: String,
        /// How it was saved; never [`MemoryWay::Internal`].
        way: MemoryWay,
        /// The file's checksum: the algorithm, a colon, hexadecimal digits.
        checksum: Option<String>,
        /// How the file is packed.
        compression: Compression,
    },
}

impl MemoryMeta {
    /// How it was saved.
    pub fn way(&self) -> MemoryWay {
        match &self.place {
            SavedIn::Inside => MemoryWay::Internal,
            SavedIn::File { way, .. } => *way,
        }
    }

    /// The file; `None` inside the images.
    pub fn file(&self) -> Option<&str> {
        match &self.place {
            SavedIn::Inside => None,
            SavedIn::File { file, .. } => Some(file),
        }
    }

    /// The same memory in a file of another name; inside the images it has none.
    #[must_use]
    pub fn renamed(&self, to: &str) -> Self {
        let mut renamed = self.clone();
        if let SavedIn::File { file, .. } = &mut renamed.place {
            to.clone_into(file);
        }
        renamed
    }
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Flat {
    way: MemoryWay,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(default)]
    compression: Compression,
}

impl TryFrom<Flat> for MemoryMeta {
    type Error = String;

    fn try_from(flat: Flat) -> Result<Self, String> {
        let Flat { way, file, bytes, checksum, compression } = flat;
        let place = match (way, file) {
            (MemoryWay::Internal, None) if checksum.is_some() || compression != Compression::None => {
                return Err("the memory is inside the images, and has a checksum or a compression of a file"
                    .to_owned());
            }
            (MemoryWay::Internal, None) => SavedIn::Inside,
            (MemoryWay::Internal, Some(file)) => {
                return Err(format!("the memory is inside the images, and in the file {file:?}"));
            }
            (way, Some(file)) => SavedIn::File { file, way, checksum, compression },
            (way, None) => {
                return Err(format!("the memory is saved in the way {}, and in no file", way.word()));
            }
        };
        Ok(Self { place, bytes })
    }
}

impl From<MemoryMeta> for Flat {
    fn from(MemoryMeta { place, bytes }: MemoryMeta) -> Self {
        match place {
            SavedIn::Inside => Self {
                way: MemoryWay::Internal,
                file: None,
                bytes,
                checksum: None,
                compression: Compression::None,
            },
            SavedIn::File { file, way, checksum, compression } => {
                Self { way, file: Some(file), bytes, checksum, compression }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_stored_flat_and_read_back() {
        let in_file = |checksum: Option<&str>, compression| SavedIn::File {
            file: "/saves/s.save".to_owned(),
            way: MemoryWay::Background,
            checksum: checksum.map(str::to_owned),
            compression,
        };
        for (place, stored) in [
            (SavedIn::Inside, r#"{"way":"internal","bytes":7,"compression":"none"}"#),
            (
                in_file(Some("xxh3-128:99"), Compression::Zstd),
                r#"{"way":"background","file":"/saves/s.save","bytes":7,"checksum":"xxh3-128:99","compression":"zstd"}"#,
            ),
            (
                in_file(None, Compression::None),
                r#"{"way":"background","file":"/saves/s.save","bytes":7,"compression":"none"}"#,
            ),
        ] {
            let meta = MemoryMeta { place, bytes: 7 };
            assert_eq!(serde_json::to_string(&meta).unwrap(), stored);
            assert_eq!(serde_json::from_str::<MemoryMeta>(stored).unwrap(), meta);
        }
        let short = json!({ "way": "internal", "bytes": 7 });
        assert_eq!(serde_json::from_value::<MemoryMeta>(short).unwrap().place, SavedIn::Inside);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (stored, words) in [
            (json!({ "way": "internal", "file": "/saves/s.save", "bytes": 7 }), "/saves/s.save"),
            (json!({ "way": "stopped", "bytes": 7 }), "stopped, and in no file"),
            (json!({ "way": "internal", "bytes": 7, "compression": "zstd" }), "compression of a file"),
        ] {
            let error = serde_json::from_value::<MemoryMeta>(stored).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
