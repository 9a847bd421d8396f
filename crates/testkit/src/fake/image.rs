//! Image files: their contents are one number each.

use std::sync::atomic::{AtomicU64, Ordering};

use xlsnap_orchestrator::{Bitmap, ImageSnapshot};
use xlsnap_types::model::ImageFormat;

/// A snapshot inside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// As it is found there.
    pub snapshot: ImageSnapshot,
    /// The content it keeps; `None` when the image had none of its own.
    pub content: Option<u64>,
    /// The size it keeps.
    pub virtual_size: u64,
    /// The guest's memory with it.
    pub memory: Option<std::collections::BTreeMap<String, u64>>,
}

/// Numbers that no file has had.
static INODES: AtomicU64 = AtomicU64::new(1);

/// An image file.
#[derive(Debug, Clone)]
pub struct Image {
    /// Which file it is: a copy of it in another backend is the same, a new one of its name is not.
    pub inode: u64,
    /// A number that grows when the file is written to while no guest has it.
    pub modified: u64,
    /// Its format.
    pub format: ImageFormat,
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
    /// Its content; `None` when nothing was written to it, so that the base shows through.
    pub content: Option<u64>,
    /// The image below.
    pub base: Option<String>,
    /// The snapshots inside.
    pub snapshots: Vec<Kept>,
    /// Its dirty bitmaps.
    pub bitmaps: Vec<Bitmap>,
    /// Whether another program has it open.
    pub in_use: bool,
}

/// What is in them, whichever files they are.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        let all = |image: &Self| {
            let Self { format, virtual_size, content, base, snapshots, bitmaps, in_use, .. } = image.clone();
            (format, virtual_size, content, base, snapshots, bitmaps, in_use)
        };
        all(self) == all(other)
    }
}

impl Eq for Image {}

impl Image {
    /// An image of 1 MiB, all zero.
    pub fn new(format: ImageFormat) -> Self {
        Self {
            inode: INODES.fetch_add(1, Ordering::Relaxed),
            modified: 0,
            format,
            virtual_size: 1 << 20,
            content: Some(0),
            base: None,
            snapshots: Vec::new(),
            bitmaps: Vec::new(),
            in_use: false,
        }
    }

    /// Takes a snapshot inside, as QEMU does: its id is the highest and one more, so that ids are reused.
    pub fn take(&mut self, name: &str, date: u64) {
        let highest = self.snapshots.iter().filter_map(|kept| kept.snapshot.id.parse::<u64>().ok()).max();
        self.snapshots.push(Kept {
            snapshot: ImageSnapshot {
                id: (highest.unwrap_or(0) + 1).to_string(),
                name: name.to_owned(),
                date,
                vm_state_size: 0,
            },
            content: self.content,
            virtual_size: self.virtual_size,
            memory: None,
        });
    }

    /// Whether a snapshot of that name is inside.
    pub fn has(&self, name: &str) -> bool {
        self.snapshots.iter().any(|kept| kept.snapshot.name == name)
    }
}
