//! Changing what is stored, under the domain's lock.
//!
//! Storing: the record and its meta are written to temporary files and flushed; the meta file is renamed and the directory
//! flushed; the record is renamed, which is the commit point, and the directory flushed. Deleting renames the record to a
//! temporary name, which is the commit point, then removes its meta and it. Whatever of this a crash leaves is
//! either not seen by readers or read rightly ([`super::meta::Change`]), and is known by a temporary file that is still there:
//! the process that takes the lock next tidies up.

use std::sync::Weak;

use async_trait::async_trait;
use xlsnap_types::model::{DomainRecord, Meta, SnapshotName};

use super::lock::Held;
use super::read::{Reader, found};
use super::record::{self, Pending};
use super::{layout, meta, tidy};
use crate::durable::{Dir, LockFile};
use crate::{DomainLock, Effect, Error, Kind, Record};

/// The lock of a domain in an `FsStore`.
#[derive(Debug)]
pub(super) struct FsLock {
    root: Dir,
    dir: Dir,
    held: Held,
}

impl FsLock {
    pub(super) fn new(root: Dir, dir: Dir, held: Held) -> Self {
        // Readers see what is right without it, so whatever keeps it from its work must not keep others from theirs.
        if let Err(error) = tidy::tidy(&dir) {
            let directory = dir.path().display();
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what a crash left in {directory} cannot be tidied up, which the next change tries again"
            );
        }
        Self { root, dir, held }
    }

    /// The lock's file, for as long as this is held.
    pub(super) fn file(&self) -> Weak<LockFile> {
        self.held.file()
    }

    /// The record that is to be replaced, if that may be done.
    fn to_replace(&self, name: &SnapshotName) -> Result<Old, Error> {
        match Reader::default().read_meta(&self.dir, name) {
            Ok((Some(meta), _)) if meta.format_version > Meta::FORMAT_VERSION => {
                let what = format!("what is stored of snapshot {:?}", name.as_str());
                Err(meta::newer(&what, meta.format_version.into()))
            }
            Ok((meta, settled)) => Ok(Old { meta, settled }),
            // Neither a record nor a meta that cannot be read keeps a whole one from taking its place.
            Err(error) if error.kind() == Kind::Malformed => Ok(Old { meta: None, settled: false }),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file that stands alone.
    fn replace(&self, file: &str, content: &[u8]) -> Result<(), Error> {
        // The rename would replace a symbolic link and not follow it, but the caller should know that one was there.
        self.dir.has_file(file)?;
        let staged = self.dir.stage(tidy::OTHER_SLOT, content)?;
        staged.sync()?;
        staged.publish(file, true)?;
        self.dir.sync()
    }
}

#[async_trait]
impl DomainLock for FsLock {
    fn tell(&mut self, doing: Option<&str>) {
        self.held.tell(doing);
    }

    async fn store(&mut self, record: &Record, replace: bool) -> Result<(), Error> {
        let (name, text) = record::to_text(&record.snapshot)?;
        let after = record.meta.as_ref().map(|meta| record::checked_meta(meta, &name)).transpose()?;
        let pending = Pending { dir: &self.dir, name: &name, text: &text };
        if !self.dir.has_file(&layout::record(&name))? {
            return pending.create(after.as_ref());
        }
        if !replace {
            let message = format!("there is a snapshot {:?} already", name.as_str());
            return Err(Error::new(Kind::AlreadyExists, message));
        }
        let old = self.to_replace(&name)?;
        if old.settled && old.meta == after {
            return pending.replace_record();
        }
        pending.replace_both(old.meta, after)
    }

    async fn delete(&mut self, name: &SnapshotName) -> Result<(), Error> {
        let file = layout::record(name);
        if !self.dir.has_file(&file)? {
            let message = format!("there is no snapshot {:?} to delete", name.as_str());
            return Err(Error::new(Kind::NotFound, message));
        }
        // The commit point. The temporary name tells the process that takes the lock next that a meta may be left.
        self.dir.rename(&file, &Dir::slot(tidy::DELETED_SLOT))?;
        self.dir.sync()?;
        // Btrfs may bring the second removal to the disk without the first one, and then nothing would tell of the meta.
        let meta = self.dir.discard(&layout::meta(name)).and_then(|()| self.dir.sync());
        record::cleaned_up(meta.and_then(|()| self.dir.discard(&Dir::slot(tidy::DELETED_SLOT))));
        Ok(())
    }

    async fn set_domain_record(&mut self, record: &DomainRecord) -> Result<(), Error> {
        let path = || self.dir.path().join(layout::DOMAIN).display().to_string();
        let there = found(self.dir.read(layout::DOMAIN, layout::MAX_RECORD));
        let there =
            there.and_then(|content| content.map(|content| meta::parse_domain(&content, path)).transpose());
        match there {
            Ok(Some(there)) if there.format_version > DomainRecord::FORMAT_VERSION => {
                return Err(meta::newer(&path(), there.format_version.into()));
            }
            Ok(_) => {}
            // What cannot be read is of no use, and the new one is whole.
            Err(error) if error.kind() == Kind::Malformed => {}
            Err(error) => return Err(error),
        }
        if record.format_version > DomainRecord::FORMAT_VERSION {
            return Err(meta::newer("the record of the domain", record.format_version.into()));
        }
        let record = DomainRecord { format_version: record.least_format(), ..record.clone() };
        self.replace(layout::DOMAIN, &meta::to_text(&record))
    }

    async fn set_journal(&mut self, entry: Option<&[u8]>) -> Result<(), Error> {
        match entry {
            Some(entry) if entry.len() > layout::MAX_JOURNAL => {
                Err(record::too_long("the journal entry", entry.len(), layout::MAX_JOURNAL))
            }
            Some(entry) => self.replace(layout::JOURNAL, entry),
            None if self.dir.has_file(layout::JOURNAL)? => self.dir.remove(layout::JOURNAL),
            None => Ok(()),
        }
    }

    async fn forget(self: Box<Self>) -> Result<Vec<String>, Error> {
        let Self { root, dir, held } = *self;
        let (mut records, mut metas) = (Vec::new(), Vec::new());
        dir.names(&mut |file| {
            records.extend(layout::record_name(file));
            metas.extend(layout::meta_name(file));
        })?;
        let mut left = Vec::new();
        let mut forget = || {
            // As many deletions: whatever cuts this off leaves the last deleted record under its temporary name, by which the process
            // that takes the lock next knows that a meta may be left.
            for name in &records {
                dir.rename(&layout::record(name), &Dir::slot(tidy::DELETED_SLOT))?;
                dir.discard(&layout::meta(name))?;
            }
            for name in &metas {
                dir.discard(&layout::meta(name))?;
            }
            for file in [layout::JOURNAL, layout::DOMAIN] {
                dir.discard(file)?;
            }
            dir.sync()?;
            dir.remove_temporaries()?;
            dir.names(&mut |file| left.extend((file != layout::LOCK).then(|| file.to_owned())))?;
            if left.is_empty() {
                // Still held: a process that has the file open finds that it is not the file of that name any more, and begins anew.
                dir.discard(layout::LOCK)?;
                if let Some(name) = dir.path().file_name().and_then(|name| name.to_str()) {
                    root.discard_dir(name)?;
                }
            }
            Ok(())
        };
        forget().map_err(|error: Error| error.with_effect(Effect::Unknown))?;
        left.sort_unstable();
        drop(held);
        Ok(left)
    }
}

/// A record that is to be replaced.
struct Old {
    meta: Option<Meta>,
    /// Whether its meta file holds just that.
    settled: bool,
}
