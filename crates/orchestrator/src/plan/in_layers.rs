//! Deleting snapshots inside layers that their disks do not write to.

use std::collections::BTreeSet;

use xlsnap_types::model::Owner;

use super::{LayerFacts, layer_deletion_stages, note, refused};
use crate::layers::{Guard, LayerNode};
use crate::orphan::word;
use crate::step::Stage;
use crate::{Can, DomainRef, Error, Inventory, LayerSnapshot, Run, SnapshotId};

/// What planning such a deletion is to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InLayers<'a> {
    pub(crate) domain: &'a DomainRef,
    pub(crate) inventory: &'a Inventory,
    pub(crate) layers: &'a LayerFacts,
    /// Whether the process that has the disks can let go of them and take them back.
    pub(crate) release: &'a Can,
}

impl InLayers<'_> {
    /// The snapshot in the layer, if it can be deleted there. `or_else` is what else can be done, as the end of a sentence.
    pub(crate) fn target(
        self,
        about: &str,
        or_else: &str,
        (node, snapshot): (&LayerNode, SnapshotId),
    ) -> Result<LayerSnapshot, Error> {
        let (domain, file) = (&self.domain.name, &node.layer.file);
        let refuse = |why: &str, advice: &str| {
            let message =
                format!("{about}: the snapshot is inside {file}, which its disk does not write to: {why}");
            Err(refused(message).with_advice(format!("{advice}, {or_else}")))
        };
        let check = format!("see what is wrong with it: xlsnap check {domain}");
        match node.guard {
            Guard::Same => {}
            Guard::Written => return refuse("it was written to since", &check),
            Guard::Replaced => return refuse("another file has its name now", &check),
        }
        if node.owner == Owner::Foreign && !self.layers.lent.contains(file) {
            let advice = format!("if it may be: add --no-merge --into-base {}", word(file));
            return refuse("the file is not the domain's, and what is not is not written", &advice);
        }
        if let Some(why) = self.layers.closed.get(file) {
            return refuse(why, "give the file up there first");
        }
        if node.layer.snapshots.iter().filter(|held| held.name == snapshot.name).count() > 1 {
            let why = format!("it holds more than one snapshot {}", snapshot.name);
            return refuse(&why, "delete the other one from it by its id");
        }
        if self.layers.is_read(self.inventory, file) {
            if self.layers.served {
                return refuse("a storage daemon reads it", "end the storage daemon first");
            }
            if let Some(why) = self.release.why() {
                let why = format!("the process of the domain cannot let go of it: {why}");
                return refuse(&why, "shut the domain down first");
            }
        }
        Ok(LayerSnapshot { layer: node.file(), snapshot })
    }

    /// Their deletion. Of a guest whose process reads some of the layers a warning says that it stands still.
    pub(crate) fn stages(
        self,
        targets: impl Iterator<Item = LayerSnapshot>,
        warnings: &mut Vec<String>,
    ) -> Vec<Stage> {
        let is_read = |target: &LayerSnapshot| self.layers.is_read(self.inventory, &target.layer.file);
        let (read, at_rest): (Vec<_>, Vec<_>) = targets.partition(is_read);
        let held = self.layers.guest.filter(|_| !read.is_empty());
        if held.is_some_and(Run::runs) {
            let files: BTreeSet<&str> = read.iter().map(|target| target.layer.file.as_str()).collect();
            let files: Vec<&str> = files.into_iter().collect();
            warnings.push(format!(
                "the guest of domain {} stands still while its process lets go of {}",
                self.domain.name,
                files.join(" and ")
            ));
        }
        let mut written: Vec<&str> = Vec::new();
        let mut notes = Vec::new();
        for LayerSnapshot { layer, .. } in at_rest.iter().chain(&read) {
            if !written.contains(&layer.file.as_str()) {
                written.push(&layer.file);
                notes.extend(self.layers.tree.get(&layer.file).map(|node| note(node, true)));
            }
        }
        layer_deletion_stages(self.domain.uuid, (&at_rest, &read), held, notes)
    }
}
