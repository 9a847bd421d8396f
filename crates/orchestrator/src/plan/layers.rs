//! What planning is to know of the layers of a domain, and what it says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use uuid::Uuid;
use xlsnap_types::model::{DiskName, Owner, SnapshotName};

use super::{NewTop, names};
use crate::layers::{ExternalPart, InternalPart, LayerNode, LayerTree, PartFiles, Stray, Tidied, Tidy};
use crate::step::{Does, LayerNote, Stage};
use crate::{
    Can, Disk, DomainRef, Doubt, Inventory, LayerFile, NameSwap, Overlay, Run, SnapshotDeletion, Stream,
};

/// What planning is to know of the layers of a domain; of one without external snapshots nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerFacts {
    pub(crate) tree: LayerTree,
    /// The external parts of all records.
    pub(crate) parts: Vec<ExternalPart>,
    /// The internal parts of all records.
    pub(crate) inside: Vec<InternalPart>,
    /// The disks whose image can be named otherwise.
    pub(crate) renames: BTreeSet<DiskName>,
    /// What the guest does.
    pub(crate) guest: Option<Run>,
    /// Whether a storage daemon has the disks.
    pub(crate) served: bool,
    /// Why it cannot be stopped and let run, as a clause.
    pub(crate) no_pause: Option<String>,
    /// The layers that are not written to and not removed, and why, as a clause.
    pub(crate) closed: BTreeMap<String, String>,
    /// The snapshots whose records do not tell what they need: they cannot be read, or are not whole.
    pub(crate) unread: Vec<SnapshotName>,
    /// The first of these that may be read again later, and why it is not now.
    pub(crate) not_now: Option<(SnapshotName, String)>,
    /// Why another domain may need any of the layers.
    pub(crate) doubt: Option<Doubt>,
    /// The files that are not the domain's and may be written to, since the user said so of each.
    pub(crate) lent: BTreeSet<String>,
    /// The names that something has which is no layer.
    pub(crate) taken: BTreeSet<String>,
    /// The overlays beside the layers that nothing recorded names.
    pub(crate) strays: Vec<Stray>,
}

/// What to do about a record that does not tell what it needs.
pub(crate) fn about_unread(domain: &DomainRef, name: &SnapshotName) -> String {
    format!("repair the record, or delete it alone: xlsnap delete {} {name} --metadata-only", domain.name)
}

impl LayerFacts {
    /// The first snapshot whose record does not tell what it needs, which may be any of the layers; of those that are not about to go.
    pub(crate) fn unread_but(&self, gone: &BTreeSet<&SnapshotName>) -> Option<&SnapshotName> {
        self.unread.iter().find(|name| !gone.contains(name))
    }

    /// The layers that stay as they are, and are not named otherwise, when these snapshots are gone; and why, as a clause.
    pub(crate) fn closed_without(&self, gone: &BTreeSet<&SnapshotName>) -> BTreeMap<String, String> {
        let mut closed = self.closed_by_its_own(gone);
        if let Some(doubt) = &self.doubt {
            self.close_all(&mut closed, &doubt.why);
        }
        closed
    }

    /// The same as far as all of the other domains can be read.
    pub(crate) fn closed_by_its_own(&self, gone: &BTreeSet<&SnapshotName>) -> BTreeMap<String, String> {
        let mut closed = self.closed.clone();
        if let Some(name) = self.unread_but(gone) {
            let why = format!("snapshot {name} may need it, whose record cannot be read or is not whole");
            self.close_all(&mut closed, &why);
        }
        closed
    }

    /// What to do about what keeps files as they are that nothing here needs, where a sentence says that.
    pub(crate) fn advise(&self, warnings: &mut Vec<String>) {
        let Some(Doubt { why, advice }) = &self.doubt else { return };
        if warnings.iter().any(|warning| warning.contains(why)) {
            warnings.push(format!("for files that stay so: {advice}"));
        }
    }

