//! What an image's header says of the files that its content lies in, without opening those.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use xlsnap_qemu_img::{HeaderFiles, Image, QemuImg, backing_file, header_files};
use xlsnap_types::model::ImageFormat;

/// The files that an image's header names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// The backing file, where it is a file of this host.
    pub(super) backing: Option<PathBuf>,
    /// Its format, where the header says it.
    pub(super) format: Option<ImageFormat>,
    /// The file that holds the data, where that is another one.
    pub(super) data: Option<PathBuf>,
}

/// Reads the header of `image`; `None` as its format means that nothing tells it, and then only a header of qcow2 is believed,
/// as QEMU itself would.
///
/// Of qcow2 the few bytes are read here, since a host with a hundred disks would pay for a hundred processes; a format that
/// is neither that nor raw is left to qemu-img.
pub(super) async fn read(
    qemu_img: &dyn QemuImg,
    image: &Path,
    format: Option<&ImageFormat>,
) -> io::Result<Named> {
    if format == Some(&ImageFormat::Raw) {
        return Ok(Named::default());
    }
    // The type is looked at first: opening a FIFO would wait for its other end.
    let kind = std::fs::metadata(image)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Ok(Named::default());
    }
    match format {
        None | Some(ImageFormat::Qcow2) => {
            let HeaderFiles { backing, format: below, data, is_qcow2 } = header_files(image)?;
            if format.is_some() && !is_qcow2 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it has no header of qcow2"));
            }
            Ok(Named { backing, format: below.as_deref().map(ImageFormat::from_driver), data })
        }
        Some(other) => {
            let asked = Image::new(image, other.driver());
            let info = match qemu_img.info(&asked).await {
                Ok(info) => info,
                // What is no name of a format with a header, or one that this qemu-img does not know.
                Err(_) if matches!(other, ImageFormat::Other(_)) => return Ok(Named::default()),
                Err(error) => return Err(io::Error::other(error)),
            };
            let Some(backing) = info.backing else { return Ok(Named::default()) };
            Ok(Named {
                backing: backing_file(image, &backing.name),
                format: backing.format.as_deref().map(ImageFormat::from_driver),
                data: None,
            })
        }
    }
}
