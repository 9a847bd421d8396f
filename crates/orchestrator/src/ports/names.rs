//! The names of image files: a new file takes the name by which scripts, configurations and other programs know a disk's image.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use xlsnap_types::model::DiskName;

use super::LayerFile;
use crate::{Can, PortError};

/// Two files that exchange their names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NameSwap {
    /// The file that the disk writes to, under the name that is kept.
    pub old: LayerFile,
    /// The new file, under the name that `old` gets. It takes the disk's writes from then on.
    pub new: LayerFile,
    /// Whether the header of `new` names `old`.
    pub stands_on_old: bool,
    /// A word that no other operation has, at most 24 ASCII letters and digits: a third name is made of it.
    pub token: String,
}

impl NameSwap {
    /// The name that is kept.
    pub fn kept(&self) -> &str {
        &self.old.file
    }

    /// The old file under its new name.
    pub fn moved(&self) -> LayerFile {
        LayerFile { file: self.new.file.clone(), ..self.old.clone() }
    }

    /// The new file under the name that is kept.
    pub fn top(&self) -> LayerFile {
        LayerFile { file: self.old.file.clone(), ..self.new.clone() }
    }
}

/// Naming image files otherwise.
///
/// A file that a process has open is never renamed: QEMU opens a base by its name again, and would read itself. No step of an exchange
/// leaves the kept name without a file, and none leaves a file under a name that its own header has.
///
/// # Cancel safety
/// As [`crate::Layers`]: each of these is met again in whatever state it was left, forward and back.
#[async_trait]
pub trait Names: Send + Sync {
    /// Whether the file can get another name: not a link, not one of several names, not a block device.
    async fn movable(&self, file: &str) -> Result<Can, PortError>;

    /// Makes `new` ready to take the name, as far as that can be while a process writes to `old`. Again is no error.
    /// [`Names::swap_names_back`] undoes it.
    async fn ready_names(&self, names: &NameSwap) -> Result<(), PortError>;

    /// Gives `new` the name of `old`, and `old` that of `new`, durably. Again is no error.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::Busy`] while a process has one of them open; [`crate::PortErrorKind::Refused`] when a file is not the
    /// one that was planned, and where the file system can neither link nor exchange.
    async fn swap_names(&self, names: &NameSwap) -> Result<(), PortError>;

    /// Undoes that: `old` and `new` have the names that they were planned with. Again is no error.
    ///
    /// # Errors
    /// As [`Names::swap_names`].
    async fn swap_names_back(&self, names: &NameSwap) -> Result<(), PortError>;

    /// Gives a file the name of another one, which is gone with that, durably. Again is no error.
    ///
    /// # Errors
    /// As [`Names::swap_names`].
    async fn rename(&self, file: &LayerFile, over: &LayerFile) -> Result<(), PortError>;

    /// Makes the process that has the disk open close its image, while its guest stands still: the device gets an empty stand-in,
    /// until [`crate::Layers::swap`] gives it an image. Again is no error. After an error the device has its image, unless the effect
    /// is not known.
    ///
    /// # Errors
    /// [`crate::PortErrorKind::Refused`] where the device cannot be given another image; [`crate::PortErrorKind::Busy`] when
    /// something else in the process uses the image.
    async fn detach(&self, disk: &DiskName) -> Result<(), PortError>;
}