    fn close_all(&self, closed: &mut BTreeMap<String, String>, why: &str) {
        for node in self.tree.nodes() {
            closed.entry(node.layer.file.clone()).or_insert_with(|| why.to_owned());
        }
    }

    /// What the ledger does not say yet, because its snapshots are older than it.
    pub(crate) fn unnoted(&self, inventory: &Inventory, tops: &[NewTop]) -> Vec<LayerNote> {
        let replaced = |file: &str| tops.iter().any(|top| top.old.file == file);
        let is_top = |file: &str| inventory.disks.iter().any(|disk| disk.image == file) && !replaced(file);
        let unnoted = self.tree.nodes().iter().filter(|node| !node.noted);
        unnoted.map(|node| note(node, !is_top(&node.layer.file))).collect()
    }

    /// The layers below a new overlay: the first becomes read-only, of the others the ledger may know nothing.
    pub(crate) fn below(&self, overlay: &Overlay) -> Vec<LayerNote> {
        let chain = self.tree.chain(&overlay.base).into_iter().enumerate();
        chain.filter(|(depth, node)| *depth == 0 || !node.noted).map(|(_, node)| note(node, true)).collect()
    }

    /// What tidying takes.
    pub(crate) fn tidy(&self, domain: &DomainRef, inventory: &Inventory, tidying: &Tidying<'_>) -> Tidied {
        let Tidying { gone, merges, flat, id, rate } = *tidying;
        let stay = |part: &&ExternalPart| !gone.contains(&part.snapshot);
        let stems = inventory.disks.iter().filter_map(|disk| {
            self.tree.get(&disk.image)?;
            Some((disk.name.clone(), names::stem(&domain.name, disk, &self.tree)))
        });
        Tidy {
            tree: self.tree.clone(),
            parts: self.parts.iter().filter(stay).cloned().collect(),
            inside: self.inside.iter().filter(|part| !gone.contains(&part.snapshot)).cloned().collect(),
            on: self.served || self.guest.is_some(),
            renames: self.renames.clone(),
            no_jobs: reasons(inventory, |disk| &disk.jobs),
            named_for_good: reasons(inventory, |disk| &disk.adopt),
            tops: inventory.disks.iter().map(|disk| (disk.name.clone(), disk.image.clone())).collect(),
            stems: stems.collect(),
            taken: self.taken.clone(),
            flat: flat.clone(),
            left: self.parts.iter().filter(|part| !stay(part)).map(|part| part.files.image.clone()).collect(),
            served: self.served,
            runs: self.guest.is_some_and(Run::runs),
            no_pause: self.no_pause.clone(),
            merges: merges == Merges::Done,
            closed: self.closed_without(gone),
            lent: self.lent.clone(),
            domain: domain.uuid,
            id,
            rate,
        }
        .plan()
    }

    /// The most bytes that are copied when data goes up.
    pub(crate) fn streamed_bytes(&self, stream: &Stream) -> u64 {
        let chain = self.tree.chain(&stream.into.file);
        let most = chain.first().map_or(u64::MAX, |into| into.layer.virtual_size);
        let copied = chain
            .iter()
            .skip(1)
            .take_while(|node| stream.below.as_ref().is_none_or(|below| below.file != node.layer.file));
        copied.fold(0, |sum: u64, node| sum.saturating_add(node.layer.bytes)).min(most)
    }

    /// Whether a process has the layer open because a disk is read through it.
    pub(super) fn is_read(&self, inventory: &Inventory, file: &str) -> bool {
        let has_process = self.served || self.guest.is_some();
        has_process
            && inventory
                .disks
                .iter()
                .any(|disk| self.tree.chain(&disk.image).iter().any(|node| node.layer.file == file))
    }

    /// The same when these internal snapshots are gone.
    pub(super) fn without(&self, snapshots: &[SnapshotDeletion]) -> Self {
        let mut after = self.clone();
        for target in snapshots.iter().flat_map(|deletion| &deletion.disks) {
            after.tree.drop_snapshot(&target.image, &target.snapshot);
        }
        for target in snapshots.iter().flat_map(|deletion| &deletion.layers) {
            after.tree.drop_snapshot(&target.layer.file, &target.snapshot);
        }
        after
    }

