//! What follows files of chains that were moved or renamed: the headers above them, the records, the ledger, the description.

mod exchange;
mod memory;
mod sameness;

use std::collections::{BTreeMap, BTreeSet};

use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, LayerRecord, SnapshotName};

use super::refused;
use crate::layers::{ExternalPart, InternalPart, PartFiles, external_parts, internal_parts};
use crate::orphan::word;
use crate::step::{Adoption, Does, ImageFile, LayerNote, Stage};
use crate::{
    Below, DomainRef, Effect, Error, FileMove, Kind, Layer, LayerFile, RelocatePlan, RelocateRequest,
    RelocatedFile, RelocatedMemory,
};

pub(crate) use memory::{MovedMemory, NamedMemory, memories};

/// Where files of a domain's chains are now, by the names that they had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Moved(pub(crate) BTreeMap<String, String>);

impl Moved {
    /// The name that a file has now.
    pub(crate) fn now<'n>(&'n self, file: &'n str) -> &'n str {
        let found = self.0.get(file).or_else(|| {
            let file = plain(file);
            Some(self.0.iter().find(|(before, _)| plain(before) == file)?.1)
        });
        found.map_or(file, String::as_str)
    }

    /// The name that a file had, of one that was moved.
    fn before(&self, file: &str) -> Option<&str> {
        self.0.iter().find(|(_, now)| *now == file).map(|(before, _)| before.as_str())
    }
}

/// An absolute name without `.` and `..`, as it is where no directory in it is a link: headers have names like `../base`.
pub(crate) fn plain(file: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The name that a request gives a file, and whether it names that file itself and not a directory above it.
pub(crate) fn new_name(moves: &[FileMove], file: &str) -> Option<(String, bool)> {
    let file = plain(file);
    if let Some(moved) = moves.iter().find(|moved| plain(&moved.old) == file) {
        return Some((moved.new.clone(), true));
    }
    let below = |directory: &str| file.strip_prefix(directory).filter(|rest| rest.starts_with('/'));
    let above = moves.iter().filter_map(|moved| {
        let old = plain(&moved.old);
        Some((below(&old)?, old, moved))
    });
    let (rest, old, moved) = above.max_by_key(|(_, old, _)| old.len())?;
    let new = plain(&moved.new);
    // A directory that files were moved to may lie in the one that they left: those in it have arrived.
    let has_arrived = new.starts_with(&format!("{old}/")) && below(&new).is_some();
    (!has_arrived).then(|| (format!("{}{rest}", moved.new.trim_end_matches('/')), false))
}

/// All files that something of the domain's own names, each once.
pub(crate) fn named(
    described: &[(DiskName, ImageFile)],
    records: &BTreeMap<SnapshotName, Record>,
    ledger: &[LayerRecord],
) -> Vec<LayerFile> {
    let mut files: Vec<LayerFile> = Vec::new();
    let mut add = |disk: &DiskName, file: &str, format: &xlsnap_types::model::ImageFormat| {
        if !file.is_empty() && !files.iter().any(|known| known.file == file) {
            let (disk, format) = (disk.clone(), format.clone());
            files.push(LayerFile { disk, file: file.to_owned(), format, identity: None });
        }
    };
    for (disk, image) in described {
        add(disk, &image.file, &image.format);
    }
    for entry in ledger {
        add(&entry.disk, &entry.file, &entry.format);
    }
    for meta in records.values().filter_map(|record| record.meta.as_ref()).flat_map(|meta| &meta.disks) {
        add(&meta.disk, &meta.image, &meta.format);
    }
    for ExternalPart { disk, files: PartFiles { overlay, overlay_format, .. }, .. } in external_parts(records)
    {
        add(&disk, &overlay, &overlay_format);
    }
    files
}

/// The line to copy, but for the new name, by which what names a file follows it.
pub(crate) fn relocating(domain: &DomainRef, file: &str) -> String {
    format!("xlsnap check {} --relocate {}=NEW", word(&domain.name), word(file))
}

/// What planning is to know.
#[derive(Debug)]
pub(crate) struct RelocateFacts<'a> {
    pub(crate) domain: &'a DomainRef,
    /// The image that the domain's description names for each disk.
    pub(crate) described: &'a [(DiskName, ImageFile)],
    pub(crate) records: &'a BTreeMap<SnapshotName, Record>,
    pub(crate) ledger: &'a [LayerRecord],
    pub(crate) moved: &'a Moved,
    /// The memory files that were moved.
    pub(crate) memory: &'a [MovedMemory],
    /// The files that are there, by the names that they have now.
    pub(crate) found: &'a BTreeMap<String, (DiskName, Layer)>,
    /// The images that a process of the domain writes to, by the names that it knows; `None` of a domain that is off.
    pub(crate) open: Option<&'a BTreeSet<String>>,
}

