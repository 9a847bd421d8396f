//! What the settings mean.

use std::collections::BTreeSet;

use super::error::{ConfigError, ConfigReason, Fault};
use super::lex::{self, Piece, Setting, Value};
use crate::libxl::DiskFormat;
use crate::model::{DiskName, ImageFormat, SnapshotName};

/// A snapshot that a user's configuration file asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserConfig {
    /// Its name; `None` for the time's.
    pub name: Option<SnapshotName>,
    /// What its maker says about it.
    pub description: Option<String>,
    /// Whether to take the memory, and where to.
    pub memory: MemoryChoice,
    /// How a disk is taken that does not say it, or is not listed.
    pub kind: DiskKind,
    /// The disks to take, each once; empty for every writable disk.
    pub disks: Vec<UserDisk>,
}

/// Whether to take the memory, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum MemoryChoice {
    /// Disks only.
    #[default]
    No,
    /// Into a file in the default place.
    Default,
    /// Into this file, by its absolute path.
    File(String),
}

/// How a disk is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DiskKind {
    /// Inside its image.
    #[default]
    Internal,
    /// Into a new file that takes the writes.
    External,
}

/// One disk to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDisk {
    /// Which disk.
    pub disk: DiskName,
    /// How.
    pub kind: DiskKind,
    /// The new file's format, if it is said; only of an external one.
    pub format: Option<ImageFormat>,
    /// The new file by its absolute path, if it is said; only of an external one.
    pub target: Option<String>,
}

const KEYS: &str = "name, description, memory, type and disk";
const DISK_KEYS: &str = "vdev, type, format and target";

impl UserConfig {
    /// The longest file that is read, in bytes.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Parses a file.
    ///
    /// # Errors
    /// [`ConfigError`] says where and what is wrong. Every key is checked, and none may stand twice.
    pub fn parse(file: &[u8]) -> Result<Self, ConfigError> {
        let start = &file[..file.len().min(Self::MAX_BYTES)];
        let text = match str::from_utf8(start) {
            _ if start.len() < file.len() => {
                let reason = ConfigReason::TooLong { most: Self::MAX_BYTES };
                return Err(Fault::new(start.len(), "", reason).locate(file));
            }
            Err(error) => {
                let at = error.valid_up_to();
                return Err(Fault::new(at, "", ConfigReason::NotUtf8 { byte: file[at] }).locate(file));
            }
            Ok(text) => text,
        };
        parse(text).map_err(|fault| fault.locate(file))
    }
}

fn parse(text: &str) -> Result<UserConfig, Fault> {
    let settings = lex::settings(text)?;
    let mut config = UserConfig::default();
    let mut disks = None;
    for (index, Setting { key, value }) in settings.iter().enumerate() {
        if settings[..index].iter().any(|earlier| earlier.key.text == key.text) {
            return Err(key.fault(ConfigReason::Twice));
        }
        match key.text {
            "name" => {
                let name = one(value, "name", "a string")?;
                config.name =
                    Some(SnapshotName::new(name.text).map_err(|e| name.fault(ConfigReason::Name(e)))?);
            }
            "description" => {
                config.description = Some(one(value, "description", "a string")?.text.to_owned());
            }
            "memory" => config.memory = memory(one(value, "memory", MEMORY)?)?,
            "type" => config.kind = kind(one(value, "type", KIND)?)?,
            // How disks are taken by default may be said after them.
            "disk" => disks = Some(value),
            _ => return Err(key.fault(ConfigReason::UnknownKey { known: KEYS })),
        }
    }
    if let Some(value) = disks {
        config.disks = list_of_disks(value, config.kind)?;
    }
    Ok(config)
}

const MEMORY: &str = "\"yes\", \"no\" or the absolute path of a file";
const KIND: &str = "\"internal\" or \"external\"";
const FORMAT: &str = "qcow2, raw, qcow, vhd or qed";
const ABSOLUTE: &str = "the absolute path of a file";
const DISKS: &str = "a list of strings like ['vdev=xvda']; without the key every writable disk is taken";

fn one<'a>(value: &Value<'a>, key: &'static str, allowed: &'static str) -> Result<Piece<'a>, Fault> {
    match value {
        Value::Text(piece) => Ok(*piece),
        Value::List { open, .. } => Err(open.fault(ConfigReason::Value { key, allowed })),
    }
}

fn memory(value: Piece<'_>) -> Result<MemoryChoice, Fault> {
    match value.text {
        "no" => Ok(MemoryChoice::No),
        "yes" => Ok(MemoryChoice::Default),
        _ => absolute(value, "memory", MEMORY).map(MemoryChoice::File),
    }
}

