//! A domain's disks, as xenstore has them.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_types::model::{DiskName, ImageFormat};
use xlsnap_xenstore::{Nodes, Path};

use crate::Domid;
use crate::domains::{children, join, path, text};

/// The most disks of a domain that are believed.
const MAX_DISKS: usize = 1024;
/// The longest name of an image: the kernel's limit.
const MAX_IMAGE: usize = 4096;
const AT_A_TIME: usize = 16;

/// Who serves a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// QEMU, in dom0.
    Qdisk,
    /// The kernel (`vbd`, of type `phy`), tapdisk, a driver domain.
    Other(String),
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vbd {
    /// The number that Xen knows it by.
    pub devid: u32,
    /// What people call it: `xvda`.
    pub name: DiskName,
    /// Who serves it.
    pub backend: Backend,
    /// Its image: a file or a block device. Empty for an empty drive.
    pub image: String,
    /// The image's format.
    pub format: ImageFormat,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Whether it is a CD-ROM.
    pub cdrom: bool,
    /// How far guest and backend have come in connecting (`XenbusState`): 4 while both use it.
    pub state: u32,
    /// The size that the guest sees, in bytes; 0 where that is not known.
    pub size: u64,
}

impl Vbd {
    /// `XenbusStateConnected`.
    pub const CONNECTED: u32 = 4;
}

/// The disks of a domain, by their numbers.
///
/// The entries under `/local/domain/<domid>/device` are the guest's to write, so they are not looked at.
///
/// # Errors
/// [`PortErrorKind::Corrupt`] names the disk whose entries are missing or make no sense.
///
/// # Cancel safety
/// It only looks.
pub async fn list(store: &dyn Nodes, domid: Domid) -> Result<Vec<Vbd>, PortError> {
    let base = path(&format!("/libxl/{domid}/device/vbd"));
    let names = children(store, &base).await?;
    if names.len() > MAX_DISKS {
        return Err(nonsense(
            domid,
            &format!("it has {} disks, and at most {MAX_DISKS} are read", names.len()),
        ));
    }
    let read = |name: String| read(store, domid, base.clone(), name);
    let mut vbds: Vec<Vbd> = stream::iter(names).map(read).buffered(AT_A_TIME).try_collect().await?;
    vbds.sort_unstable_by_key(|vbd| vbd.devid);
    let mut names = HashSet::new();
    if let Some(twice) = vbds.iter().find(|vbd| !names.insert(&vbd.name)) {
        return Err(nonsense(domid, &format!("two of its disks are called {}", twice.name)));
    }
    Ok(vbds)
}

async fn read(store: &dyn Nodes, domid: Domid, base: Path, name: String) -> Result<Vbd, PortError> {
    let wrong = |what: &str| nonsense(domid, &format!("disk {name}: {what}"));
    let devid: u32 = name.parse().map_err(|_| wrong("its number is none"))?;
    let at = text(store, &join(&join(&base, &name), "backend")).await?;
    let at = at.ok_or_else(|| wrong("it has no `backend`"))?;
    let Place { kind, backend_domid, path: at } =
        Place::of(&at, domid, devid).ok_or_else(|| wrong("its `backend` leads elsewhere"))?;
    let read = |key: &'static str| {
        let at = join(&at, key);
        async move { text(store, &at).await }
    };
    let must = |key: &'static str| {
        let value = read(key);
        let missing = wrong(&format!("its backend has no `{key}`"));
        async move { value.await?.ok_or(missing) }
    };
    let dev = must("dev").await?;
    let disk = DiskName::new(dev.as_str()).map_err(|e| wrong("its `dev` is no name").with_source(e))?;
    if disk.vdev().is_some_and(|vdev| vdev.devid() != devid) {
        return Err(wrong(&format!("its `dev` is {disk}, which has another number")));
    }
    let backend = match (kind.as_str(), backend_domid) {
        ("qdisk", Domid::DOM0) => Backend::Qdisk,
        (_, Domid::DOM0) => Backend::Other(read("type").await?.unwrap_or(kind)),
        (_, elsewhere) => Backend::Other(format!("{kind} in domain {elsewhere}")),
    };
    let params = read("params").await?.unwrap_or_default();
    let (format, image) = match (&backend, params.split_once(':')) {
        (Backend::Qdisk, Some((format, image))) => (format_of(format), image.to_owned()),
        // Only QEMU's have the format in front.
        _ => (ImageFormat::Raw, params),
    };
    if image.len() > MAX_IMAGE || image.chars().any(char::is_control) {
        return Err(wrong("its image's name is too long, or has control characters"));
    }
    let read_only = match must("mode").await?.as_str() {
        "r" => true,
        "w" => false,
        _ => return Err(wrong("its `mode` is neither r nor w")),
    };
    let number = |value: Option<String>| value.and_then(|value| value.parse::<u64>().ok());
    let sectors = number(read("sectors").await?).unwrap_or(0);
    let state = number(read("state").await?).and_then(|state| u32::try_from(state).ok());
    Ok(Vbd {
        devid,
        name: disk,
        backend,
        image,
        format,
        read_only,
        cdrom: read("device-type").await?.as_deref() == Some("cdrom"),
        state: state.ok_or_else(|| wrong("its backend's `state` is no number"))?,

        // Good enough to be shown; of a disk that is taken, QEMU says its size.
        size: sectors.saturating_mul(512),
    })
}

/// Where a backend's entries are.
struct Place {
    kind: String,
    backend_domid: Domid,
    path: Path,
}

impl Place {
    /// Reads `/local/domain/<backend>/backend/<kind>/<domid>/<devid>`, which must be this disk's.
    fn of(at: &str, domid: Domid, devid: u32) -> Option<Self> {
        let parts: Vec<&str> = at.split('/').collect();
        let ["", "local", "domain", backend, "backend", kind, frontend, device] = parts[..] else {
            return None;
        };
        let ours = Domid::parse(frontend)? == domid && device.parse() == Ok(devid);
        let word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let path = Path::new(at).ok()?;
        (ours && word).then_some(Self { kind: kind.to_owned(), backend_domid: Domid::parse(backend)?, path })
    }
}

/// The image's format, by the word that libxl puts before its name.
fn format_of(word: &str) -> ImageFormat {
    match word {
        "aio" => ImageFormat::Raw,
        "vhd" => ImageFormat::Vpc,
        driver => ImageFormat::from_driver(driver),
    }
}

fn nonsense(domid: Domid, what: &str) -> PortError {
    let message = format!("xenstore's entries of domain {domid} make no sense: {what}");
    PortError::new(PortErrorKind::Corrupt, Effect::None, message)
}
