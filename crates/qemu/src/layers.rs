//! The files of chains, while no process has them: qemu-img on them, and what the file system says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xlsnap_orchestrator::{
    Below, CopyOut, Effect, FileIdentity, ImageSnapshot, Layer, LayerFile, LayerSnapshot, LayerStat, Merge,
    PortError, PortErrorKind, Progress, Stream,
};
use xlsnap_qemu_img::{BackingFile, FileId, Image, ImageInfo, Kind, QemuImg, SnapshotRef, backing_file};
use xlsnap_types::model::{ImageFormat, Stamp};

use crate::images::inventory::image_snapshot;
use crate::{error, overlay, revertible};

/// How long a program that was ended may take to be gone.
const ENDING: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(5);

/// What the layer is. Its header is read, and no other file.
pub(crate) async fn look(qemu_img: &dyn QemuImg, layer: &LayerFile) -> Result<Option<Layer>, PortError> {
    let found = match std::fs::metadata(&layer.file) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unlooked(layer).with_source(source)),
    };
    let info = match qemu_img.info(&image(layer)).await {
        Ok(info) => info,
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) => {
            let message = format!("disk {}: the layer {} can't be read", layer.disk, layer.file);
            return Err(error::of_qemu_img(message, error));
        }
    };
    let ImageInfo { virtual_size, actual_size, backing, encrypted, in_use, snapshots, .. } = info;
    let is_file = found.is_file();
    Ok(Some(Layer {
        file: layer.file.clone(),
        identity: identity(FileId::from(&found)),
        format: layer.format.clone(),
        virtual_size,
        bytes: if is_file { found.blocks().saturating_mul(512) } else { actual_size },
        stamp: stamp(layer, &found)?,
        snapshots: snapshots.into_iter().map(image_snapshot).collect(),
        base: below(Path::new(&layer.file), backing),
        in_use,
        encrypted,
    }))
}

