//! Snapshots of disks that no record names: the design's `libxl_disk_snapshot_create`, `_delete` and `_revert`. They are planned,
//! journaled and recovered as all operations.

use tracing::Instrument;
use uuid::Uuid;
use xlsnap_types::model::{AbsoluteFile, DiskName, ImageFormat, SnapshotName};

use super::back::go_back;
use super::{finish, guest, inventory};
use crate::error::from_port;
use crate::execute::Execution;
use crate::journal::Journal;
use crate::plan::{Reverting, disk_stages, reverting_stages, token};
use crate::record::cannot_go_back;
use crate::session::Session;
use crate::step::{Does, ImageTarget, Stage, UndoPoint};
use crate::{
    Disk, Effect, Error, GuestState, Inventory, Kind, Operation, Overlay, Ports, RevertWay, SnapshotAction,
    SnapshotId,
};

/// A disk that is to be taken without a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTake {
    /// The disk.
    pub disk: DiskName,
    /// How it is taken.
    pub how: TakeHow,
}

/// How a disk is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeHow {
    /// Inside its image, under this name.
    Internal(SnapshotName),
    /// Into this new file.
    External {
        /// The file.
        file: AbsoluteFile,
        /// Its format.
        format: ImageFormat,
    },
}

/// A snapshot inside the image of a disk, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTarget {
    /// The disk.
    pub disk: DiskName,
    /// The snapshot's name in the image; exactly one there has it.
    pub tag: String,
}

impl Session<'_> {
    /// Takes a snapshot of each disk, all at one instant and all or none, without a record.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a disk that the domain does not have; [`Kind::Refused`] when a disk cannot take it, or the name or
    /// file is there already; [`Kind::Failed`] when everything is as it was; [`Kind::RecoveryPending`] when it could not be
    /// undone.
    ///
    /// # Cancel safety
    /// As [`Session::create`].
    pub async fn take_disks(&self, ports: &Ports<'_>, disks: &[DiskTake], id: Uuid) -> Result<(), Error> {
        let span = tracing::info_span!("take_disks", domain = %self.domain.name, %id);
        let work = async {
            finish(self, ports).await?;
            let inventory = inventory(ports, self.domain).await?;
            let mut actions = Vec::with_capacity(disks.len());
            for (at, wanted) in disks.iter().enumerate() {
                actions.push(action(ports, &inventory, wanted, token(id, at)).await?);
            }
            if actions.is_empty() {
                return Ok(());
            }
            let tag = disks.iter().find_map(|wanted| match &wanted.how {
                TakeHow::Internal(tag) => Some(tag.clone()),
                TakeHow::External { .. } => None,
            });
            let name = tag.unwrap_or_else(|| named("disks"));
            let head = format!("the disks of domain {} were not taken", self.domain.name);
            let journal = Journal::new(id, Operation::Create, name, disk_stages(self.domain.uuid, &actions));
            self.with_way_back(ports, journal, &head).await
        };
        work.instrument(span).await
    }

    /// Deletes snapshots inside images, one disk after the other, and stops at the first that fails: those before it are
    /// deleted. No record is looked at.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when a disk has no such snapshot; else as the backend says, with [`Error::effect`].
    ///
    /// # Cancel safety
    /// Dropped, it has deleted some; recovery deletes the others.
    pub async fn delete_disks(
        &self,
        ports: &Ports<'_>,
        targets: &[DiskTarget],
        id: Uuid,
    ) -> Result<(), Error> {
        let span = tracing::info_span!("delete_disks", domain = %self.domain.name, %id);
        let work = async {
            finish(self, ports).await?;
            let inventory = inventory(ports, self.domain).await?;
            let found = found(&inventory, targets)?;
            let Some(first) = targets.first() else { return Ok(()) };
            let stages: Vec<Stage> = found
                .into_iter()
                .map(|(_, target)| Stage::one(self.domain.uuid, Does::DeleteInside(target)))
                .collect();
            let mut journal = Journal::new(id, Operation::Delete, named(&first.tag), stages);
            self.intend(&journal).await?;
            let done = Execution::new(self, ports, id).forward(&mut journal).await;
            let mut warnings = Vec::new();
            self.close_journal(&mut warnings).await;
            let is_closed = warnings.is_empty();
            tell(warnings);
            done.map_err(|fault| {
                // Where the journal stays, recovery deletes them.
                let is_as_it_was = fault.begun.is_empty() && is_closed;
                let effect = if is_as_it_was { Effect::None } else { Effect::Unknown };
                let kind = fault.error.kind();
                fault.error.ended_as(kind, effect)
            })
        };
        work.instrument(span).await
    }

    /// Brings each disk of a domain that is off back to a snapshot inside its image. All disks are looked at before the first is
    /// changed; when one fails, all go back. No record is looked at.
    ///
    /// # Errors
    /// As [`Session::delete_disks`]; [`Kind::Refused`] while the domain runs; [`Kind::RecoveryPending`] when going back failed.
    ///
    /// # Cancel safety
    /// As [`Session::revert`].
    pub async fn revert_disks(
        &self,
        ports: &Ports<'_>,
        targets: &[DiskTarget],
        id: Uuid,
    ) -> Result<(), Error> {
        let span = tracing::info_span!("revert_disks", domain = %self.domain.name, %id);
        let work = async {
            finish(self, ports).await?;
            if guest(ports, self.domain).await? != GuestState::Off {
                let message = format!("domain {} runs, so its disks cannot be reverted", self.domain.name);
                return Err(Error::new(Kind::Refused, Effect::None, message)
                    .with_advice("shut the domain down first"));
            }
            let inventory = inventory(ports, self.domain).await?;
            let Some(first) = targets.first() else { return Ok(()) };
            let mut points = Vec::new();
            let mut disks = Vec::new();
            for (disk, target) in found(&inventory, targets)? {
                if let Some((why, advice)) = cannot_go_back(disk, false) {
                    let message = format!("disk {} ({}) cannot go back: {why}", disk.name, disk.image);
                    return Err(Error::new(Kind::Refused, Effect::None, message).with_advice(advice));
                }
                points.push(UndoPoint {
                    disk: disk.name.clone(),
                    image: disk.image.clone(),
                    tag: format!("{}{}", UndoPoint::PREFIX, token(id, points.len())),
                    virtual_size: disk.virtual_size,
                });
                disks.push(target);
            }
            let name = named(&first.tag);
            let mut reverting = Reverting::without_undo(name.clone(), disks, RevertWay::Off);
            reverting.points = points;
            let mut stages = reverting_stages(self.domain.uuid, &reverting);
            // Without a record the domain is at no other snapshot than before.
            stages.retain(|stage| !matches!(stage.steps()[0].does, Does::SetCurrent { .. }));
            let head = format!("the disks of domain {} did not go back", self.domain.name);
            self.with_way_back(ports, Journal::new(id, Operation::Revert, name, stages), &head).await
        };
        work.instrument(span).await
    }

    async fn with_way_back(&self, ports: &Ports<'_>, mut journal: Journal, head: &str) -> Result<(), Error> {
        self.intend(&journal).await?;
        let execution = Execution::new(self, ports, journal.id());
        if let Err(fault) = execution.forward(&mut journal).await {
            return Err(go_back(&execution, &mut journal, fault, head).await);
        }
        let mut warnings = execution.into_found().warnings;
        self.close_journal(&mut warnings).await;
        tell(warnings);
        Ok(())
    }
}

