//! The trait, and what goes through it.

use std::num::NonZeroU64;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::Error;

/// An image file with its format given, so that neither its name nor its content is guessed at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// QEMU's driver: `qcow2`, `raw`, ...
    pub format: String,
    /// The file whose whole content, to the last byte, is the passphrase of an encrypted image. Only qemu-img reads it.
    pub key_file: Option<PathBuf>,
}

impl Image {
    /// The image at `path`, without a key.
    pub fn new(path: impl Into<PathBuf>, format: impl Into<String>) -> Self {
        Self { path: path.into(), format: format.into(), key_file: None }
    }

    /// The same with the file that holds its passphrase, if there is one. An image that is not encrypted leaves it unread.
    #[must_use]
    pub fn with_key_file(self, key_file: Option<PathBuf>) -> Self {
        Self { key_file, ..self }
    }
}

/// A snapshot inside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalSnapshot {
    /// QEMU's id: a small number as text, reused after a delete.
    pub id: String,
    /// Its name; qemu-img allows it to be empty or doubled.
    pub name: String,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub date: u64,
    /// The bytes of machine state in it; 0 for a disk-only one.
    pub vm_state_size: u64,
}

/// Which snapshot is meant: both must match where both are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRef {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Option<String>,
}

/// The backing file that an image's header names; untrusted, and not opened by this crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingFile {
    /// As the header has it, maybe relative.
    pub name: String,
    /// Its format, when the header says it.
    pub format: Option<String>,
}

/// What an image's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// QEMU's driver.
    pub format: String,
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
    /// The bytes that it takes on disk.
    pub actual_size: u64,
    /// Its backing file, if any.
    pub backing: Option<BackingFile>,
    /// Whether guest data lies in another file, which rules internal snapshots out.
    pub external_data_file: bool,
    /// Whether it is marked as damaged.
    pub corrupt: bool,
    /// Whether its data is encrypted: then all but [`QemuImg::info`] needs [`Image::key_file`].
    pub encrypted: bool,
    /// The names of the dirty bitmaps that are stored in it. While there are any, [`QemuImg::snapshot_apply`] fails.
    pub bitmaps: Vec<String>,
    /// Whether another process has it open for writing (QEMU's image lock; Xen's PV disks take none).
    pub in_use: bool,
    /// The snapshots inside it.
    pub snapshots: Vec<InternalSnapshot>,
}

/// What may be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Leaked clusters only: never loses data.
    Leaks,
    /// Everything.
    All,
}

/// What `qemu-img check` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Check {
    /// Clusters that are allocated but not referenced: space lost, no data lost.
    pub leaks: u64,
    /// Errors that endanger data.
    pub corruptions: u64,
    /// Errors of the check itself.
    pub check_errors: u64,
    /// Leaks that were repaired.
    pub leaks_fixed: u64,
    /// Corruptions that were repaired.
    pub corruptions_fixed: u64,
}

/// What a new image is made with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateOptions {
    /// Its size in bytes; `None` takes the backing file's.
    pub size: Option<u64>,
    /// Its backing file.
    pub backing: Option<Image>,
    /// Whether the backing file is left unopened (it may be in use); needs `size`.
    pub backing_unopened: bool,
}

/// Does what qemu-img does: this crate's runner, or a stand-in.
///
/// # Cancel safety
/// A future that only looks may be dropped. After dropping one that writes, the write may be done, not done, or still go on,
/// with the image in use meanwhile: [`QemuImg::info`] tells.
#[async_trait]
pub trait QemuImg: Send + Sync {
    /// Reads the header of `image` only, even while another process has it open. What was read of it before may be told again, if the
    /// file did not change since and no process of this host has locked it.
    async fn info(&self, image: &Image) -> Result<ImageInfo, Error>;

    /// The same, read now: another host may have locked the image and not changed it.
    async fn info_anew(&self, image: &Image) -> Result<ImageInfo, Error> {
        self.info(image).await
    }

