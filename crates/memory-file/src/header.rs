//! How a memory file begins.

use std::io::{self, Read};
use std::path::Path;

use crate::{Error, Kind};

/// QEMU's stream (migration/savevm.c): `QEVM`, the version, and sections, of which the first describes the machine.
pub(crate) const QEMU_MAGIC: [u8; 4] = *b"QEVM";
const QEMU_VERSION: u32 = 3;
const SECTION_CONFIGURATION: u8 = 7;

/// The longest machine type that is believed; QEMU's have 30 letters at most.
const LONGEST_MACHINE: u32 = 255;

/// How `xl save` begins its files (tools/xl/xl.h: `savefileheader_magic`).
pub const XL_MAGIC: &[u8; 32] = b"Xen saved domain, xl format\n \0 \r";

/// Written in the byte order of the host that saved.
const XL_BYTE_ORDER: u32 = 0x0102_0304;
/// `XL_MANDATORY_FLAG_JSON`: the configuration in the file is libxl's JSON.
const XL_JSON: u32 = 1;
/// The longest configuration that is believed: thousands of disks.
const LONGEST_CONFIGURATION: u32 = 1 << 20;

/// What the beginning of a memory file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// The stream that QEMU's `migrate` sends (docs/devel/migration).
    Qemu {
        /// The machine type; `None` for a machine type from before QEMU 2.4, whose stream does not tell.
        machine: Option<String>,
    },
    /// What `xl save` writes (tools/xl/xl.h: `struct save_file_header`).
    Xl {
        /// The domain's configuration when it was saved: libxl's JSON.
        configuration: String,
    },
}

/// What is wrong with a beginning, as a clause.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// It cannot be what was saved.
    Foreign(String),
    /// It cannot be read.
    Unread(io::Error),
}

impl Wrong {
    pub(crate) fn into_error(self, file: &Path) -> Error {
        match self {
            Self::Foreign(why) => Error::about(Kind::Damaged, file, &why),
            Self::Unread(e) => Error::about(Kind::Damaged, file, "cannot be read").with_source(e),
        }
    }
}

impl Header {
    /// Reads the beginning of an unpacked stream.
    ///
    /// # Errors
    /// [`Kind::Damaged`], which says what the stream is not. `name` is what the error calls it.
    pub fn read(stream: impl Read, name: &Path) -> Result<Self, Error> {
        read(stream).map_err(|wrong| wrong.into_error(name))
    }
}

pub(crate) fn read(mut stream: impl Read) -> Result<Header, Wrong> {
    let magic: [u8; 4] = take(&mut stream)?;
    if magic == QEMU_MAGIC {
        return qemu(stream);
    }
    if magic == XL_MAGIC[..4] {
        let rest: [u8; XL_MAGIC.len() - 4] = take(&mut stream)?;
        if rest == XL_MAGIC[4..] {
            return xl(stream);
        }
    }
    foreign("holds no memory of a machine: it does not begin as a stream of QEMU's or a save file of xl's")
}

fn qemu(mut stream: impl Read) -> Result<Header, Wrong> {
    let version = u32::from_be_bytes(take(&mut stream)?);
    if version != QEMU_VERSION {
        return foreign(format!("is a machine's state of version {version}, and {QEMU_VERSION} is known"));
    }
    let [section] = take(&mut stream)?;
    if section != SECTION_CONFIGURATION {
        return Ok(Header::Qemu { machine: None });
    }
    let length = u32::from_be_bytes(take(&mut stream)?);
    if length > LONGEST_MACHINE {
        return foreign(format!("names a machine type of {length} bytes"));
    }
    match String::from_utf8(take_vec(&mut stream, length)?) {
        Ok(machine) if !machine.is_empty() && machine.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(Header::Qemu { machine: Some(machine) })
        }
        _ => foreign("names a machine type that is no word"),
    }
}

