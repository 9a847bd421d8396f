//! The end of an interrupted operation, planned from its journal and a look.

use xlsnap_conf_store::Kind as StoreKind;
use xlsnap_types::model::SnapshotName;

use super::again::Again;
use crate::error::from_store;
use crate::journal::{Direction, Journal};
use crate::layers::is_another;
use crate::look::{holds_memory, is_named, is_ours, is_taken};
use crate::operation::back::look;
use crate::operation::delete::{Tree, moved, names};
use crate::operation::guest;
use crate::plan::{deletion_stages, heir, layer_deletion_stages};
use crate::step::{Does, Expected, ImageTarget, Look, Stage, Step, UndoPoint, back, gives_up_guest};
use crate::{
    Can, DomainRef, Effect, Error, Inventory, Kind, Layer, LayerFile, LayerSnapshot, Merge, NameSwap,
    Operation, Outcome, Overlay, Ports, Run, SaveTo, SnapshotAction, SnapshotDeletion,
};

/// Whether the record that a creation was to store is there.
async fn stored(ports: &Ports<'_>, domain: &DomainRef, journal: &Journal) -> Result<bool, Error> {
    let Some(draft) = journal.draft() else { return Ok(false) };
    match ports.store.load(domain.uuid, &draft.name).await {
        Ok(record) => Ok(is_ours(&record, draft, journal.id())),
        Err(e) if e.kind() == StoreKind::NotFound => Ok(false),
        Err(e) => Err(from_store(e, format!("the record of snapshot {} cannot be read", draft.name))),
    }
}

/// The snapshots inside layers that a deletion has still to take out. What cannot be looked at is left to the step itself.
async fn in_layers(ports: &Ports<'_>, journal: &Journal) -> Vec<LayerSnapshot> {
    let mut left = Vec::new();
    let Some(layers) = ports.layers.get() else { return left };
    for does in journal.does() {
        let Does::DeleteInLayer(target) = does else { continue };
        let holds = |layer: Layer| {
            let mut inside = layer.snapshots.iter();
            inside.any(|held| held.id == target.snapshot.id && held.name == target.snapshot.name)
        };
        let there = layers.look(&target.layer).await.map_or(true, |found| found.is_some_and(holds));
        left.extend(there.then(|| target.clone()));
    }
    left
}

/// What is left of the deletion of snapshots inside layers. A guest that runs has all its disks; of one that stands still the process
/// may have let go of them.
fn again_in_layers(domain: &DomainRef, journal: &Journal, facts: &Facts<'_>) -> Vec<Stage> {
    let first = journal.stage_with(|does| matches!(does, Does::DeleteRecord(_)));
    let (mut held, mut at_rest, mut read, mut notes) = (None, Vec::new(), Vec::new(), Vec::new());
    for does in journal.stages[..first.unwrap_or(journal.stages.len())]
        .iter()
        .flat_map(Stage::steps)
        .map(|step| &step.does)
    {
        match does {
            Does::StopGuest { was } => held = Some(*was),
            Does::DeleteInLayer(target) if facts.in_layers.contains(target) => {
                if held.is_some() { &mut read } else { &mut at_rest }.push(target.clone());
            }
            Does::NoteLayers { add, .. } => notes.clone_from(add),
            _ => {}
        }
    }
    let now = facts.look.guest.run();
    let held = held.filter(|_| now.is_some_and(|now| !now.runs() || !read.is_empty()));
    layer_deletion_stages(domain.uuid, (&at_rest, &read), held, notes)
}

/// What the end of an operation is planned from.
struct Facts<'a> {
    look: &'a Look,
    /// The snapshots that a deletion was to take out of layers and that are in them still.
    in_layers: Vec<LayerSnapshot>,
    /// Whether the record that a creation was to store is there.
    stored: bool,
    without_memory: bool,
}

/// How an interrupted operation is brought to its end.
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) stages: Vec<Stage>,
    pub(super) warnings: Vec<String>,
}

