//! Domains of Xen's: found in xenstore while they run, and by what was kept of them while they are off.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;
use xlsnap_conf_store::ConfStore;
use xlsnap_orchestrator::{DomainRef, Effect, Error, Kind, PortError, PortErrorKind, Session};
use xlsnap_types::model::{DomainName, DomainRecord, XenDisk, XenRecord};
use xlsnap_xen::{Context, Domid, Patience, Places, Toolstack, XlDomain, domains, xl};
use xlsnap_xenstore::{self as xenstore, Xenstore, client};

use crate::connect::Connected;
use crate::failures::{from_store, refused};
use crate::lock::LockLender;
use crate::{Connection, DiskSpec, Domain, Host, Selector};

/// Where Xen's things are on this host.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct XenOptions {
    /// The socket of xenstored. `None`, the default: where it listens by itself; where nothing is there, this is no Xen host.
    pub xenstore: Option<PathBuf>,
    /// The program xl: a path, or a name to be found in `PATH`. `xl` by default.
    pub xl: PathBuf,
    /// Where libxl makes the sockets of monitors. `/var/run/xen` by default.
    pub run: PathBuf,
    /// Where libxl keeps configurations. `/var/lib/xen` by default.
    pub userdata: PathBuf,
}

impl Default for XenOptions {
    fn default() -> Self {
        Self { xenstore: None, xl: "xl".into(), run: "/var/run/xen".into(), userdata: "/var/lib/xen".into() }
    }
}

/// A domain of Xen's that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XenDomain {
    /// Its name.
    pub name: String,
    /// The key of its records.
    pub uuid: Uuid,
    /// Its number until it ends.
    pub domid: u32,
    /// Its disks.
    pub disks: Vec<DiskSpec>,
}

/// A domain of Xen's as it is listed.
#[derive(Debug)]
pub struct ListedXenDomain {
    /// What it is called: its name, or its domid where its entries make no sense.
    pub name: String,
    /// The domain, or what is wrong with it.
    pub domain: Result<XenDomain, Error>,
}

/// What became of asking Xen for a domain.
enum Asked {
    /// It runs, in this store.
    Runs(Arc<dyn Xenstore>, xlsnap_xen::Domain),
    /// Xen has none that runs; the store, if there is a Xen.
    Unknown(Option<Arc<dyn Xenstore>>),
    /// Xen cannot be asked. That matters only for a domain that no file describes.
    Silent(Error),
}

/// A domain of Xen's that was found.
pub(crate) struct XenDomainFound {
    store: Arc<dyn Xenstore>,
    /// Its number; `None` while it is off.
    domid: Option<Domid>,
}

/// A domain by a number.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    pub(crate) uuid: Uuid,
    pub(crate) name: String,
    pub(crate) selector: Selector,
}

impl Host {
    /// Xen's store; `None` where this is no Xen host.
    async fn xenstore(&self) -> Result<Option<Arc<dyn Xenstore>>, Error> {
        let socket = match &self.options.xen.xenstore {
            Some(socket) => socket.clone(),
            None => match client::SOCKETS.iter().map(PathBuf::from).find(|socket| socket.exists()) {
                Some(socket) => socket,
                None => return Ok(None),
            },
        };
        match client::Client::connect(&socket, client::Options::default()).await {
            Ok(client) => Ok(Some(Arc::new(client))),
            Err(error) => {
                let kind =
                    if error.kind() == xenstore::Kind::Unanswered { Kind::Busy } else { Kind::Refused };
                Err(Error::new(kind, Effect::None, "Xen cannot be asked for its domains")
                    .with_source(error)
                    .with_advice("run as root in dom0, and see whether xenstored runs"))
            }
        }
    }

