//! What records name in images and directories; what none names is an orphan.

use std::borrow::Cow;
use std::collections::BTreeSet;

use xlsnap_conf_store::{ConfStore, Entry, Record};
use xlsnap_types::model::{DiskName, SnapshotName};

use crate::error::from_store;
use crate::record::parts;
use crate::step::UndoPoint;
use crate::{DomainRef, Error};

/// What all records of a domain name.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// The names of the records, readable or not.
    records: BTreeSet<String>,
    /// Those that cannot be read: they may name any snapshot of their name.
    unreadable: BTreeSet<String>,
    /// Snapshots inside images.
    inside: BTreeSet<(DiskName, String)>,
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
            self.inside.extend(parts.into_iter().map(|part| (part.disk, part.tag.to_owned())));
            self.files.extend(memory_files(record));
        } else {
            self.unreadable.insert(entry.name.clone());
        }
    }

    /// Whether a record has this name.
    pub(crate) fn has_record(&self, name: &str) -> bool {
        self.records.contains(name)
    }

    /// Whether no record names the snapshot of this name inside the disk's image. The mark of a revert is none of a user's.
    pub(crate) fn is_orphan(&self, disk: &DiskName, tag: &str) -> bool {
        !UndoPoint::is_one(tag)
            && !self.unreadable.contains(tag)
            && !self.inside.contains(&(disk.clone(), tag.to_owned()))
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

/// The memory files that both parts of a record name.
fn memory_files(record: &Record) -> impl Iterator<Item = String> {
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
