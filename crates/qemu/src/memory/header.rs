//! How a memory file begins.

use std::io::{self, Read};

use xlsnap_orchestrator::MemoryHeader;

/// QEMU's stream (migration/savevm.c): `QEVM`, the version, and sections, of which the first describes the machine.
const MAGIC: [u8; 4] = *b"QEVM";
const VERSION: u32 = 3;
const SECTION_CONFIGURATION: u8 = 7;

/// The longest machine type that is believed; QEMU's have 30 letters at most.
const LONGEST_NAME: u32 = 255;

/// How `xl save` begins its files (tools/xl/xl.h: `savefileheader_magic`).
pub(super) const XEN: [u8; 32] = *b"Xen saved domain, xl format\n \0 \r";

/// What is wrong with a beginning, as a clause.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It cannot be what was saved.
    Foreign(String),
    /// It cannot be read.
    Unread(String),
}

/// Reads the beginning of a stream, unpacked.
pub(super) fn read(mut stream: impl Read) -> Result<MemoryHeader, Wrong> {
    let foreign = |why: &str| Err(Wrong::Foreign(why.to_owned()));
    let magic: [u8; 4] = take(&mut stream)?;
    if magic != MAGIC {
        let mut rest = [0; XEN.len() - 4];
        if magic == XEN[..4] && stream.read_exact(&mut rest).is_ok() && rest == XEN[4..] {
            return foreign("is a save file of Xen's, and no QEMU reads it");
        }
        return foreign("does not begin as a machine's state from QEMU");
    }
    let version = u32::from_be_bytes(take(&mut stream)?);
    if version != VERSION {
        return Err(Wrong::Foreign(format!(
            "is a machine's state of version {version}, and {VERSION} is known"
        )));
    }
    let [section] = take(&mut stream)?;
    if section != SECTION_CONFIGURATION {
        // Machine types before 2.4 do not tell.
        return Ok(MemoryHeader::default());
    }
    let length = u32::from_be_bytes(take(&mut stream)?);
    if length > LONGEST_NAME {
        return foreign("names a machine type without measure");
    }
    let mut name = vec![0; length as usize];
    stream.read_exact(&mut name).map_err(|e| unread(&e))?;
    match String::from_utf8(name) {
        Ok(name) if !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(MemoryHeader { machine: Some(name), domain: None })
        }
        _ => foreign("names a machine type that is no word"),
    }
}

fn take<const N: usize>(stream: &mut impl Read) -> Result<[u8; N], Wrong> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map_err(|e| unread(&e))?;
    Ok(bytes)
}

fn unread(error: &io::Error) -> Wrong {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Wrong::Foreign("ends within its beginning".to_owned())
    } else {
        Wrong::Unread(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(version: u32, section: u8, length: u32, name: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &version.to_be_bytes(), &[section], &length.to_be_bytes(), name].concat()
    }

    #[test]
    fn the_machine_type_is_read() {
        let whole = stream(3, 7, 11, b"pc-q35-10.0\x01rest");
        assert_eq!(read(&whole[..]).unwrap().machine.as_deref(), Some("pc-q35-10.0"));
        assert_eq!(read(&stream(3, 1, 0, b"")[..]).unwrap(), MemoryHeader::default());
    }

    #[test]
    fn what_is_none_is_told() {
        let check = |bytes: &[u8], says: &str| {
            let Err(Wrong::Foreign(why)) = read(bytes) else { panic!("{bytes:?} was taken") };
            assert!(why.contains(says), "{why}");
        };
        let whole = stream(3, 7, 11, b"pc-q35-10.0");
        for end in 0..whole.len() {
            check(&whole[..end], "ends within");
        }
        check(b"QFI\xfb and more", "does not begin");
        check(&XEN, "Xen's");
        check(&XEN[..20], "does not begin");
        check(&stream(4, 7, 1, b"x"), "version 4");
        check(&stream(3, 7, u32::MAX, b"x"), "without measure");
        check(&stream(3, 7, 256, &[b'x'; 256]), "without measure");
        check(&stream(3, 7, 2, b"\x1b["), "no word");
        check(&stream(3, 7, 2, b"\xff\xff"), "no word");
        check(&stream(3, 7, 0, b""), "no word");
    }
}
