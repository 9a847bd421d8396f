//! Which adapter a domain is reached by now, decided by asking its socket.

mod known;
mod nowhere;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use xlsnap_conf_store::ConfStore;
use xlsnap_orchestrator::{Agent, Disks, DomainRef, Effect, Error, Guest, Kind, Ports};
use xlsnap_qemu::{Description, DiskSpec, GuestAgent, Machine, MachineParts};
use xlsnap_qemu_img::{Program, QemuImg};
use xlsnap_qmp_transport::commands::QueryUuid;
use xlsnap_qmp_transport::{self as qmp, QmpExt};
use xlsnap_types::model::{DomainName, XenRecord};
use xlsnap_xen::XlDomain;

use self::nowhere::Nowhere;
use crate::description::{FileOf, NoFile};
use crate::held::LockSlot;
use crate::registry::unknown;
use crate::{Domain, Host, Selector};

/// How a domain is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It has no socket: through its images.
    Images,
    /// Nobody listens at its socket, so it is off: through its images, which QEMU's locks guard.
    Off,
    /// Through its monitor.
    Monitor {
        /// QEMU's version.
        qemu: String,
    },
    /// As a domain of Xen's: by its monitor while it runs, else through its images, once nobody uses them.
    Xen {
        /// The number that it has now; `None` while it is off.
        domid: Option<u32>,
    },
}

impl Reach {
    fn by(monitor: &qmp::Client) -> Self {
        let (major, minor, micro) = qmp::Qmp::version(monitor);
        Self::Monitor { qemu: format!("{major}.{minor}.{micro}") }
    }
}

/// A domain with the adapter that reaches it.
pub(crate) struct Reached {
    pub(crate) who: DomainRef,
    /// How; `None` when nobody knows its disks.
    pub(crate) reach: Option<Reach>,
    /// The file that describes it.
    pub(crate) file: Option<PathBuf>,
    disks: Arc<dyn Disks>,
    guest: Arc<dyn Guest>,
    /// What more can be done with it, where it has or may get a process.
    machine: Option<Arc<Machine>>,
    /// Somebody in its guest.
    agent: Option<Arc<dyn Agent>>,
    /// The domain as one of Xen's, if it is one.
    xen: Option<Arc<XlDomain>>,
    /// What is to be kept of it, to know it while it is off.
    pub(crate) keep: Option<XenRecord>,
    /// What its file said, if there is one.
    pub(crate) described: Option<Domain>,
    pub(crate) lock_file: Arc<LockSlot>,
}

impl Reached {
    /// A domain whose disks nobody knows.
    fn nowhere(who: DomainRef, why: String) -> Self {
        let nowhere = Arc::new(Nowhere::new(why));
        Self {
            who,
            reach: None,
            file: None,
            disks: nowhere.clone(),
            guest: nowhere,
            machine: None,
            agent: None,
            xen: None,
            keep: None,
            described: None,
            lock_file: Arc::default(),
        }
    }

    /// A domain of QEMU's, or of images.
    fn by(who: DomainRef, reach: Reach, machine: Machine, lock_file: Arc<LockSlot>) -> Self {
        let machine = Arc::new(machine);
        Self {
            who,
            reach: Some(reach),
            file: None,
            disks: machine.clone(),
            guest: machine.clone(),
            machine: Some(machine),
            agent: None,
            xen: None,
            keep: None,
            described: None,
            lock_file,
        }
    }

    /// A domain of Xen's.
    pub(crate) fn xen(
        who: DomainRef,
        reach: Reach,
        adapter: XlDomain,
        keep: Option<XenRecord>,
        lock_file: Arc<LockSlot>,
    ) -> Self {
        let adapter = Arc::new(adapter);
        Self {
            who,
            reach: Some(reach),
            file: None,
            disks: adapter.clone(),
            guest: adapter.clone(),
            machine: None,
            agent: None,
            xen: Some(adapter),
            keep,
            described: None,
            lock_file,
        }
    }

    pub(crate) fn disks(&self) -> &dyn Disks {
        &*self.disks
    }

    /// Its ports, with this store.
    pub(crate) fn ports<'a>(&'a self, store: &'a dyn ConfStore, host: &'a Host) -> Ports<'a> {
        let ports = Ports::new(&*self.guest, &*self.disks, store, &host.clock, &*host.progress);
        let ports = Ports { interrupt: host.interrupt.as_deref(), agent: self.agent.as_deref(), ..ports };
        match (&self.machine, &self.xen) {
            (Some(machine), _) => {
                let machine = &**machine;
                Ports { memory: Some(machine), memory_files: Some(machine), power: Some(machine), ..ports }
            }
            (None, Some(xen)) => {
                let xen = &**xen;
                Ports { memory: Some(xen), memory_files: Some(xen), power: Some(xen), ..ports }
            }
            (None, None) => ports,
        }
    }

    /// Closes the monitor, so that its next client finds no reply of ours. What is left unsaid on it concerns nobody.
    pub(crate) async fn leave(self) {
        if let Some(machine) = &self.machine {
            machine.close().await;
        }
    }
}