    /// Asks Xen for a domain that runs.
    ///
    /// # Errors
    /// When two domains are meant, or another one than people may think.
    async fn ask_xen(&self, selector: &Selector) -> Result<Asked, Error> {
        let store = match self.xenstore().await {
            Ok(Some(store)) => store,
            Ok(None) => return Ok(Asked::Unknown(None)),
            Err(error) => return Ok(Asked::Silent(error)),
        };
        let found = domains::find(&*store, selector.domain.as_str()).await;
        let found = found.map_err(|e| of_xen(format!("domain {selector} cannot be looked for in Xen"), e))?;
        let Some(domain) = found else { return Ok(Asked::Unknown(Some(store))) };
        self.is_not_another(&domain, selector).await?;
        Ok(Asked::Runs(store, domain))
    }

    /// Refuses a name whose records lie under another uuid: `xl create` gives a domain a new one, unless its configuration says
    /// which it has.
    async fn is_not_another(&self, domain: &xlsnap_xen::Domain, selector: &Selector) -> Result<(), Error> {
        if domain.name != selector.domain.as_str() {
            return Ok(());
        }
        let cannot = |e| from_store(e, format!("the records of domain {selector} cannot be looked for"));
        let stored = self.store.domains().await.map_err(cannot)?;
        if stored.contains(&domain.uuid) {
            return Ok(());
        }
        for uuid in stored {
            let Ok(Some(record)) = self.store.domain_record(uuid).await else { continue };
            if record.xen.is_some() && record.name.as_ref() == Some(&domain.name) {
                let message = format!(
                    "domain {selector} has the uuid {} now, and the snapshots of the domain that was called so lie under {uuid}",
                    domain.uuid
                );
                return Err(refused(message).with_advice(format!(
                    "name one of the two by its uuid; so that they stay one, put uuid = \"{uuid}\" into the domain's configuration"
                )));
            }
        }
        Ok(())
    }

    /// Finds a domain of Xen's, running or off. Else it is none of Xen's, as far as that is known; then why Xen could not be asked,
    /// if so.
    ///
    /// # Errors
    /// When it is Xen's, and cannot be reached.
    pub(crate) async fn identify_xen(
        &self,
        selector: &Selector,
    ) -> Result<Result<(DomainRef, XenDomainFound), Option<Error>>, Error> {
        let (store, silent) = match self.ask_xen(selector).await? {
            Asked::Runs(store, domain) => {
                let found = XenDomainFound { store, domid: Some(domain.domid) };
                return Ok(Ok((self.domain_ref(domain.uuid, domain.name), found)));
            }
            Asked::Unknown(store) => (store, None),
            Asked::Silent(error) => (None, Some(error)),
        };
        let Some(domain) = self.recorded(selector).await? else { return Ok(Err(silent)) };
        let Ok(Some(record)) = self.store.domain_record(domain.uuid).await else { return Ok(Err(silent)) };
        if record.xen.is_none() {
            return Ok(Err(None));
        }
        match (store, silent) {
            (Some(store), _) => Ok(Ok((domain, XenDomainFound { store, domid: None }))),
            (None, Some(error)) => Err(error),
            (None, None) => Err(refused(format!("domain {} is Xen's, and this is no Xen host", domain.name))
                .with_advice("run this in dom0 of the Xen host that has the domain's images")),
        }
    }