impl Ending {
    /// Looks, and plans from what it found.
    pub(super) async fn plan(
        ports: &Ports<'_>,
        domain: &DomainRef,
        journal: &Journal,
        without_memory: bool,
    ) -> Result<(Self, Look), Error> {
        let look = match journal.operation() {
            // The disks cannot be looked at: their description may name an image that is not there.
            Operation::Relocate => Look {
                guest: guest(ports, domain).await?,
                inventory: Inventory::default(),
                restart: Can::Yes,
                foreign: false,
            },
            _ => look(ports, domain, journal).await?,
        };
        let (stored, in_layers) = (stored(ports, domain, journal).await?, in_layers(ports, journal).await);
        let facts = Facts { look: &look, in_layers, stored, without_memory };
        let tree = Tree::read(ports.store, domain).await?;
        let ending = match journal.operation() {
            Operation::Create => Self::of_creation(domain, journal, &facts),
            Operation::Delete => Self::of_deletion(domain, journal, &facts, &tree),
            Operation::Flatten if names(journal).is_empty() => {
                Ok(Self::completed(tidying(journal, 0, &facts)))
            }
            Operation::Flatten => Self::of_deletion(domain, journal, &facts, &tree),
            Operation::Revert => Self::of_revert(domain, journal, &facts),
            // Its record is all that it makes.
            Operation::Adopt if facts.stored => Ok(Self::completed(Vec::new())),
            Operation::Adopt => Self::undone(journal, &[], &look),
            // Each of its steps may be done again.
            Operation::Relocate => Ok(Self::completed(journal.stages.clone())),
        };
        let mut ending = ending?;
        // On a way back each is tried, whatever became of those before it.
        if ending.outcome == Outcome::Completed {
            ending.drop_done(ports).await;
        }
        ending.drop_made(ports, journal.operation()).await;
        Ok((ending, look))
    }

    /// Takes out the steps on layers before the last one whose layer is unlinked: each relies on those before it, so that they are
    /// done; and what they are about may be gone since.
    async fn drop_done(&mut self, ports: &Ports<'_>) {
        let Some(layers) = ports.layers.get() else { return };
        let mut gone = Vec::new();
        for (at, stage) in self.stages.iter().enumerate() {
            gone.extend(stage.steps().iter().filter_map(|step| match &step.does {
                Does::Unlink(layer) => Some((at, layer, None)),
                Does::Rename { file, over } => Some((at, over, file.identity)),
                _ => None,
            }));
        }
        let mut done = None;
        for (at, layer, renamed) in gone.into_iter().rev() {
            // One that cannot be looked at is left to the step itself.
            let Ok(found) = layers.look(layer).await else { continue };
            let is_gone = match (&found, renamed) {
                (Some(found), Some(renamed)) => renamed.is_still(found.identity),
                (None, Some(_)) => false,
                (found, None) => found.as_ref().is_none_or(|found| {
                    layer.identity.is_some_and(|planned| !planned.is_still(found.identity))
                }),
            };
            if is_gone {
                done = Some(at);
                break;
            }
        }
        let Some(done) = done else { return };
        let mut at = 0..;
        self.stages.retain(|stage| {
            // The unlinking itself once more: it lets go what is left of the merge.
            let is_later = at.next().is_some_and(|at| at >= done);
            let of_process = |does: &Does| {
                matches!(
                    does,
                    Does::ResumeGuest | Does::MakeLayer(_) | Does::Detach(_) | Does::SwapTop { .. }
                )
            };
            is_later || !stage.any(|does| does.is_tidying() || of_process(does))
        });
    }

