//! One disk's part in a snapshot.

use serde::{Deserialize, Serialize};

use super::DiskName;

/// The format of an image file, by QEMU's driver name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ImageFormat {
    /// QEMU's qcow2: the only one that takes internal snapshots.
    Qcow2,
    /// Plain bytes.
    Raw,
    /// QEMU's qcow, version 1.
    Qcow,
    /// QEMU's QED.
    Qed,
    /// Microsoft's VHD (`vpc` in QEMU).
    Vpc,
    /// Any other driver, by QEMU's name for it.
    #[serde(untagged)]
    Other(String),
}

impl ImageFormat {
    /// The format that QEMU's block driver `name` is for.
    pub fn from_driver(name: &str) -> Self {
        match name {
            "qcow2" => Self::Qcow2,
            "raw" => Self::Raw,
            "qcow" => Self::Qcow,
            "qed" => Self::Qed,
            "vpc" => Self::Vpc,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The name of QEMU's block driver for it.
    pub fn driver(&self) -> &str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Qcow => "qcow",
            Self::Qed => "qed",
            Self::Vpc => "vpc",
            Self::Other(name) => name,
        }
    }
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.driver())
    }
}

/// Where a disk's snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Inside the image.
    Internal,
    /// The image was left as it is, and `file` takes the writes since.
    External {
        /// The overlay's file.
        file: String,
        /// The overlay's format.
        format: ImageFormat,
    },
}

/// One disk's part in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DiskSnapshot {
    /// Which disk.
    pub disk: DiskName,
    /// The snapshot's name in the image; the domain snapshot's name unless another program made it.
    pub tag: String,
    /// Internal or external.
    pub kind: Kind,
}
