//! The file behind a name that QEMU gives to an image.

use serde_json::Value;

/// How deep options may nest; QEMU's own trees have three or four levels.
const MAX_DEPTH: usize = 32;

/// An image, as read from QEMU's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageName {
    /// The file, or QEMU's name where there is none.
    pub(crate) file: String,
    /// The driver right above the file, where the name says it.
    pub(crate) driver: Option<String>,
}

/// Reads QEMU's name for an image: the plain file name, or `json:` with the options when these say more than a
/// file name can (an overridden backing file, a filter).
///
/// The name is text from QEMU and is not opened here.
pub(crate) fn parse(name: &str) -> ImageName {
    let plain = || ImageName { file: name.strip_prefix("file:").unwrap_or(name).to_owned(), driver: None };
    let Some(json) = name.strip_prefix("json:") else {
        return plain();
    };
    let Ok(options) = serde_json::from_str::<Value>(json) else {
        return plain();
    };
    let mut node = &options;
    let mut driver = None;
    for _ in 0..MAX_DEPTH {
        // Both spellings are QEMU's: nested, and flat with dots.
        let file = ["filename", "file.filename"].iter().find_map(|key| node.get(key)?.as_str());
        if let Some(file) = file {
            if node.get("file.filename").is_some() {
                driver = node.get("driver").and_then(Value::as_str);
            }
            return ImageName { file: file.to_owned(), driver: driver.map(str::to_owned) };
        }
        driver = node.get("driver").and_then(Value::as_str);
        match node.get("file") {
            Some(below) => node = below,
            None => break,
        }
    }
    plain()
}

/// Why the image that QEMU calls `name` is not just a file of that name, as a clause; `None` when it is. qemu-img is given
/// files, and would see something else or nothing.
pub(crate) fn detour(name: &str) -> Option<String> {
    let Some(json) = name.strip_prefix("json:") else {
        let file = name.strip_prefix("file:").unwrap_or(name);
        return match file.find(':') {
            Some(colon) if !file[..colon].contains('/') && file == name => {
                Some(format!("QEMU reaches its image by the protocol {}, and not as a file", &file[..colon]))
            }
            _ => descriptor(file),
        };
    };
    let unknown = || Some("QEMU's name for its image is not understood".to_owned());
    let Ok(options) = serde_json::from_str::<Value>(json) else { return unknown() };
    let mut node = &options;
    let mut is_format = true;
    for _ in 0..MAX_DEPTH {
        let text = |key: &str| node.get(key).and_then(Value::as_str);
        if let Some(file) = text("file.filename") {
            return by_driver(text("file.driver").unwrap_or("file")).or_else(|| descriptor(file));
        }
        let driver = text("driver").unwrap_or("file");
        if ["offset", "size"].iter().any(|key| node.get(key).is_some()) {
            return Some("QEMU reads its image at an offset in another file".to_owned());
        }
        if let Some(file) = text("filename") {
            return by_driver(driver).or_else(|| descriptor(file));
        }
        match node.get("file") {
            Some(below) if below.is_object() => node = below,
            Some(_) => return unknown(),
            None if is_format => return unknown(),
            None => return by_driver(driver).or_else(unknown),
        }
        is_format = false;
    }
    unknown()
}

/// A driver that is not one of files.
fn by_driver(driver: &str) -> Option<String> {
    let is_file = matches!(driver, "file" | "host_device" | "host_cdrom");
    (!is_file).then(|| format!("QEMU reaches its image by the protocol {driver}, and not as a file"))
}

fn descriptor(file: &str) -> Option<String> {
    file.starts_with("/dev/fdset/")
        .then(|| format!("QEMU was given its image as an open file ({file}), whose name is not known"))
}
