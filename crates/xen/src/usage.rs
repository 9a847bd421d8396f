//! Which domains and processes use an image: QEMU takes no lock on the image of a PV disk, so that we have to look before
//! qemu-img writes.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qemu::process::has_ended;
use xlsnap_xenstore::Nodes;

use crate::Domid;
use crate::domains::{by_domid, domids, qemu_pid};
use crate::vbd;

/// What makes two names one file, or one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Identity {
    File { device: u64, inode: u64 },
    Device(u64),
}

impl Identity {
    fn of(found: &fs::Metadata) -> Self {
        if found.file_type().is_block_device() {
            Self::Device(found.rdev())
        } else {
            Self::File { device: found.dev(), inode: found.ino() }
        }
    }
}

/// Refuses when a domain has one of `images` as a disk, or a process has one open to write to.
///
/// What begins just afterwards is not found. xlsnap's own lock keeps other xlsnaps away; nothing keeps `xl create` away.
///
/// # Errors
/// [`PortErrorKind::Busy`] names the image, and the domain or the process that uses it; [`PortErrorKind::Unreachable`] and
/// [`PortErrorKind::Refused`] when that cannot be told: xenstored is silent, or this is not root.
///
/// # Cancel safety
/// It only looks.
pub async fn must_be_unused(store: &dyn Nodes, images: &[String]) -> Result<(), PortError> {
    must_be_unused_beside(store, images, None).await
}

/// Refuses when a domain has one of `files` as a disk, or a process has one open at all: for the files of chains, of which QEMU has those below
/// a disk's image open to read.
///
/// # Errors
/// As [`must_be_unused`].
///
/// # Cancel safety
/// It only looks.
pub async fn must_be_closed(store: &dyn Nodes, files: &[String]) -> Result<(), PortError> {
    let ours = identities(files)?;
    no_domain_has(store, &ours, None).await?;
    no_process_has(&ours, Opened::AtAll, None)
}

/// Refuses when another domain than `own` has one of `images` as a disk, or another process than its QEMU has one open at all.
pub(crate) async fn must_be_of_domain(
    store: &dyn Nodes,
    images: &[String],
    own: Domid,
) -> Result<(), PortError> {
    let ours = identities(images)?;
    no_domain_has(store, &ours, Some(own)).await?;
    no_process_has(&ours, Opened::AtAll, qemu_pid(store, own).await?)
}

/// How a process has a file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    ToWrite,
    AtAll,
}

/// As [`must_be_unused`], of images that the domain `own` may have as its disks, because its QEMU has ended.
pub(crate) async fn must_be_unused_beside(
    store: &dyn Nodes,
    images: &[String],
    own: Option<Domid>,
) -> Result<(), PortError> {
    let ours = identities(images)?;
    no_domain_has(store, &ours, own).await?;
    no_process_has(&ours, Opened::ToWrite, None)
}

fn identities(images: &[String]) -> Result<HashMap<Identity, &str>, PortError> {
    let mut ours: HashMap<Identity, &str> = HashMap::new();
    for image in images.iter().filter(|image| !image.is_empty()) {
        match fs::metadata(image) {
            Ok(found) => _ = ours.insert(Identity::of(&found), image),
            // What works on it says so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(untold(image, error)),
        }
    }
    Ok(ours)
}

async fn no_domain_has(
    store: &dyn Nodes,
    ours: &HashMap<Identity, &str>,
    own: Option<Domid>,
) -> Result<(), PortError> {
    for domid in domids(store).await?.into_iter().filter(|domid| Some(*domid) != own) {
        for disk in vbd::list(store, domid).await? {
            let Ok(theirs) = fs::metadata(&disk.image) else { continue };
            if let Some(image) = ours.get(&Identity::of(&theirs)) {
                let name = match by_domid(store, domid).await {
                    Ok(Some(domain)) => format!("{} (domid {domid}, uuid {})", domain.name, domain.uuid),
                    _ => format!("with the domid {domid}"),
                };
                return Err(busy(format!(
                    "the image {image} is disk {} of the domain {name}; end that domain first",
                    disk.name
                )));
            }
        }
    }
    Ok(())
}

/// `but` is the process that may.
fn no_process_has(
    ours: &HashMap<Identity, &str>,
    opened_how: Opened,
    but: Option<u32>,
) -> Result<(), PortError> {
    let unknown = |error| {
        let message = "which processes have the images open cannot be told; run as root";
        PortError::new(PortErrorKind::Refused, Effect::None, message).with_source(error)
    };
    for process in fs::read_dir("/proc").map_err(unknown)?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() || Some(pid) == but {
            continue;
        }
        let opened = match fs::read_dir(process.path().join("fd")) {
            Ok(opened) => opened,
            // It has ended, or has none.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_kernels(pid) => continue,
            Err(error) if has_ended(&error) => continue,
            Err(error) => return Err(unknown(error)),
        };
        for file in opened.flatten() {
            let Ok(theirs) = fs::metadata(file.path()) else { continue };
            let Some(image) = ours.get(&Identity::of(&theirs)) else { continue };
            let writes = writes(pid, &file.file_name());
            if writes || opened_how == Opened::AtAll {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                let name = name.trim();
                let how = if writes { " for writing" } else { "" };
                let message =
                    format!("process {pid} ({name}) has the image {image} open{how}; end that process first");
                return Err(busy(message));
            }
        }
    }
    Ok(())
}

/// Whether a process may write by an open file; also when that cannot be told.
fn writes(pid: u32, number: &std::ffi::OsStr) -> bool {
    const ACCESS: u32 = 0o3;
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy()));
    let flags = info.ok().and_then(|info| {
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    });
    flags.is_none_or(|flags| flags & ACCESS != 0)
}

/// Whether it is a thread of the kernel, which has no command line.
fn is_kernels(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
}

fn busy(message: String) -> PortError {
    PortError::new(PortErrorKind::Busy, Effect::None, message)
}

fn untold(image: &str, error: io::Error) -> PortError {
    let message = format!("which process uses the image {image} cannot be told");
    PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(error)
}
