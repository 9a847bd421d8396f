//! What records name in images and directories; what none names is an orphan.

use std::borrow::Cow;
use std::collections::BTreeSet;

use xlsnap_conf_store::{ConfStore, Entry, Record};
use xlsnap_types::model::{DiskName, ImageFormat, Owner, SnapshotName};

use crate::error::from_store;
use crate::layers::{Guard, LayerNode, LayerTree};
use crate::record::parts;
use crate::step::UndoPoint;
use crate::{DomainRef, Error, ImageSnapshot, Inventory};

/// What all records of a domain name.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// The names of the records, readable or not.
    records: BTreeSet<String>,
    /// Those that cannot be read: they may name any snapshot of their name.
    unreadable: BTreeSet<String>,
    /// Snapshots inside images, with the image where the record says it.
    inside: BTreeSet<(DiskName, String, Option<String>)>,
    /// Memory files.
    files: BTreeSet<String>,
}

impl Named {
    /// Reads all records.
    pub(crate) async fn read(store: &dyn ConfStore, domain: &DomainRef) -> Result<Self, Error> {
        let mut named = Self::default();
        let listed = store.list(domain.uuid, &mut |entry| named.meet(domain, &entry)).await;
        listed.map_err(|e| {
            from_store(e, format!("the snapshots of domain {} cannot be listed", domain.name))
        })?;
        Ok(named)
    }

    /// Notes what one record names.
    pub(crate) fn meet(&mut self, domain: &DomainRef, entry: &Entry) {
        self.records.insert(entry.name.clone());
        if let (Ok(name), Ok(record)) = (SnapshotName::new(&entry.name), &entry.record)
            && let Ok(parts) = parts(domain, &name, record)
        {
            self.inside.extend(parts.into_iter().map(|part| {
                let image = part.meta.map(|meta| meta.image.clone());
                (part.disk, part.tag.to_owned(), image)
            }));
            self.files.extend(memory_files(record));
        } else {
            self.unreadable.insert(entry.name.clone());
        }
    }

    /// Whether a record has this name.
    pub(crate) fn has_record(&self, name: &str) -> bool {
        self.records.contains(name)
    }

    /// Whether no record names the snapshot of this name inside the image of the disk. A record that names an image which the domain
    /// does not have, or none, may mean any. The mark of a revert is none of a user's.
    fn is_orphan(&self, held: &Held<'_>, is_image: impl Fn(&str) -> bool) -> bool {
        let tag = &held.snapshot.name;
        let means = |(disk, named, image): &(DiskName, String, Option<String>)| {
            disk == held.disk
                && named == tag
                && image.as_ref().is_none_or(|image| image == held.image || !is_image(image))
        };
        !UndoPoint::is_one(tag) && !self.unreadable.contains(tag) && !self.inside.iter().any(means)
    }

    /// The name of a record that cannot be read: what it names is not known.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.unreadable.first().map(String::as_str)
    }

    /// Whether no record names the memory file.
    pub(crate) fn is_orphan_file(&self, file: &str) -> bool {
        !self.files.contains(file)
    }
}

/// A snapshot inside an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) disk: &'a DiskName,
    pub(crate) image: &'a str,
    pub(crate) format: &'a ImageFormat,
    /// The size of the disk in the image, in bytes.
    pub(crate) virtual_size: u64,
    /// The layer, where the disk does not write to the image.
    pub(crate) layer: Option<&'a LayerNode>,
    pub(crate) snapshot: &'a ImageSnapshot,
}

/// The snapshots inside the domain's images that no record names: in those that the disks write to, and in the layers of which it is
/// known that they are the domain's. What a foreign file holds is its owner's.
pub(crate) fn orphans<'a>(inventory: &'a Inventory, layers: &'a LayerTree, named: &Named) -> Vec<Held<'a>> {
    let tops = inventory.disks.iter().flat_map(|disk| {
        disk.snapshots.iter().map(|snapshot| Held {
            disk: &disk.name,
            image: &disk.image,
            format: &disk.format,
            virtual_size: disk.virtual_size,
            layer: None,
            snapshot,
        })
    });
    let is_top = |file: &str| inventory.disks.iter().any(|disk| disk.image == file);
    let is_ours = |node: &&LayerNode| {
        node.owner != Owner::Foreign && node.guard != Guard::Replaced && !is_top(&node.layer.file)
    };
    let below = layers.nodes().iter().filter(is_ours).flat_map(|node| {
        node.layer.snapshots.iter().map(move |snapshot| Held {
            disk: &node.disk,
            image: &node.layer.file,
            format: &node.layer.format,
            virtual_size: node.layer.virtual_size,
            layer: Some(node),
            snapshot,
        })
    });
    let is_image = |file: &str| is_top(file) || layers.get(file).is_some();
    tops.chain(below).filter(|held| named.is_orphan(held, is_image)).collect()
}

/// The memory files that both parts of a record name.
pub(crate) fn memory_files(record: &Record) -> impl Iterator<Item = String> {
    let ours = record.meta.as_ref().and_then(|meta| Some(meta.memory.as_ref()?.file()?.to_owned()));
    let of_libxl = record.snapshot.memory.clone().filter(|file| !file.is_empty());
    ours.into_iter().chain(of_libxl)
}

/// The line to copy that adopts an orphan.
pub(crate) fn adopting(domain: &DomainRef, tag: &SnapshotName) -> String {
    format!("xlsnap check {} --adopt {}", word(&domain.name), word(tag.as_str()))
}

/// The line to copy that deletes an orphan: a snapshot inside images, or a memory file.
pub(crate) fn deleting(domain: &DomainRef, orphan: &str) -> String {
    format!("xlsnap check {} --delete-orphan {}", word(&domain.name), word(orphan))
}

/// A word for a POSIX shell.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+@%=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (text, quoted) in
            [("s1", "s1"), ("/srv/a.save", "/srv/a.save"), ("", "''"), ("a b", "'a b'"), ("a'b", r"'a'\''b'")]
        {
            assert_eq!(word(text), quoted);
        }
    }
}
