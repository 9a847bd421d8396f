//! Connecting to an identified domain: which adapter serves it now, decided by asking its socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use xlsnap_conf_store::ConfStore;
use xlsnap_orchestrator::{Agent, Disks, DomainRef, Effect, Error, Guest, Kind, Port, Ports};
use xlsnap_qemu::{Description, DiskSpec, GuestAgent, Machine, MachineParts};
use xlsnap_qemu_img::{Program, QemuImg};
use xlsnap_qmp_transport::commands::QueryUuid;
use xlsnap_qmp_transport::{self as qmp, QmpExt};
use xlsnap_types::model::{DomainName, XenRecord};
use xlsnap_xen::XlDomain;

use crate::description::{FileOf, NoFile};
use crate::identify::{By, Identified};
use crate::lock::LockLender;
use crate::records_only::RecordsOnly;
use crate::{Call, Domain, Host, Selector};

/// How a domain is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// It has no socket: through its images.
    Images,
    /// No process listens at its socket, so it is off: through its images, which QEMU's locks guard.
    Off,
    /// Through its monitor.
    Monitor {
        /// QEMU's version.
        qemu: String,
    },
    /// As a domain of Xen's: by its monitor while it runs, else through its images, once no process uses them.
    Xen {
        /// The number that it has now; `None` while it is off.
        domid: Option<u32>,
    },
}

impl Connection {
    fn by(monitor: &qmp::Client) -> Self {
        let (major, minor, micro) = qmp::Qmp::version(monitor);
        Self::Monitor { qemu: format!("{major}.{minor}.{micro}") }
    }
}

/// A domain with the adapter that reaches it.
pub(crate) struct Connected {
    pub(crate) domain: DomainRef,
    /// How; `None` when only its records are known.
    pub(crate) connection: Option<Connection>,
    /// The file that describes it.
    pub(crate) file: Option<PathBuf>,
    disks: Arc<dyn Disks>,
    guest: Arc<dyn Guest>,
    /// What more can be done with it, where it has or may get a process.
    machine: Option<Arc<Machine>>,
    /// The agent in its guest.
    agent: Option<Arc<dyn Agent>>,
    /// The domain as one of Xen's, if it is one.
    xen: Option<Arc<XlDomain>>,
    /// What is to be kept of it, to know it while it is off.
    pub(crate) keep: Option<XenRecord>,
    /// What its file said, if there is one.
    pub(crate) described: Option<Domain>,
    pub(crate) lender: Arc<LockLender>,
}

impl Connected {
    /// A domain of which only records are left.
    fn records_only(domain: DomainRef, lender: Arc<LockLender>) -> Self {
        let DomainRef { name, uuid, .. } = &domain;
        let why = format!(
            "no file describes domain {name}, and no process runs it, so its disks are not known: describe it again (xlsnap domain add {name} --uuid {uuid} --disk DISK=FILE), or forget it (xlsnap domain forget {name})"
        );
        let records_only = Arc::new(RecordsOnly::new(why));
        Self {
            domain,
            connection: None,
            file: None,
            disks: records_only.clone(),
            guest: records_only,
            machine: None,
            agent: None,
            xen: None,
            keep: None,
            described: None,
            lender,
        }
    }

    /// A domain of QEMU's, or of images.
    fn by(domain: DomainRef, connection: Connection, machine: Machine, lender: Arc<LockLender>) -> Self {
        let machine = Arc::new(machine);
        Self {
            domain,
            connection: Some(connection),
            file: None,
            disks: machine.clone(),
            guest: machine.clone(),
            machine: Some(machine),
            agent: None,
            xen: None,
            keep: None,
            described: None,
            lender,
        }
    }

    /// A domain of Xen's.
    pub(crate) fn xen(
        domain: DomainRef,
        connection: Connection,
        adapter: XlDomain,
        keep: Option<XenRecord>,
        lender: Arc<LockLender>,
    ) -> Self {
        let adapter = Arc::new(adapter);
        Self {
            domain,
            connection: Some(connection),
            file: None,
            disks: adapter.clone(),
            guest: adapter.clone(),
            machine: None,
            agent: None,
            xen: Some(adapter),
            keep,
            described: None,
            lender,
        }
    }