    /// Makes overlays that records name anew, whatever is there of them: they hold nothing, and of one that looks whole the access may
    /// be missing. What was written to stays, and so does one that has another base by now: later steps followed it.
    async fn drop_made(&mut self, ports: &Ports<'_>, operation: Operation) {
        let Some(layers) = ports.layers.get() else { return };
        if !matches!(operation, Operation::Delete | Operation::Flatten) {
            return;
        }
        let mut stages = Vec::with_capacity(self.stages.len());
        for stage in std::mem::take(&mut self.stages) {
            let Stage::One(Step { domain, does: Does::MakeLayer(overlay) }) = &stage else {
                stages.push(stage);
                continue;
            };
            let Overlay { disk, file, format, .. } = overlay.clone();
            match layers.look(&LayerFile { disk, file, format, identity: None }).await {
                Ok(None) => stages.push(stage),
                Ok(Some(found)) if is_another(&found, overlay) => {}
                _ => {
                    stages.push(Stage::one(*domain, Does::RemoveLayer(overlay.clone())));
                    stages.push(stage);
                }
            }
        }
        self.stages = stages;
    }

    fn completed(stages: Vec<Stage>) -> Self {
        Self { outcome: Outcome::Completed, stages, warnings: Vec::new() }
    }

    fn undone(journal: &Journal, begun: &[Stage], look: &Look) -> Result<Self, Error> {
        let mut way = back(begun, &journal.stages, look)?;
        // That was done before the look.
        let is_settled = |does: &Does| matches!(does, Does::AbandonMemory(save) if save.to == SaveTo::Inside);
        way.stages.retain(|stage| !stage.any(is_settled));
        Ok(Self { outcome: Outcome::Undone, stages: way.stages, warnings: way.kept })
    }

    fn of_creation(domain: &DomainRef, journal: &Journal, facts: &Facts<'_>) -> Result<Self, Error> {
        let look = facts.look;
        let forward = journal.direction == Direction::Forward;
        let from =
            |is_it: fn(&Does) -> bool| journal.stage_with(is_it).map_or(&[][..], |at| &journal.stages[at..]);
        let thaw = journal.does().filter_map(|does| match does {
            Does::Freeze { bound } if look.guest.is_on() => Some(Does::Thaw { bound: *bound }),
            _ => None,
        });
        if forward && facts.stored {
            // The commit point was passed.
            let is_frozen = journal.stage_with(|does| matches!(does, Does::Thaw { .. })) == Some(journal.at)
                && look.guest.run().is_some_and(Run::runs);
            let thaw = thaw.filter(|_| is_frozen).map(|does| Stage::one(domain.uuid, does));
            let rest = from(|does| matches!(does, Does::SetCurrent { .. })).iter().cloned();
            return Ok(Self::completed(thaw.chain(rest).collect()));
        }
        let taking = journal.stage_with(|does| matches!(does, Does::Take(_) | Does::TakeInside { .. }));
        let taking = taking.unwrap_or(journal.stages.len());
        let actions: Vec<SnapshotAction> = journal
            .does()
            .flat_map(|does| match does {
                Does::Take(action) => std::slice::from_ref(action),
                Does::TakeInside { actions, .. } => actions.as_slice(),
                _ => &[],
            })
            .cloned()
            .collect();
        let inside = journal.does().any(|does| matches!(does, Does::TakeInside { .. }));
        // Whether a memory file is whole only the record tells.
        let outside =
            journal.does().any(|does| matches!(does, Does::BeginMemory(save) if save.to != SaveTo::Inside));
        let external = actions.iter().any(|action| matches!(action, SnapshotAction::External(_)));
        let reached = !external || journal.at >= taking;
        let swaps: Vec<NameSwap> = journal
            .does()
            .filter_map(|does| match does {
                Does::SwapNames(names) => Some(names.clone()),
                _ => None,
            })
            .collect();
        let there = is_taken(&actions, look.guest, &look.inventory)
            && (!inside || holds_memory(&actions, &look.inventory))
            && swaps.iter().all(|names| is_named(names, &look.inventory));
        if forward && !outside && reached && there && !look.foreign {
            let resume =
                journal.does().find(|does| **does == Does::ResumeGuest && look.guest.is_on()).cloned();
            let first = resume.into_iter().chain(thaw);
            let mut stages: Vec<Stage> = first.map(|does| Stage::one(domain.uuid, does)).collect();
            stages.extend(from(|does| matches!(does, Does::Adopt(_) | Does::StoreRecord(_))).iter().cloned());
            let opened = Does::Look(Expected::Taken { actions, inside });
            let named = (!swaps.is_empty()).then_some(Does::Look(Expected::Named(swaps)));
            let at = stages.iter().position(|stage| stage.any(|does| matches!(does, Does::StoreRecord(_))));
            // An overlay that cannot be opened is found before the record says that it is there.
            let at = at.unwrap_or(stages.len());
            let looks = [opened].into_iter().chain(named).map(|does| Stage::one(domain.uuid, does));
            stages.splice(at..at, looks);
            return Ok(Self::completed(stages));
        }
        let is_renaming = journal.does().any(|does| matches!(does, Does::SwapNames(_)));
        // Before a guest goes on, which may write to files with the names that were kept, the journal is written.
        let resuming = journal.stage_with(|does| matches!(does, Does::ResumeGuest | Does::RunOn(_)));
        let resuming = resuming.filter(|at| forward && is_renaming && journal.at < *at);
        let begun = match resuming {
            _ if forward && external && !reached => taking,
            Some(resuming) => resuming,
            None if !forward && is_renaming => journal.at,
            None => journal.stages.len(),
        };
        Self::undone(journal, &journal.stages[..begun], look)
    }

