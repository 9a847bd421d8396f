//! The moving of data between layers, and what follows it: records, the ledger, names.

use std::collections::BTreeSet;

use xlsnap_types::model::{DiskName, ImageFormat, Owner};

use super::pair::{Pair, Way};
use super::{Tidied, Tidy};
use crate::layers::{ExternalPart, InternalPart, LayerNode};
use crate::plan::{first_unused, note, token};
use crate::step::{Adoption, Does, LayerNote};
use crate::{Below, LayerFile, Merge, Overlay, Stream};

impl Tidy {
    pub(super) fn merge_one(&mut self, done: &mut Tidied) -> bool {
        let mut names = self.tree.nodes().iter().map(|node| &node.layer.file);
        let Some(pair) = names.find_map(|file| self.pair(file).ok().flatten()) else { return false };
        let Pair { base, child, way } = &pair;
        match way {
            Way::Down => self.merge(base, child, done),
            Way::Up => {
                let below = self.tree.below(base).cloned();
                self.stream(child, base, below.as_ref(), done);
            }
        }
        true
    }

    /// Makes the chosen disks stand on nothing, unless tidying alone does it.
    pub(super) fn flatten(&mut self, done: &mut Tidied) {
        for disk in self.flat.clone() {
            let is_on = |tidy: &Self| {
                let top = tidy.tops.get(&disk).and_then(|top| tidy.tree.get(top))?;
                Some((top.clone(), tidy.tree.below(top)?.clone()))
            };
            let Some((top, was)) = is_on(self) else { continue };
            let mut tidied = Self { flat: BTreeSet::new(), ..self.clone() };
            let mut unused = Tidied::default();
            while tidied.remove_all(&mut unused) || (tidied.merges && tidied.merge_one(&mut unused)) {}
            if is_on(&tidied).is_some() {
                self.stream(&top, &was, None, done);
            }
        }
    }

    /// Data goes up into a layer.
    fn stream(&mut self, into: &LayerNode, was: &LayerNode, below: Option<&LayerNode>, done: &mut Tidied) {
        let file = &into.layer.file;
        let stream = Stream {
            into: into.file(),
            was: was.file(),
            below: below.map(LayerNode::file),
            rate: self.rate,
            token: token(self.id, 0x1000 + done.stages.len()),
        };
        self.push(done, Does::Stream(stream));
        let noted =
            LayerNote { base: below.map(|below| below.layer.file.clone()), ..note(into, !self.is_top(file)) };
        self.push(done, Does::NoteLayers { add: vec![noted], remove: Vec::new() });
        let copied: u64 = self
            .tree
            .chain(file)
            .into_iter()
            .skip(1)
            .take_while(|node| below.is_none_or(|below| below.layer.file != node.layer.file))
            .fold(0, |sum, node| sum.saturating_add(node.layer.bytes));
        for node in self.tree.nodes.iter_mut().filter(|node| node.layer.file == *file) {
            node.layer.bytes = node.layer.bytes.saturating_add(copied).min(node.layer.virtual_size);
            node.layer.base = match below {
                None => Below::Nothing,
                Some(below) => {
                    Below::File { file: below.layer.file.clone(), format: Some(below.layer.format.clone()) }
                }
            };
        }
        let naming: Vec<usize> =
            (0..self.parts.len()).filter(|at| self.parts[*at].files.overlay == *file).collect();
        for at in naming {
            self.name_overlay(at, done);
        }
    }

    /// Makes a record name an overlay of what holds its state: one that is there, or a new one, without data.
    fn name_overlay(&mut self, at: usize, done: &mut Tidied) {
        let ExternalPart { snapshot, disk, files } = self.parts[at].clone();
        let Some(state) = self.tree.get(&files.image).cloned() else { return };
        let there = self.tree.children(&files.image).next().map(LayerNode::file);
        let mut to = files;
        if let Some(LayerFile { file, format, .. }) = there {
            (to.overlay, to.overlay_format) = (file, format);
            if to != self.parts[at].files {
                self.set_part(at, to, done);
            }
            return;
        }
        let Some(file) = self.free_name(&disk, snapshot.as_str()) else { return };
        let overlay = Overlay {
            disk: disk.clone(),
            file,
            format: ImageFormat::Qcow2,
            base: to.image.clone(),
            base_format: state.layer.format.clone(),
            virtual_size: state.layer.virtual_size,
            token: token(self.id, 0x1000 + done.stages.len()),
        };
        let noted = LayerNote::made(&disk, &overlay.file, &overlay.format, &overlay.base);
        self.push(done, Does::MakeLayer(overlay.clone()));
        self.push(done, Does::NoteLayers { add: vec![noted], remove: Vec::new() });
        self.tree.add_overlay(&overlay);
        (to.overlay, to.overlay_format) = (overlay.file, overlay.format);
        self.set_part(at, to, done);
    }

    /// A name for an overlay that no file has: `IMAGE.SNAPSHOT-N.qcow2`.
    fn free_name(&self, disk: &DiskName, snapshot: &str) -> Option<String> {
        let is_taken = |file: &str| self.taken.contains(file);
        first_unused(self.stems.get(disk)?, snapshot, &ImageFormat::Qcow2, &self.tree, is_taken)
    }

