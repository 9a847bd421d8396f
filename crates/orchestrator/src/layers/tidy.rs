//! What becomes of layers that no snapshot needs any more: one that holds nothing but lost writes is removed, and one whose only
//! child can take its place is merged with it: the child's data goes down into it, or, where it may not be written, its data goes up into
//! the child. And the flattening of disks: all data goes up into what they write to. Pure: it makes steps, and its own picture of the tree follows them.
//!
//! No layer is unlinked before what replaces it is durable and every header and record names that. Each step may be done again.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use uuid::Uuid;
use xlsnap_types::model::{DiskName, ImageFormat, Owner};

use super::{ExternalPart, Guard, InternalPart, LayerNode, LayerTree};
use crate::orphan::word;
use crate::plan::{first_unused, note, token};
use crate::step::{Adoption, Does, LayerNote, Stage};
use crate::{Below, Layer, LayerFile, Merge, Overlay, Stream};

/// An overlay that takes no more than this has no data of its own: header, two levels of reference counts and one of clusters.
pub(crate) const WITHOUT_DATA: u64 = 5 * 64 * 1024;

/// A tree that is tidied.
#[derive(Clone)]
pub(crate) struct Tidy {
    pub(crate) tree: LayerTree,
    /// The external parts of the records that stay.
    pub(crate) parts: Vec<ExternalPart>,
    /// The internal parts of the records that stay.
    pub(crate) inside: Vec<InternalPart>,
    /// The image that each disk writes to.
    pub(crate) tops: BTreeMap<DiskName, String>,
    /// What the names of new overlays of each disk are made of.
    pub(crate) stems: BTreeMap<DiskName, String>,
    /// The names that something has which is no layer.
    pub(crate) taken: BTreeSet<String>,
    /// The disks that are to stand on nothing.
    pub(crate) flat: BTreeSet<DiskName>,
    /// The files that held the states of snapshots which this operation deletes.
    pub(crate) left: BTreeSet<String>,
    /// Whether a storage daemon has the disks.
    pub(crate) served: bool,
    /// Whether the domain's guest runs: a merge of its disk's image stops it.
    pub(crate) runs: bool,
    /// Why it cannot be stopped for that, as a clause.
    pub(crate) no_pause: Option<String>,
    /// Whether a process has the disks open.
    pub(crate) on: bool,
    /// The disks whose image can be named otherwise.
    pub(crate) renames: BTreeSet<DiskName>,
    /// The disks whose process moves no data between their layers, and why, as a clause.
    pub(crate) no_jobs: BTreeMap<DiskName, String>,
    /// The disks of which what starts the domain goes on naming the image that it names now, and why, as a clause.
    pub(crate) named_for_good: BTreeMap<DiskName, String>,
    /// Whether layers are merged.
    pub(crate) merges: bool,
    /// The layers that are not written to and not removed, and why, as a clause.
    pub(crate) closed: BTreeMap<String, String>,
    pub(crate) domain: Uuid,
    /// The operation's own id.
    pub(crate) id: Uuid,
    /// The most bytes that are moved in a second.
    pub(crate) rate: Option<NonZeroU64>,
}

/// What tidying takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tidied {
    pub(crate) stages: Vec<Stage>,
    /// What stays although no snapshot needs it, and why, as sentences.
    pub(crate) kept: Vec<String>,
}

/// Two layers that can become one.
struct Pair {
    base: LayerNode,
    /// Its only child.
    child: LayerNode,
    way: Way,
}

/// Where the data goes.
enum Way {
    /// The child's into the base.
    Down,
    /// The base's into the child.
    Up,
}

impl Tidy {
    /// Plans it.
    pub(crate) fn plan(mut self) -> Tidied {
        let mut done = Tidied::default();
        let files = |tidy: &Self| -> Vec<String> {
            tidy.tree.nodes().iter().map(|node| node.layer.file.clone()).collect()
        };
        let read: BTreeSet<String> = files(&self).into_iter().filter(|file| self.has_child(file)).collect();
        self.flatten(&mut done);
        while self.remove_all(&mut done) || (self.merges && self.merge_one(&mut done)) {}
        let left = files(&self).into_iter().filter(|file| read.contains(file) && !self.has_child(file));
        done.kept.extend(left.filter_map(|file| self.why_left(&file)));
        let waiting: Vec<String> = files(&self).into_iter().filter(|file| self.is_unnamed(file)).collect();
        for file in waiting.iter().filter(|_| self.merges) {
            done.kept.extend(self.why_kept(file));
        }
        done.stages = Stage::gathered(done.stages);
        done
    }

    fn push(&self, done: &mut Tidied, does: Does) {
        done.stages.push(Stage::one(self.domain, does));
    }

    fn is_top(&self, file: &str) -> bool {
        self.tops.values().any(|top| top == file)
    }

    /// Whether it holds the state of a snapshot.
    fn is_state(&self, file: &str) -> bool {
        self.parts.iter().any(|part| part.files.image == file)
    }

    /// Whether it is in the tree only because something stands on it.
    fn is_unnamed(&self, file: &str) -> bool {
        !self.is_top(file) && !self.is_state(file) && self.has_child(file)
    }

