//! The file of an overlay: made once, and removed only if it is the one that was made.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use xlsnap_orchestrator::{Effect, Overlay, PortError, PortErrorKind};
use xlsnap_qemu_img::{BackingFile, CreateOptions, Image, ImageInfo, Kind, QemuImg};

use crate::error;

mod access;
mod beside;
mod place;

pub(crate) use beside::beside;

/// The most that an image without data takes: header, two levels of reference counts and one of clusters.
const WITHOUT_DATA: u64 = 4 * 64 * 1024;

/// What a disk writes as a whole.
const SECTOR: u64 = 512;

/// Whether something is at `file`, whatever it is.
pub(crate) fn exists(file: &str) -> Result<bool, PortError> {
    match std::fs::symlink_metadata(file) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let message = format!("{file}: it can't be told whether something is there");
            Err(PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(error))
        }
    }
}

/// Why `file` must not take what is written over `base`, as a clause.
pub(crate) fn no_place(base: &str, file: &str) -> Result<Option<String>, PortError> {
    place::less_durable(base, file).map_err(|source| {
        let message = format!("{file}: it can't be told whether what is written there is kept as {base} is");
        PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(source)
    })
}

/// Makes the file, empty and durable, without opening its base: another process may write to that. Users who may use the base may
/// use it, but "others".
///
/// # Errors
/// [`PortErrorKind::AlreadyExists`] when anything is there; nothing is overwritten. [`PortErrorKind::Refused`] for a place that
/// is less durable than the base's, and when the file cannot be given to the users of the base. After any error no file
/// is left.
///
/// # Cancel safety
/// Dropping the future may leave the file; [`remove`] knows it.
pub(crate) async fn make(qemu_img: &dyn QemuImg, overlay: &Overlay) -> Result<(), PortError> {
    let message = format!("disk {}: the overlay {} could not be made", overlay.disk, overlay.file);
    if let Some(why) = no_place(&overlay.base, &overlay.file)? {
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, format!("{message}: {why}")));
    }
    let base = Image::new(&overlay.base, overlay.base_format.driver());
    let options =
        CreateOptions { size: Some(overlay.virtual_size), backing: Some(base), backing_unopened: true };
    let made = qemu_img.create(&image_of(overlay), &options).await;
    made.map_err(|e| {
        let is_taken = e.kind() == Kind::Ambiguous;
        let mut error = error::of_qemu_img(message.clone(), e);
        if is_taken {
            error.kind = PortErrorKind::AlreadyExists;
        }
        error
    })?;
    // Until here its maker alone can use it.
    let (file, base) = (Path::new(&overlay.file), Path::new(&overlay.base));
    access::like_base(file, base).map_err(|source| {
        let effect = match std::fs::remove_file(file) {
            Ok(()) => Effect::None,
            Err(error) => {
                tracing::warn!(%error, "the overlay {}, which was just made, stays behind", overlay.file);
                Effect::Done
            }
        };
        PortError::new(PortErrorKind::Refused, effect, message).with_source(source)
    })
}

/// Gives a new file, which its maker alone can use so far, the access of `base`, and none for other users; durably.
pub(crate) fn give_access(file: &str, base: &str) -> std::io::Result<()> {
    access::like_base(Path::new(file), Path::new(base))
}

/// Removes the file, unless it is not the overlay that [`make`] made, whole or half. One that is gone is removed.
///
/// The caller has made sure that no process has it open.
///
/// # Errors
/// [`PortErrorKind::Refused`] for a file that is something else, which stays.
pub(crate) async fn remove(qemu_img: &dyn QemuImg, overlay: &Overlay) -> Result<(), PortError> {
    let path = Path::new(&overlay.file);
    let message = || format!("disk {}: the overlay {} could not be removed", overlay.disk, overlay.file);
    let length = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(PortError::new(PortErrorKind::Failed, Effect::None, message()).with_source(error));
        }
        Ok(found) if !found.is_file() => return Err(foreign(overlay, "it is no regular file")),
        Ok(found) => found.len(),
    };
    let headless = || {
        has_no_header(path, length).map_err(|source| {
            PortError::new(PortErrorKind::Failed, Effect::None, message()).with_source(source)
        })
    };
    // Empty, it is what making it begins with; without a header, what a power cut leaves of that.
    if length > 0 && !headless()? {
        let info = match qemu_img.info(&image_of(overlay)).await {
            Ok(info) => info,
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Err(error) => return Err(error::of_qemu_img(message(), error)),
        };
        if let Some(why) = other_than(overlay, &info, length) {
            return Err(foreign(overlay, why));
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(PortError::new(PortErrorKind::Failed, Effect::None, message()).with_source(error))
        }
        _ => Ok(()),
    }
}

/// Whether the first sector was never written of a file that is no longer than an image without data. No data of a guest is in it:
/// that is found by the header.
fn has_no_header(path: &Path, length: u64) -> std::io::Result<bool> {
    if length > WITHOUT_DATA {
        return Ok(false);
    }
    let mut first = Vec::new();
    File::open(path)?.take(SECTOR).read_to_end(&mut first)?;
    Ok(first.iter().all(|byte| *byte == 0))
}

/// Why a file is not the overlay that was made, if it isn't.
fn other_than(overlay: &Overlay, info: &ImageInfo, length: u64) -> Option<&'static str> {
    if info.in_use {
        return Some("another process has it open");
    }
    match &info.backing {
        // The header gets its backing last: until then the image is an empty one.
        None if length <= WITHOUT_DATA && info.snapshots.is_empty() => None,
        None => Some("it is an image without a base"),
        Some(BackingFile { name, .. }) if name.strip_prefix("file:").unwrap_or(name) != overlay.base => {
            Some("it is an image on another base")
        }
        Some(_) if info.virtual_size != overlay.virtual_size => Some("it is an image of another size"),
        Some(_) => None,
    }
}

fn foreign(overlay: &Overlay, why: &str) -> PortError {
    let message =
        format!("disk {}: {} is not the overlay that was made, and stays: {why}", overlay.disk, overlay.file);
    PortError::new(PortErrorKind::Refused, Effect::None, message)
}

fn image_of(overlay: &Overlay) -> Image {
    Image::new(&overlay.file, overlay.format.driver())
}
