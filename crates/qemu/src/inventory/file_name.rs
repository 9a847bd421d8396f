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
