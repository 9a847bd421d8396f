//! The three functions on snapshots of disks (the design's second section 2.1).

use std::collections::HashSet;

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_orchestrator::{DiskTake, DiskTarget, Effect, Ports, Session, TakeHow};
use xlsnap_types::libxl::{DiskFormat, DiskSnapshot};
use xlsnap_types::model::{AbsoluteFile, DiskName, ImageFormat, SnapshotName};

use super::configuration::domain;
use super::{Code, Failure};
use crate::claims::Writes;
use crate::operation::Operation;
use crate::{Call, Error, Host, Kind};

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
/// Dropped half-way, it leaves what the next operation on the domain completes or undoes.
pub async fn disk_snapshot_create(
    host: &Host,
    domid: u32,
    snapshots: &[DiskSnapshot],
) -> Result<(), Failure> {
    let wanted = parts(snapshots)?;
    on(host, domid, Act::Create(wanted)).await
}

/// `libxl_disk_snapshot_delete`: deletes the internal snapshot `name` of each disk, one disk after the other, and stops at the
/// first that fails: those before it are deleted.
///
/// # Errors
/// As [`disk_snapshot_create`]; [`Code::Inval`] for an external one; [`Code::NotFound`] when a disk has no such snapshot.
///
/// # Cancel safety
/// Dropped half-way, it has deleted some; the next operation on the domain deletes the others.
pub async fn disk_snapshot_delete(
    host: &Host,
    domid: u32,
    snapshots: &[DiskSnapshot],
) -> Result<(), Failure> {
    let wanted = internal(snapshots)?;
    on(host, domid, Act::Delete(wanted)).await
}

/// `libxl_disk_snapshot_revert`: brings each disk back to its internal snapshot `name`, by `qemu-img snapshot -a` and the
/// snapshot's id in the image. The domain must be off. All disks are looked at before the first is changed; when one fails, all go
/// back.
///
/// # Errors
/// As [`disk_snapshot_delete`]; [`Code::Fail`] while the domain runs; [`Code::BadFail`] when going back failed too.
///
/// # Cancel safety
/// Dropped half-way, it leaves what the next operation on the domain completes or undoes.
pub async fn disk_snapshot_revert(
    host: &Host,
    domid: u32,
    snapshots: &[DiskSnapshot],
) -> Result<(), Failure> {
    let wanted = internal(snapshots)?;
    on(host, domid, Act::Revert(wanted)).await
}

/// What the structs mean, if they mean something.
fn parts(snapshots: &[DiskSnapshot]) -> Result<Vec<DiskTake>, Failure> {
    let mut seen = HashSet::new();
    let mut files = HashSet::new();
    let mut parts = Vec::with_capacity(snapshots.len());
    for (at, snapshot) in snapshots.iter().enumerate() {
        let device = snapshot.device.as_deref().unwrap_or_default();
        let disk = DiskName::new(device).map_err(|why| {
            Failure::invalid(format!("the device of struct {at} is no disk's name"))
                .because(why)
                .advise("give the disk's name in the domain: hda, xvdb")
        })?;
        if !seen.insert(disk.clone()) {
            return Err(Failure::invalid(format!("disk {disk} is named twice")));
        }
        let how = match snapshot.file.as_deref() {
            None | Some("") => {
                let tag = snapshot.name.as_deref().unwrap_or_default();
                let tag = SnapshotName::new(tag).map_err(|why| {
                    Failure::invalid(format!("disk {disk}: the name of its snapshot is not valid"))
                        .because(why)
                })?;
                TakeHow::Internal(tag)
            }
            Some(file) if !files.insert(file) => {
                return Err(Failure::invalid(format!("disk {disk}: the file {file} is named twice")));
            }
            Some(file) => overlay_file(&disk, file, snapshot.format)?,
        };
        parts.push(DiskTake { disk, how });
    }
    Ok(parts)
}

fn overlay_file(disk: &DiskName, file: &str, format: DiskFormat) -> Result<TakeHow, Failure> {
    let file = AbsoluteFile::new(file).map_err(|why| {
        Failure::invalid(format!("disk {disk}: the file of its snapshot cannot be used")).because(why)
    })?;
    let format = match format {
        DiskFormat::Unknown | DiskFormat::Qcow2 => ImageFormat::Qcow2,
        DiskFormat::Qed => ImageFormat::Qed,
        _ => {
            return Err(Failure::invalid(format!(
                "disk {disk}: a file of the format {format} stands on no other image"
            ))
            .advise("let the format be LIBXL_DISK_FORMAT_QCOW2"));
        }
    };
    Ok(TakeHow::External { file, format })
}

/// The same where only internal ones are taken.
fn internal(snapshots: &[DiskSnapshot]) -> Result<Vec<DiskTarget>, Failure> {
    let targets = parts(snapshots)?.into_iter().map(|DiskTake { disk, how }| match how {
        TakeHow::Internal(tag) => Ok(DiskTarget { disk, tag: tag.to_string() }),
        TakeHow::External { .. } => {
            Err(Failure::invalid(format!("disk {disk}: only an internal snapshot is taken here")))
        }
    });
    targets.collect()
}

/// What is done to which disks.
enum Act {
    Create(Vec<DiskTake>),
    Delete(Vec<DiskTarget>),
    Revert(Vec<DiskTarget>),
}

/// One of the functions on a domain's disks, as an operation of the host's.
struct OnDisks {
    act: Act,
    /// The disks whose images it writes to.
    written: Vec<DiskName>,
}

#[async_trait]
impl Operation for OnDisks {
    type Report = ();

    fn name(&self) -> &'static str {
        match &self.act {
            Act::Create(_) => "disk_snapshot_create",
            Act::Delete(_) => "disk_snapshot_delete",
            Act::Revert(_) => "disk_snapshot_revert",
        }
    }

    fn writes(&self) -> Writes<'_> {
        Writes::Disks(&self.written)
    }

    async fn run(&self, session: &Session<'_>, ports: &Ports<'_>) -> Result<(), Error> {
        let id = Uuid::new_v4();
        match &self.act {
            Act::Create(disks) => session.take_disks(ports, disks, id).await,
            Act::Delete(targets) => session.delete_disks(ports, targets, id).await,
            Act::Revert(targets) => session.revert_disks(ports, targets, id).await,
        }
    }
}

/// Reaches the domain and acts on its disks.
async fn on(host: &Host, domid: u32, act: Act) -> Result<(), Failure> {
    let selector = domain(host, domid).await?.selector;
    let written = match &act {
        Act::Create(disks) => {
            let inside = disks.iter().filter(|disk| matches!(disk.how, TakeHow::Internal(_)));
            inside.map(|disk| disk.disk.clone()).collect()
        }
        Act::Delete(targets) | Act::Revert(targets) => {
            targets.iter().map(|target| target.disk.clone()).collect()
        }
    };
    let done = host.on(&selector, &OnDisks { act, written }, Call::new()).await;
    done.map_err(|error| {
        // Something was changed, and stays so until recovery.
        let half_done = error.kind() == Kind::RecoveryPending || error.effect() != Effect::None;
        let failure = Failure::from(error);
        if half_done { Failure { code: Code::BadFail, ..failure } } else { failure }
    })
}