/// What a socket gave.
enum Answer {
    /// A monitor.
    Monitor(qmp::Client),
    /// Nobody is there.
    Nobody,
}

impl Host {
    /// Reaches a domain: through its monitor where one answers, else through its images.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when no such domain is known; [`Kind::Busy`] when another client holds the monitor;
    /// [`Kind::Refused`] when what answers is no monitor.
    pub(crate) async fn reach(&self, selector: &Selector) -> Result<Reached, Error> {
        let described = self.find(selector)?;
        let socket = selector.qmp.as_deref().or_else(|| described.as_ref()?.qmp.as_deref());
        let answer = match socket {
            Some(socket) => self.ask(selector.domain.as_str(), socket).await?,
            None => Answer::Nobody,
        };
        match (described, answer) {
            (Some(domain), Answer::Monitor(client)) => self.described_by(domain, Some(client)),
            (Some(domain), Answer::Nobody) => self.described_by(domain, None),
            (None, Answer::Monitor(client)) => self.ad_hoc(selector, client).await,
            (None, Answer::Nobody) if selector.qmp.is_none() => match self.reach_xen(selector).await? {
                Ok(reached) => Ok(reached),
                Err(silent) => self.only_records(selector).await.map_err(|error| silent.unwrap_or(error)),
            },
            (None, Answer::Nobody) => self.only_records(selector).await,
        }
    }

    /// How a domain is reached now.
    pub(crate) async fn reach_of(&self, domain: &Domain) -> Result<Reach, Error> {
        let Some(socket) = &domain.qmp else { return Ok(Reach::Images) };
        match self.ask(domain.name.as_str(), socket).await? {
            Answer::Nobody => Ok(Reach::Off),
            Answer::Monitor(client) => {
                let reach = Reach::by(&client);
                client.close().await;
                Ok(reach)
            }
        }
    }

    /// The uuid, if it has one, and the disks of whatever runs behind `socket`.
    pub(crate) async fn read_off(
        &self,
        name: &DomainName,
        socket: &Path,
    ) -> Result<(Option<Uuid>, Vec<DiskSpec>), Error> {
        let client = match self.ask(name.as_str(), socket).await? {
            Answer::Monitor(client) => client,
            Answer::Nobody => {
                let message = format!("domain {name} is off, so its disks cannot be read off it");
                return Err(Error::new(Kind::Refused, Effect::None, message)
                    .with_advice("start it first, or give its disks with their images"));
            }
        };
        let uuid = uuid_of(&client).await?;
        let reach = Reach::by(&client);
        let machine = self.undescribed(name.clone(), Uuid::nil(), client, &Arc::default());
        let reached = Reached::by(self.who(Uuid::nil(), name.to_string()), reach, machine, Arc::default());
        let inventory = reached.disks().inventory().await;
        reached.leave().await;
        let inventory = inventory.map_err(|e| {
            failed(Kind::Failed, format!("the disks of domain {name} cannot be read off its monitor"), e)
        })?;
        let disks = inventory.disks.into_iter().map(|disk| DiskSpec {
            name: disk.name,
            file: disk.image,
            format: disk.format,
            read_only: disk.read_only,
            removable: disk.removable,
            node: None,
        });
        Ok((uuid, disks.collect()))
    }

    /// A domain that a file describes, with its monitor if it is on.
    fn described_by(&self, domain: Domain, monitor: Option<qmp::Client>) -> Result<Reached, Error> {
        let who = self.who(domain.uuid, domain.name.to_string());
        let file = self.shelf.path_of(&domain.name);
        let reach = match (&monitor, &domain.qmp) {
            (Some(client), _) => Reach::by(client),
            (None, Some(_)) => Reach::Off,
            (None, None) => Reach::Images,
        };
        let lock_file = Arc::default();
        let process = domain.qmp.is_some().then(|| self.process(&domain)).transpose()?;
        let machine = Machine::new(MachineParts {
            name: domain.name.clone(),
            disks: domain.disks.clone(),
            description: self.file_of(domain.name.clone()),
            qemu_img: self.qemu_img(&lock_file),
            process,
            monitor,
            memory: self.records_of(domain.uuid),
            sockets: self.shelf.run_directory().to_owned(),
        });
        let agent = domain.agent.clone().map(|socket| Arc::new(GuestAgent::new(socket)) as Arc<dyn Agent>);
        let reached = Reached::by(who, reach, machine, lock_file);
        Ok(Reached { file: Some(file), described: Some(domain), agent, ..reached })
    }

