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

/// The image as the value that goes with `--image-opts`.
pub(crate) fn image_opts(image: &Image, protocol: Protocol) -> Result<OsString, Error> {
    let format = checked_format(&image.format)?;
    let mut value = format!("driver={format},file.driver={},file.filename=", protocol.driver()).into_bytes();
    for &byte in image.path.as_os_str().as_bytes() {
        value.push(byte);
        // In an option's value a comma is the end, and two are one.
        if byte == b',' {
            value.push(byte);
        }
    }
    Ok(OsString::from_vec(value))
}

/// The image as a `json:` name that leaves its backing file unopened. `--image-opts` can't say null, only a deprecated
/// empty string.
pub(crate) fn json_without_backing(image: &Image, protocol: Protocol) -> Result<OsString, Error> {
    let format = checked_format(&image.format)?;
    let Some(path) = image.path.to_str() else {
        let shown = quote(image.path.as_os_str());
        let message =
            format!("the image {shown} has a backing file, and then qemu-img needs its path to be UTF-8");
        return Err(Error::new(Kind::Unsupported, message));
    };
    let options = serde_json::json!({
        "driver": format,
        "backing": null,
        "file": { "driver": protocol.driver(), "filename": path },
    });
    Ok(format!("json:{options}").into())
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