    /// Connects to a domain of Xen's that was found.
    pub(crate) async fn connect_xen(
        &self,
        domain: DomainRef,
        found: XenDomainFound,
        lender: Arc<LockLender>,
    ) -> Result<Connected, Error> {
        let record = self.store.domain_record(domain.uuid).await;
        let cannot = |e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name));
        let kept = record.map_err(cannot)?.and_then(|record| record.xen);
        let options = &self.options.xen;
        let toolstack: Arc<dyn Toolstack> = Arc::new(xl::Xl::new(&options.xl));
        let mut patience = Patience::default();
        patience.greeting = self.options.greeting_wait;
        let places = Places {
            run: options.run.clone(),
            userdata: options.userdata.clone(),
            records: self.records_of(domain.uuid),
        };
        let XenDomainFound { store, domid } = found;
        let context = Context { store, toolstack, qemu_img: self.qemu_img(&lender), places, patience };
        let adapter = XlDomain::new(context, domain.uuid, domain.name.clone(), kept);
        // Only what runs can be looked at; what cannot be kept now is told by the operation that needs its disks.
        let keep = match domid {
            Some(_) => adapter.to_keep().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what is known of domain {} cannot be kept", domain.name);
                None
            }),
            None => None,
        };
        let connection = Connection::Xen { domid: domid.map(|domid| domid.number().into()) };
        Ok(Connected::xen(domain, connection, adapter, keep, lender))
    }

    /// Keeps with the records of a domain of Xen's what it was when it was seen to run: nothing else knows it while it is off.
    pub(crate) async fn keep_xen(
        &self,
        session: &Session<'_>,
        domain: &DomainRef,
        keep: &XenRecord,
    ) -> Result<(), Error> {
        let cannot = |e| from_store(e, format!("what is known of domain {} cannot be kept", domain.name));
        let old = self.store.domain_record(domain.uuid).await.map_err(cannot)?;
        let new = DomainRecord {
            name: Some(domain.name.clone()),
            xen: Some(keep.clone()),
            ..old.clone().unwrap_or_default()
        };
        if old.as_ref() != Some(&new) {
            session.set_domain_record(&new).await.map_err(cannot)?;
        }
        Ok(())
    }

    /// The uuid and the name of a domain of Xen's that runs. Else there is none; then why Xen could not be asked, if so.
    ///
    /// # Errors
    /// As [`Host::ask_xen`].
    pub(crate) async fn known_in_xen(
        &self,
        selector: &Selector,
    ) -> Result<Result<(Uuid, String), Option<Error>>, Error> {
        Ok(match self.ask_xen(selector).await? {
            Asked::Runs(_, domain) => Ok((domain.uuid, domain.name)),
            Asked::Unknown(_) => Err(None),
            Asked::Silent(error) => Err(Some(error)),
        })
    }

    /// Xen's domains that run, by domid, without dom0. None where this is no Xen host.
    ///
    /// # Errors
    /// [`Kind::Refused`] when Xen cannot be asked: this is not root, or xenstored has ended.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn xen_domains(&self) -> Result<Vec<ListedXenDomain>, Error> {
        let Some(store) = self.xenstore().await? else { return Ok(Vec::new()) };
        let cannot = |e| of_xen("Xen's domains cannot be listed", e);
        let mut all = Vec::new();
        for found in domains::list(&*store).await.map_err(cannot)? {
            let (name, domain) = match found {
                Ok(domain) => (domain.name.clone(), xen_domain(&*store, domain).await),
                Err(error) => ("?".to_owned(), Err(error)),
            };
            let domain = domain.map_err(|e| of_xen("a domain of Xen's cannot be told", e));
            all.push(ListedXenDomain { name, domain });
        }
        Ok(all)
    }

    /// A domain of Xen's as a file would describe it; `None` when it is none.
    ///
    /// # Errors
    /// When it is Xen's, and cannot be looked at.
    pub(crate) async fn xen_details(
        &self,
        selector: &Selector,
    ) -> Result<Option<(Domain, Connection)>, Error> {
        let (domain, found) = match self.identify_xen(selector).await? {
            Ok(found) => found,
            Err(None) => return Ok(None),
            Err(Some(silent)) => return Err(silent),
        };
        let (uuid, name) = (domain.uuid, domain.name.clone());
        let connected = self.connect_xen(domain, found, Arc::default()).await?;
        let stored = self.store.domain_record(uuid).await;
        let stored =
            stored.map_err(|e| from_store(e, format!("the record of domain {selector} cannot be read")))?;
        // What is kept of one that runs is what was seen just now.
        let kept = connected.keep.clone().or_else(|| stored?.xen).unwrap_or_default();
        let connection = connected.connection.clone().expect("a domain of Xen's is reached as one");
        let domid = match connection {
            Connection::Xen { domid } => domid,
            _ => None,
        };
        let name = DomainName::new(name).unwrap_or_else(|_| {
            DomainName::new(uuid.to_string()).expect("a uuid is a domain's name in form")
        });
        let disks = kept.disks.into_iter().map(kept_disk);
        let domain =
            Domain { name, uuid, domid, qmp: None, agent: None, start: None, disks: disks.collect() };
        Ok(Some((domain, connection)))
    }

    /// The domain that Xen calls `domid`, or called so last in this boot; else the one whose file gives it that number.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none; [`Kind::Refused`] when two are.
    pub(crate) async fn numbered(&self, domid: u32) -> Result<Numbered, Error> {
        let silent = match (self.xenstore().await, Domid::new(domid).filter(|domid| *domid != Domid::DOM0)) {
            (Ok(Some(store)), Some(domid)) => {
                let found = domains::by_domid(&*store, domid).await;
                let found = found.map_err(|e| of_xen(format!("domain {domid} makes no sense"), e))?;
                let found = match found {
                    Some(domain) => Some(numbered(domain.uuid, domain.name)),
                    None => self.last_numbered(domid).await?,
                };
                if let Some(found) = found {
                    return Ok(found);
                }
                None
            }
            (Err(error), _) => Some(error),
            (Ok(_), _) => None,
        };
        let described = match self.domain_by_domid(domid) {
            Ok(described) => described,
            Err(error) if error.kind() == Kind::NotFound => return Err(silent.unwrap_or(error)),
            Err(error) => return Err(error),
        };
        let (uuid, name) = (described.uuid, described.name);
        Ok(Numbered { uuid, name: name.to_string(), selector: Selector::new(name) })
    }

    /// The domain that is off and had this domid last, since the host was booted.
    async fn last_numbered(&self, domid: Domid) -> Result<Option<Numbered>, Error> {
        let boot = xlsnap_xen::this_boot();
        let stored = self.store.domains().await.map_err(|e| from_store(e, "the records cannot be listed"))?;
        let mut found = None;
        for uuid in stored {
            let Ok(Some(record)) = self.store.domain_record(uuid).await else { continue };
            let is_it = |xen: &XenRecord| xen.domid == Some(domid.number().into()) && xen.boot == boot;
            if boot.is_none() || !record.xen.as_ref().is_some_and(is_it) {
                continue;
            }
            let name = record.name.unwrap_or_else(|| uuid.to_string());
            if let Some(first) = found.replace(numbered(uuid, name)) {
                let message = format!("the domid {domid} was that of two domains: {} and {uuid}", first.uuid);
                return Err(refused(message).with_advice("name it by its uuid"));
            }
        }
        Ok(found)
    }
}

