//! The three functions on snapshots of disks (the design's second section 2.1).

use std::collections::HashSet;
use std::path::Path;

use uuid::Uuid;
use xlsnap_conf_store::DomainLock;
use xlsnap_orchestrator::{
    self as orchestrator, Disk, Disks, DomainRef, Effect, GuestState, Inventory, Overlay, PortError,
    PortErrorKind, Ports, SnapshotAction, SnapshotId,
};
use xlsnap_types::libxl::{DiskFormat, DiskSnapshot};
use xlsnap_types::model::{DiskName, ImageFormat};

use super::configuration::{checked, domain, owner};
use super::{Code, Failure};
use crate::failures::{from_store, not_found, refused};
use crate::{Error, Host, Kind};

/// `libxl_disk_snapshot_create`: takes a snapshot of each disk that `snapshots` names by `device`, all at one instant and
/// all or none: internal under its `name`, or, where `file` is not empty, external into that new file (absolute; qcow2,
/// or qed). `path` is not looked at: the domain's description knows the image.
///
/// # Errors
/// [`Code::Inval`] when a struct makes no sense; [`Code::NotFound`] for a disk that the domain does not have; [`Code::Fail`]
/// when a disk cannot take it, or the name or file is there already; [`Code::LockFail`]; [`Code::BadFail`] when it failed and
/// could not be undone.
///
/// # Cancel safety
/// Dropped half-way, it leaves the snapshots that were made.
pub async fn disk_snapshot_create(
    host: &Host,
    domid: u32,
    snapshots: &[DiskSnapshot],
) -> Result<(), Failure> {
    let wanted = parts(snapshots)?;
    on(host, domid, "disk_snapshot_create", async |work| work.create(&wanted).await).await
}

/// `libxl_disk_snapshot_delete`: deletes the internal snapshot `name` of each disk, one disk after the other, and stops at the
/// first that fails: those before it are deleted.
///
/// # Errors
/// As [`disk_snapshot_create`]; [`Code::Inval`] for an external one; [`Code::NotFound`] when a disk has no such snapshot.
///
/// # Cancel safety
/// Dropped half-way, it has deleted some.
pub async fn disk_snapshot_delete(
    host: &Host,
    domid: u32,
    snapshots: &[DiskSnapshot],
) -> Result<(), Failure> {
    let wanted = internal(snapshots)?;
    on(host, domid, "disk_snapshot_delete", async |work| {
        for part in &wanted {
            let (disk, id) = find(&work.inventory, part)?;
            let deleted = work.disks().delete(&disk.name, &id).await;
            deleted.map_err(|e| {
                failed(e, format!("snapshot {} of disk {} cannot be deleted", id.name, disk.name))
            })?;
        }
        Ok(())
    })
    .await
}

/// `libxl_disk_snapshot_revert`: brings each disk back to its internal snapshot `name`, by `qemu-img snapshot -a` and the
/// snapshot's id in the image. The domain must be off. All disks are looked at before the first is changed.
///
/// # Errors
/// As [`disk_snapshot_delete`]; [`Code::Fail`] while the domain runs; [`Code::BadFail`] when some disks went back and others
/// did not: do it again.
///
/// # Cancel safety
/// Dropped half-way, it has reverted some disks; again reverts all.
pub async fn disk_snapshot_revert(
    host: &Host,
    domid: u32,
    snapshots: &[DiskSnapshot],
) -> Result<(), Failure> {
    let wanted = internal(snapshots)?;
    on(host, domid, "disk_snapshot_revert", async |work| {
        let state =
            work.ports.guest.state().await.map_err(|e| failed(e, "the domain's state cannot be told"))?;
        if state != GuestState::Off {
            let error = refused(format!("domain {} runs, so its disks cannot be reverted", work.who.name));
            return Err(error.with_advice("shut it down first").into());
        }
        let mut targets = Vec::with_capacity(wanted.len());
        for part in &wanted {
            targets.push(find(&work.inventory, part)?);
        }
        for (at, (disk, id)) in targets.iter().enumerate() {
            if let Err(e) = work.disks().revert(&disk.name, id).await {
                let touched = at > 0 || e.effect != Effect::None;
                let message = format!("disk {} cannot be reverted to its snapshot {}", disk.name, id.name);
                let failure = failed(e, message);
                return Err(if touched { half_done(failure) } else { failure });
            }
        }
        Ok(())
    })
    .await
}

/// A disk as a caller names it.
struct Part {
    disk: DiskName,
    tag: String,
    external: Option<(String, ImageFormat)>,
}

/// What the structs mean, if they mean something.
fn parts(snapshots: &[DiskSnapshot]) -> Result<Vec<Part>, Failure> {
    let mut seen = HashSet::new();
    let mut parts = Vec::with_capacity(snapshots.len());
    for snapshot in snapshots {
        let device = snapshot.device.as_deref().unwrap_or_default();
        let disk =
            DiskName::new(device).map_err(|_| Failure::invalid(format!("{device:?} is no disk's name")))?;
        if !seen.insert(disk.clone()) {
            return Err(Failure::invalid(format!("disk {disk} is named twice")));
        }
        let external = match snapshot.file.as_deref() {
            None | Some("") => None,
            Some(file) => Some(overlay_file(&disk, file, snapshot.format)?),
        };
        let tag = snapshot.name.as_deref().unwrap_or_default();
        if external.is_none() {
            checked(tag)?;
        }
        parts.push(Part { disk, tag: tag.to_owned(), external });
    }
    Ok(parts)
}

