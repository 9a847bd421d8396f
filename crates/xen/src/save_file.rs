//! The beginning of a file that `xl save` made (`xl_internal` of Xen: `struct save_file_header`).

use std::io::{self, Read};

use crate::configuration::Configuration;

/// What every such file begins with.
pub const MAGIC: &[u8; 32] = b"Xen saved domain, xl format\n \0 \r";

/// Written in the byte order of the host that saved.
const BYTE_ORDER: u32 = 0x0102_0304;
/// `XL_MANDATORY_FLAG_JSON`: the configuration in it is libxl's JSON.
const JSON: u32 = 1;

/// What the beginning says.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The domain's configuration when it was saved.
    pub configuration: Configuration,
}

impl Header {
    /// Reads it from the beginning of a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] says, as a clause, what it is not.
    pub fn read(mut from: impl Read) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        whole(&mut from, &mut magic)?;
        if magic != *MAGIC {
            return Err(invalid("it was not made by `xl save`"));
        }
        let mut number = || {
            let mut bytes = [0; 4];
            whole(&mut from, &mut bytes)?;
            Ok::<_, io::Error>(u32::from_ne_bytes(bytes))
        };
        if number()? != BYTE_ORDER {
            return Err(invalid("a host of another byte order made it"));
        }
        let (mandatory, _optional, length, of_json) = (number()?, number()?, number()?, number()?);
        if mandatory & JSON == 0 {
            return Err(invalid("an old xl made it, which did not write the configuration as JSON"));
        }
        if length.checked_sub(4).is_none_or(|room| of_json > room)
            || of_json as usize > Configuration::MAX_BYTES
        {
            return Err(invalid("the configuration in it is longer than its place"));
        }
        let mut json = vec![0; of_json as usize];
        whole(&mut from, &mut json)?;
        // libxl may count the NUL that ends it.
        let json = json.strip_suffix(b"\0").unwrap_or(&json);
        let text = std::str::from_utf8(json).map_err(|_| invalid("the configuration in it is no text"))?;
        let configuration = Configuration::parse(text).map_err(|why| invalid(&why))?;
        Ok(Self { configuration })
    }
}

fn whole(from: &mut impl Read, into: &mut [u8]) -> io::Result<()> {
    from.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => invalid("it ends in the middle of its header"),
        _ => error,
    })
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> Vec<u8> {
        let length = u32::try_from(json.len()).unwrap();
        let numbers = [BYTE_ORDER, 3, 0, length + 4, length].map(u32::to_ne_bytes).concat();
        [MAGIC.as_slice(), &numbers, json.as_bytes(), b"memory"].concat()
    }

    #[test]
    fn the_configuration_is_read() {
        let json =
            r#"{"c_info": {"type": "pv", "name": "pv1", "uuid": "0a773310-ff4b-4ec6-a93c-577d088a20d1"}}"#;
        let header = Header::read(file(json).as_slice()).unwrap();
        assert_eq!(header.configuration.name(), Some("pv1"));
        assert_eq!(header.configuration.uuid().unwrap().to_string(), "0a773310-ff4b-4ec6-a93c-577d088a20d1");
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_none() {
        let whole = file(r#"{"c_info": {}}"#);
        let header = whole.len() - b"memory".len();
        for length in 0..header {
            assert!(Header::read(&whole[..length]).is_err(), "{length}");
        }
        assert!(Header::read(&whole[..header]).is_ok());
        for at in [0, 31, 32, 36, 48, 51] {
            let mut changed = whole.clone();
            changed[at] = 0xee;
            assert!(Header::read(changed.as_slice()).is_err(), "{at}");
        }
    }
}