    /// A running QEMU that no file describes.
    fn undescribed(
        &self,
        name: DomainName,
        uuid: Uuid,
        monitor: qmp::Client,
        lock_file: &Arc<LockSlot>,
    ) -> Machine {
        Machine::new(MachineParts {
            name,
            disks: Vec::new(),
            description: Arc::new(NoFile),
            qemu_img: self.qemu_img(lock_file),
            process: None,
            monitor: Some(monitor),
            memory: self.records_of(uuid),
            sockets: self.shelf.run_directory().to_owned(),
        })
    }

    async fn ad_hoc(&self, selector: &Selector, client: qmp::Client) -> Result<Reached, Error> {
        let who = match uuid_of(&client).await? {
            Some(uuid) => self.who(uuid, selector.to_string()),
            None => self.known(selector).await?,
        };
        let (lock_file, reach) = (Arc::default(), Reach::by(&client));
        let machine = self.undescribed(selector.domain.clone(), who.uuid, client, &lock_file);
        Ok(Reached::by(who, reach, machine, lock_file))
    }

    /// Where the records of a domain are, and its memory files.
    pub(crate) fn records_of(&self, uuid: Uuid) -> PathBuf {
        self.options.root.join(uuid.to_string())
    }

    /// A domain that nobody describes and nobody runs: its records may still be listed and forgotten.
    async fn only_records(&self, selector: &Selector) -> Result<Reached, Error> {
        let Some(who) = self.recorded(selector).await? else {
            return Err(match &selector.qmp {
                None => unknown(selector),
                Some(socket) => {
                    let message = format!("nobody answers at {} for domain {selector}", socket.display());
                    Error::new(Kind::NotFound, Effect::None, message)
                        .with_advice("start it, or describe it by a file")
                }
            });
        };
        let why =
            format!("no file describes domain {}, and nobody runs it, so its disks are not known", who.name);
        Ok(Reached::nowhere(who, why))
    }

    /// Connects to a socket. Nobody there means that the domain is off; whatever else goes wrong is an error.
    async fn ask(&self, domain: &str, socket: &Path) -> Result<Answer, Error> {
        let mut options = qmp::Options::default();
        options.greeting_timeout = self.options.greeting_wait;
        let mut connected = qmp::Client::connect_unix(socket, options.clone()).await;
        if matches!(&connected, Err(e) if e.kind() == qmp::Kind::Disconnected) {
            // It ends just now, as a monitor that another client leaves does not.
            connected = qmp::Client::connect_unix(socket, options).await;
        }
        let error = match connected {
            Ok(client) => return Ok(Answer::Monitor(client)),
            Err(error) => error,
        };
        if error.kind() == qmp::Kind::Connect && error.nobody_listens(socket) {
            tracing::debug!(domain, socket = %socket.display(), "nobody listens: the domain is off");
            return Ok(Answer::Nobody);
        }
        let message = format!("the monitor of domain {domain} cannot be used");
        Err(match error.kind() {
            qmp::Kind::Busy | qmp::Kind::TimedOut => failed(Kind::Busy, message, error)
                .with_advice("end the other client of the monitor; a monitor serves one at a time"),
            qmp::Kind::Disconnected => failed(Kind::Busy, message, error).with_advice("do it again"),
            _ => failed(Kind::Refused, message, error).with_advice("give the path of QEMU's QMP socket"),
        })
    }

    pub(crate) fn qemu_img(&self, lock_file: &Arc<LockSlot>) -> Arc<dyn QemuImg> {
        Arc::new(Program::new(&self.options.qemu_img).holding(lock_file.clone()))
    }

    fn file_of(&self, domain: DomainName) -> Arc<dyn Description> {
        Arc::new(FileOf { shelf: self.shelf.clone(), domain, wait: self.options.lock_wait })
    }
}

/// The uuid that QEMU was given; a storage daemon has none.
async fn uuid_of(client: &qmp::Client) -> Result<Option<Uuid>, Error> {
    match client.execute(QueryUuid).await {
        Ok(info) => Ok(Uuid::try_parse(&info.uuid).ok().filter(|uuid| !uuid.is_nil())),
        Err(e) if e.kind() == qmp::Kind::Rejected => Ok(None),
        Err(e) => Err(failed(Kind::Failed, "QEMU could not be asked for the domain's uuid", e)),
    }
}

fn failed(
    kind: Kind,
    message: impl Into<String>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::new(kind, Effect::None, message).with_source(source)
}