fn overlay_file(disk: &DiskName, file: &str, format: DiskFormat) -> Result<(String, ImageFormat), Failure> {
    if !Path::new(file).is_absolute() {
        return Err(Failure::invalid(format!("disk {disk}: the file {file} is no absolute path")));
    }
    let format = match format {
        DiskFormat::Unknown | DiskFormat::Qcow2 => ImageFormat::Qcow2,
        DiskFormat::Qed => ImageFormat::Qed,
        _ => {
            return Err(Failure::invalid(format!(
                "disk {disk}: a file of that format stands on no other image"
            )));
        }
    };
    Ok((file.to_owned(), format))
}

/// The same where only internal ones are taken.
fn internal(snapshots: &[DiskSnapshot]) -> Result<Vec<Part>, Failure> {
    let parts = parts(snapshots)?;
    match parts.iter().find(|part| part.external.is_some()) {
        None => Ok(parts),
        Some(part) => {
            Err(Failure::invalid(format!("disk {}: only an internal snapshot is taken here", part.disk)))
        }
    }
}

/// A domain under its lock, with nothing left to recover.
struct Work<'a> {
    ports: &'a Ports<'a>,
    who: &'a DomainRef,
    inventory: Inventory,
    _lock: Box<dyn DomainLock>,
}

/// Reaches the domain, finishes what a crash left, takes the lock, looks, and lets `act` work.
async fn on(
    host: &Host,
    domid: u32,
    function: &str,
    act: impl AsyncFn(&Work<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let selector = domain(host, domid).await?.selector;
    let operation = async |ports: &Ports<'_>, who: &DomainRef| {
        let work = begin(host, ports, who, function).await?;
        Ok(act(&work).await)
    };
    host.on(&selector, operation).await?
}

async fn begin<'a>(
    host: &Host,
    ports: &'a Ports<'a>,
    who: &'a DomainRef,
    function: &str,
) -> Result<Work<'a>, Error> {
    orchestrator::recover(ports, who).await?;
    let taken = ports.store.lock(who.uuid, &owner(host, function), who.lock_wait).await;
    let lock =
        taken.map_err(|e| from_store(e, format!("the lock of domain {} cannot be taken", who.name)))?;
    // Somebody may have crashed between the two.
    let journal = ports.store.journal(who.uuid).await;
    let journal =
        journal.map_err(|e| from_store(e, format!("the journal of domain {} cannot be read", who.name)))?;
    if journal.is_some() {
        let message = format!("an operation on domain {} was interrupted just now", who.name);
        return Err(Error::new(Kind::RecoveryPending, Effect::None, message).with_advice("do it again"));
    }
    let looked = ports.disks.inventory().await;
    let inventory = looked
        .map_err(|e| failed(e, format!("the disks of domain {} cannot be looked at", who.name)).error)?;
    Ok(Work { ports, who, inventory, _lock: lock })
}