/// Which file the layer is. Nothing is read from it.
pub(crate) fn stat(layer: &LayerFile) -> Result<Option<LayerStat>, PortError> {
    match std::fs::metadata(&layer.file) {
        Ok(found) => {
            let stamp = stamp(layer, &found)?;
            Ok(Some(LayerStat { identity: identity(FileId::from(&found)), stamp }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unlooked(layer).with_source(source)),
    }
}

/// By what a change of the layer would be found. A block device has no time of its last write: only another length of it tells.
fn stamp(layer: &LayerFile, found: &std::fs::Metadata) -> Result<Option<Stamp>, PortError> {
    if found.is_file() {
        return Ok(Some(Stamp { length: found.len(), modified: modified(found) }));
    }
    if !found.file_type().is_block_device() {
        return Ok(None);
    }
    let length = length(Path::new(&layer.file)).map_err(|source| unlooked(layer).with_source(source))?;
    Ok(Some(Stamp { length, modified: 0 }))
}

/// The bytes that are free where the file is, or is to be. A block device has what it is long: nothing else lies on it.
pub(crate) fn room(file: &str) -> Result<u64, PortError> {
    let path = Path::new(file);
    let free = || {
        let place = match std::fs::metadata(path) {
            Ok(found) if found.file_type().is_block_device() => return length(path),
            Ok(_) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => path.parent().unwrap_or(Path::new("/")),
            Err(error) => return Err(error),
        };
        let found = rustix::fs::statvfs(place)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    };
    free().map_err(|source| {
        let message = format!("{file}: how much room is there cannot be told");
        PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(source)
    })
}

/// Merges by qemu-img.
pub(crate) async fn merge(
    qemu_img: &dyn QemuImg,
    merge: &Merge,
    key_file: Option<PathBuf>,
    progress: &dyn Progress,
) -> Result<(), PortError> {
    let Merge { from, into, .. } = merge;
    let found = as_planned(from)?;
    as_planned(into)?;
    for layer in [from, into] {
        if let Some(why) = revertible::locked(&layer.file) {
            return Err(unmerged(PortErrorKind::Busy, merge, &why));
        }
    }
    let total = found.blocks().saturating_mul(512);
    progress.bytes(0, Some(total));
    // No more than 2^53 bytes are told exactly, which is enough for a bar.
    let done = |part: f64| progress.bytes((part * total as f64) as u64, Some(total));
    let (top, base) = (image(from).with_key_file(key_file), image(into));
    qemu_img.commit(&top, &base, merge.rate, &done).await.map_err(|e| error::of_qemu_img(about(merge), e))
}

/// Copies up by qemu-img what is read through a layer that no process has open.
pub(crate) async fn stream(
    qemu_img: &dyn QemuImg,
    stream: &Stream,
    key_file: Option<PathBuf>,
    progress: &dyn Progress,
) -> Result<(), PortError> {
    let Stream { into, was, below, .. } = stream;
    as_planned(into)?;
    if !stands_on(qemu_img, into, was).await? {
        return Ok(());
    }
    as_planned(was)?;
    if let Some(why) = revertible::locked(&into.file) {
        return Err(unstreamed(PortErrorKind::Busy, stream, &why));
    }
    let found = look(qemu_img, into).await?;
    // It goes through the whole disk, and copies what is not in the layer yet.
    let total = found.map_or(0, |found| found.virtual_size);
    progress.bytes(0, Some(total));
    let done = |part: f64| progress.bytes((part * total as f64) as u64, Some(total));
    let (top, below) = (image(into).with_key_file(key_file), below.as_ref().map(image));
    let copied = qemu_img.rebase(&top, below.as_ref(), &done).await;
    copied.map_err(|e| error::of_qemu_img(about_stream(stream), e))
}

/// Why a copying by qemu-img keeps to no limit.
pub(crate) const REBASE_IS_UNLIMITED: &str = "qemu-img copies it, and its rebase knows no limit";

/// Whether the header of a layer names this file.
pub(crate) async fn stands_on(
    qemu_img: &dyn QemuImg,
    layer: &LayerFile,
    base: &LayerFile,
) -> Result<bool, PortError> {
    let info = qemu_img.info(&image(layer)).await.map_err(|e| {
        error::of_qemu_img(format!("disk {}: the layer {} can't be read", layer.disk, layer.file), e)
    })?;
    Ok(match below(Path::new(&layer.file), info.backing) {
        Below::File { file, .. } => same_file(&file, &base.file),
        Below::Nothing | Below::Foreign(_) => false,
    })
}

/// What a copying that failed is called.
pub(crate) fn about_stream(stream: &Stream) -> String {
    let Stream { into, .. } = stream;
    format!("disk {}: what is below {} was not copied into it", into.disk, into.file)
}

pub(crate) fn unstreamed(kind: PortErrorKind, stream: &Stream, why: &str) -> PortError {
    PortError::new(kind, Effect::None, format!("{}: {why}", about_stream(stream)))
}

/// Waits until no process works on the layers any more: a qemu-img whose merge was dropped is ended, and takes a moment to be gone.
pub(crate) async fn at_rest(merge: &Merge) -> Result<(), PortError> {
    unlocked([&merge.from.file, &merge.into.file])
        .await
        .map_err(|why| unmerged(PortErrorKind::Busy, merge, &why))
}

/// Waits until no process has the files open; the last reason why not.
pub(crate) async fn unlocked<const N: usize>(files: [&String; N]) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        match files.into_iter().find_map(|file| revertible::locked(file)) {
            None => return Ok(()),
            Some(why) if begin.elapsed() > ENDING => return Err(why),
            Some(_) => tokio::time::sleep(SOON).await,
        }
    }
}