    /// Makes a snapshot inside the image. A name that is there already is refused.
    async fn snapshot_create(&self, image: &Image, name: &str) -> Result<(), Error>;

    /// Makes the image's content that of the snapshot, by id.
    async fn snapshot_apply(&self, image: &Image, snapshot: &SnapshotRef) -> Result<(), Error>;

    /// Deletes the snapshot. One whose name another snapshot of the image has too is refused.
    async fn snapshot_delete(&self, image: &Image, snapshot: &SnapshotRef) -> Result<(), Error>;

    /// Removes a dirty bitmap that is stored in the image: what a backup program keeps from one backup to the next.
    async fn bitmap_remove(&self, image: &Image, name: &str) -> Result<(), Error>;

    /// Checks the image, and repairs what `repair` allows. [`crate::Kind::Unsupported`] for a format that has no checks.
    async fn check(&self, image: &Image, repair: Option<Repair>) -> Result<Check, Error>;

    /// Writes what `top` holds into `base`, the image right below it, which has the content of `top` afterwards; durably. `top`
    /// stays as it is and gives its content all the time, so it may be done again; a future that is dropped ends it half-way. `done` is told which part of it is
    /// done, from 0 to 1.
    ///
    /// # Errors
    /// [`crate::Kind::Ambiguous`] when the header of `top` does not name `base`; [`crate::Kind::Unsupported`] for an image that
    /// holds more than one disk's content: snapshots in `top` would lose what is below them unnoticed if `top` went, and stay
    /// behind in it. Also where `top` is smaller: `base` would show more than it.
    async fn commit(
        &self,
        top: &Image,
        base: &Image,
        rate: Option<NonZeroU64>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error>;

    /// Writes what a snapshot inside `image` holds into the image `to`, whole, durably; `image` may be open below another one. What
    /// `to` held is lost; a future that is dropped ends it half-way. `done` is told which part of it is done, from 0 to 1.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when there is no such snapshot; [`crate::Kind::Unsupported`] for an encrypted image, and for one
    /// whose chain ends in what is no local file.
    async fn copy_snapshot(
        &self,
        image: &Image,
        snapshot: &SnapshotRef,
        to: &Image,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error>;

    /// Writes the image `to` as a copy of `image` as it is, durably, with all the snapshots inside it and what they hold, but without its
    /// dirty bitmaps: what they say is true of `image` alone. A file system that can has both share their data. Both stand on the same image. `image` may be open below another one. What `to` held is lost; a
    /// future that is dropped ends it half-way. `done` is told which part of it is done, from 0 to 1.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] for an image that has its data in another file, and for one in another directory that stands on what is
    /// no local file of a known format.
    async fn copy(&self, image: &Image, to: &Image, done: &(dyn Fn(f64) + Send + Sync)) -> Result<(), Error>;

    /// Writes into `image` what is read through it from the images below it, down to `below`, on which it stands afterwards; without
    /// one it stands on nothing. Its content stays the same. All data is on the disk before the header changes, so that `image` is right
    /// whenever this ends, and it may be done again; a future that is dropped ends it half-way. `done` is told which part of it is done,
    /// from 0 to 1.
    ///
    /// # Errors
    /// [`crate::Kind::Ambiguous`] when `image` stands on nothing, or `below` is not under it; [`crate::Kind::Unsupported`] for an image
    /// that holds snapshots, which would lose what they read through it, one whose chain ends in what is no local file, and one that is not
    /// encrypted above one that is.
    async fn rebase(
        &self,
        image: &Image,
        below: Option<&Image>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error>;

    /// Makes the header of `image` name `base`, durably. Neither the old nor the new base is opened: the caller knows that both
    /// show the same. The name is relative to the image's directory if the old one is ([`crate::backing_name`]).
    async fn rebase_unsafe(&self, image: &Image, base: &Image) -> Result<(), Error>;

    /// Makes a new image; a file that is there is never overwritten.
    async fn create(&self, image: &Image, options: &CreateOptions) -> Result<(), Error>;
}
