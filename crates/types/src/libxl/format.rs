//! `libxl_disk_format`.

use std::fmt;
use std::str::FromStr;

/// `libxl_disk_format`, with libxl's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
#[repr(i32)]
pub enum DiskFormat {
    /// `LIBXL_DISK_FORMAT_UNKNOWN`: never written; what an internal snapshot has.
    #[default]
    Unknown = 0,
    /// QEMU's qcow (version 1).
    Qcow = 1,
    /// QEMU's qcow2.
    Qcow2 = 2,
    /// Microsoft's VHD.
    Vhd = 3,
    /// Plain bytes.
    Raw = 4,
    /// An empty drive.
    Empty = 5,
    /// QEMU's QED.
    Qed = 6,
}

/// A string that names no [`DiskFormat`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a disk format of libxl ({names})", names = DiskFormat::NAMES)]
pub struct UnknownFormat(pub String);

impl DiskFormat {
    /// Every format, in the order of libxl's values.
    pub const ALL: [Self; 7] =
        [Self::Unknown, Self::Qcow, Self::Qcow2, Self::Vhd, Self::Raw, Self::Empty, Self::Qed];
    const NAMES: &str = "unknown, qcow, qcow2, vhd, raw, empty or qed";

    /// libxl's name, as it stands in libxl-json.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Qcow => "qcow",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Raw => "raw",
            Self::Empty => "empty",
            Self::Qed => "qed",
        }
    }

    /// libxl's number.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The format with libxl's number; `None` for a number that libxl does not define.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// As `libxl_disk_format_from_string`: ASCII letters match in either case.
impl FromStr for DiskFormat {
    type Err = UnknownFormat;
    fn from_str(s: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| UnknownFormat(s.to_owned()))
    }
}