/// Deletes a snapshot inside a layer that no process has open.
pub(crate) async fn delete_inside(
    qemu_img: &dyn QemuImg,
    target: &LayerSnapshot,
    key_file: Option<PathBuf>,
) -> Result<(), PortError> {
    let LayerSnapshot { layer, snapshot } = target;
    let about = format!(
        "disk {}: the snapshot {} (id {}) was not deleted from {}",
        layer.disk, snapshot.name, snapshot.id, layer.file
    );
    let is_there = async || {
        let found = look(qemu_img, layer).await?;
        let is_it = |held: &ImageSnapshot| held.id == snapshot.id && held.name == snapshot.name;
        Ok::<_, PortError>(found.is_some_and(|found| found.snapshots.iter().any(is_it)))
    };
    if !is_there().await? {
        return Ok(());
    }
    as_planned(layer)?;
    if let Some(why) = revertible::locked(&layer.file) {
        return Err(PortError::new(PortErrorKind::Busy, Effect::None, format!("{about}: {why}")));
    }
    let meant = SnapshotRef { name: snapshot.name.clone(), id: Some(snapshot.id.clone()) };
    if let Err(error) = qemu_img.snapshot_delete(&image(layer).with_key_file(key_file), &meant).await {
        let mut error = error::of_qemu_img(about, error);
        match is_there().await {
            Ok(false) => {}
            Ok(true) => {
                error.effect = Effect::None;
                return Err(error);
            }
            Err(_) => return Err(error),
        }
    }
    // The ledger is about to say when it was written last.
    File::open(&layer.file).and_then(|file| file.sync_all()).map_err(|source| {
        let message = format!("disk {}: {} can't be brought to the disk", layer.disk, layer.file);
        PortError::new(PortErrorKind::Failed, Effect::Done, message).with_source(source)
    })
}

/// Copies a snapshot out of a layer into a new image.
pub(crate) async fn copy_out(
    qemu_img: &dyn QemuImg,
    copy: &CopyOut,
    progress: &dyn Progress,
) -> Result<(), PortError> {
    let CopyOut { from, snapshot, to, virtual_size, whole } = copy;
    let about = format!(
        "disk {}: the snapshot {} was not copied out of {} into {}",
        from.disk, snapshot.name, from.file, to.file
    );
    let failed = |kind, effect, source: std::io::Error| {
        PortError::new(kind, effect, about.clone()).with_source(source)
    };
    as_planned(from)?;
    if let Some(why) = overlay::no_place(&from.file, &to.file)? {
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, format!("{about}: {why}")));
    }
    // Nothing is overwritten, and no other user reads the copy while it is made.
    let new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to.file);
    match new {
        Ok(_) => {}
        Err(source) if source.kind() == ErrorKind::AlreadyExists => {
            return Err(failed(PortErrorKind::AlreadyExists, Effect::None, source));
        }
        Err(source) => return Err(failed(PortErrorKind::Failed, Effect::None, source)),
    }
    let total = whole.unwrap_or(*virtual_size);
    progress.bytes(0, Some(total));
    let done = |part: f64| progress.bytes((part * total as f64) as u64, Some(total));
    let copied = if whole.is_some() {
        qemu_img.copy(&image(from), &image(to), &done).await
    } else {
        let meant = SnapshotRef { name: snapshot.name.clone(), id: Some(snapshot.id.clone()) };
        qemu_img.copy_snapshot(&image(from), &meant, &image(to), &done).await
    };
    copied.map_err(|e| {
        let mut error = error::of_qemu_img(about.clone(), e);
        error.effect = Effect::Unknown;
        error
    })?;
    overlay::give_access(&to.file, &from.file).map_err(|e| failed(PortErrorKind::Refused, Effect::Unknown, e))
}

