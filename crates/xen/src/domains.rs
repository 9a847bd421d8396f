//! Xen's domains, as xenstore knows them.

use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_xenstore::{Nodes, NodesExt, Path};

use crate::Domid;
use crate::error::of_xenstore;

/// The most bytes of a domain's name. libxl has no limit of its own; xenstore's is far above.
const MAX_NAME: usize = 1024;
/// How many domains are looked at a time.
const AT_A_TIME: usize = 16;

/// What kind of guest a domain has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestKind {
    /// Paravirtualised: its disks are Xen's alone.
    Pv,
    /// Hardware virtual without an emulated machine: its disks are Xen's alone.
    Pvh,
    /// Hardware virtual with an emulated machine: QEMU gives it each disk twice, emulated and as Xen's.
    Hvm,
}

/// A domain that runs, or is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its number until it ends.
    pub domid: Domid,
    /// What stays the same when it is restored or rebooted; the key of its records.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its guest's kind.
    pub kind: GuestKind,
}

/// A domain, or what is wrong with its entries.
pub type Found = Result<Domain, PortError>;

/// All domains but dom0, by domid. One whose entries are missing or make no sense does not hide the others.
///
/// # Errors
/// When xenstored cannot be asked.
///
/// # Cancel safety
/// It only looks.
pub async fn list(store: &dyn Nodes) -> Result<Vec<Found>, PortError> {
    let mut domids = domids(store).await?;
    domids.sort_unstable();
    let looked: Vec<_> =
        stream::iter(domids).map(|domid| by_domid(store, domid)).buffered(AT_A_TIME).collect().await;
    let mut found = Vec::with_capacity(looked.len());
    for domain in looked {
        match domain {
            Ok(Some(domain)) => found.push(Ok(domain)),
            // It ended since it was listed.
            Ok(None) => {}
            Err(error) if error.kind == PortErrorKind::Unreachable => return Err(error),
            Err(error) => found.push(Err(error)),
        }
    }
    Ok(found)
}

/// The domain that `word` names: a bare number is a domid, as xl has it; else a name; else a uuid.
///
/// # Errors
/// [`PortErrorKind::Refused`] when two domains have that name or uuid, and for dom0.
///
/// # Cancel safety
/// It only looks.
pub async fn find(store: &dyn Nodes, word: &str) -> Result<Option<Domain>, PortError> {
    if let Some(domid) = Domid::parse(word) {
        if domid == Domid::DOM0 {
            return Err(refused(
                "domain 0 is the control domain, whose disks are not Xen's to take".to_owned(),
            ));
        }
        return by_domid(store, domid).await;
    }
    let domains: Vec<Domain> = list(store).await?.into_iter().filter_map(Result::ok).collect();
    let named = only(domains.iter().filter(|domain| domain.name == word), word)?;
    match (named, Uuid::try_parse(word)) {
        (Some(domain), _) => Ok(Some(domain)),
        (None, Ok(uuid)) => only(domains.iter().filter(|domain| domain.uuid == uuid), word),
        (None, Err(_)) => Ok(None),
    }
}

/// The domain with this uuid; `None` when it is off.
///
/// # Errors
/// [`PortErrorKind::Refused`] when two domains have it; [`PortErrorKind::Corrupt`] when its other entries make no sense.
///
/// # Cancel safety
/// It only looks.
pub async fn by_uuid(store: &dyn Nodes, uuid: Uuid) -> Result<Option<Domain>, PortError> {
    // No other domain's entries matter: guests cannot write these, so that one with this uuid says so.
    let domids = domids(store).await?;
    let vm = |domid: Domid| async move {
        let vm = text(store, &path(&format!("/local/domain/{domid}/vm"))).await?;
        Ok::<_, PortError>((vm.as_deref().and_then(uuid_of) == Some(uuid)).then_some(domid))
    };
    let all: Vec<_> = stream::iter(domids).map(vm).buffered(AT_A_TIME).try_collect().await?;
    let mut found = Vec::new();
    for domid in all.into_iter().flatten() {
        found.extend(by_domid(store, domid).await?);
    }
    only(found.iter(), &uuid.to_string())
}

fn uuid_of(vm: &str) -> Option<Uuid> {
    vm.strip_prefix("/vm/").and_then(|uuid| Uuid::try_parse(uuid).ok()).filter(|uuid| !uuid.is_nil())
}

