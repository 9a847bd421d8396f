//! Reading without a lock.

use xlsnap_types::libxl::{DomainSnapshot, Mode, without_terminator};
use xlsnap_types::model::{DomainRecord, Meta, SnapshotName};

use super::layout;
use super::meta::{self, MetaFile};
use crate::durable::{Dir, Opened};
use crate::{Error, Kind, Record};

/// How often a reader that was overtaken by writers looks again. A writer needs two flushes of the disk for each change.
const ATTEMPTS: usize = 64;

/// What reading one record needs, used again for the next.
#[derive(Debug, Default)]
pub(super) struct Reader {
    record: Vec<u8>,
    meta: Vec<u8>,
}

impl Reader {
    /// Reads the record `name` with the meta that belongs to it.
    pub(super) fn read(&mut self, dir: &Dir, name: &SnapshotName) -> Result<Record, Error> {
        let file = layout::record(name);
        let path = || dir.path().join(&file);
        let meta = self.read_parts(dir, name, &file)?;
        let snapshot =
            DomainSnapshot::from_json(without_terminator(&self.record), Mode::Strict).map_err(|error| {
                let message = format!("the snapshot record {} cannot be read", path().display());
                Error::new(Kind::Malformed, message).with_source(error)
            })?;
        if snapshot.name.as_deref() != Some(name.as_str()) {
            let inside = snapshot.name.as_deref().unwrap_or_default();
            let message =
                format!("the snapshot record {} names another snapshot, {inside:?}", path().display());
            return Err(Error::new(Kind::Malformed, message));
        }
        let meta = meta.map(|meta| self.parse_meta(&meta, dir, name)).transpose()?;
        let meta = meta.and_then(|meta| match meta {
            MetaFile::Settled(meta) => Some(*meta),
            MetaFile::Changing(change) => change.of(&self.record),
        });
        Ok(Record { snapshot, meta })
    }

    /// The meta of the record `name`, whether the record can be read or not, and whether its file holds only that.
    pub(super) fn read_meta(
        &mut self,
        dir: &Dir,
        name: &SnapshotName,
    ) -> Result<(Option<Meta>, bool), Error> {
        let meta = self.read_parts(dir, name, &layout::record(name))?;
        let meta = meta.map(|meta| self.parse_meta(&meta, dir, name)).transpose()?;
        Ok(match meta {
            None => (None, true),
            Some(MetaFile::Settled(meta)) => (Some(*meta), true),
            Some(MetaFile::Changing(change)) => (change.of(&self.record), false),
        })
    }

    /// Fills the buffers with the record's file and its meta file as they were at one time.
    ///
    /// Both files are only ever replaced, so opening them is what must happen at one time. A writer renames first the meta
    /// file, then the record; a deleter removes first the record. The record is opened first and must still have its name
    /// after the meta file was opened: then that was the meta file while this was the record. Its inode cannot be another
    /// record's by then, for it is open.
    fn read_parts(&mut self, dir: &Dir, name: &SnapshotName, file: &str) -> Result<Option<Opened>, Error> {
        let meta_file = layout::meta(name);
        for _ in 0..ATTEMPTS {
            let record = dir.open_file(file)?;
            let meta = found(dir.open_file(&meta_file))?;
            if !dir.has(file, &record)? {
                continue;
            }
            record.read(&mut self.record, layout::MAX_RECORD, || dir.path().join(file))?;
            return Ok(meta);
        }
        let message =
            format!("{} changes faster than it can be read: try again", dir.path().join(file).display());
        Err(Error::new(Kind::Busy, message))
    }

    fn parse_meta(&mut self, file: &Opened, dir: &Dir, name: &SnapshotName) -> Result<MetaFile, Error> {
        let path = || dir.path().join(layout::meta(name));
        file.read(&mut self.meta, layout::MAX_META, path)?;
        meta::parse(&self.meta, || path().display().to_string())
    }
}

/// The domain's own file.
pub(super) fn domain_record(dir: &Dir) -> Result<Option<DomainRecord>, Error> {
    let content = found(dir.read(layout::DOMAIN, layout::MAX_RECORD))?;
    let path = || dir.path().join(layout::DOMAIN).display().to_string();
    content.map(|content| meta::parse_domain(&content, path)).transpose()
}

/// `None` for what is not there.
pub(super) fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
