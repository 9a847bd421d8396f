//! `domains/<name>.toml`: strict reading, writing, and the one edit that an operation makes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};
use uuid::Uuid;
use xlsnap_orchestrator::{Effect, Error, Kind};
use xlsnap_qemu::DiskSpec;
use xlsnap_qemu::process::{Bus, StartSpec};
use xlsnap_types::model::{DiskName, DomainName, ImageFormat};

use super::start::{Agent, Start};

/// The longest file that is read.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;

/// The most disks that a domain may have.
const MAX_DISKS: usize = 1024;

/// A domain as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name, which is the file's.
    pub name: DomainName,
    /// The key of its records. Never nil.
    pub uuid: Uuid,
    /// The number by which the functions of libxl's snapshot design name it. No other domain has it.
    pub domid: Option<u32>,
    /// Its monitor's socket, absolute; `None` for a domain that is only files. A file that says how the domain is started and
    /// names no socket means `<root>/run/<uuid>.qmp`.
    pub qmp: Option<PathBuf>,
    /// The guest agent's socket, absolute; `None` when it has none.
    pub agent: Option<PathBuf>,
    /// How it is started; `None` when another program does that.
    pub start: Option<StartSpec>,
    /// Its disks, in its order.
    pub disks: Vec<DiskSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DomainTable {
    uuid: Uuid,
    domid: Option<u32>,
    qmp: Option<PathBuf>,
    start: Option<Start>,
    /// Where the overlays of all disks are made that name no directory of their own.
    overlays: Option<String>,
    #[serde(default)]
    disk: Vec<DiskTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DiskTable {
    name: DiskName,
    /// Absent for an empty drive.
    #[serde(default)]
    image: String,
    format: ImageFormat,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    removable: bool,
    node: Option<String>,
    key_file: Option<PathBuf>,
    overlays: Option<String>,
}

impl DiskTable {
    /// The disk, with `overlays` if it names no directory itself.
    fn described(self, overlays: Option<&str>) -> DiskSpec {
        let Self { name, image, format, read_only, removable, node, key_file, overlays: own } = self;
        let overlays = own.or_else(|| overlays.map(str::to_owned));
        DiskSpec { name, file: image, format, read_only, removable, node, key_file, overlays }
    }
}

impl Domain {
    /// Checks what the types of the fields leave open.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.uuid.is_nil() {
            return Err("its uuid is nil".to_owned());
        }
        if let Some(qmp) = &self.qmp
            && !qmp.is_absolute()
        {
            return Err(format!("its qmp socket {} is no absolute path", qmp.display()));
        }
        if self.disks.len() > MAX_DISKS {
            return Err(format!("it has {} disks; at most {MAX_DISKS} are allowed", self.disks.len()));
        }
        let mut names = HashSet::new();
        let mut images = HashSet::new();
        for disk in &self.disks {
            if !names.insert(&disk.name) {
                return Err(format!("two of its disks are named {}", disk.name));
            }
            if let Some(StartSpec::Machine(spec)) = &self.start
                && spec.bus == Bus::Ide
                && disk.read_only
                && !disk.removable
            {
                return Err(format!(
                    "its disk {} is read-only, which start.bus = \"ide\" has not",
                    disk.name
                ));
            }
            if disk.file.is_empty() && !disk.removable {
                return Err(format!("its disk {} has no image and is not removable", disk.name));
            }
            if !disk.file.is_empty() && (!Path::new(&disk.file).is_absolute() || disk.file.contains('\0')) {
                return Err(format!(
                    "the image {:?} of its disk {} is no absolute path",
                    disk.file, disk.name
                ));
            }
            if !disk.file.is_empty() && !images.insert(&disk.file) {
                return Err(format!("the image {} stands for two of its disks", disk.file));
            }
            if let Some(key_file) = disk.key_file.as_ref().filter(|path| !path.is_absolute()) {
                return Err(format!(
                    "the key-file {} of its disk {} is no absolute path",
                    key_file.display(),
                    disk.name
                ));
            }
            if let Some(overlays) = &disk.overlays
                && !is_plain_directory(overlays)
            {
                return Err(format!(
                    "the directory {overlays:?} for overlays of its disk {} is no absolute path",
                    disk.name
                ));
            }
            let word = disk.format.driver();
            let of_a_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if word.is_empty() || word.len() > 32 || !word.chars().all(of_a_word) {
                return Err(format!(
                    "the format {word:?} of its disk {} is no QEMU driver's name",
                    disk.name
                ));
            }
        }
        Ok(())
    }
}

fn is_plain_directory(path: &str) -> bool {
    path.starts_with('/') && !path.chars().any(char::is_control)
}

