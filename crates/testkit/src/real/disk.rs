//! A disk as a fixture is told of it.

use std::path::{Path, PathBuf};

/// A disk that a fixture attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name: the node name, the drive's or device's id, and the export's name.
    pub name: String,
    /// Its image; `None` for an empty CD-ROM drive.
    pub file: Option<PathBuf>,
    /// QEMU's driver for the image.
    pub format: String,
    /// Whether it is attached read-only.
    pub read_only: bool,
    /// Whether it is a CD-ROM drive. A storage daemon has none.
    pub cdrom: bool,
}

impl Disk {
    /// A writable qcow2 disk.
    pub fn qcow2(name: &str, file: &Path) -> Self {
        Self {
            name: name.into(),
            file: Some(file.into()),
            format: "qcow2".into(),
            read_only: false,
            cdrom: false,
        }
    }

    /// A writable raw disk.
    pub fn raw(name: &str, file: &Path) -> Self {
        Self { format: "raw".into(), ..Self::qcow2(name, file) }
    }

    /// A CD-ROM drive with a raw image in it.
    pub fn cdrom(name: &str, file: &Path) -> Self {
        Self { cdrom: true, read_only: true, ..Self::raw(name, file) }
    }

    /// A CD-ROM drive with nothing in it.
    pub fn empty_cdrom(name: &str) -> Self {
        Self { file: None, ..Self::cdrom(name, Path::new("")) }
    }

    /// The same, attached read-only.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// The value of `-blockdev`: the format node and its file node.
    pub(super) fn blockdev(&self) -> Option<String> {
        let file = self.file.as_ref()?.display();
        let read_only = if self.read_only { "on" } else { "off" };
        Some(format!(
            "driver={},node-name={},read-only={read_only},file.driver=file,file.filename={file}",
            self.format, self.name
        ))
    }
}
