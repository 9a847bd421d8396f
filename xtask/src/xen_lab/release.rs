//! What a lab can be of.

use std::fmt;

use clap::ValueEnum;

/// A release of Xen, as a release of Debian has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Release {
    /// Debian 12's.
    #[value(name = "4.17")]
    V4_17,
    /// Debian 13's.
    #[value(name = "4.20")]
    V4_20,
}

impl Release {
    /// All that there are.
    pub const ALL: [Self; 2] = [Self::V4_17, Self::V4_20];

    /// The Debian that dom0 is.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::V4_17 => "Debian 12",
            Self::V4_20 => "Debian 13",
        }
    }
}

/// As `ci/xen-lab/build` and the command line name it.
impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4_17 => "4.17",
            Self::V4_20 => "4.20",
        })
    }
}