fn xl(mut stream: impl Read) -> Result<Header, Wrong> {
    let short = |wrong| match wrong {
        Wrong::Foreign(_) => {
            Wrong::Foreign("is a save file of Xen's xl, and ends within its header".to_owned())
        }
        unread => unread,
    };
    let mut number = || Ok::<_, Wrong>(u32::from_ne_bytes(take(&mut stream).map_err(short)?));
    if number()? != XL_BYTE_ORDER {
        return foreign("is a save file of Xen's xl, from a host of another byte order");
    }
    let (mandatory, _optional, length, of_json) = (number()?, number()?, number()?, number()?);
    if mandatory & XL_JSON == 0 {
        return foreign(
            "is a save file of an old xl of Xen's, which did not write the configuration as JSON",
        );
    }
    if length.checked_sub(4).is_none_or(|room| of_json > room) || of_json > LONGEST_CONFIGURATION {
        return foreign("is a save file of Xen's xl, with a configuration that is longer than its place");
    }
    let mut json = take_vec(&mut stream, of_json).map_err(short)?;
    // libxl may count the NUL that ends it.
    if json.last() == Some(&0) {
        json.pop();
    }
    match String::from_utf8(json) {
        Ok(configuration) => Ok(Header::Xl { configuration }),
        Err(_) => foreign("is a save file of Xen's xl, with a configuration that is no text"),
    }
}

fn foreign<T>(why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Foreign(why.into()))
}

fn take<const N: usize>(stream: &mut impl Read) -> Result<[u8; N], Wrong> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map_err(unread)?;
    Ok(bytes)
}

/// The length has been compared with a limit.
fn take_vec(stream: &mut impl Read, length: u32) -> Result<Vec<u8>, Wrong> {
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).map_err(unread)?;
    Ok(bytes)
}

fn unread(error: io::Error) -> Wrong {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Wrong::Foreign("ends within its beginning".to_owned())
    } else {
        Wrong::Unread(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], says: &str) {
        let Err(Wrong::Foreign(why)) = read(bytes) else { panic!("{bytes:?} was taken") };
        assert!(why.contains(says), "{says}: {why}");
    }

    fn stream(version: u32, section: u8, length: u32, name: &[u8]) -> Vec<u8> {
        [&QEMU_MAGIC[..], &version.to_be_bytes(), &[section], &length.to_be_bytes(), name].concat()
    }

    fn save_file(json: &[u8]) -> Vec<u8> {
        let length = u32::try_from(json.len()).unwrap();
        let numbers = [XL_BYTE_ORDER, 3, 0, length + 4, length].map(u32::to_ne_bytes).concat();
        [XL_MAGIC.as_slice(), &numbers, json].concat()
    }

    #[test]
    fn qemus_machine_type_is_read() {
        let whole = stream(3, 7, 11, b"pc-q35-10.0\x01rest");
        assert_eq!(read(&whole[..]).unwrap(), Header::Qemu { machine: Some("pc-q35-10.0".into()) });
        assert_eq!(read(&stream(3, 1, 0, b"")[..]).unwrap(), Header::Qemu { machine: None });
    }

    #[test]
    fn xls_configuration_is_read() {
        for json in [&br#"{"c_info": {}}"#[..], b"{\"c_info\": {}}\0"] {
            let read = read(&[&save_file(json)[..], b"memory"].concat()[..]).unwrap();
            assert_eq!(read, Header::Xl { configuration: r#"{"c_info": {}}"#.into() });
        }
    }

    #[test]
    fn another_beginning_is_told() {
        let whole = stream(3, 7, 11, b"pc-q35-10.0");
        let saved = save_file(b"{}");
        for (whole, from) in [(&whole, 0), (&saved, 0)] {
            for end in from..whole.len() {
                check(&whole[..end], "ends within");
            }
        }
        check(b"QFI\xfb and more", "does not begin");
        check(b"Xen saved domain, xl format\n \0 \nand more", "does not begin");
        check(&stream(4, 7, 1, b"x"), "version 4");
        check(&stream(3, 7, u32::MAX, b"x"), "4294967295 bytes");
        check(&stream(3, 7, 256, &[b'x'; 256]), "256 bytes");
        check(&stream(3, 7, 2, b"\x1b["), "no word");
        check(&stream(3, 7, 2, b"\xff\xff"), "no word");
        check(&stream(3, 7, 0, b""), "no word");
        for (at, says) in [
            (0, "does not begin"),
            (31, "does not begin"),
            (32, "byte order"),
            (36, "old xl"),
            (48, "longer"),
        ] {
            let mut changed = saved.clone();
            changed[at] = if at == 36 { 0 } else { 0xee };
            check(&changed, says);
        }
        check(&save_file(b"\xff\xff"), "no text");
    }
}
