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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemoryMeta {
    /// How it was saved.
    pub way: MemoryWay,
    /// The file, which we made and so may unlink; `None` when it is inside the disks' images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The file's size in bytes; inside an image, the size of the machine's state there.
    pub bytes: u64,
    /// The file's checksum: the algorithm, a colon, hexadecimal digits. `None` inside an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// How the file is packed.
    #[serde(default)]
    pub compression: Compression,
}