/// By its uuid: its name may be none that a selector takes.
fn numbered(uuid: Uuid, name: String) -> Numbered {
    let selector =
        Selector::new(DomainName::new(uuid.to_string()).expect("a uuid is a domain's name in form"));
    Numbered { uuid, name, selector }
}

async fn xen_domain(store: &dyn Xenstore, domain: xlsnap_xen::Domain) -> Result<XenDomain, PortError> {
    let disks = xlsnap_xen::vbd::list(store, domain.domid).await?;
    let disks = disks.into_iter().map(|disk| DiskSpec {
        read_only: disk.read_only,
        removable: disk.cdrom,
        ..DiskSpec::new(disk.name, disk.image, disk.format)
    });
    let domid = domain.domid.number().into();
    Ok(XenDomain { name: domain.name, uuid: domain.uuid, domid, disks: disks.collect() })
}

fn of_xen(message: impl Into<String>, error: PortError) -> Error {
    let kind = match error.kind {
        PortErrorKind::NotFound => Kind::NotFound,
        PortErrorKind::Busy => Kind::Busy,
        PortErrorKind::Refused | PortErrorKind::Corrupt => Kind::Refused,
        _ => Kind::Failed,
    };
    Error::new(kind, Effect::None, message).with_source(error)
}

/// A disk of a domain of Xen's as it was kept when the domain was last on.
pub(crate) fn kept_disk(disk: XenDisk) -> DiskSpec {
    DiskSpec {
        read_only: disk.read_only,
        removable: disk.removable,
        ..DiskSpec::new(disk.disk, disk.image, disk.format)
    }
}