fn absolute(value: Piece<'_>, key: &'static str, allowed: &'static str) -> Result<String, Fault> {
    if value.text.starts_with('/') && !value.text.contains(char::is_control) {
        Ok(value.text.to_owned())
    } else {
        Err(value.fault(ConfigReason::Value { key, allowed }))
    }
}

fn kind(value: Piece<'_>) -> Result<DiskKind, Fault> {
    match value.text {
        "internal" => Ok(DiskKind::Internal),
        "external" => Ok(DiskKind::External),
        _ => Err(value.fault(ConfigReason::Value { key: "type", allowed: KIND })),
    }
}

fn list_of_disks(value: &Value<'_>, default: DiskKind) -> Result<Vec<UserDisk>, Fault> {
    let wrong = |piece: &Piece<'_>| Err(piece.fault(ConfigReason::Value { key: "disk", allowed: DISKS }));
    let elements = match value {
        Value::List { open, elements } if elements.is_empty() => return wrong(open),
        Value::List { elements, .. } => elements,
        Value::Text(text) => return wrong(text),
    };
    let mut seen = BTreeSet::new();
    let mut disks = Vec::with_capacity(elements.len());
    for element in elements {
        let disk = disk(element, default)?;
        if !seen.insert(disk.disk.clone()) {
            return Err(element.fault(ConfigReason::Twice));
        }
        disks.push(disk);
    }
    Ok(disks)
}

/// One element of `disk`: `KEY=VALUE` joined with commas, of which `target` takes the rest.
fn disk(element: &Piece<'_>, default: DiskKind) -> Result<UserDisk, Fault> {
    let (mut vdev, mut said, mut format, mut target) = (None, None, None, None);
    let mut rest = Some(*element);
    while let Some(here) = rest {
        let (part, after) = part(here);
        rest = after;
        let (key, value) = split(part, '=');
        let value = value.ok_or_else(|| part.fault(ConfigReason::Expected("KEY=VALUE, like vdev=xvda")))?;
        let twice = match key.text {
            "vdev" => {
                let name = DiskName::new(value.text).map_err(|e| value.fault(ConfigReason::Name(e)))?;
                vdev.replace(name).is_some()
            }
            "type" => said.replace(kind(value)?).is_some(),
            "format" => format.replace((key, image_format(value)?)).is_some(),
            "target" => target.replace((key, absolute(value, "target", ABSOLUTE)?)).is_some(),
            _ => return Err(key.fault(ConfigReason::UnknownKey { known: DISK_KEYS })),
        };
        if twice {
            return Err(key.fault(ConfigReason::Twice));
        }
    }
    let Some(disk) = vdev else {
        let hint = "write vdev=NAME, and before target=, which takes the rest of the text";
        return Err(element.fault(ConfigReason::Missing { key: "vdev", hint }));
    };
    let kind = said.unwrap_or(if target.is_some() { DiskKind::External } else { default });
    if let (DiskKind::Internal, Some(key)) =
        (kind, target.as_ref().map(|(key, _)| key).or(format.as_ref().map(|(key, _)| key)))
    {
        return Err(key.fault(ConfigReason::Contradiction(
            "an internal snapshot is inside the disk's image; this is for type=external only",
        )));
    }
    let (format, target) = (format.map(|(_, format)| format), target.map(|(_, target)| target));
    Ok(UserDisk { disk, kind, format, target })
}

fn image_format(value: Piece<'_>) -> Result<ImageFormat, Fault> {
    let format = value.text.parse::<DiskFormat>().ok().and_then(ImageFormat::from_libxl);
    format.ok_or_else(|| value.fault(ConfigReason::Value { key: "format", allowed: FORMAT }))
}

/// The first part of an element without the blanks around it, and what follows its comma.
fn part(element: Piece<'_>) -> (Piece<'_>, Option<Piece<'_>>) {
    let text = element.text.trim_start();
    let element = Piece { at: element.at + (element.text.len() - text.len()), text };
    if text.starts_with("target=") {
        return (element, None);
    }
    let (first, rest) = split(element, ',');
    (Piece { text: first.text.trim_end(), ..first }, rest)
}

fn split(piece: Piece<'_>, at: char) -> (Piece<'_>, Option<Piece<'_>>) {
    match piece.text.split_once(at) {
        None => (piece, None),
        Some((first, rest)) => (
            Piece { text: first, ..piece },
            Some(Piece { at: piece.at + first.len() + at.len_utf8(), text: rest }),
        ),
    }
}