    pub(crate) fn disks(&self) -> &dyn Disks {
        &*self.disks
    }

    pub(crate) fn guest(&self) -> &dyn Guest {
        &*self.guest
    }

    /// Its ports, with this store, for one call.
    pub(crate) fn ports<'a>(&'a self, store: &'a dyn ConfStore, host: &'a Host, call: Call<'a>) -> Ports<'a> {
        let ports = Ports::new(&*self.guest, &*self.disks, store, &host.clock, call.progress());
        let agent = self.agent.as_deref().map_or(ports.agent, Port::Has);
        let interrupt = call.interrupt.map_or(ports.interrupt, Port::Has);
        let ports = Ports { interrupt, agent, ..ports };
        match (&self.machine, &self.xen) {
            (Some(machine), _) => machine.offer(ports),
            (None, Some(xen)) => xen.offer(ports),
            (None, None) => ports,
        }
    }

    /// Closes the monitor, so that its next client finds no reply of ours.
    pub(crate) async fn leave(self) {
        if let Some(machine) = &self.machine {
            machine.close().await;
        }
    }
}

/// What a socket gave.
pub(crate) enum Answer {
    /// A monitor.
    Monitor(qmp::Client),
    /// No process listens at it.
    Nothing,
}

impl Host {
    /// Connects to a domain, whose lock `lender` lends if it was taken: through its monitor where one answers, else through its
    /// images. Its file is read here, so that what another operation changed before the lock was taken counts.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another client holds the monitor, or when the file became another domain's; [`Kind::Refused`] when what
    /// answers is no monitor.
    pub(crate) async fn connect(
        &self,
        selector: &Selector,
        identified: Identified,
        lender: LockLender,
    ) -> Result<Connected, Error> {
        let Identified { domain, by } = identified;
        let lender = Arc::new(lender);
        match by {
            By::File(name) => {
                let described = self.files.load(&name)?.filter(|described| described.uuid == domain.uuid);
                let described = described.ok_or_else(|| {
                    let message = format!("the file of domain {name} was changed meanwhile");
                    Error::new(Kind::Busy, Effect::None, message).with_advice("do it again")
                })?;
                let monitor = match selector.qmp.as_deref().or(described.qmp.as_deref()) {
                    None => None,
                    Some(socket) => match self.ask(name.as_str(), socket).await? {
                        Answer::Monitor(client) => Some(client),
                        Answer::Nothing => None,
                    },
                };
                self.described_by(domain, described, monitor, lender)
            }
            By::Monitor(client) => {
                let connection = Connection::by(&client);
                let machine = self.undescribed(selector.domain.clone(), domain.uuid, client, &lender);
                Ok(Connected::by(domain, connection, machine, lender))
            }
            By::Xen(found) => self.connect_xen(domain, found, lender).await,
            By::Records => Ok(Connected::records_only(domain, lender)),
        }
    }

