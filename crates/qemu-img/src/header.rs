//! What an image's header says of the files that its content lies in, without opening those.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The longest name of a backing file (QEMU, docs/interop/qcow2.rst).
const MAX_NAME: u32 = 1023;

/// How much of a header is looked through for extensions.
const MAX_EXTENSIONS: usize = 64 << 10;

const BACKING_FORMAT: u32 = 0xE279_2ACA;
const DATA_FILE: u32 = 0x4441_5441;

/// The files that an image's header names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderFiles {
    /// The backing file, where it is a file of this host.
    pub backing: Option<PathBuf>,
    /// QEMU's word for its format, where the header says it.
    pub format: Option<String>,
    /// The file that holds the data, where that is another one.
    pub data: Option<PathBuf>,
    /// Whether it is a header of qcow2 at all.
    pub is_qcow2: bool,
}

/// Reads the header of a qcow2 file, versions 2 and 3 (docs/interop/qcow2.rst); what has another magic names nothing.
///
/// The few bytes are read in this process, so that a directory of many images can be looked through; for all else ask
/// [`crate::QemuImg::info`]. The caller has seen that `image` is a regular file or a block device: opening a FIFO would wait.
///
/// # Errors
/// When the file cannot be read, or its header ends before what it names.
pub fn header_files(image: &Path) -> io::Result<HeaderFiles> {
    let file = File::open(image)?;
    let mut header = [0; 104];
    let length = read_at_most(&file, &mut header, 0)?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let version = word(4);
    if length < 72 || word(0) != 0x5146_49fb || !matches!(version, 2 | 3) {
        return Ok(HeaderFiles::default());
    }
    let offset = u64::from(word(8)) << 32 | u64::from(word(12));
    let size = word(16);
    let mut named = HeaderFiles { is_qcow2: true, ..HeaderFiles::default() };
    if offset != 0 && size != 0 && size <= MAX_NAME {
        let mut name = vec![0; size as usize];
        file.read_exact_at(&mut name, offset)?;
        named.backing = named_file(image, &name);
    }
    let start = if version == 3 { u64::from(word(100)) } else { 72 };
    let mut extensions = vec![0; MAX_EXTENSIONS];
    let length = read_at_most(&file, &mut extensions, start)?;
    let mut rest = &extensions[..length];
    while let [a, b, c, d, e, f, g, h, data @ ..] = rest {
        let kind = u32::from_be_bytes([*a, *b, *c, *d]);
        let size = u32::from_be_bytes([*e, *f, *g, *h]) as usize;
        let Some(text) = data.get(..size).filter(|_| kind != 0) else { break };
        match kind {
            BACKING_FORMAT => {
                named.format = std::str::from_utf8(text).ok().map(str::to_owned);
            }
            DATA_FILE => named.data = named_file(image, text),
            _ => {}
        }
        rest = data.get(size.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(named)
}

/// The file that a header means, as QEMU reads it: relative to the directory of the image's name. `None` where it is no file of
/// this host.
pub(crate) fn named_file(image: &Path, name: &[u8]) -> Option<PathBuf> {
    let name = name.strip_prefix(b"file:").unwrap_or(name);
    // QEMU takes what stands before the first colon for a protocol, unless there is a slash before it.
    let first = name.iter().position(|byte| matches!(byte, b':' | b'/'));
    if name.is_empty() || name.contains(&0) || first.is_some_and(|at| name[at] == b':') {
        return None;
    }
    Some(image.parent().unwrap_or(Path::new("/")).join(std::ffi::OsStr::from_bytes(name)))
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
            ("a\0b", None),
            ("", None),
        ] {
            assert_eq!(named_file(image, name.as_bytes()), file.map(PathBuf::from), "{name}");
        }
    }
}
