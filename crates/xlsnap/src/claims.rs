//! Which file is named by which domain: as the image of a disk, as a layer below one, as the place of a snapshot.
//!
//! An image belongs to one disk. A file that an overlay stands on is read through that overlay, so a change of it changes the
//! disk above; QEMU's locks tell that only while the disk above is open. Therefore whatever is about to write to an image is
//! compared with what all descriptions, records and headers say of that file. A file is known by device and inode, so that
//! links and mounts give it no second identity.
//!
//! [`Claims`] is pure; [`collect`] fills it.

mod collect;
mod frozen;
mod header;
mod neighbours;
mod shared;

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xlsnap_orchestrator::Doubt;
use xlsnap_types::model::{DiskName, SnapshotName};

pub(crate) use neighbours::Neighbours;
pub(crate) use shared::Writes;

/// A file, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum FileId {
    /// A file of a file system.
    Inode { device: u64, inode: u64 },
    /// A block device: its nodes may be many.
    Device(u64),
    /// It is not there, or may not be looked at; its path, without links as far as that goes.
    Path(PathBuf),
}

impl FileId {
    /// The identity of the file at `path`, now.
    pub(crate) fn of(path: &str) -> Self {
        match std::fs::metadata(path) {
            Ok(found) if found.file_type().is_block_device() => Self::Device(found.rdev()),
            Ok(found) => Self::Inode { device: found.dev(), inode: found.ino() },
            Err(_) => Self::Path(without_links(Path::new(path))),
        }
    }
}

/// The path of a file that is not there, with its directory's links resolved.
fn without_links(path: &Path) -> PathBuf {
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(directory)), Some(file)) => directory.join(file),
        _ => path.to_owned(),
    }
}

/// What a file is to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// The image of a disk.
    Top {
        /// The disk.
        disk: DiskName,
        /// Whether the guest cannot write to it.
        read_only: bool,
    },
    /// A layer that a disk's image is read through.
    Below {
        /// The disk.
        disk: DiskName,
        /// The file whose header names it.
        overlay: String,
        /// The disk's image.
        image: String,
    },
    /// It holds a disk's state of an external snapshot.
    Kept {
        /// The snapshot.
        snapshot: SnapshotName,
        /// The overlay that was made on it.
        overlay: String,
    },
    /// The ledger has it as read-only.
    Layer {
        /// The disk.
        disk: DiskName,
        /// The file whose header names it.
        overlay: String,
    },
}

/// One domain's word about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The domain's uuid.
    pub(crate) domain: Uuid,
    /// What it is called.
    pub(crate) name: String,
    /// What the file is to it.
    pub(crate) role: Role,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.role {
            Role::Top { disk, .. } => write!(f, "the image of disk {disk} of domain {name}"),
            Role::Below { disk, overlay, .. } => {
                write!(f, "the base of {overlay}, which disk {disk} of domain {name} is read through")
            }
            Role::Kept { snapshot, overlay } => {
                write!(f, "the base of {overlay}, which snapshot {snapshot} of domain {name} was taken with")
            }
            Role::Layer { disk, overlay } => {
                write!(
                    f,
                    "the base of {overlay}, which belongs to the snapshots of disk {disk} of domain {name}"
                )
            }
        }
    }
}

impl Claim {
    /// How the file becomes free of it.
    pub(crate) fn advice(&self) -> String {
        let name = &self.name;
        match &self.role {
            Role::Top { .. } => {
                "a disk belongs to one domain; only images that both have read-only can be shared".to_owned()
            }
            Role::Below { disk, image, .. } => format!(
                "while domain {name} is off, give its disk {disk} a copy of its own (qemu-img convert -O qcow2 {image} COPY) and name the copy in its file, or remove that domain: xlsnap domain remove {name}"
            ),
            Role::Kept { snapshot, .. } => format!(
                "delete that snapshot first: xlsnap delete {name} {snapshot}; if that domain is gone for good: xlsnap domain forget {name}"
            ),
            Role::Layer { .. } => format!(
                "see what stands on it: xlsnap list {name} --tree; if that domain is gone for good: xlsnap domain forget {name}"
            ),
        }
    }
}

/// The claims of all domains that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    by_file: HashMap<FileId, Vec<Claim>>,
    /// What could not be read, by which any file may be claimed.
    doubts: Vec<Doubt>,
}

impl Claims {
    /// Adds a claim.
    pub(crate) fn add(&mut self, file: FileId, claim: Claim) {
        self.by_file.entry(file).or_default().push(claim);
    }

    /// What keeps the disk of a domain from writing to the file: another disk is read through it.
    ///
    /// What the domain's own records say of its own chain is for planning to judge, and is not told here.
    pub(crate) fn base_of_others(&self, domain: Uuid, disk: &DiskName, file: &FileId) -> Option<&Claim> {
        self.of(file).find(|claim| match &claim.role {
            Role::Top { .. } => false,
            Role::Below { disk: theirs, .. } => claim.domain != domain || theirs != disk,
            Role::Kept { .. } | Role::Layer { .. } => claim.domain != domain,
        })
    }

    /// The disk of another domain whose image the file is.
    pub(crate) fn top_of_others(&self, domain: Uuid, file: &FileId) -> Option<(&Claim, bool)> {
        let mut tops = self.of(file).filter_map(|claim| match claim.role {
            Role::Top { read_only, .. } if claim.domain != domain => Some((claim, read_only)),
            _ => None,
        });
        let first = tops.next()?;
        // A domain that writes to it matters more than those that read.
        Some(if first.1 { tops.find(|(_, read_only)| !read_only).unwrap_or(first) } else { first })
    }

    fn of(&self, file: &FileId) -> impl Iterator<Item = &Claim> {
        self.by_file.get(file).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests;