/// What is no error, and no answer has a place for.
fn tell(warnings: Vec<String>) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// A snapshot's name for the journal; a foreign one that is no valid name is called `disks` there.
pub(super) fn named(tag: &str) -> SnapshotName {
    SnapshotName::new(tag).or_else(|_| SnapshotName::new("disks")).expect("the word is a valid name")
}

async fn action(
    ports: &Ports<'_>,
    inventory: &Inventory,
    wanted: &DiskTake,
    token: String,
) -> Result<SnapshotAction, Error> {
    let disk = disk(inventory, &wanted.disk)?;
    let refused = |message: String| Error::new(Kind::Refused, Effect::None, message);
    if disk.read_only {
        return Err(refused(format!("disk {} can take no snapshot: it is read-only", disk.name)));
    }
    let (can, action) = match &wanted.how {
        TakeHow::Internal(tag) => {
            if disk.named(tag.as_str()).next().is_some() {
                return Err(refused(format!("disk {} has a snapshot {tag} already", disk.name)));
            }
            let image = disk.image.clone();
            (
                &disk.internal,
                SnapshotAction::Internal { disk: disk.name.clone(), tag: tag.to_string(), image },
            )
        }
        TakeHow::External { file, format } => {
            let overlays = ports.overlays.need(&format!("disk {} takes no overlay", disk.name))?;
            let there = overlays.exists(file.as_str()).await;
            if there.map_err(|e| from_port(e, format!("whether {file} is there cannot be told")))? {
                return Err(refused(format!("disk {}: {file} is there already", disk.name)));
            }
            let overlay = Overlay {
                disk: disk.name.clone(),
                file: file.to_string(),
                format: format.clone(),
                base: disk.image.clone(),
                base_format: disk.format.clone(),
                virtual_size: disk.virtual_size,
                token,
            };
            (&disk.external, SnapshotAction::External(overlay))
        }
    };
    match can.why() {
        None => Ok(action),
        Some(why) => Err(refused(format!("disk {} can take no such snapshot: {why}", disk.name))),
    }
}

fn disk<'i>(inventory: &'i Inventory, name: &DiskName) -> Result<&'i Disk, Error> {
    inventory
        .disk(name)
        .ok_or_else(|| Error::new(Kind::NotFound, Effect::None, format!("the domain has no disk {name}")))
}

/// The one snapshot of that name in the image of each disk.
fn found<'i>(
    inventory: &'i Inventory,
    targets: &[DiskTarget],
) -> Result<Vec<(&'i Disk, ImageTarget)>, Error> {
    let mut found = Vec::with_capacity(targets.len());
    for DiskTarget { disk: name, tag } in targets {
        let disk = disk(inventory, name)?;
        let mut named: Vec<SnapshotId> = disk.named(tag).collect();
        let snapshot = match (named.pop(), named.len()) {
            (Some(snapshot), 0) => snapshot,
            (Some(_), _) => {
                let message = format!("disk {name} has more than one snapshot {tag}");
                return Err(Error::new(Kind::Refused, Effect::None, message));
            }
            (None, _) => {
                let message = format!("disk {name} has no snapshot {tag}");
                return Err(Error::new(Kind::NotFound, Effect::None, message));
            }
        };
        let target = ImageTarget::on(disk, snapshot, Some(disk.virtual_size));
        found.push((disk, target));
    }
    Ok(found)
}