    /// Whether a layer stands on it.
    fn has_child(&self, file: &str) -> bool {
        self.tree.children(file).next().is_some()
    }

    /// Removes the layers that were made, that no disk writes to, no layer stands on, and no snapshot needs. The ledger forgets them all
    /// at once, and then each is unlinked.
    fn remove_all(&mut self, done: &mut Tidied) -> bool {
        let mut removed = Vec::new();
        let before = done.stages.len();
        while self.remove_one(&mut removed, done) {}
        self.unlink(removed, done);
        done.stages.len() > before
    }

    fn unlink(&self, removed: Vec<LayerFile>, done: &mut Tidied) {
        if !removed.is_empty() {
            let remove = removed.iter().map(|layer| layer.file.clone()).collect();
            self.push(done, Does::NoteLayers { add: Vec::new(), remove });
        }
        for layer in removed {
            self.push(done, Does::Unlink(layer));
        }
    }

    fn remove_one(&mut self, removed: &mut Vec<LayerFile>, done: &mut Tidied) -> bool {
        let lost = |node: &&LayerNode| {
            let file = &node.layer.file;
            node.owner == Owner::Made
                && node.guard == Guard::Same
                && node.layer.snapshots.is_empty()
                && !self.is_top(file)
                && !self.is_state(file)
                && !self.closed.contains_key(file)
                && !self.has_child(file)
        };
        let leaves: Vec<LayerNode> = self.tree.nodes().iter().filter(lost).cloned().collect();
        leaves.iter().any(|leaf| self.remove(leaf, removed, done))
    }

    fn remove(&mut self, leaf: &LayerNode, removed: &mut Vec<LayerFile>, done: &mut Tidied) -> bool {
        let file = &leaf.layer.file;
        let naming: Vec<usize> =
            (0..self.parts.len()).filter(|at| self.parts[*at].files.overlay == *file).collect();
        let other = |at: &usize| {
            let mut children = self.tree.children(&self.parts[*at].files.image);
            children.find(|child| child.layer.file != *file).map(LayerNode::file)
        };
        let others: Vec<Option<LayerFile>> = naming.iter().map(other).collect();
        if others.iter().any(Option::is_none) {
            // A record names an overlay of its base: an empty one serves.
            if leaf.layer.bytes <= WITHOUT_DATA {
                return false;
            }
            // What stood on it goes first: it is unlinked to be made anew.
            self.unlink(std::mem::take(removed), done);
            return self.empty(leaf, done);
        }
        for (at, other) in naming.into_iter().zip(others.into_iter().flatten()) {
            let mut to = self.parts[at].files.clone();
            to.overlay = other.file;
            to.overlay_format = other.format;
            self.set_part(at, to, done);
        }
        removed.push(leaf.file());
        self.tree.nodes.retain(|node| node.layer.file != *file);
        true
    }

    /// Makes an overlay anew, without data.
    fn empty(&mut self, leaf: &LayerNode, done: &mut Tidied) -> bool {
        let (Some(base), Some(below)) = (leaf.layer.base.file(), self.tree.below(leaf)) else { return false };
        let overlay = Overlay {
            disk: leaf.disk.clone(),
            file: leaf.layer.file.clone(),
            format: leaf.layer.format.clone(),
            base: base.to_owned(),
            base_format: below.layer.format.clone(),
            virtual_size: below.layer.virtual_size,
            token: token(self.id, 0x1000 + done.stages.len()),
        };
        self.push(done, Does::EmptyLayer { layer: leaf.file(), overlay });
        let note = LayerNote::made(&leaf.disk, &leaf.layer.file, &leaf.layer.format, base);
        self.push(done, Does::NoteLayers { add: vec![note], remove: Vec::new() });
        self.tree.make_anew(&leaf.layer.file);
        true
    }

    fn set_part(&mut self, at: usize, to: super::PartFiles, done: &mut Tidied) {
        let ExternalPart { snapshot, disk, files } = self.parts[at].clone();
        let does = Does::SetPart { snapshot, disk, from: files, to: to.clone() };
        self.push(done, does);
        self.parts[at].files = to;
    }

