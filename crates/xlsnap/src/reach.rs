//! Which adapter a domain is reached by now, decided by asking its socket.

mod known;
mod nowhere;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use xlsnap_orchestrator::{Disks, DomainRef, Effect, Error, Guest, Kind};
use xlsnap_qemu::{Description, DiskSpec, Images, Live};
use xlsnap_qemu_img::{Program, QemuImg};
use xlsnap_qmp_transport::commands::QueryUuid;
use xlsnap_qmp_transport::{self as qmp, QmpExt};
use xlsnap_types::model::DomainName;

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
    monitor: Option<Arc<qmp::Client>>,
    /// What its file said, if there is one.
    pub(crate) described: Option<Domain>,
    pub(crate) lock_file: Arc<LockSlot>,
}

impl Reached {
    fn by<A: Disks + Guest + 'static>(who: DomainRef, adapter: A, monitor: Option<Arc<qmp::Client>>) -> Self {
        let adapter = Arc::new(adapter);
        let reach = monitor.as_deref().map(Reach::by);
        let (described, lock_file) = (None, Arc::default());
        Self { who, reach, file: None, disks: adapter.clone(), guest: adapter, monitor, described, lock_file }
    }

    pub(crate) fn disks(&self) -> &dyn Disks {
        &*self.disks
    }

    pub(crate) fn guest(&self) -> &dyn Guest {
        &*self.guest
    }

    /// Closes the monitor, so that its next client finds no reply of ours. What is left unsaid on it concerns nobody.
    pub(crate) async fn leave(self) {
        drop((self.disks, self.guest));
        if let Some(client) = self.monitor.and_then(Arc::into_inner) {
            let _ = client.close().await;
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
            (Some(domain), Answer::Monitor(client)) => Ok(self.live(domain, client)),
            (Some(domain), Answer::Nobody) => Ok(self.images(domain)),
            (None, Answer::Monitor(client)) => self.ad_hoc(selector, client).await,
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
            Answer::Monitor(client) => Arc::new(client),
            Answer::Nobody => {
                let message = format!("domain {name} is off, so its disks cannot be read off it");
                return Err(Error::new(Kind::Refused, Effect::None, message)
                    .with_advice("start it first, or give its disks with their images"));
            }
        };
        let uuid = uuid_of(&client).await?;
        let adapter = self.adapter(&client, Vec::new(), Arc::new(NoFile), &Arc::default());
        let reached = Reached::by(self.who(Uuid::nil(), name.to_string()), adapter, Some(client));
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

    fn adapter(
        &self,
        client: &Arc<qmp::Client>,
        disks: Vec<DiskSpec>,
        description: Arc<dyn Description>,
        lock_file: &Arc<LockSlot>,
    ) -> Live {
        let adapter = Live::new(client.clone(), self.qemu_img(lock_file), disks, description);
        // People start QEMU with relative file names.
        match client.peer_pid() {
            Some(pid) => adapter.in_directory_of(pid),
            None => adapter,
        }
    }

    fn live(&self, domain: Domain, client: qmp::Client) -> Reached {
        let who = self.who(domain.uuid, domain.name.to_string());
        let file = self.shelf.path_of(&domain.name);
        let client = Arc::new(client);
        let (lock_file, described) = (Arc::default(), Some(domain.clone()));
        let adapter = self.adapter(&client, domain.disks, self.file_of(domain.name), &lock_file);
        Reached { file: Some(file), described, lock_file, ..Reached::by(who, adapter, Some(client)) }
    }

    fn images(&self, domain: Domain) -> Reached {
        let who = self.who(domain.uuid, domain.name.to_string());
        let reach = if domain.qmp.is_some() { Reach::Off } else { Reach::Images };
        let file = self.shelf.path_of(&domain.name);
        let (lock_file, described) = (Arc::default(), Some(domain.clone()));
        let qemu_img = self.qemu_img(&lock_file);
        let adapter = Images::new(domain.disks, qemu_img, self.file_of(domain.name));
        let reached = Reached::by(who, adapter, None);
        Reached { reach: Some(reach), file: Some(file), described, lock_file, ..reached }
    }

    /// A running QEMU that no file describes.
    async fn ad_hoc(&self, selector: &Selector, client: qmp::Client) -> Result<Reached, Error> {
        let client = Arc::new(client);
        let who = match uuid_of(&client).await? {
            Some(uuid) => self.who(uuid, selector.to_string()),
            None => self.known(selector).await?,
        };
        let lock_file = Arc::default();
        let adapter = self.adapter(&client, Vec::new(), Arc::new(NoFile), &lock_file);
        Ok(Reached { lock_file, ..Reached::by(who, adapter, Some(client)) })
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
        Ok(Reached::by(who, Nowhere::new(why), None))
    }

    /// Connects to a socket. Nobody there means that the domain is off; whatever else goes wrong is an error.
    async fn ask(&self, domain: &str, socket: &Path) -> Result<Answer, Error> {
        let mut options = qmp::Options::default();
        options.greeting_timeout = self.options.greeting_wait;
        let error = match qmp::Client::connect_unix(socket, options).await {
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

    fn qemu_img(&self, lock_file: &Arc<LockSlot>) -> Arc<dyn QemuImg> {
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
