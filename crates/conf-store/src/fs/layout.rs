//! Which file is what.

use uuid::Uuid;
use xlsnap_types::model::SnapshotName;

pub(super) const DOMAIN: &str = "domain.json";
pub(super) const JOURNAL: &str = "journal.json";
pub(super) const LOCK: &str = "lock";

/// The most bytes of a record, its meta file or the domain's file. Far above what a domain with hundreds of disks needs,
/// and low enough that a hostile file cannot take much memory.
pub(super) const MAX_RECORD: usize = 4 << 20;
/// The most bytes of a meta file: while a record is replaced it holds that record, escaped, and two metas.
pub(super) const MAX_META: usize = 6 * MAX_RECORD;
/// The most bytes of a journal entry.
pub(super) const MAX_JOURNAL: usize = 16 << 20;

const RECORD: (&str, &str) = ("snapshotdata-", ".libxl-json");
const META: (&str, &str) = ("snapshotmeta-", ".json");

/// The file of a record.
pub(super) fn record(name: &SnapshotName) -> String {
    format!("{}{name}{}", RECORD.0, RECORD.1)
}

/// The file of what the record cannot hold.
pub(super) fn meta(name: &SnapshotName) -> String {
    format!("{}{name}{}", META.0, META.1)
}

/// The snapshot whose record `file` is, if it is one.
pub(super) fn record_name(file: &str) -> Option<SnapshotName> {
    name_in(file, RECORD)
}

/// The snapshot whose meta file `file` is, if it is one.
pub(super) fn meta_name(file: &str) -> Option<SnapshotName> {
    name_in(file, META)
}

/// The domain whose directory is called `name`, if it is one: the uuid in lower case with hyphens only, so that each
/// domain has one directory.
pub(super) fn domain(name: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(name).ok()?;
    (directory(uuid) == name).then_some(uuid)
}

/// The name of a domain's directory.
pub(super) fn directory(domain: Uuid) -> String {
    domain.hyphenated().to_string()
}

fn name_in(file: &str, (before, after): (&str, &str)) -> Option<SnapshotName> {
    let name = file.strip_prefix(before)?.strip_suffix(after)?;
    SnapshotName::new(name).ok()
}