    /// The only child of an unnamed layer, if they can become one.
    fn pair(&self, file: &str) -> Result<Option<Pair>, String> {
        if !self.is_unnamed(file) {
            return Ok(None);
        }
        let mut children = self.tree.children(file);
        let (Some(base), Some(child), None) = (self.tree.get(file), children.next(), children.next()) else {
            return Ok(None);
        };
        let (below, above) = (&base.layer, &child.layer);
        let why = match base.owner {
            // Of a base that is not the domain's nothing is said: that it stays is what it is for.
            Owner::Foreign if base.guard == Guard::Same && !self.left.contains(file) => return Ok(None),
            Owner::Foreign if base.guard == Guard::Same => "it is not the domain's".to_owned(),
            _ if base.guard == Guard::Replaced || child.guard == Guard::Replaced => {
                "another file has its name now, see what check says".to_owned()
            }
            _ if base.guard == Guard::Written => "it was written to, see what check says".to_owned(),
            _ if child.guard == Guard::Written => {
                format!("{} was written to, see what check says", above.file)
            }
            _ if child.owner != Owner::Made => {
                format!("{} above it was not made for a snapshot", above.file)
            }
            _ if !above.snapshots.is_empty() => {
                format!("{} above it holds internal snapshots, which are read through it", above.file)
            }
            _ if above.encrypted != below.encrypted => {
                format!("{} above it is not encrypted as it is", above.file)
            }
            _ if above.virtual_size < below.virtual_size => {
                format!("the disk is smaller in {} above it", above.file)
            }
            _ if above.virtual_size > below.virtual_size && below.format != ImageFormat::Qcow2 => {
                format!("the disk is larger in {} above it, and it cannot grow", above.file)
            }
            _ if self.runs
                && self.is_top(&above.file)
                && let Some(why) = &self.no_pause =>
            {
                format!("the guest cannot be stopped while {} goes down into it: {why}", above.file)
            }
            _ if let Some(why) = self.closed.get(file).or_else(|| self.closed.get(&above.file)) => {
                why.clone()
            }
            _ if let Some(why) = self.no_job(above) => return Err(why),
            _ if self.is_top(&above.file)
                && !self.renames_into(base, child)
                && let Some(why) = self.named_for_good.get(&child.disk) =>
            {
                format!("disk {} cannot be made to write to it: {why}", child.disk)
            }
            _ => return Ok(Some(Pair { base: base.clone(), child: child.clone(), way: Way::Down })),
        };
        match self.goes_up(base, child) {
            true => Ok(Some(Pair { base: base.clone(), child: child.clone(), way: Way::Up })),
            false => Err(why),
        }
    }

    /// Why the process that has a layer open does not move data into it or out of it, as a clause.
    fn no_job(&self, layer: &Layer) -> Option<String> {
        let is_read = |top: &String| self.tree.chain(top).iter().any(|node| node.layer.file == layer.file);
        let (disk, _) = self.tops.iter().filter(|_| self.on).find(|(_, top)| is_read(top))?;
        self.no_jobs.get(disk).cloned()
    }

    /// Whether a layer takes the name of the disk's image when that is merged into it: the name by which others start it.
    fn renames_into(&self, base: &LayerNode, child: &LayerNode) -> bool {
        let file = &child.layer.file;
        let is_followed = self.tree.children(file).next().is_none() && base.named.as_ref() == Some(file);
        self.is_top(file) && is_followed && self.renames.contains(&base.disk)
    }

    /// Whether the data of a layer can go up into its only child, since the child's may not go down.
    fn goes_up(&self, base: &LayerNode, child: &LayerNode) -> bool {
        let is_sound = base.guard == Guard::Same && child.guard == Guard::Same;
        is_sound
            && child.owner != Owner::Foreign
            && child.layer.format == ImageFormat::Qcow2
            && child.layer.snapshots.is_empty()
            && (child.layer.encrypted || !base.layer.encrypted)
            && !self.closed.contains_key(&child.layer.file)
            && self.no_job(&child.layer).is_none()
            && !matches!(base.layer.base, Below::Foreign(_))
            && !self.served
    }

    /// Why a file stays on which nothing stands any more, as a sentence; `None` where that is not worth a word.
    fn why_left(&self, file: &str) -> Option<String> {
        let node = self.tree.get(file).filter(|_| !self.is_top(file) && !self.is_state(file))?;
        let disk = &node.disk;
        let said = format!("{file} (disk {disk}) stays, and nothing is read from it any more");
        if let Some(why) = self.closed.get(file) {
            return Some(format!("{said}: {why}"));
        }
        match node.owner {
            Owner::Domain if node.layer.snapshots.is_empty() => Some(format!(
                "{said}: it was the domain's image, which xlsnap never removes; when you do not need it: rm {}",
                word(file)
            )),
            Owner::Foreign if self.left.contains(file) => {
                Some(format!("{said}: it was not made for a snapshot"))
            }
            _ => None,
        }
    }

    fn why_kept(&self, file: &str) -> Option<String> {
        let disk = &self.tree.get(file)?.disk;
        match self.pair(file) {
            Err(why) => {
                Some(format!("{file} (disk {disk}) stays, although no snapshot needs it any more: {why}"))
            }
            Ok(_) => None,
        }
    }

    fn merge_one(&mut self, done: &mut Tidied) -> bool {
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
    fn flatten(&mut self, done: &mut Tidied) {
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
        let (from, into) = (child.file(), base.file());
        let was_top = self.is_top(&from.file);
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
        if takes_name {
            self.follow(&from.file, &into);
            self.rename(&into, &from, done);
        } else {
            if was_top {
                let LayerFile { disk, file, format, .. } = into.clone();
                self.push(done, Does::Adopt(Adoption { disk, file, format, was: None }));
            }
            self.drop_merged((&from, &into, above), note(base, !was_top), done);
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
        self.push(done, Does::NoteLayers { add: notes, remove: vec![from.file.clone()] });
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