    /// How a domain is reached now.
    pub(crate) async fn connection_of(&self, domain: &Domain) -> Result<Connection, Error> {
        let Some(socket) = &domain.qmp else { return Ok(Connection::Images) };
        match self.ask(domain.name.as_str(), socket).await? {
            Answer::Nothing => Ok(Connection::Off),
            Answer::Monitor(client) => {
                let connection = Connection::by(&client);
                client.close().await;
                Ok(connection)
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
            Answer::Nothing => {
                let message = format!("domain {name} is off, so its disks cannot be read off it");
                return Err(Error::new(Kind::Refused, Effect::None, message)
                    .with_advice("start it first, or give its disks with their images"));
            }
        };
        let uuid = uuid_of(&client).await?;
        let connection = Connection::by(&client);
        let machine = self.undescribed(name.clone(), Uuid::nil(), client, &Arc::default());
        let connected = Connected::by(
            self.domain_ref(Uuid::nil(), name.to_string()),
            connection,
            machine,
            Arc::default(),
        );
        let inventory = connected.disks().inventory().await;
        connected.leave().await;
        let inventory = inventory.map_err(|e| {
            failed(Kind::Failed, format!("the disks of domain {name} cannot be read off its monitor"), e)
        })?;
        let disks = inventory.disks.into_iter().map(DiskSpec::from);
        Ok((uuid, disks.collect()))
    }

    /// A domain that a file describes, with its monitor if it is on.
    fn described_by(
        &self,
        domain: DomainRef,
        described: Domain,
        monitor: Option<qmp::Client>,
        lender: Arc<LockLender>,
    ) -> Result<Connected, Error> {
        let file = self.files.path_of(&described.name);
        let connection = match (&monitor, &described.qmp) {
            (Some(client), _) => Connection::by(client),
            (None, Some(_)) => Connection::Off,
            (None, None) => Connection::Images,
        };
        let process = described.qmp.is_some().then(|| self.process(&described)).transpose()?;
        let machine = Machine::new(MachineParts {
            name: described.name.clone(),
            disks: described.disks.clone(),
            description: self.file_of(described.name.clone()),
            qemu_img: self.qemu_img(&lender),
            process,
            monitor,
            memory: self.records_of(domain.uuid),
            sockets: self.files.run_directory().to_owned(),
        });
        let agent = described.agent.clone().map(|socket| Arc::new(GuestAgent::new(socket)) as Arc<dyn Agent>);
        let connected = Connected::by(domain, connection, machine, lender);
        Ok(Connected { file: Some(file), described: Some(described), agent, ..connected })
    }

    /// A running QEMU that no file describes.
    fn undescribed(
        &self,
        name: DomainName,
        uuid: Uuid,
        monitor: qmp::Client,
        lender: &Arc<LockLender>,
    ) -> Machine {
        Machine::new(MachineParts {
            name,
            disks: Vec::new(),
            description: Arc::new(NoFile),
            qemu_img: self.qemu_img(lender),
            process: None,
            monitor: Some(monitor),
            memory: self.records_of(uuid),
            sockets: self.files.run_directory().to_owned(),
        })
    }

    /// Where the records of a domain are, and its memory files.
    pub(crate) fn records_of(&self, uuid: Uuid) -> PathBuf {
        self.options.root.join(uuid.to_string())
    }

    /// Connects to a socket. Nothing there means that the domain is off; whatever else goes wrong is an error.
    pub(crate) async fn ask(&self, domain: &str, socket: &Path) -> Result<Answer, Error> {
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
        if error.kind() == qmp::Kind::Connect && error.no_listener(socket) {
            tracing::debug!(domain, socket = %socket.display(), "no process listens: the domain is off");
            return Ok(Answer::Nothing);
        }
        let message = format!("the monitor of domain {domain} cannot be used");
        Err(match error.kind() {
            qmp::Kind::Busy | qmp::Kind::TimedOut => failed(Kind::Busy, message, error)
                .with_advice("end the other client of the monitor; a monitor serves one at a time"),
            qmp::Kind::Disconnected => failed(Kind::Busy, message, error).with_advice("do it again"),
            _ => failed(Kind::Refused, message, error).with_advice("give the path of QEMU's QMP socket"),
        })
    }

    pub(crate) fn qemu_img(&self, lender: &Arc<LockLender>) -> Arc<dyn QemuImg> {
        Arc::new(Program::new(&self.options.qemu_img).holding(lender.clone()))
    }

    fn file_of(&self, domain: DomainName) -> Arc<dyn Description> {
        Arc::new(FileOf { files: self.files.clone(), domain, wait: self.options.lock_wait })
    }
}

/// The uuid that QEMU was given; a storage daemon has none.
pub(crate) async fn uuid_of(client: &qmp::Client) -> Result<Option<Uuid>, Error> {
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