/// Plans what follows the files.
///
/// # Errors
/// [`Kind::Refused`] when a file is not the one that the domain knows by the old name, or a header cannot follow; [`Kind::Busy`]
/// while a process has such a file open.
pub(crate) fn relocate(facts: &RelocateFacts<'_>, request: &RelocateRequest) -> Result<RelocatePlan, Error> {
    let mut warnings = Vec::new();
    let mut files = Vec::new();
    for (from, to) in &facts.moved.0 {
        let Some((disk, layer)) = facts.found.get(to) else { continue };
        facts.refuse_known(to)?;
        warnings.extend(facts.same_file(from, (disk, layer), request)?);
        files.push(RelocatedFile { disk: disk.clone(), from: from.clone(), to: to.clone() });
    }
    facts.refuse_unclear()?;
    let headers = facts.headers()?;
    facts.refuse_open(&headers)?;
    let mut does: Vec<Does> = Vec::new();
    does.extend(
        headers.iter().map(|(child, base)| Does::Reheader { child: child.clone(), base: base.clone() }),
    );
    does.extend(facts.records());
    let (of_memory, told) = facts.memory()?;
    does.extend(of_memory);
    warnings.extend(told);
    does.extend(facts.ledger(&headers, request)?);
    does.extend(facts.description());
    let stages = does.into_iter().map(|does| Stage::one(facts.domain.uuid, does)).collect();
    // Of images that exchanged their names, no disk may be described with the other one's meanwhile.
    let stages = Stage::gathered(stages);
    let memory = facts.memory.iter().map(|MovedMemory { snapshot, from, to, .. }| RelocatedMemory {
        snapshot: snapshot.clone(),
        from: from.clone(),
        to: to.clone(),
    });
    Ok(RelocatePlan { files, memory: memory.collect(), warnings, stages })
}

