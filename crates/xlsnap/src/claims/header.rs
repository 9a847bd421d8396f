//! What an image's header says of the files that its content lies in, without opening those.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use xlsnap_qemu_img::{Image, QemuImg};
use xlsnap_types::model::ImageFormat;

/// The longest name of a backing file (QEMU, docs/interop/qcow2.rst).
const MAX_NAME: u32 = 1023;

/// How much of a header is looked through for extensions.
const MAX_EXTENSIONS: usize = 64 << 10;

const BACKING_FORMAT: u32 = 0xE279_2ACA;
const DATA_FILE: u32 = 0x4441_5441;

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
    // The type is looked at first: opening a FIFO would wait for its other end.
    let kind = std::fs::metadata(image)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Ok(Named::default());
    }
    match format {
        Some(ImageFormat::Raw) => Ok(Named::default()),
        None | Some(ImageFormat::Qcow2) => qcow2(&File::open(image)?, image),
        Some(other) => {
            let asked = Image::new(image, other.driver());
            let info = qemu_img.info(&asked).await.map_err(io::Error::other)?;
            let Some(backing) = info.backing else { return Ok(Named::default()) };
            Ok(Named {
                backing: resolve(image, backing.name.as_bytes()),
                format: backing.format.as_deref().map(ImageFormat::from_driver),
                data: None,
            })
        }
    }
}

/// The header of qcow2, versions 2 and 3 (docs/interop/qcow2.rst); what has another magic names nothing.
fn qcow2(file: &File, image: &Path) -> io::Result<Named> {
    let mut header = [0; 104];
    let length = read_at_most(file, &mut header, 0)?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let version = word(4);
    if length < 72 || word(0) != 0x5146_49fb || !matches!(version, 2 | 3) {
        return Ok(Named::default());
    }
    let offset = u64::from(word(8)) << 32 | u64::from(word(12));
    let size = word(16);
    let mut named = Named::default();
    if offset != 0 && size != 0 && size <= MAX_NAME {
        let mut name = vec![0; size as usize];
        file.read_exact_at(&mut name, offset)?;
        named.backing = resolve(image, &name);
    }
    let start = if version == 3 { u64::from(word(100)) } else { 72 };
    let mut extensions = vec![0; MAX_EXTENSIONS];
    let length = read_at_most(file, &mut extensions, start)?;
    let mut rest = &extensions[..length];
    while let [a, b, c, d, e, f, g, h, data @ ..] = rest {
        let kind = u32::from_be_bytes([*a, *b, *c, *d]);
        let size = u32::from_be_bytes([*e, *f, *g, *h]) as usize;
        let Some(text) = data.get(..size).filter(|_| kind != 0) else { break };
        match kind {
            BACKING_FORMAT => {
                named.format = std::str::from_utf8(text).ok().map(ImageFormat::from_driver);
            }
            DATA_FILE => named.data = resolve(image, text),
            _ => {}
        }
        rest = data.get(size.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(named)
}

/// The file that a header means, as QEMU reads it: relative to the directory of the image's name. `None` where it is no file of
/// this host.
fn resolve(image: &Path, name: &[u8]) -> Option<PathBuf> {
    let name = name.strip_prefix(b"file:").unwrap_or(name);
    let first = name.iter().position(|byte| matches!(byte, b':' | b'/'));
    if name.is_empty() || name.contains(&0) || first.is_some_and(|at| name[at] == b':') {
        return None;
    }
    Some(image.parent()?.join(std::ffi::OsStr::from_bytes(name)))
}

fn read_at_most(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_resolved_as_qemu_resolves_it() {
        let image = Path::new("/images/top.qcow2");
        for (name, file) in [
            ("base.qcow2", Some("/images/base.qcow2")),
            ("../base.qcow2", Some("/images/../base.qcow2")),
            ("/other/base.qcow2", Some("/other/base.qcow2")),
            ("file:base.qcow2", Some("/images/base.qcow2")),
            ("./a:b", Some("/images/./a:b")),
            ("nbd://host/disk", None),
            ("json:{\"driver\":\"qcow2\"}", None),
            ("", None),
        ] {
            assert_eq!(resolve(image, name.as_bytes()), file.map(PathBuf::from), "{name}");
        }
    }
}
