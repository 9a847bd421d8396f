//! What the suite needs of a backend.

use async_trait::async_trait;
use xlsnap_orchestrator::{DomainRef, Ports};
use xlsnap_types::model::{DiskName, ImageFormat};

/// What a backend can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether something can run on the disks: [`Backend::start`] works.
    pub live: bool,
    /// Whether external snapshots can be made, running or not.
    pub external: bool,
    /// Whether the domain has a process that can be ended and started, and a guest whose memory can be saved.
    pub machine: bool,
}

/// What kind of disk a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// A writable qcow2 image.
    Qcow2,
    /// A writable raw image.
    Raw,
    /// A qcow2 image that the guest cannot write to.
    ReadOnly,
}

/// A disk that a case needs: of 1 MiB or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDisk {
    /// Its name.
    pub name: DiskName,
    /// Its kind.
    pub kind: DiskKind,
}

/// A domain with its backend, for one case. It begins off.
#[async_trait]
pub trait Backend: Send {
    /// What the backend can do.
    fn capabilities(&self) -> Capabilities;

    /// The ports that fit now: those of the running domain, or those of one that is off.
    fn ports(&self) -> Ports<'_>;

    /// The domain.
    fn domain(&self) -> DomainRef;

    /// Starts what runs on the disks, with the images that the domain's description names. Called only with
    /// [`Capabilities::live`] and while it is off.
    async fn start(&mut self);

    /// Ends it in order, so that no process has the images. Called only while it runs.
    async fn stop(&mut self);

    /// Fills the first 64 KiB of a disk with a byte, as a guest would: through whatever runs, or into the image that the
    /// description names.
    async fn write(&mut self, disk: &DiskName, pattern: u8);

    /// Reads the first 64 KiB of a disk the same way, and gives its byte.
    ///
    /// # Panics
    /// When they are not one byte throughout.
    async fn read(&mut self, disk: &DiskName) -> u8;

    /// Reads the first 64 KiB of an image beside all processes, or of a snapshot inside it, and gives its byte.
    ///
    /// # Panics
    /// When they are not one byte throughout.
    async fn read_layer(&mut self, file: &str, format: &ImageFormat, inside: Option<&str>) -> u8;

    /// Makes a snapshot in the disk's image as another program would (`qemu-img snapshot -c`). Called only while it is off.
    async fn foreign_snapshot(&mut self, disk: &DiskName, tag: &str);

    /// Deletes a snapshot from the disk's image as another program would. Called only while it is off.
    async fn foreign_deletion(&mut self, disk: &DiskName, tag: &str);

    /// Puts a file of a few bytes beside the disk's image, and gives its absolute name.
    async fn foreign_file(&mut self, disk: &DiskName) -> String;

    /// Puts a file of a few bytes where a memory file may be, and gives its absolute name. Called only with
    /// [`Capabilities::machine`].
    async fn foreign_memory_file(&mut self) -> String;

    /// Changes a byte in the middle of a memory file. Called only with [`Capabilities::machine`].
    async fn spoil(&mut self, file: &str);

    /// Stops the guest, as a user would. Called only with [`Capabilities::machine`] and while it runs.
    async fn pause(&mut self);

    /// An absolute file name beside the disk's image where nothing is, with this word in it.
    fn free_file(&self, disk: &DiskName, word: &str) -> String;
}
