//! Storing one record in the right order.

use xlsnap_types::libxl::{DomainSnapshot, Mode};
use xlsnap_types::model::{Meta, SnapshotName};

use super::meta::{self, Change};
use super::{layout, tidy};
use crate::durable::Dir;
use crate::{Effect, Error, Kind};

/// A record that is about to be stored.
pub(super) struct Pending<'a> {
    pub(super) dir: &'a Dir,
    pub(super) name: &'a SnapshotName,
    pub(super) text: &'a str,
}

impl Pending<'_> {
    /// Stores it where there is no record of that name.
    pub(super) fn create(&self, meta: Option<&Meta>) -> Result<(), Error> {
        let record = self.dir.stage(tidy::RECORD_SLOT, self.text.as_bytes())?;
        let meta = meta.map(|meta| self.dir.stage(tidy::META_SLOT, &meta::to_text(meta))).transpose()?;
        record.sync()?;
        let file = layout::meta(self.name);
        // Another program may have removed a record and left its meta, which must not become this one's.
        let left = self.dir.has_file(&file)?;
        if let Some(meta) = meta {
            meta.sync()?;
            meta.publish(&file, true)?;
            self.settled_on_failure(self.sync_before_commit())?;
        } else if left {
            self.dir.discard(&file)?;
            self.sync_before_commit()?;
        }
        self.settled_on_failure(record.publish(&layout::record(self.name), false))?;
        self.dir.sync()
    }

    /// Replaces the record and leaves its meta as it is.
    pub(super) fn replace_record(&self) -> Result<(), Error> {
        let record = self.dir.stage(tidy::RECORD_SLOT, self.text.as_bytes())?;
        record.sync()?;
        record.publish(&layout::record(self.name), true)?;
        self.dir.sync()
    }

    /// Replaces the record and its meta. Meanwhile the meta file holds both metas.
    pub(super) fn replace_both(&self, before: Option<Meta>, after: Option<Meta>) -> Result<(), Error> {
        let record = self.dir.stage(tidy::RECORD_SLOT, self.text.as_bytes())?;
        // Made without a meta too, for it tells of the change as long as the meta file holds both.
        let text = after.as_ref().map(meta::to_text);
        let settled = self.dir.stage(tidy::SETTLED_META_SLOT, text.as_deref().unwrap_or_default())?;
        let change = meta::to_text(&Change::new(self.text.to_owned(), before, after));
        let change = self.dir.stage(tidy::META_SLOT, &change)?;
        record.sync()?;
        settled.sync()?;
        change.sync()?;
        let file = layout::meta(self.name);
        change.publish(&file, true)?;
        self.settled_on_failure(self.sync_before_commit())?;
        self.settled_on_failure(record.publish(&layout::record(self.name), true))?;
        self.settled_on_failure(self.dir.sync())?;
        cleaned_up(self.settled_on_failure(match text {
            Some(_) => settled.publish(&file, true),
            None => self.dir.discard(&file),
        }));
        Ok(())
    }

    /// Once the meta file is renamed, a failure must not leave it so: the temporary files, which would tell of it, are
    /// about to be removed.
    fn settled_on_failure(&self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            cleaned_up(tidy::settle(self.dir, self.name));
        }
        result
    }

    /// Flushes the directory when the record has not been touched yet.
    fn sync_before_commit(&self) -> Result<(), Error> {
        self.dir.sync().map_err(|error| error.with_effect(Effect::None))
    }
}

/// The name of `snapshot`, and what is written for it: with the paths of its disks empty, and only what can be read again.
pub(super) fn to_text(snapshot: &DomainSnapshot) -> Result<(SnapshotName, String), Error> {
    let name = SnapshotName::new(snapshot.name.as_deref().unwrap_or_default()).map_err(|error| {
        Error::new(Kind::Malformed, "the snapshot cannot be stored under its name").with_source(error)
    })?;
    let mut snapshot = snapshot.clone();
    for disk in &mut snapshot.disks {
        disk.path = Some(String::new());
    }
    let text = snapshot.to_json();
    if text.len() > layout::MAX_RECORD {
        let what = format!("the record of snapshot {:?}", name.as_str());
        return Err(too_long(&what, text.len(), layout::MAX_RECORD));
    }
    let unreadable = || {
        Error::new(Kind::Malformed, format!("snapshot {:?} could not be read again if stored", name.as_str()))
    };
    match DomainSnapshot::from_json(text.as_bytes(), Mode::Strict) {
        Ok(again) if again == snapshot => Ok((name, text)),
        Ok(_) => Err(unreadable()),
        Err(error) => Err(unreadable().with_source(error)),
    }
}

/// `meta` as it is written, if this version may write it: in its own format, so that an older version may still change what it made.
pub(super) fn checked_meta(meta: &Meta, name: &SnapshotName) -> Result<Meta, Error> {
    if meta.format_version > Meta::FORMAT_VERSION {
        let what = format!("what is to be stored of snapshot {:?}", name.as_str());
        return Err(meta::newer(&what, meta.format_version.into()));
    }
    let meta = Meta { format_version: meta.format_version.max(1), ..meta.clone() };
    let len = meta::to_text(&meta).len();
    if len > layout::MAX_RECORD {
        let what = format!("the data on snapshot {:?} beyond its record", name.as_str());
        return Err(too_long(&what, len, layout::MAX_RECORD));
    }
    Ok(meta)
}

pub(super) fn too_long(what: &str, len: usize, limit: usize) -> Error {
    Error::new(Kind::Malformed, format!("{what} has {len} bytes; at most {limit} can be stored"))
}

/// The change is done and durable; what a failed clean-up leaves is read rightly and tidied up by the next change.
pub(super) fn cleaned_up(result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the change is done, and what was in its way before cannot be removed, which the next change tries again"
        );
    }
}