    fn merge(&mut self, base: &LayerNode, child: &LayerNode, done: &mut Tidied) {
        let was_top = self.is_top(&child.layer.file);
        // Several disks may read a file: it is of the one that writes to it from then on.
        let disk = if was_top { &child.disk } else { &base.disk };
        let base = &LayerNode { disk: disk.clone(), ..base.clone() };
        let (from, into) = (child.file(), base.file());
        let above: Vec<LayerFile> = self.tree.children(&from.file).map(LayerNode::file).collect();
        // The disk's image has the name by which others start it: `into` takes that, and `from` is gone with it.
        let takes_name = self.renames_into(base, child);
        let merge = Merge {
            from: from.clone(),
            into: into.clone(),
            active: was_top,
            above: above.clone(),
            rate: self.rate,
            token: token(self.id, 0x1000 + done.stages.len()),
        };
        self.push(done, Does::Merge(merge));
        // What the domain writes to from then on is its own.
        let is_given = was_top && base.owner == Owner::Foreign;
        let owner = if is_given { Owner::Domain } else { base.owner };
        if takes_name {
            self.follow(&from.file, &into);
            for node in self.tree.nodes.iter_mut().filter(|node| node.layer.file == into.file) {
                (node.disk, node.owner) = (into.disk.clone(), owner);
            }
            self.rename(&into, &from, done);
        } else {
            if was_top {
                let LayerFile { disk, file, format, .. } = into.clone();
                self.push(done, Does::Adopt(Adoption { disk, file, format, was: None }));
            }
            self.drop_merged((&from, &into, above), LayerNote { owner, ..note(base, !was_top) }, done);
        }
        if was_top && self.runs {
            self.push(done, Does::ResumeGuest);
        }
    }

    /// What stands on a layer that was merged stands on the one below it, and the layer goes.
    fn drop_merged(
        &mut self,
        (from, into, above): (&LayerFile, &LayerFile, Vec<LayerFile>),
        noted: LayerNote,
        done: &mut Tidied,
    ) {
        // A header is a write: what the ledger says of the layer is said anew.
        let mut notes: Vec<LayerNote> = Vec::new();
        for child in above {
            notes.push(LayerNote {
                frozen: !self.is_top(&child.file),
                file: LayerFile { identity: None, ..child.clone() },
                owner: Owner::Made,
                base: Some(into.file.clone()),
                looked: false,
                named: None,
            });
            self.push(done, Does::Reheader { child, base: into.clone() });
        }
        let states: Vec<usize> =
            (0..self.parts.len()).filter(|at| self.parts[*at].files.image == from.file).collect();
        for at in states {
            let mut to = self.parts[at].files.clone();
            to.image.clone_from(&into.file);
            to.format = into.format.clone();
            self.set_part(at, to, done);
        }
        notes.push(noted);
        let mut remove = vec![from.file.clone()];
        // Whose a file is the ledger keeps as long as it has it.
        remove.extend(self.lent.get(&into.file).filter(|_| self.is_top(&from.file)).cloned());
        self.push(done, Does::NoteLayers { add: notes, remove });
        self.push(done, Does::Unlink(from.clone()));
        self.follow(&from.file, into);
    }

    /// Gives the file that has the disk's content the name of the disk's image.
    fn rename(&mut self, file: &LayerFile, over: &LayerFile, done: &mut Tidied) {
        let renamed = LayerFile { file: over.file.clone(), ..file.clone() };
        if self.on {
            self.push(done, Does::Detach(file.clone()));
        }
        self.push(done, Does::Rename { file: file.clone(), over: over.clone() });
        if self.on {
            self.push(done, Does::SwapTop { to: renamed.clone(), from: file.clone() });
        }
        let LayerFile { disk, file: name, format, .. } = renamed;
        self.push(done, Does::Adopt(Adoption { disk, file: name, format, was: None }));
        let mut inside = std::mem::take(&mut self.inside);
        for part in inside.iter_mut().filter(|part| part.image == file.file) {
            let InternalPart { snapshot, disk, image } = part.clone();
            self.push(done, Does::SetImage { snapshot, disk, from: image, to: over.file.clone() });
            part.image.clone_from(&over.file);
        }
        self.inside = inside;
        for at in 0..self.parts.len() {
            let mut files = self.parts[at].files.clone();
            if files.overlay == file.file {
                files.overlay.clone_from(&over.file);
                self.set_part(at, files, done);
            }
        }
        for node in self.tree.nodes.iter_mut().filter(|node| node.layer.file == file.file) {
            node.layer.file.clone_from(&over.file);
            node.named = None;
        }
        for top in self.tops.values_mut().filter(|top| **top == file.file) {
            top.clone_from(&over.file);
        }
        let add = self.tree.get(&over.file).map(|node| note(node, false)).into_iter().collect();
        self.push(done, Does::NoteLayers { add, remove: vec![file.file.clone()] });
    }

    /// The picture after a merge: what stood on `from` stands on `into`.
    fn follow(&mut self, from: &str, into: &LayerFile) {
        let Some(gone) = self.tree.get(from).cloned() else { return };
        let above: Vec<String> = self.tree.children(from).map(|child| child.layer.file.clone()).collect();
        self.tree.nodes.retain(|node| node.layer.file != from);
        for node in &mut self.tree.nodes {
            if above.contains(&node.layer.file) {
                node.layer.base = Below::File { file: into.file.clone(), format: Some(into.format.clone()) };
            }
            if node.layer.file == into.file {
                node.layer.bytes = node.layer.bytes.saturating_add(gone.layer.bytes);
                node.layer.virtual_size = gone.layer.virtual_size;
            }
        }
        for top in self.tops.values_mut().filter(|top| *top == from) {
            top.clone_from(&into.file);
        }
    }
}