impl RelocateFacts<'_> {
    fn entry(&self, file: &str) -> Option<&LayerRecord> {
        self.ledger.iter().find(|entry| entry.file == file)
    }

    fn layer(&self, file: &str) -> Option<&Layer> {
        self.found.get(file).map(|(_, layer)| layer)
    }

    /// The file that a layer stands on, by the name that it has now.
    fn base(&self, layer: &Layer) -> Option<String> {
        let seen = layer.base.file()?;
        if self.moved.is_exchanged(seen) {
            return self.base_of_two(layer).map(str::to_owned);
        }
        let now = self.moved.now(seen);
        let Some(before) = self.moved.before(&layer.file) else { return Some(now.to_owned()) };
        // A relative name leads elsewhere from another directory.
        let from_there = beside(before, &layer.file, seen);
        let recorded = self.entry(before).and_then(|entry| entry.base.as_deref());
        let recorded = recorded.map(|base| self.moved.now(base));
        let meant = from_there.as_deref().map(|file| self.moved.now(file));
        let is_there = |file: &&str| self.found.contains_key(*file);
        let right = match recorded {
            // Its header was changed since, and leads to a file.
            Some(recorded)
                if !self.is_one(now, recorded)
                    && !meant.is_some_and(|meant| self.is_one(meant, recorded))
                    && is_there(&now) =>
            {
                now
            }
            Some(recorded) => recorded,
            None => [Some(now), meant].into_iter().flatten().find(is_there).unwrap_or(now),
        };
        Some(right.to_owned())
    }

    /// Refuses a file that the domain has under another name as another file.
    fn refuse_known(&self, to: &str) -> Result<(), Error> {
        let known = named(self.described, self.records, self.ledger);
        let is_it = |file: &&LayerFile| {
            let now = self.moved.now(&file.file);
            let has_left = self.moved.is_exchanged(&file.file);
            now != to && self.is_one(now, to) || file.file == to && !has_left
        };
        let Some(LayerFile { disk, file, .. }) = known.iter().find(is_it) else { return Ok(()) };
        let message = format!("{to} is a file of domain {} already: {file} (disk {disk})", self.domain.name);
        Err(refused(message).with_advice("name the file that was moved"))
    }

    /// Whether both names lead to one file.
    fn is_one(&self, a: &str, b: &str) -> bool {
        let identity = |file: &str| self.layer(file).map(|layer| layer.identity);
        plain(a) == plain(b) || identity(a).is_some_and(|found| Some(found) == identity(b))
    }

    /// The layers whose headers have to name another file, with that.
    fn headers(&self) -> Result<Vec<(LayerFile, LayerFile)>, Error> {
        let mut headers = Vec::new();
        for (file, (disk, layer)) in self.found {
            let (Below::File { file: seen, format }, Some(base)) = (&layer.base, self.base(layer)) else {
                continue;
            };
            if plain(seen) == plain(&base) {
                continue;
            }
            let Some(below) = self.layer(&base) else {
                let message = format!(
                    "{file} (disk {disk} of domain {}) stands on {base}, which is not there",
                    self.domain.name
                );
                return Err(refused(message).with_advice(format!(
                    "say in the same command where that is too: {}",
                    relocating(self.domain, &base)
                )));
            };
            // A header without a format is none that xlsnap wrote; what is below it is read as the ledger says.
            let format = format.clone().unwrap_or_else(|| below.format.clone());
            let of = |layer: &Layer, format| LayerFile {
                disk: disk.clone(),
                file: layer.file.clone(),
                format,
                identity: Some(layer.identity),
            };
            headers.push((of(layer, layer.format.clone()), of(below, format)));
        }
        Ok(headers)
    }

    /// Refuses while a process has one of the files open: it knows them by the names that they had.
    fn refuse_open(&self, headers: &[(LayerFile, LayerFile)]) -> Result<(), Error> {
        let domain = &self.domain.name;
        let mut read: BTreeSet<&str> = BTreeSet::new();
        for top in self.open.into_iter().flatten() {
            let mut at = Some(self.moved.now(top));
            while let Some(file) = at.filter(|file| !read.contains(file)) {
                let Some((name, (_, layer))) = self.found.get_key_value(file) else { break };
                read.insert(name);
                let base = self.base(layer);
                at = base.and_then(|base| Some(self.found.get_key_value(&base)?.0.as_str()));
            }
        }
        let changed = self.moved.0.values().chain(headers.iter().map(|(child, _)| &child.file));
        for file in changed {
            if read.contains(file.as_str()) {
                let was = self.moved.before(file).unwrap_or(file);
                let message = format!("domain {domain} is on, and its process has {was} open");
                return Err(Error::new(Kind::Busy, Effect::None, message)
                    .with_advice(format!("shut domain {domain} down first")));
            }
            if self.layer(file).is_some_and(|layer| layer.in_use) {
                let (whose, advice) = match self.open {
                    Some(_) => {
                        ("the domain's process, or another one,", format!("shut domain {domain} down first"))
                    }
                    None => ("another process", "end that process first".to_owned()),
                };
                let message = format!("{whose} has {file} of domain {domain} open");
                return Err(Error::new(Kind::Busy, Effect::None, message).with_advice(advice));
            }
        }
        Ok(())
    }

    /// What changes in the records.
    fn records(&self) -> Vec<Does> {
        let mut changes = Vec::new();
        for ExternalPart { snapshot, disk, files: from } in external_parts(self.records) {
            let to = PartFiles {
                image: self.moved.now(&from.image).to_owned(),
                overlay: self.moved.now(&from.overlay).to_owned(),
                ..from.clone()
            };
            if to != from {
                changes.push(Does::SetPart { snapshot, disk, from, to });
            }
        }
        for InternalPart { snapshot, disk, image: from } in
            self.records.iter().flat_map(|(name, record)| internal_parts(name, record))
        {
            let to = self.moved.now(&from).to_owned();
            if to != from {
                changes.push(Does::SetImage { snapshot, disk, from, to });
            }
        }
        changes
    }

    /// What changes in the ledger.
    fn ledger(
        &self,
        headers: &[(LayerFile, LayerFile)],
        request: &RelocateRequest,
    ) -> Result<Option<Does>, Error> {
        let described = self.described.iter().map(|(_, image)| self.moved.now(&image.file));
        let open = self.open.into_iter().flatten().map(|file| self.moved.now(file));
        let tops: BTreeSet<&str> = described.chain(open).collect();
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for entry in self.ledger {
            let file = self.moved.now(&entry.file);
            let named = entry.named.as_deref().map(|named| self.moved.now(named).to_owned());
            let base = entry.base.as_deref().map(|base| self.moved.now(base).to_owned());
            let is_written = headers.iter().any(|(child, _)| child.file == file);
            if file == entry.file && named == entry.named && base == entry.base && !is_written {
                continue;
            }
            // Of one that is gone the ledger stays as it is.
            let Some(layer) = self.layer(file) else { continue };
            if file == entry.file {
                self.refuse_written(entry, layer, request)?;
            } else {
                remove.push(entry.file.clone());
            }
            add.push(LayerNote {
                file: LayerFile {
                    disk: entry.disk.clone(),
                    file: file.to_owned(),
                    format: entry.format.clone(),
                    identity: None,
                },
                owner: entry.owner,
                base: self.base(layer).or(base),
                looked: false,
                frozen: !tops.contains(file),
                named,
            });
        }
        Ok((!add.is_empty()).then_some(Does::NoteLayers { add, remove }))
    }

    /// What changes in the domain's description.
    fn description(&self) -> Vec<Does> {
        let changed = self.described.iter().filter_map(|(disk, image)| {
            let file = self.moved.now(&image.file);
            (file != image.file).then(|| {
                Does::Adopt(Adoption {
                    disk: disk.clone(),
                    file: file.to_owned(),
                    format: image.format.clone(),
                    was: Some(image.clone()),
                })
            })
        });
        changed.collect()
    }
}

/// What a relative name in the header of `before` led to, which leads to `seen` now that the file is `now`.
fn beside(before: &str, now: &str, seen: &str) -> Option<String> {
    let directory = |file: &str| file.rfind('/').map(|slash| file[..=slash].to_owned());
    let name = seen.strip_prefix(&directory(now)?)?;
    Some(format!("{}{name}", directory(before)?))
}

#[cfg(test)]
mod tests;