/// Makes the header of `child` name `base`, unless it does.
pub(crate) async fn reheader(
    qemu_img: &dyn QemuImg,
    child: &LayerFile,
    base: &LayerFile,
    key_file: Option<PathBuf>,
) -> Result<(), PortError> {
    as_planned(child)?;
    as_planned(base)?;
    if names(qemu_img, child, base).await? {
        return Ok(());
    }
    let message =
        || format!("disk {}: the header of {} was not made to name {}", child.disk, child.file, base.file);
    if let Some(why) = revertible::locked(&child.file) {
        return Err(PortError::new(PortErrorKind::Busy, Effect::None, format!("{}: {why}", message())));
    }
    let rebased = qemu_img.rebase_unsafe(&image(child).with_key_file(key_file), &image(base)).await;
    rebased.map_err(|e| error::of_qemu_img(message(), e))
}

/// Whether the header of `child` names `base`, with its format.
pub(crate) async fn names(
    qemu_img: &dyn QemuImg,
    child: &LayerFile,
    base: &LayerFile,
) -> Result<bool, PortError> {
    let info = qemu_img.info(&image(child)).await.map_err(|e| {
        error::of_qemu_img(format!("disk {}: the layer {} can't be read", child.disk, child.file), e)
    })?;
    Ok(match below(Path::new(&child.file), info.backing) {
        Below::File { file, format } => format.as_ref() == Some(&base.format) && same_file(&file, &base.file),
        Below::Nothing | Below::Foreign(_) => false,
    })
}

/// When what an unlinked file took is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Free {
    /// When it is unlinked: what comes next may need it.
    Now,
    /// Soon after: a guest stands still until then, and a large file takes its time.
    Soon,
}

/// Unlinks a regular file that no process has open, if it is the planned one; durably.
pub(crate) fn unlink(layer: &LayerFile, free: Free) -> Result<(), PortError> {
    unlink_all(std::slice::from_ref(layer), free, |_| None).into_iter().collect()
}

/// Unlinks several so, in this order and up to the first that stays, with one look at what all processes have open. `used` tells why
/// one is not unlinked whatever it is.
pub(crate) fn unlink_all(
    layers: &[LayerFile],
    free: Free,
    used: impl Fn(&LayerFile) -> Option<PortError>,
) -> Vec<Result<(), PortError>> {
    let files: Vec<&str> = layers.iter().map(|layer| layer.file.as_str()).collect();
    // Xen's disks have no locks, and a program that only reads would lose what it reads.
    let users = revertible::users_of_each(&files);
    let mut done: Vec<Result<(), PortError>> = Vec::with_capacity(layers.len());
    let mut last_of: BTreeMap<&Path, usize> = BTreeMap::new();
    // What a file took is freed when its last descriptor is closed.
    let mut open = Vec::new();
    for (layer, users) in layers.iter().zip(users) {
        let unlinked =
            used(layer).map_or_else(|| removable(layer), Err).and_then(|path| match (path, users.first()) {
                (None, _) => Ok(()),
                (Some(_), Some(holder)) => {
                    Err(stays(layer, PortErrorKind::Busy, &format!("{holder} has it open")))
                }
                (Some(path), None) => {
                    open.extend((free == Free::Soon).then(|| File::open(path).ok()).flatten());
                    last_of.insert(directory(path), done.len());
                    unlinked(layer, std::fs::remove_file(path))
                }
            });
        let stays = unlinked.as_ref().is_err_and(|error| error.kind != PortErrorKind::Refused);
        done.push(unlinked);
        if stays {
            break;
        }
    }
    // A directory is flushed once, after the last of its files.
    for (directory, last) in last_of {
        if done[last].is_ok() {
            done[last] = unlinked(&layers[last], File::open(directory).and_then(|open| open.sync_all()));
        }
    }
    // Where no thread can be made they are closed here.
    if !open.is_empty() {
        drop(std::thread::Builder::new().spawn(|| drop(open)));
    }
    done
}

/// The path of a regular file that is the planned one and that no lock keeps; `None` when nothing is there.
fn removable(layer: &LayerFile) -> Result<Option<&Path>, PortError> {
    let path = Path::new(&layer.file);
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unlooked(layer).with_source(source)),
    };
    if !found.is_file() {
        return Err(stays(layer, PortErrorKind::Refused, "it is no regular file"));
    }
    as_planned(layer)?;
    match revertible::locked(&layer.file) {
        Some(why) => Err(stays(layer, PortErrorKind::Busy, &why)),
        None => Ok(Some(path)),
    }
}

