//! Between libxl's structs and the model.

use std::collections::BTreeSet;

use super::{DiskName, DiskSnapshot, ImageFormat, Kind, NameError, Snapshot, SnapshotName, StateFlags};
use crate::libxl::{self, DiskFormat};

/// Why one of libxl's structs is no [`Snapshot`], or the other way round.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The snapshot's name.
    #[error("the snapshot's name is not valid")]
    Name(#[source] NameError),
    /// The `device` of a disk.
    #[error("the device of disk {index} is not valid")]
    Device {
        /// Which element of `disks`, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// Two elements of `disks` have the same `device`.
    #[error("the disk {disk} is listed twice")]
    DuplicateDisk {
        /// Which.
        disk: DiskName,
    },
    /// The `name` of a disk's snapshot.
    #[error("the snapshot's name in the disk {disk} {problem}")]
    Tag {
        /// Which disk.
        disk: DiskName,
        /// What is wrong with it, as the end of a sentence.
        problem: &'static str,
    },
    /// The `format` of an external snapshot, which says how its file is read.
    #[error("the external snapshot of the disk {disk} has the format {format}, which is none of an overlay")]
    Format {
        /// Which disk.
        disk: DiskName,
        /// libxl's name for the format.
        format: DiskFormat,
    },
    /// A format that libxl has no value for.
    #[error("the external snapshot of the disk {disk} has the format {format}, which libxl-json cannot hold")]
    NoSuchFormat {
        /// Which disk.
        disk: DiskName,
        /// QEMU's name for the format.
        format: ImageFormat,
    },
}

/// The most bytes that a snapshot's name has in an image (QEMU's `QEMUSnapshotInfo` has 256 with the end mark).
const LONGEST_TAG: usize = 255;

impl From<&libxl::DomainSnapshot> for StateFlags {
    fn from(from: &libxl::DomainSnapshot) -> Self {
        Self {
            running: from.running,
            blocked: from.blocked,
            paused: from.paused,
            shutdown: from.shutdown,
            dying: from.dying,
        }
    }
}

impl TryFrom<&libxl::DomainSnapshot> for Snapshot {
    type Error = ConvertError;

    /// Checks every string. A NULL and an empty string mean the same: no description, a disk-only snapshot, an internal
    /// snapshot of a disk. A disk's snapshot without a name has that of the domain's (the design: "usually it is
    /// inherited"). `format` of an internal snapshot is ignored, and so is `path`.
    fn try_from(from: &libxl::DomainSnapshot) -> Result<Self, ConvertError> {
        let name = SnapshotName::new(text(&from.name)).map_err(ConvertError::Name)?;
        let mut seen = BTreeSet::new();
        let mut disks = Vec::with_capacity(from.disks.len());
        for (index, disk) in from.disks.iter().enumerate() {
            let disk = check_disk(disk, index, &name)?;
            if !seen.insert(disk.disk.clone()) {
                return Err(ConvertError::DuplicateDisk { disk: disk.disk });
            }
            disks.push(disk);
        }
        Ok(Self {
            name,
            description: text(&from.description).to_owned(),
            creation_time: from.creation_time,
            memory: from.memory.clone().filter(|file| !file.is_empty()),
            state: from.into(),
            disks,
        })
    }
}

fn check_disk(
    from: &libxl::DiskSnapshot,
    index: usize,
    snapshot: &SnapshotName,
) -> Result<DiskSnapshot, ConvertError> {
    let disk = DiskName::new(text(&from.device)).map_err(|source| ConvertError::Device { index, source })?;
    let tag = match text(&from.name) {
        "" => snapshot.as_str(),
        tag => tag,
    };
    if tag.len() > LONGEST_TAG {
        return Err(ConvertError::Tag { disk, problem: "has more than 255 bytes" });
    }
    if tag.chars().any(char::is_control) {
        return Err(ConvertError::Tag { disk, problem: "contains a control character" });
    }
    let kind = match text(&from.file) {
        "" => Kind::Internal,
        file => match ImageFormat::from_libxl(from.format) {
            Some(format) => Kind::External { file: file.to_owned(), format },
            None => return Err(ConvertError::Format { disk, format: from.format }),
        },
    };
    Ok(DiskSnapshot { disk, tag: tag.to_owned(), kind })
}

fn text(string: &Option<String>) -> &str {
    string.as_deref().unwrap_or_default()
}

impl TryFrom<&Snapshot> for libxl::DomainSnapshot {
    type Error = ConvertError;

    /// No string is NULL, as the design wants it of what is stored: an empty item is `""`.
    fn try_from(from: &Snapshot) -> Result<Self, ConvertError> {
        Ok(Self {
            name: Some(from.name.to_string()),
            description: Some(from.description.clone()),
            creation_time: from.creation_time,
            memory: Some(from.memory.clone().unwrap_or_default()),
            running: from.state.running,
            blocked: from.state.blocked,
            paused: from.state.paused,
            shutdown: from.state.shutdown,
            dying: from.state.dying,
            disks: from.disks.iter().map(libxl::DiskSnapshot::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<&DiskSnapshot> for libxl::DiskSnapshot {
    type Error = ConvertError;

    /// No string is NULL; `path` is empty.
    fn try_from(from: &DiskSnapshot) -> Result<Self, ConvertError> {
        let (file, format) = match &from.kind {
            Kind::Internal => (String::new(), DiskFormat::Unknown),
            Kind::External { file, format } => {
                let as_libxl = format.to_libxl().ok_or_else(|| ConvertError::NoSuchFormat {
                    disk: from.disk.clone(),
                    format: format.clone(),
                })?;
                (file.clone(), as_libxl)
            }
        };
        Ok(Self {
            device: Some(from.disk.to_string()),
            name: Some(from.tag.clone()),
            file: Some(file),
            format,
            path: Some(String::new()),
        })
    }
}

impl ImageFormat {
    /// libxl's value for it; `None` for a format that libxl has none for.
    pub fn to_libxl(&self) -> Option<DiskFormat> {
        match self {
            Self::Qcow2 => Some(DiskFormat::Qcow2),
            Self::Raw => Some(DiskFormat::Raw),
            Self::Qcow => Some(DiskFormat::Qcow),
            Self::Qed => Some(DiskFormat::Qed),
            Self::Vpc => Some(DiskFormat::Vhd),
            Self::Other(_) => None,
        }
    }

    /// The format for libxl's value; `None` for `unknown` and `empty`, which are formats of no file.
    pub fn from_libxl(format: DiskFormat) -> Option<Self> {
        match format {
            DiskFormat::Qcow2 => Some(Self::Qcow2),
            DiskFormat::Raw => Some(Self::Raw),
            DiskFormat::Qcow => Some(Self::Qcow),
            DiskFormat::Qed => Some(Self::Qed),
            DiskFormat::Vhd => Some(Self::Vpc),
            DiskFormat::Unknown | DiskFormat::Empty => None,
        }
    }
}

impl libxl::DomainSnapshot {
    /// Makes `path` of every disk empty, as the design wants it before storing, "to hide this from users".
    pub fn hide_paths(&mut self) {
        for disk in &mut self.disks {
            disk.path = Some(String::new());
        }
    }
}