/// The domain with this domid; `None` when there is none.
///
/// # Errors
/// [`PortErrorKind::Corrupt`] when an entry is missing or makes no sense.
///
/// # Cancel safety
/// It only looks.
pub async fn by_domid(store: &dyn Nodes, domid: Domid) -> Result<Option<Domain>, PortError> {
    let base = path(&format!("/local/domain/{domid}"));
    let wrong = |what: &str| {
        let message = format!("xenstore's entry of domain {domid} makes no sense: {what}");
        PortError::new(PortErrorKind::Corrupt, Effect::None, message)
    };
    // The entries go one after the other when a domain ends, and come so when it begins.
    let Some(vm) = text(store, &join(&base, "vm")).await? else {
        return Ok(None);
    };
    let uuid = uuid_of(&vm).ok_or_else(|| wrong("`vm` leads to no uuid"))?;
    let Some(name) = text(store, &join(&base, "name")).await? else {
        return gone(store, &base).await?.then_some(None).ok_or_else(|| wrong("it has no `name`"));
    };
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(wrong("`name` is empty, too long, or has control characters"));
    }
    let kind = match text(store, &path(&format!("/libxl/{domid}/type"))).await?.as_deref() {
        Some("pv") => GuestKind::Pv,
        Some("pvh") => GuestKind::Pvh,
        Some("hvm") => GuestKind::Hvm,
        Some(_) => return Err(wrong("its `type` is none that libxl has")),
        None => {
            return gone(store, &base).await?.then_some(None).ok_or_else(|| {
                wrong("libxl has no `type` of it, so that another toolstack may have made it")
            });
        }
    };
    Ok(Some(Domain { domid, uuid, name, kind }))
}

/// Whether a domain's entries are gone by now.
async fn gone(store: &dyn Nodes, base: &Path) -> Result<bool, PortError> {
    Ok(text(store, &join(base, "vm")).await?.is_none())
}

/// The domids that have entries, without dom0.
pub(crate) async fn domids(store: &dyn Nodes) -> Result<Vec<Domid>, PortError> {
    let names = children(store, &path("/local/domain")).await?;
    Ok(names.iter().filter_map(|name| Domid::parse(name)).filter(|domid| *domid != Domid::DOM0).collect())
}

/// The process of the domain's QEMU.
pub(crate) async fn qemu_pid(store: &dyn Nodes, domid: Domid) -> Result<Option<u32>, PortError> {
    let pid = text(store, &path(&format!("/local/domain/{domid}/image/device-model-pid"))).await?;
    Ok(pid.and_then(|pid| pid.parse().ok()))
}

/// A number of KiB among what the toolstack says of the domain's memory.
pub(crate) async fn memory(store: &dyn Nodes, domid: Domid, what: &str) -> Result<Option<u64>, PortError> {
    let kib = text(store, &path(&format!("/local/domain/{domid}/memory/{what}"))).await?;
    Ok(kib.and_then(|kib| kib.parse::<u64>().ok()).and_then(|kib| kib.checked_mul(1024)))
}

/// The names of a node's children; none of a node that is not there.
pub(crate) async fn children(store: &dyn Nodes, at: &Path) -> Result<Vec<String>, PortError> {
    match store.directory(at).await {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == xlsnap_xenstore::Kind::NotFound => Ok(Vec::new()),
        Err(error) => Err(of_xenstore(error)),
    }
}

/// The value of a node as text; `None` when it is not there.
pub(crate) async fn text(store: &dyn Nodes, at: &Path) -> Result<Option<String>, PortError> {
    store.text(at).await.map_err(of_xenstore)
}

/// A path that is one by its making.
pub(crate) fn path(text: &str) -> Path {
    Path::new(text).expect("numbers and libxl's own words make a path")
}

pub(crate) fn join(base: &Path, word: &str) -> Path {
    base.join(word).expect("libxl's own words are parts of a path")
}

fn only<'a>(mut found: impl Iterator<Item = &'a Domain>, word: &str) -> Result<Option<Domain>, PortError> {
    let Some(first) = found.next() else { return Ok(None) };
    match found.next() {
        None => Ok(Some(first.clone())),
        Some(second) => Err(refused(format!(
            "{word} may be domain {} or domain {}: name it by its domid, or wait until one of them has ended",
            first.domid, second.domid
        ))),
    }
}

fn refused(message: String) -> PortError {
    PortError::new(PortErrorKind::Refused, Effect::None, message)
}