impl Work<'_> {
    fn disks(&self) -> &dyn Disks {
        self.ports.disks
    }

    async fn create(&self, wanted: &[Part]) -> Result<(), Failure> {
        let token = Uuid::new_v4().simple().to_string()[..24].to_owned();
        let mut actions = Vec::with_capacity(wanted.len());
        for part in wanted {
            let disk = disk(&self.inventory, &part.disk)?;
            let (why_not, action) = match &part.external {
                None if !named(disk, &part.tag).is_empty() => {
                    return Err(
                        refused(format!("disk {} has a snapshot {} already", disk.name, part.tag)).into()
                    );
                }
                None => (
                    &disk.no_internal,
                    SnapshotAction::Internal { disk: disk.name.clone(), tag: part.tag.clone() },
                ),
                Some((file, format)) => {
                    let there = self.disks().exists(file).await;
                    if there.map_err(|e| failed(e, format!("whether {file} is there cannot be told")))? {
                        return Err(refused(format!("disk {}: {file} is there already", disk.name)).into());
                    }
                    (&disk.no_external, SnapshotAction::External(overlay(disk, file, format, &token)))
                }
            };
            let why_not = if disk.read_only { Some("it is read-only") } else { why_not.as_deref() };
            if let Some(why) = why_not {
                return Err(refused(format!("disk {} can take no such snapshot: {why}", disk.name)).into());
            }
            actions.push(action);
        }
        if actions.is_empty() {
            return Ok(());
        }
        let mut made = Vec::new();
        let Err(failure) = self.take(&actions, &mut made).await else { return Ok(()) };
        Err(match self.undo(&actions, &made).await {
            // As it was, whatever was known half-way.
            Ok(()) => Failure {
                code: if failure.code == Code::BadFail { Code::Fail } else { failure.code },
                ..failure
            },
            Err(undoing) => {
                let left = format!("{failure}; undoing it failed too ({undoing})");
                let error = Error::new(Kind::Failed, Effect::Unknown, left).with_source(failure.error);
                Failure {
                    code: Code::BadFail,
                    error: error.with_advice("check the domain: what is left is found"),
                }
            }
        })
    }

    /// Makes the overlays, takes all snapshots at one instant, and names the overlays in the domain's description.
    async fn take<'a>(
        &self,
        actions: &'a [SnapshotAction],
        made: &mut Vec<&'a Overlay>,
    ) -> Result<(), Failure> {
        for overlay in overlays(actions) {
            let making = self.disks().make_overlay(overlay).await;
            // One that was certainly not made is not ours to take back: somebody's file may be there since we looked.
            if making.as_ref().map_or_else(|e| e.effect != Effect::None, |()| true) {
                made.push(overlay);
            }
            making.map_err(|e| failed(e, format!("the overlay {} cannot be made", overlay.file)))?;
        }
        let taken = self.disks().snapshot(actions).await;
        taken.map_err(|e| failed(e, format!("the disks of domain {} took no snapshot", self.who.name)))?;
        for overlay in overlays(actions) {
            let adopted = self.disks().adopt(&overlay.disk, &overlay.file, &overlay.format).await;
            adopted.map_err(|e| {
                half_done(failed(e, format!("{} cannot be named in the domain's description", overlay.file)))
            })?;
        }
        Ok(())
    }

    /// Takes back what was made. The names were not there before, so what is there now is ours.
    async fn undo(&self, actions: &[SnapshotAction], made: &[&Overlay]) -> Result<(), PortError> {
        let now = self.disks().inventory().await?;
        for action in actions {
            let SnapshotAction::Internal { disk, tag } = action else { continue };
            let Some(disk) = now.disks.iter().find(|found| found.name == *disk) else { continue };
            for id in named(disk, tag) {
                self.disks().delete(&disk.name, &id).await?;
            }
        }
        for overlay in made {
            self.discard(&now, overlay).await?;
        }
        Ok(())
    }

    /// Removes an overlay that takes no writes. One that does cannot be taken away from a guest.
    async fn discard(&self, now: &Inventory, overlay: &Overlay) -> Result<(), PortError> {
        if now.disks.iter().any(|disk| disk.image == overlay.file) {
            let message = format!("{} takes the writes of disk {} already", overlay.file, overlay.disk);
            return Err(PortError::new(PortErrorKind::Busy, Effect::Done, message));
        }
        self.disks().discard_overlay(overlay).await
    }
}

fn overlays(actions: &[SnapshotAction]) -> impl Iterator<Item = &Overlay> {
    actions.iter().filter_map(|action| match action {
        SnapshotAction::External(overlay) => Some(overlay),
        SnapshotAction::Internal { .. } => None,
    })
}

fn overlay(disk: &Disk, file: &str, format: &ImageFormat, token: &str) -> Overlay {
    Overlay {
        disk: disk.name.clone(),
        file: file.to_owned(),
        format: format.clone(),
        base: disk.image.clone(),
        base_format: disk.format.clone(),
        virtual_size: disk.virtual_size,
        token: token.to_owned(),
    }
}

fn disk<'i>(inventory: &'i Inventory, name: &DiskName) -> Result<&'i Disk, Failure> {
    let found = inventory.disks.iter().find(|disk| disk.name == *name);
    Ok(found.ok_or_else(|| not_found(format!("the domain has no disk {name}")))?)
}

fn named(disk: &Disk, tag: &str) -> Vec<SnapshotId> {
    let of_that_name = disk.snapshots.iter().filter(|snapshot| snapshot.name == tag);
    of_that_name.map(|found| SnapshotId { name: found.name.clone(), id: found.id.clone() }).collect()
}

/// The one snapshot of that name in the disk's image.
fn find<'i>(inventory: &'i Inventory, part: &Part) -> Result<(&'i Disk, SnapshotId), Failure> {
    let disk = disk(inventory, &part.disk)?;
    let mut found = named(disk, &part.tag);
    match (found.pop(), found.len()) {
        (Some(id), 0) => Ok((disk, id)),
        (Some(_), _) => {
            Err(refused(format!("disk {} has more than one snapshot {}", disk.name, part.tag)).into())
        }
        (None, _) => Err(not_found(format!("disk {} has no snapshot {}", disk.name, part.tag)).into()),
    }
}

fn failed(cause: PortError, message: impl Into<String>) -> Failure {
    let kind = match cause.kind {
        PortErrorKind::NotFound => Kind::NotFound,
        PortErrorKind::Busy => Kind::Busy,
        PortErrorKind::AlreadyExists | PortErrorKind::Refused => Kind::Refused,
        _ => Kind::Failed,
    };
    let effect = cause.effect;
    let failure = Failure::from(Error::new(kind, effect, message).with_source(cause));
    if effect == Effect::None { failure } else { half_done(failure) }
}

/// The same, when something was changed and stays so.
fn half_done(failure: Failure) -> Failure {
    Failure { code: Code::BadFail, ..failure }
}
