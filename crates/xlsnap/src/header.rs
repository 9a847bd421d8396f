//! The format of an image whose format was not given.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;

use xlsnap_orchestrator::{Effect, Error, Kind};
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::failures::refused;

/// Checks that an image is there, and gives the format that its header shows beyond doubt.
///
/// Only qcow2 is recognised. A file without a known header may be a raw disk or anything else, so its format has to be given:
/// to take it for raw would be a guess.
pub(crate) fn format_of(
    disk: &DiskName,
    image: &str,
    given: Option<ImageFormat>,
) -> Result<ImageFormat, Error> {
    let cannot = |e: std::io::Error| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
        Error::new(kind, Effect::None, format!("the image {image} of disk {disk} cannot be read"))
            .with_source(e)
    };
    // The type is looked at first: opening a FIFO would wait for its other end.
    let kind = std::fs::metadata(image).map_err(cannot)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(refused(format!("the image {image} of disk {disk} is no file and no block device")));
    }
    if let Some(format) = given {
        return Ok(format);
    }
    let mut header = [0; 8];
    let read = File::open(image).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(e) => return Err(cannot(e)),
    }
    // The magic, then the version in big endian (QEMU, docs/interop/qcow2.rst).
    match header {
        [b'Q', b'F', b'I', 0xfb, 0, 0, 0, 2 | 3] => Ok(ImageFormat::Qcow2),
        _ => Err(refused(format!(
            "the format of the image {image} of disk {disk} cannot be told from its header"
        ))
        .with_advice(format!("give the format of {disk}: raw, if it is a raw disk"))),
    }
}