/// Reads a domain's file. Keys that it does not know are errors, so that a misspelt `read-only` is not lost. Sockets that it
/// needs and does not place are in `run`.
pub(crate) fn parse(name: &DomainName, text: &str, run: &Path) -> Result<Domain, Error> {
    let failed = |message: String| {
        Error::new(Kind::Refused, Effect::None, message)
            .with_advice("correct the file; docs/formats.md says what may stand in it")
    };
    let table: DomainTable = toml_edit::de::from_str(text)
        .map_err(|e| failed(format!("the file of domain {name} is not understood")).with_source(e))?;
    let overlays = table.overlays.as_deref();
    let disks = table.disk.into_iter().map(|disk| disk.described(overlays)).collect();
    let socket = |suffix: &str| run.join(format!("{}.{suffix}", table.uuid));
    let qmp = table.qmp.or_else(|| table.start.is_some().then(|| socket("qmp")));
    let (start, agent) = table.start.map_or((None, Agent::No), |start| (Some(start.spec), start.agent));
    let agent = match agent {
        Agent::No => None,
        Agent::Made => Some(socket("qga")),
        Agent::At(path) => Some(path),
    };
    let domain =
        Domain { name: name.clone(), uuid: table.uuid, domid: table.domid, qmp, agent, start, disks };
    domain.validate().map_err(|why| failed(format!("the file of domain {name} is refused: {why}")))?;
    Ok(domain)
}

/// The file of a new domain.
pub(crate) fn render(domain: &Domain) -> Result<String, Error> {
    let mut document = DocumentMut::new();
    document["uuid"] = value(domain.uuid.to_string());
    if let Some(domid) = domain.domid {
        document["domid"] = value(i64::from(domid));
    }
    if let Some(qmp) = &domain.qmp {
        let qmp = qmp.to_str().ok_or_else(|| {
            Error::new(
                Kind::Refused,
                Effect::None,
                format!("the socket {} of domain {} is no UTF-8 text", qmp.display(), domain.name),
            )
            .with_advice("give it by another path")
        })?;
        document["qmp"] = value(qmp);
    }
    let mut disks = ArrayOfTables::new();
    for disk in &domain.disks {
        let mut table = Table::new();
        table["name"] = value(disk.name.as_str());
        if !disk.file.is_empty() {
            table["image"] = value(&disk.file);
        }
        table["format"] = value(disk.format.driver());
        if disk.read_only {
            table["read-only"] = value(true);
        }
        if disk.removable {
            table["removable"] = value(true);
        }
        if let Some(node) = &disk.node {
            table["node"] = value(node);
        }
        if let Some(key_file) = disk.key_file.as_ref().and_then(|path| path.to_str()) {
            table["key-file"] = value(key_file);
        }
        if let Some(overlays) = &disk.overlays {
            table["overlays"] = value(overlays);
        }
        disks.push(table);
    }
    document["disk"] = Item::ArrayOfTables(disks);
    Ok(document.to_string())
}

/// The file with another image for one disk; comments, order and every other key stay.
pub(crate) fn with_image(
    domain: &DomainName,
    text: &str,
    disk: &DiskName,
    image: &str,
    format: &ImageFormat,
) -> Result<String, Error> {
    let refused = |message: String| Error::new(Kind::Refused, Effect::None, message);
    let mut document: DocumentMut = text
        .parse()
        .map_err(|e| refused(format!("the file of domain {domain} is not understood")).with_source(e))?;
    let missing = || {
        let message = format!("the file of domain {domain} describes no disk {disk}");
        Error::new(Kind::NotFound, Effect::None, message)
    };
    let set = |table: &mut dyn toml_edit::TableLike| {
        for (key, text) in [("image", image), ("format", format.driver())] {
            let mut new = toml_edit::Value::from(text);
            if let Some(old) = table.get(key).and_then(Item::as_value) {
                // The decor is what stands around the value: its comment.
                *new.decor_mut() = old.decor().clone();
            }
            table.insert(key, Item::Value(new));
        }
    };
    let is_it = |table: &dyn toml_edit::TableLike| {
        table.get("name").and_then(Item::as_str).is_some_and(|name| name == disk.as_str())
    };
    match document.get_mut("disk").ok_or_else(missing)? {
        Item::ArrayOfTables(tables) => set(tables.iter_mut().find(|t| is_it(*t)).ok_or_else(missing)?),
        Item::Value(toml_edit::Value::Array(array)) => {
            let tables = array.iter_mut().filter_map(toml_edit::Value::as_inline_table_mut);
            set(tables.into_iter().find(|t| is_it(*t)).ok_or_else(missing)?);
        }
        _ => return Err(missing()),
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests;