    fn of_deletion(
        domain: &DomainRef,
        journal: &Journal,
        facts: &Facts<'_>,
        tree: &Tree,
    ) -> Result<Self, Error> {
        let names = names(journal);
        if names.is_empty() {
            // What no record names.
            let mut stages = again_in_layers(domain, journal, facts);
            for does in journal.does() {
                let left = match does {
                    Does::DeleteInside(target) => is_there(domain, target, facts.look, journal.name())?,
                    // One that is gone is removed.
                    Does::RemoveMemory { .. } => true,
                    _ => false,
                };
                stages.extend(left.then(|| Stage::one(domain.uuid, does.clone())));
            }
            return Ok(Self::completed(stages));
        }
        let gone = names.iter().copied().collect();
        let mut deletions: Vec<SnapshotDeletion> = names
            .iter()
            .map(|name| SnapshotDeletion {
                name: (*name).clone(),
                parent: heir(&tree.parents, &gone, name),
                disks: Vec::new(),
                layers: Vec::new(),
                memory: None,
            })
            .collect();
        let mut at = 0;
        for does in journal.does() {
            match does {
                Does::DeleteInside(target) => {
                    let there = is_there(domain, target, facts.look, &deletions[at].name)?;
                    deletions[at].disks.extend(there.then(|| target.clone()));
                }
                // It goes before the record, so that it is gone with it.
                Does::RemoveMemory { file, snapshot } if tree.parents.contains_key(snapshot) => {
                    deletions[at].memory = Some(file.clone());
                }
                Does::DeleteRecord(_) => at = (at + 1).min(deletions.len() - 1),
                _ => {}
            }
        }
        let current = journal.does().find_map(|does| match does {
            Does::SetCurrent { from: Some(from), to } => Some((from, to.clone())),
            _ => None,
        });
        let current = current.filter(|(from, _)| tree.parents.contains_key(*from));
        let parents = moved(tree, &names);
        // These come before the first record goes.
        let is_before = names.first().is_some_and(|first| tree.parents.contains_key(*first));
        let mut stages = if is_before { again_in_layers(domain, journal, facts) } else { Vec::new() };
        stages.extend(deletion_stages(domain.uuid, &deletions, &parents, current));
        // Each step on layers may be done again, in this order.
        let last =
            journal.stages.iter().rposition(|stage| stage.any(|does| matches!(does, Does::DeleteRecord(_))));
        stages.extend(tidying(journal, last.map_or(0, |last| last + 1), facts));
        Ok(Self::completed(stages))
    }

