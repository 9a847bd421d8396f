//! Removing what a crash left.

use xlsnap_types::model::SnapshotName;

use super::layout;
use super::meta::{self, MetaFile};
use super::read::found;
use crate::Error;
use crate::durable::Dir;

/// The temporary file of a record that is being stored.
pub(super) const RECORD_SLOT: &str = "record";
/// That of the meta file which is renamed before the record.
pub(super) const META_SLOT: &str = "meta";
/// That of the meta file which is renamed after the record.
pub(super) const SETTLED_META_SLOT: &str = "settled-meta";
/// What a record is called once it is deleted.
pub(super) const DELETED_SLOT: &str = "deleted";
/// The temporary file of all others.
pub(super) const OTHER_SLOT: &str = "other";

/// Each of these is there from before a change's first effect, or its commit point, until it is done. So one that is there
/// although no process holds the lock tells of a change that was cut off.
const TELLING: [&str; 4] = [RECORD_SLOT, META_SLOT, SETTLED_META_SLOT, DELETED_SLOT];

/// Finishes or undoes what was cut off: removes meta files without a record, settles those that hold two metas, and removes
/// the temporary files last, so that what cuts this off is followed by it again. Must be called with the lock held. Costs
/// four system calls when there is nothing to do.
pub(super) fn tidy(dir: &Dir) -> Result<(), Error> {
    let mut cut_off = false;
    for slot in TELLING {
        cut_off |= dir.has_file(&Dir::slot(slot))?;
    }
    if !cut_off {
        return Ok(());
    }
    tracing::debug!(directory = %dir.path().display(), "tidying up after a change that was cut off");
    let mut metas = Vec::new();
    dir.names(&mut |file| metas.extend(layout::meta_name(file)))?;
    for name in &metas {
        settle(dir, name)?;
    }
    dir.sync()?;
    dir.remove_temporaries()
}

/// Makes the meta file of `name`, if there is one, hold what belongs to the record that is there, and nothing else.
pub(super) fn settle(dir: &Dir, name: &SnapshotName) -> Result<(), Error> {
    let file = layout::meta(name);
    let Some(record) = found(dir.open_file(&layout::record(name)))? else { return dir.discard(&file) };
    let Some(content) = found(dir.read(&file, layout::MAX_META))? else { return Ok(()) };
    // One that cannot be read is left for a person to see.
    let Ok(MetaFile::Changing(change)) = meta::parse(&content, || file.clone()) else { return Ok(()) };
    let mut text = Vec::new();
    record.read(&mut text, layout::MAX_RECORD, || dir.path().join(layout::record(name)))?;
    match change.of(&text) {
        None => dir.discard(&file),
        Some(meta) => {
            let staged = dir.stage(OTHER_SLOT, &meta::to_text(&meta))?;
            staged.sync()?;
            staged.publish(&file, true)
        }
    }
}
