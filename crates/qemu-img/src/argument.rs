//! How an image is written on qemu-img's command line so that its name and its content mean nothing.
//!
//! A bare name is parsed: `nbd:x`, `json:{...}` and `a:b` name protocols, a leading `-` an option. Without a format the
//! content is probed, and a guest that writes a qcow2 header into its raw disk chooses the files that are opened.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::{Error, Image, Kind};

/// The driver below the format: what the path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A regular file.
    File,
    /// A host's block device.
    HostDevice,
}

impl Protocol {
    /// What `path` is. Anything but a file or a block device is refused: to open a FIFO, say, blocks for ever.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let shown = quote(path.as_os_str());
        let metadata = std::fs::metadata(path).map_err(|source| {
            let (kind, message) = match source.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                    (Kind::NotFound, format!("the image {shown} is not there"))
                }
                _ => (Kind::Failed, format!("the image {shown} can't be looked at")),
            };
            Error::new(kind, message).with_source(source)
        })?;
        let what = metadata.file_type();
        if what.is_file() {
            Ok(Self::File)
        } else if what.is_block_device() {
            Ok(Self::HostDevice)
        } else {
            let message = format!("the image {shown} is neither a regular file nor a block device");
            Err(Error::new(Kind::Unsupported, message))
        }
    }

    fn driver(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::HostDevice => "host_device",
        }
    }
}

/// The id of the object that holds an image's passphrase.
const SECRET: &str = "key";

/// Whether the image's driver is to be told its passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// It is: by the object that [`secret`] makes.
    Given,
    /// It is not: the image has none, or only its header is read.
    No,
}

/// The image as the value that goes with `--image-opts`.
pub(crate) fn image_opts(image: &Image, protocol: Protocol, key: Key) -> Result<OsString, Error> {
    let format = checked_format(&image.format)?;
    let key = match key {
        Key::Given => format!("{}={SECRET},", key_option(format)),
        Key::No => String::new(),
    };
    let mut value =
        format!("driver={format},{key}file.driver={},file.filename=", protocol.driver()).into_bytes();
    push_value(&mut value, image.path.as_os_str());
    Ok(OsString::from_vec(value))
}

/// The value that goes with `--object`: the passphrase, which qemu-img reads from the file.
pub(crate) fn secret(key_file: &Path) -> OsString {
    let mut value = format!("secret,id={SECRET},file=").into_bytes();
    push_value(&mut value, key_file.as_os_str());
    OsString::from_vec(value)
}

/// In an option's value a comma is the end, and two are one.
fn push_value(to: &mut Vec<u8>, text: &OsStr) {
    for &byte in text.as_bytes() {
        to.push(byte);
        if byte == b',' {
            to.push(byte);
        }
    }
}

/// The option of a driver that names the passphrase's object.
fn key_option(format: &str) -> &'static str {
    if format == "luks" { "key-secret" } else { "encrypt.key-secret" }
}

/// The image as a `json:` name that leaves its backing file unopened. `--image-opts` can't say null, only a deprecated
/// empty string.
pub(crate) fn json_without_backing(image: &Image, protocol: Protocol, key: Key) -> Result<OsString, Error> {
    let options = json_with_backing(image, protocol, key, Some(serde_json::Value::Null))?;
    Ok(format!("json:{options}").into())
}

/// The options that open the image, with these for its backing file; `None` leaves that to its header.
pub(crate) fn json_with_backing(
    image: &Image,
    protocol: Protocol,
    key: Key,
    backing: Option<serde_json::Value>,
) -> Result<serde_json::Value, Error> {
    let format = checked_format(&image.format)?;
    let Some(path) = image.path.to_str() else {
        let shown = quote(image.path.as_os_str());
        let message =
            format!("the image {shown} has a backing file, and then qemu-img needs its path to be UTF-8");
        return Err(Error::new(Kind::Unsupported, message));
    };
    let mut options = serde_json::json!({
        "driver": format,
        "file": { "driver": protocol.driver(), "filename": path },
    });
    if let Some(backing) = backing {
        options["backing"] = backing;
    }
    if key == Key::Given {
        options[key_option(format)] = SECRET.into();
    }
    Ok(options)
}

/// `format` if it can be a driver's name: anything else could bring options of its own along.
pub(crate) fn checked_format(format: &str) -> Result<&str, Error> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=32).contains(&format.len()) && format.bytes().all(word) && !format.starts_with('-') {
        return Ok(format);
    }
    let message = format!("{} is not the name of an image format", quote(OsStr::new(format)));
    Err(Error::new(Kind::Unsupported, message))
}

/// `word` as one would type it to a shell; nothing in it reaches a terminal as a control character.
pub(crate) fn quote(word: &OsStr) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.,:=_+@%-".contains(c);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut quoted = String::from("$'");
            for chunk in word.as_bytes().utf8_chunks() {
                for c in chunk.valid().chars() {
                    match c {
                        '\'' | '\\' => quoted.extend(['\\', c]),
                        c if c.is_control() => {
                            let mut bytes = [0; 4];
                            c.encode_utf8(&mut bytes).bytes().for_each(|b| quoted.push_str(&octal(b)));
                        }
                        c => quoted.push(c),
                    }
                }
                chunk.invalid().iter().for_each(|&b| quoted.push_str(&octal(b)));
            }
            quoted.push('\'');
            quoted
        }
    }
}

/// Three octal digits: unlike `\xHH` no digit after them is taken in.
fn octal(byte: u8) -> String {
    format!("\\{byte:03o}")
}

#[cfg(test)]
mod tests;
