//! What becomes of layers that no snapshot needs any more: one that holds nothing but lost writes is removed, and one whose only
//! child can take its place is merged with it: the child's data goes down into it, or, where it may not be written, its data goes up into
//! the child. And the flattening of disks: all data goes up into what they write to. Pure: it makes steps, and its own picture of the tree follows them.
//!
//! No layer is unlinked before what replaces it is durable and every header and record names that. Each step may be done again.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use uuid::Uuid;
use xlsnap_types::model::{DiskName, Owner};

use super::{ExternalPart, Guard, InternalPart, LayerNode, LayerTree, PartFiles};
use crate::plan::token;
use crate::step::{Does, LayerNote, Stage};
use crate::{LayerFile, Overlay};

mod merge;
mod pair;

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
    /// The files that are not the domain's and may be written to, since the user said so of each.
    pub(crate) lent: BTreeSet<String>,
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
    /// Why no data goes down into files that are not the domain's and may be written to, as clauses: as it was at the beginning.
    pub(crate) why_not: BTreeMap<String, String>,
}

impl Tidy {
    /// Plans it.
    pub(crate) fn plan(mut self) -> Tidied {
        let why_not = self.lent.iter().map(|file| (file.clone(), self.why_not_into(file))).collect();
        let mut done = Tidied { why_not, ..Tidied::default() };
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

    fn set_part(&mut self, at: usize, to: PartFiles, done: &mut Tidied) {
        let ExternalPart { snapshot, disk, files } = self.parts[at].clone();
        let does = Does::SetPart { snapshot, disk, from: files, to: to.clone() };
        self.push(done, does);
        self.parts[at].files = to;
    }
}