    /// Supposes that an external snapshot was taken of a disk.
    pub(crate) fn suppose(
        &mut self,
        domain: Uuid,
        snapshot: &SnapshotName,
        (overlay, names): (&Overlay, Option<&NameSwap>),
        inventory: &mut Inventory,
    ) {
        self.tree.add_overlay(overlay);
        let mut files = PartFiles {
            image: overlay.base.clone(),
            format: overlay.base_format.clone(),
            overlay: overlay.file.clone(),
            overlay_format: overlay.format.clone(),
        };
        if let Some(names) = names {
            self.follow_names(domain, names);
            std::mem::swap(&mut files.image, &mut files.overlay);
        }
        let made = self.tree.get(&files.overlay).map(|node| node.layer.identity);
        for disk in inventory.disks.iter_mut().filter(|disk| disk.name == overlay.disk) {
            disk.image.clone_from(&files.overlay);
            disk.format = overlay.format.clone();
            if names.is_some() {
                disk.identity = made;
                disk.snapshots.clear();
            }
        }
        self.parts.push(ExternalPart { snapshot: snapshot.clone(), disk: overlay.disk.clone(), files });
    }

    /// Of the files that held the states of `gone`: those that stay because more than one file stands on them, as sentences.
    pub(super) fn forked(&self, gone: &BTreeSet<&SnapshotName>, tidied: &Tidied) -> Vec<String> {
        let held = |file: &str| {
            self.parts.iter().any(|part| part.files.image == file && !gone.contains(&part.snapshot))
        };
        let goes = |file: &str| {
            tidied.stages.iter().flat_map(Stage::steps).any(|step| match &step.does {
                Does::Unlink(layer) => layer.file == file,
                Does::Merge(merge) => merge.into.file == file,
                _ => false,
            })
        };
        let parts = self.parts.iter().filter(|part| gone.contains(&part.snapshot));
        let files = parts.map(|part| &part.files.image).filter(|file| !held(file) && !goes(file));
        let mut told = Vec::new();
        for file in files.collect::<BTreeSet<_>>() {
            let children: Vec<&str> = self
                .tree
                .children(file)
                .map(|child| child.layer.file.as_str())
                .filter(|child| !goes(child))
                .collect();
            if let (Some(node), 2..) = (self.tree.get(file), children.len())
                && node.owner != Owner::Foreign
            {
                told.push(format!(
                    "{file} (disk {}) stays, because {} stand on it",
                    node.disk,
                    children.join(" and ")
                ));
            }
        }
        told
    }
}

/// The disks of which something cannot be done, and why.
fn reasons(inventory: &Inventory, can: impl Fn(&Disk) -> &Can) -> BTreeMap<DiskName, String> {
    let reason = |disk: &Disk| Some((disk.name.clone(), can(disk).why()?.to_owned()));
    inventory.disks.iter().filter_map(reason).collect()
}

/// What a tidying is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tidying<'a> {
    /// The snapshots whose records go.
    pub(crate) gone: &'a BTreeSet<&'a SnapshotName>,
    pub(crate) merges: Merges,
    /// The disks that are to stand on nothing.
    pub(crate) flat: &'a BTreeSet<DiskName>,
    /// The operation's own id.
    pub(crate) id: Uuid,
    /// The most bytes that are moved in a second.
    pub(crate) rate: Option<NonZeroU64>,
}

/// Whether layers that no snapshot needs any more are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merges {
    /// They are.
    Done,
    /// They stay.
    Left,
}

pub(crate) fn note(node: &LayerNode, frozen: bool) -> LayerNote {
    LayerNote {
        file: LayerFile { identity: None, ..node.file() },
        owner: node.owner,
        base: node.layer.base.file().map(str::to_owned),
        looked: true,
        frozen,
        named: node.named.clone(),
    }
}
