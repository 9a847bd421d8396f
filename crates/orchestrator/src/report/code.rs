//! What a finding of a check is.

use std::fmt;

use serde::{Serialize, Serializer};

/// Which finding it is. Its word stays the same from version to version; docs/errors.md lists all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingCode {
    /// An operation was interrupted.
    JournalLeft,
    /// An operation was interrupted, and its journal cannot be read.
    JournalUnreadable,
    /// A record cannot be read.
    RecordUnreadable,
    /// Only libxl's part of a record is there.
    MetaMissing,
    /// An image does not hold the snapshot that a record names.
    SnapshotMissingInImage,
    /// The same, and the disk has another image than the record says.
    ImageChanged,
    /// The domain has no such disk any more.
    DiskMissing,
    /// The image holds a snapshot of that name with another id.
    IdChanged,
    /// The image holds several snapshots of that name.
    NameAmbiguous,
    /// The disk has another size than in the snapshot.
    SizeChanged,
    /// The memory that a record names is not there.
    MemoryMissing,
    /// The memory file has another size than was recorded.
    MemoryChanged,
    /// The contents of the memory file are not what was recorded.
    MemoryDamaged,
    /// A memory file that no record names.
    MemoryOrphan,
    /// An overlay that a record names is not there.
    OverlayMissing,
    /// The disk writes to the image that holds an external snapshot's state.
    OverlayUnused,
    /// A file that a chain stands on is not there.
    LayerMissing,
    /// A file that a chain stands on was written to.
    LayerWritten,
    /// Another file has the name of one of a chain.
    LayerReplaced,
    /// An overlay that stands on a layer, and that no disk, record or ledger names.
    OverlayOrphan,
    /// A snapshot in an image that no record names.
    OrphanInImage,
    /// A mark that a revert left in an image.
    UndoPointLeft,
    /// An image has clusters that belong to nothing.
    ImageLeaks,
    /// An image is damaged.
    ImageDamaged,
    /// A snapshot's parent is not there.
    ParentMissing,
    /// The domain's current snapshot is not there.
    CurrentMissing,
}

impl FindingCode {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::JournalLeft,
        Self::JournalUnreadable,
        Self::RecordUnreadable,
        Self::MetaMissing,
        Self::SnapshotMissingInImage,
        Self::ImageChanged,
        Self::DiskMissing,
        Self::IdChanged,
        Self::NameAmbiguous,
        Self::SizeChanged,
        Self::MemoryMissing,
        Self::MemoryChanged,
        Self::MemoryDamaged,
        Self::MemoryOrphan,
        Self::OverlayMissing,
        Self::OverlayUnused,
        Self::LayerMissing,
        Self::LayerWritten,
        Self::LayerReplaced,
        Self::OverlayOrphan,
        Self::OrphanInImage,
        Self::UndoPointLeft,
        Self::ImageLeaks,
        Self::ImageDamaged,
        Self::ParentMissing,
        Self::CurrentMissing,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JournalLeft => "journal-left",
            Self::JournalUnreadable => "journal-unreadable",
            Self::RecordUnreadable => "record-unreadable",
            Self::MetaMissing => "meta-missing",
            Self::SnapshotMissingInImage => "snapshot-missing-in-image",
            Self::ImageChanged => "image-changed",
            Self::DiskMissing => "disk-missing",
            Self::IdChanged => "id-changed",
            Self::NameAmbiguous => "name-ambiguous",
            Self::SizeChanged => "size-changed",
            Self::MemoryMissing => "memory-missing",
            Self::MemoryChanged => "memory-changed",
            Self::MemoryDamaged => "memory-damaged",
            Self::MemoryOrphan => "memory-orphan",
            Self::OverlayMissing => "overlay-missing",
            Self::OverlayUnused => "overlay-unused",
            Self::LayerMissing => "layer-missing",
            Self::LayerWritten => "layer-written",
            Self::LayerReplaced => "layer-replaced",
            Self::OverlayOrphan => "overlay-orphan",
            Self::OrphanInImage => "orphan-in-image",
            Self::UndoPointLeft => "undo-point-left",
            Self::ImageLeaks => "image-leaks",
            Self::ImageDamaged => "image-damaged",
            Self::ParentMissing => "parent-missing",
            Self::CurrentMissing => "current-missing",
        }
    }
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for FindingCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
