//! Whether a file is the one that a domain knows by another name.

use xlsnap_types::model::{DiskName, LayerRecord};

use super::exchange::NAMES_OF_THEIR_OWN;
use super::{RelocateFacts, beside};
use crate::layers::external_parts;
use crate::orphan::word;
use crate::plan::refused;
use crate::record::parts;
use crate::{Error, FileIdentity, Layer, RelocateRequest};

/// What tells that a file is the one that was moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Device and inode: it was renamed.
    Identity,
    /// Length and time of the last write: it was copied, with its times.
    Stamp,
    /// What it stands on, or the snapshots inside it, and nothing of what it holds otherwise.
    Inside,
    /// Nothing does.
    Nothing,
}

impl RelocateFacts<'_> {
    /// Refuses a file that is not the one which the domain knows as `from`. A sentence where little tells that it is.
    pub(super) fn same_file(
        &self,
        from: &str,
        (disk, layer): (&DiskName, &Layer),
        request: &RelocateRequest,
    ) -> Result<Option<String>, Error> {
        let (domain, to) = (&self.domain.name, &layer.file);
        let subject = format!("{to} is not {from} (disk {disk} of domain {domain})");
        for part in external_parts(self.records).iter().filter(|part| part.files.image == from) {
            let metas = self.records[&part.snapshot].meta.iter().flat_map(|meta| &meta.disks);
            let size = metas.filter(|meta| meta.disk == part.disk).map(|meta| meta.virtual_size).next();
            if let Some(size) = size.filter(|size| *size != layer.virtual_size) {
                let message = format!(
                    "{subject}: it has {} bytes for a guest, and snapshot {} has {size}",
                    layer.virtual_size, part.snapshot
                );
                return Err(refused(message).with_advice("name the file that was moved"));
            }
        }
        let inside = self.inside(from, layer).map_err(|missing| {
            refused(format!("{subject}: it does not hold {missing}"))
                .with_advice("name the file that was moved")
        })?;
        let entry = self.entry(from);
        let is_kept = request.keep_base.contains(disk);
        let sign = match entry {
            // A file that was unlinked may leave its inode to another one: where there is no stamp, more has to tell.
            Some(entry)
                if is_same(entry, layer)
                    && (entry.stamp.is_some() || self.stands_as_recorded(entry, layer)) =>
            {
                Sign::Identity
            }
            Some(entry) if entry.stamp.is_some() && entry.stamp == layer.stamp => Sign::Stamp,
            Some(entry)
                if entry.stamp.is_none()
                    && self.stands_as_recorded(entry, layer)
                    && (entry.base.is_some() || inside > 0) =>
            {
                Sign::Inside
            }
            None if inside > 0 => Sign::Inside,
            _ => Sign::Nothing,
        };
        // Whoever exchanges two names may be wrong, and no later look would tell.
        let is_proved = matches!(sign, Sign::Identity | Sign::Stamp) && self.is_proved(from, layer);
        if self.moved.is_exchanged(to) && !is_proved {
            let why = match entry {
                None => "the ledger does not have it",
                Some(_) if sign == Sign::Stamp => {
                    "it is a copy, and another of these files has its length and its time of the last write"
                }
                Some(entry) if entry.stamp.is_none() => {
                    "it is not the file that the ledger has, and of one that a disk writes to no time is noted"
                }
                Some(_) => "it is neither the file that the ledger has nor a copy with its times",
            };
            let message = format!(
                "{to} was the name of another file, and nothing proves that {from} (disk {disk} of domain {domain}) has it now: {why}"
            );
            return Err(refused(message).with_advice(NAMES_OF_THEIR_OWN));
        }
        let line = format!(
            "xlsnap check {} --relocate {}={} --keep-base {disk}",
            word(domain),
            word(from),
            word(to)
        );
        match (sign, entry) {
            (Sign::Identity, Some(entry)) if is_written(entry, layer) && !is_kept => {
                let message = format!("{to} was written to since it became read-only as {from}");
                Err(refused(message).with_advice(format!("if what it holds now is right: {line}")))
            }
            (Sign::Identity | Sign::Stamp, _) => Ok(None),
            (Sign::Inside, _) => Ok(Some(format!(
                "that {to} is what {from} was is told by what it stands on and by the snapshots inside it alone: nothing is noted of what else a file holds that a disk writes to"
            ))),
            (Sign::Nothing, Some(_)) if is_kept => {
                Ok(Some(format!("{to} is taken for {from} as it is, because of --keep-base {disk}")))
            }
            (Sign::Nothing, Some(entry)) => {
                let what = if entry.stamp.is_some() {
                    "its length or the time of its last write differs from what the ledger has".to_owned()
                } else if self.stands_as_recorded(entry, layer) {
                    "it is another file than the ledger has, and nothing in it tells that it is a copy".to_owned()
                } else {
                    let (was, is) = (entry.base.as_deref(), layer.base.file());
                    format!("it stands on {}, and that stood on {}", is.unwrap_or("nothing"), was.unwrap_or("nothing"))
                };
                Err(refused(format!("{subject}: {what}")).with_advice(format!(
                    "name the file that was moved (a copy keeps its times with cp -p); if {to} is right as it is: {line}"
                )))
            }
            (Sign::Nothing, None) => Err(refused(format!(
                "{subject}, as far as can be told: neither the ledger nor a snapshot inside it says what that was"
            ))
            .with_advice(format!("name {to} in the domain's file yourself"))),
        }
    }

    /// How many snapshots of records it holds that were inside `from`; the first that it does not hold.
    fn inside(&self, from: &str, layer: &Layer) -> Result<usize, String> {
        let mut count = 0;
        for (name, record) in self.records {
            for part in parts(self.domain, name, record).unwrap_or_default() {
                let Some(meta) = part.meta.filter(|meta| meta.image == from && part.overlay.is_none()) else {
                    continue;
                };
                let is_it = |id: &str, tag: &str| {
                    tag == part.tag && meta.id.as_deref().is_none_or(|known| known == id)
                };
                if !layer.snapshots.iter().any(|held| is_it(&held.id, &held.name)) {
                    return Err(format!("snapshot {}", part.tag));
                }
                count += 1;
            }
        }
        Ok(count)
    }

    /// Whether a file stands on what the ledger says.
    fn stands_as_recorded(&self, entry: &LayerRecord, layer: &Layer) -> bool {
        let recorded = entry.base.as_deref().map(|base| self.moved.now(base));
        match (recorded, layer.base.file()) {
            (None, None) => true,
            (Some(recorded), Some(seen)) => {
                let there = beside(&entry.file, &layer.file, seen);
                self.is_one(self.moved.now(seen), recorded)
                    || there.is_some_and(|file| self.is_one(self.moved.now(&file), recorded))
            }
            _ => false,
        }
    }

    /// Refuses to write to the header of a layer that was written to since it became read-only: its next stamp would hide that.
    pub(super) fn refuse_written(
        &self,
        entry: &LayerRecord,
        layer: &Layer,
        request: &RelocateRequest,
    ) -> Result<(), Error> {
        let is_other = !is_same(entry, layer) && entry.stamp != layer.stamp;
        if request.keep_base.contains(&entry.disk) || !(is_other || is_written(entry, layer)) {
            return Ok(());
        }
        let message = format!(
            "{} (disk {} of domain {}) is not what it was when it became read-only, and its header would have to change",
            entry.file, entry.disk, self.domain.name
        );
        Err(refused(message).with_advice(format!(
            "put the file of before back; or, if what it holds now is right, with --keep-base {} too",
            entry.disk
        )))
    }
}

pub(super) fn is_same(entry: &LayerRecord, layer: &Layer) -> bool {
    FileIdentity { device: entry.device, inode: entry.inode }.is_still(layer.identity)
}

fn is_written(entry: &LayerRecord, layer: &Layer) -> bool {
    entry.stamp.is_some_and(|stamp| layer.stamp.is_some_and(|now| now != stamp))
}
