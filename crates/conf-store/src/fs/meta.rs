//! The content of `snapshotmeta-<name>.json` and `domain.json`.
//!
//! The meta file is renamed before its record, and the record's rename is the commit point. Until then a reader must see
//! the old meta with the old record, so while a record is replaced the meta file holds both ([`Change`]) and says which record
//! each belongs to.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xlsnap_types::model::{DomainRecord, Meta};

use crate::{Error, Kind};

/// A meta file while its record is being replaced.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    format_version: u32,
    /// The new record's whole text: what the record's file holds tells whether the change is committed.
    pub(super) record: String,
    /// What belongs to any other text.
    pub(super) before: Option<Meta>,
    /// What belongs to `record`.
    pub(super) after: Option<Meta>,
}

impl Change {
    pub(super) fn new(record: String, before: Option<Meta>, after: Option<Meta>) -> Self {
        Self { format_version: Meta::FORMAT_VERSION, record, before, after }
    }

    /// What belongs to a record with the text `record`.
    pub(super) fn of(self, record: &[u8]) -> Option<Meta> {
        if self.record.as_bytes() == record { self.after } else { self.before }
    }
}

/// A meta file's content.
pub(super) enum MetaFile {
    Settled(Box<Meta>),
    Changing(Box<Change>),
}

/// Reads a meta file; `path` is for the message.
pub(super) fn parse(content: &[u8], path: impl Fn() -> String) -> Result<MetaFile, Error> {
    match serde_json::from_slice(content) {
        Ok(meta) => Ok(MetaFile::Settled(Box::new(meta))),
        Err(error) => match serde_json::from_slice(content) {
            Ok(change) => Ok(MetaFile::Changing(Box::new(change))),
            Err(_) => Err(unreadable(content, error, &path())),
        },
    }
}

/// Reads the domain's file; `path` is for the message.
pub(super) fn parse_domain(content: &[u8], path: impl Fn() -> String) -> Result<DomainRecord, Error> {
    parse_versioned(content, path)
}

fn parse_versioned<T: DeserializeOwned>(content: &[u8], path: impl Fn() -> String) -> Result<T, Error> {
    serde_json::from_slice(content).map_err(|error| unreadable(content, error, &path()))
}

/// Why a file cannot be read: a newer version may have written what this one does not understand.
fn unreadable(content: &[u8], error: serde_json::Error, path: &str) -> Error {
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    match serde_json::from_slice(content) {
        Ok(Version { format_version }) if format_version > u64::from(Meta::FORMAT_VERSION) => {
            newer(path, format_version).with_source(error)
        }
        _ => Error::new(Kind::Malformed, format!("{path} cannot be read")).with_source(error),
    }
}

/// `what` is of a format that this version must not write over.
pub(super) fn newer(what: &str, version: u64) -> Error {
    let message = format!(
        "{what} has format {version}, and this version knows up to {}: use the newer version that wrote it",
        Meta::FORMAT_VERSION,
    );
    Error::new(Kind::Newer, message)
}

/// The text of a file: indented, for people read these too, and with a line feed at the end.
pub(super) fn to_text(content: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(content).expect("no map has keys other than strings");
    text.push(b'\n');
    text
}