fn stays(layer: &LayerFile, kind: PortErrorKind, why: &str) -> PortError {
    let message = format!("disk {}: the layer {} stays: {why}", layer.disk, layer.file);
    PortError::new(kind, Effect::None, message)
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// How an unlink ended: a file that is gone meanwhile is unlinked.
fn unlinked(layer: &LayerFile, done: std::io::Result<()>) -> Result<(), PortError> {
    match done {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            let message = format!("disk {}: the layer {} was not unlinked", layer.disk, layer.file);
            Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message).with_source(source))
        }
        _ => Ok(()),
    }
}

/// Whether nothing is there.
pub(crate) fn is_gone(layer: &LayerFile) -> Result<bool, PortError> {
    match std::fs::symlink_metadata(&layer.file) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(source) => Err(unlooked(layer).with_source(source)),
    }
}

/// The file, if it is the one that was planned.
///
/// # Errors
/// [`PortErrorKind::Refused`] for another one, [`PortErrorKind::NotFound`] when there is none.
pub(crate) fn as_planned(layer: &LayerFile) -> Result<std::fs::Metadata, PortError> {
    let found = std::fs::metadata(&layer.file).map_err(|source| {
        let mut error = unlooked(layer);
        if source.kind() == ErrorKind::NotFound {
            error.kind = PortErrorKind::NotFound;
        }
        error.with_source(source)
    })?;
    match layer.identity {
        Some(planned) if !planned.is_still(identity(FileId::from(&found))) => {
            let message = format!(
                "disk {}: {} is another file now than when this was planned: it was replaced; look again with \
                 `xlsnap check`",
                layer.disk, layer.file
            );
            Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
        }
        _ => Ok(found),
    }
}

/// What a merge that failed is called.
pub(crate) fn about(merge: &Merge) -> String {
    let Merge { from, into, .. } = merge;
    format!("disk {}: {} was not merged into {}", from.disk, from.file, into.file)
}

pub(crate) fn unmerged(kind: PortErrorKind, merge: &Merge, why: &str) -> PortError {
    PortError::new(kind, Effect::None, format!("{}: {why}", about(merge)))
}

pub(crate) fn image(layer: &LayerFile) -> Image {
    Image::new(&layer.file, layer.format.driver())
}

/// Whether both names lead to one file, or are one name.
pub(crate) fn same_file(a: &str, b: &str) -> bool {
    let id = |file: &str| FileId::of(Path::new(file));
    a == b || matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

/// What the header of the image at `above` says of what is below it.
fn below(above: &Path, backing: Option<BackingFile>) -> Below {
    let Some(BackingFile { name, format }) = backing else { return Below::Nothing };
    match backing_file(above, &name).and_then(|file| file.to_str().map(str::to_owned)) {
        Some(file) => Below::File { file, format: format.as_deref().map(ImageFormat::from_driver) },
        None => Below::Foreign(name),
    }
}

fn identity(FileId { device, inode }: FileId) -> FileIdentity {
    FileIdentity { device, inode }
}

/// When it was last written to, in nanoseconds since 1970-01-01 UTC.
fn modified(found: &std::fs::Metadata) -> u64 {
    let nanoseconds = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX)
}

/// How long a block device is, in bytes.
fn length(device: &Path) -> std::io::Result<u64> {
    use std::io::Seek;
    File::open(device)?.seek(std::io::SeekFrom::End(0))
}

fn unlooked(layer: &LayerFile) -> PortError {
    let message = format!("disk {}: the layer {} can't be looked at", layer.disk, layer.file);
    PortError::new(PortErrorKind::Failed, Effect::None, message)
}