    fn of_revert(domain: &DomainRef, journal: &Journal, facts: &Facts<'_>) -> Result<Self, Error> {
        let look = facts.look;
        if journal.is_committed() {
            let left = journal.does().filter(|does| match does {
                Does::DropUndo(point) => look.inventory.mark(point).is_some(),
                Does::DeleteInside(target) => {
                    let disk = look.inventory.disk(&target.disk).filter(|disk| disk.image == target.image);
                    disk.is_some_and(|disk| disk.holds(&target.snapshot))
                }
                does => does.is_tidying(),
            });
            let stages = left.map(|does| Stage::one(domain.uuid, does.clone())).collect();
            return Ok(Self::completed(Stage::gathered(stages)));
        }
        let marks: Vec<&UndoPoint> = journal
            .does()
            .filter_map(|does| match does {
                Does::MarkUndo(point) => Some(point),
                _ => None,
            })
            .collect();
        if journal.direction == Direction::Back {
            return Self::undone(journal, &journal.stages[..journal.at], look);
        }
        if journal.does().any(Does::makes_top) {
            // What the disks wrote to before is there, whole.
            let commit = journal.stage_with(|does| *does == Does::Commit).unwrap_or(journal.stages.len());
            let is_told = |at: &usize| gives_up_guest(&journal.stages, *at);
            let begun = (journal.at + 1..commit).find(is_told).unwrap_or(commit);
            return Self::undone(journal, &journal.stages[..begun], look);
        }
        // Whether such a disk has its mark cannot be seen.
        let is_away = |point: &&&UndoPoint| {
            look.inventory.disk(&point.disk).is_none_or(|disk| disk.image != point.image)
        };
        if let Some(point) = marks.iter().find(is_away) {
            let message = format!(
                "{} is no longer the image of disk {} of domain {}, and may hold the mark {}, which leads back",
                point.image, point.disk, domain.name, point.tag
            );
            return Err(Error::new(Kind::Refused, Effect::None, message)
                .with_advice("give the domain its disk back, then run recover"));
        }
        if !marks.iter().all(|point| look.inventory.mark(point).is_some()) {
            // Nothing is changed before all marks are there.
            let marked = journal.stage_with(|does| matches!(does, Does::MarkUndo(_))).map_or(0, |at| at + 1);
            return Self::undone(journal, &journal.stages[..marked], look);
        }
        Again { domain, journal, look }.plan(facts.without_memory)
    }
}

/// The steps on layers from a stage on.
fn tidying(journal: &Journal, from: usize, facts: &Facts<'_>) -> Vec<Stage> {
    let is_one = |does: &Does| {
        does.is_tidying()
            || matches!(does, Does::MakeLayer(_))
            || matches!(does, Does::ResumeGuest | Does::Detach(_) | Does::SwapTop { .. })
                && facts.look.guest.is_on()
    };
    let left = journal.stages[from..].iter().filter(|stage| stage.any(is_one));
    let mut stages: Vec<Stage> = Vec::new();
    for stage in left {
        // The guest of a merge that was cut short stands still, and must not run before all of them are ended.
        stages.retain(|before| !(is_resume(before) && stage.any(needs_rest)));
        let detaches = stage.steps().first().filter(|step| matches!(step.does, Does::Detach(_)));
        stages.extend(detaches.map(|step| Stage::one(step.domain, Does::StopGuest { was: Run::Waits })));
        stages.push(stage.clone());
    }
    stages
}

fn is_resume(stage: &Stage) -> bool {
    stage.any(|does| *does == Does::ResumeGuest)
}

/// Whether a guest that stands still for a step before this one has to go on doing that.
fn needs_rest(does: &Does) -> bool {
    matches!(does, Does::Detach(_) | Does::Merge(Merge { active: true, .. }))
}

/// Whether a snapshot is in its image. A disk that the domain has no more may hold it still.
pub(super) fn is_there(
    domain: &DomainRef,
    target: &ImageTarget,
    look: &Look,
    name: &SnapshotName,
) -> Result<bool, Error> {
    let Some(disk) = look.inventory.disk(&target.disk) else {
        let message = format!(
            "disk {} is no longer a disk of domain {}, and {} may hold the snapshot {name}",
            target.disk, domain.name, target.image
        );
        return Err(Error::new(Kind::Refused, Effect::None, message)
            .with_advice("give the domain its disk back, then run recover"));
    };
    Ok(disk.holds(&target.snapshot))
}
