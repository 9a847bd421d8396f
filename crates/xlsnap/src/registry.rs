//! `domain add|list|show|remove`: the files that describe domains.

use std::path::PathBuf;

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Owner};
use xlsnap_orchestrator::{Clock, Effect, Error, Kind};
use xlsnap_qemu::DiskSpec;
use xlsnap_types::model::{DiskName, DomainName, ImageFormat};

use crate::failures::{from_store, refused};
use crate::selector::as_uuid;
use crate::{Connection, Domain, FiledDomain, Host, Selector, header};

/// A domain to be described by a new file.
#[derive(Debug, Clone)]
pub struct NewDomain {
    /// Its name; one that reads as a uuid is refused.
    pub name: DomainName,
    /// Its uuid. `None`: that of the running QEMU, where its disks are read off that too; else a new one.
    pub uuid: Option<Uuid>,
    /// The number by which the functions of libxl's snapshot design name it: see [`crate::design`].
    pub domid: Option<u32>,
    /// Its monitor's socket, absolute. It need not be there now.
    pub qmp: Option<PathBuf>,
    /// Its disks. None at all, with `qmp`: they are read off the running QEMU.
    pub disks: Vec<NewDisk>,
}

/// A disk of a [`NewDomain`].
#[derive(Debug, Clone)]
pub struct NewDisk {
    /// What to call it.
    pub name: DiskName,
    /// Its image, absolute.
    pub image: String,
    /// The image's format. `None`: it is read off the header, once, where that leaves no doubt.
    pub format: Option<ImageFormat>,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Whether it is a CD-ROM or a floppy.
    pub removable: bool,
    /// QEMU's node name or drive id of it.
    pub node: Option<String>,
}

/// A domain was described.
#[derive(Debug, Clone)]
pub struct AddedDomain {
    /// It, as its file says.
    pub domain: Domain,
    /// Its file.
    pub file: PathBuf,
    /// The disks whose format was not given, and was read off the header.
    pub detected: Vec<DiskName>,
    /// What its user should know: a disk of it stands on an image that another domain could write to.
    pub warnings: Vec<String>,
}

/// A domain's file was removed.
#[derive(Debug, Clone)]
pub struct RemovedDomain {
    /// The domain, as its file said.
    pub domain: Domain,
    /// How many snapshots it has, whose records stay.
    pub snapshots: usize,
    /// Of a domain without snapshots: files beside its records that are not records, and stay.
    pub left: Vec<PathBuf>,
}

/// A domain's file, and how the domain is reached now.
#[derive(Debug)]
pub struct DomainDetails {
    /// The domain, as its file says; one of Xen's, as xenstore does.
    pub domain: Domain,
    /// The file; `None` of a domain of Xen's.
    pub file: Option<PathBuf>,
    /// How it is reached now; an error when its monitor is busy or speaks nonsense.
    pub connection: Result<Connection, Error>,
    /// How many snapshots it has.
    pub snapshots: usize,
}

impl Host {
    /// Describes a domain by a new file, durably.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the name, the uuid or an image is another domain's already, when a disk that the guest writes to is
    /// the base of another disk's image or of a recorded overlay, or when a format is in doubt;
    /// [`Kind::NotFound`] when an image is not there. Then nothing was written.
    ///
    /// # Cancel safety
    /// Dropped, it has written the whole file or none.
    pub async fn domain_add(&self, new: NewDomain) -> Result<AddedDomain, Error> {
        if as_uuid(&new.name).is_some() {
            return Err(refused(format!("the domain name {} reads as a uuid", new.name))
                .with_advice("give the uuid as such, and a name that is none"));
        }
        let mut detected = Vec::new();
        let mut disks = Vec::new();
        for disk in new.disks {
            let NewDisk { name, image, format, read_only, removable, node } = disk;
            if format.is_none() {
                detected.push(name.clone());
            }
            let format = header::format_of(&name, &image, format)?;
            disks.push(DiskSpec {
                name,
                file: image,
                format,
                read_only,
                removable,
                node,
                key_file: None,
                overlays: None,
            });
        }
        let mut uuid = new.uuid;
        if let (Some(socket), true) = (&new.qmp, disks.is_empty()) {
            let (of_qemu, found) = self.read_off(&new.name, socket).await?;
            uuid = uuid.or(of_qemu);
            disks = found;
        }
        let uuid = uuid.unwrap_or_else(Uuid::new_v4);
        let domain =
            Domain { name: new.name, uuid, domid: new.domid, qmp: new.qmp, agent: None, start: None, disks };
        if domain.disks.is_empty() {
            return Err(refused(format!("domain {} would have no disk", domain.name))
                .with_advice("give one with its image, or the QMP socket of its running QEMU"));
        }
        domain.validate().map_err(|why| refused(format!("domain {} is refused: {why}", domain.name)))?;

        let lock = self.files.lock(self.options.lock_wait).await?;
        self.has_own_numbers(&domain)?;
        let warnings = self.compare_new(&domain).await?;
        self.files.add(&lock, &domain)?;
        Ok(AddedDomain { file: self.files.path_of(&domain.name), domain, detected, warnings })
    }

    /// All domains that have a file, by name; one whose file is refused does not hide the others.
    ///
    /// # Errors
    /// When the directory of domain files cannot be read.
    pub fn domain_list(&self) -> Result<Vec<FiledDomain>, Error> {
        self.files.load_all()
    }

    /// A domain's file, and how it is reached now. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when no file describes it.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn domain_show(&self, selector: &Selector) -> Result<DomainDetails, Error> {
        let (domain, file, connection) = match self.find(selector)? {
            Some(domain) => {
                let connection = self.connection_of(&domain).await;
                let file = self.files.path_of(&domain.name);
                (domain, Some(file), connection)
            }
            None => {
                let (domain, connection) =
                    self.xen_details(selector).await?.ok_or_else(|| unknown(selector))?;
                (domain, None, Ok(connection))
            }
        };
        let names = self.store.names(domain.uuid).await;
        let snapshots = names
            .map_err(|e| from_store(e, format!("the snapshots of domain {} cannot be counted", domain.name)))?
            .len();
        Ok(DomainDetails { domain, file, connection, snapshots })
    }

    /// Removes a domain's file. Its images stay, and so do the records of its snapshots; of a domain that has none, nothing that
    /// was stored stays.
    ///
    /// # Errors
    /// [`Kind::Refused`] while it has snapshots, unless `force`, and always while a process that was started for it lives, or
    /// an interrupted operation waits for recovery: both need the file.
    ///
    /// # Cancel safety
    /// Dropped, it has removed the file or not; without the file, [`Host::domain_forget`] removes what is left.
    pub async fn domain_remove(&self, selector: &Selector, force: bool) -> Result<RemovedDomain, Error> {
        let domain = self.described(selector)?;
        let cannot = |e| from_store(e, format!("domain {} cannot be removed", domain.name));
        let owner = Owner {
            pid: std::process::id(),
            operation: "domain remove".to_owned(),
            since: self.clock.epoch_seconds(),
        };
        let domain_lock =
            self.store.lock(domain.uuid, &owner, self.options.lock_wait).await.map_err(cannot)?;
        if self.store.journal(domain.uuid).await.map_err(cannot)?.is_some() {
            return Err(refused(format!(
                "an interrupted operation on domain {} waits for recovery",
                domain.name
            ))
            .with_advice(format!("recover it first: xlsnap recover {}", domain.name)));
        }
        self.has_no_process(&domain)?;
        let snapshots = self.store.names(domain.uuid).await.map_err(cannot)?.len();
        if snapshots > 0 && !force {
            let count =
                if snapshots == 1 { "1 snapshot".to_owned() } else { format!("{snapshots} snapshots") };
            return Err(refused(format!("domain {} has {count}", domain.name)).with_advice(format!(
                "delete what it has first; or xlsnap domain remove {} --force: then the records stay, under the domain's uuid, until \
                 they are forgotten",
                domain.name
            )));
        }
        let lock = self.files.lock(self.options.lock_wait).await?;
        self.files.remove(&lock, &domain.name)?;
        let left = match snapshots {
            0 => self.forget(domain_lock, domain.uuid, domain.name.as_str()).await?,
            _ => Vec::new(),
        };
        Ok(RemovedDomain { domain, snapshots, left })
    }

    /// The domain that the functions of libxl's snapshot design call `domid`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when no file gives a domain that number; [`Kind::Refused`] when two do.
    pub fn domain_by_domid(&self, domid: u32) -> Result<Domain, Error> {
        let mut found = self
            .files
            .load_all()?
            .into_iter()
            .filter_map(|of| of.domain.ok())
            .filter(|d| d.domid == Some(domid));
        let domain = found.next().ok_or_else(|| {
            Error::new(Kind::NotFound, Effect::None, format!("there is no domain with the domid {domid}"))
                .with_advice("give a domain that number: the key `domid` in its file")
        })?;
        match found.next() {
            None => Ok(domain),
            Some(other) => {
                let message =
                    format!("the domid {domid} is that of two domains: {} and {}", domain.name, other.name);
                Err(refused(message).with_advice("give one of them another, in its file"))
            }
        }
    }

    /// The domain that a file describes, by name or uuid.
    pub(crate) fn described(&self, selector: &Selector) -> Result<Domain, Error> {
        self.find(selector)?.ok_or_else(|| unknown(selector))
    }

    /// As [`Host::described`]; `None` when no file does.
    pub(crate) fn find(&self, selector: &Selector) -> Result<Option<Domain>, Error> {
        let Some(uuid) = selector.uuid() else { return self.files.load(&selector.domain) };
        let mut found = self.files.load_all()?.into_iter().filter_map(|of| of.domain.ok());
        let Some(domain) = found.find(|domain| domain.uuid == uuid) else { return Ok(None) };
        match found.find(|domain| domain.uuid == uuid) {
            None => Ok(Some(domain)),
            Some(other) => Err(refused(format!(
                "the uuid {uuid} stands for two domains: {} and {}",
                domain.name, other.name
            ))
            .with_advice("give one of them another uuid, in its file")),
        }
    }

    /// Checks that no other domain has the uuid or the domid.
    fn has_own_numbers(&self, new: &Domain) -> Result<(), Error> {
        for FiledDomain { name, domain: other } in self.files.load_all()? {
            let other = other.map_err(|e| {
                let message = format!("domain {name}, whose file is refused, may have the same disks");
                Error::new(Kind::Refused, Effect::None, message)
                    .with_source(e)
                    .with_advice(format!("correct {}", self.files.path_of(&name).display()))
            })?;
            if other.name == new.name {
                // Writing the file says so.
                continue;
            }
            if other.uuid == new.uuid {
                return Err(refused(format!("the uuid {} is that of domain {name} already", new.uuid)));
            }
            if let Some(domid) = new.domid
                && other.domid == Some(domid)
            {
                return Err(refused(format!("the domid {domid} is that of domain {name} already")));
            }
        }
        Ok(())
    }
}

/// No domain is meant by `selector`.
pub(crate) fn unknown(selector: &Selector) -> Error {
    Error::new(Kind::NotFound, Effect::None, format!("there is no domain {selector}")).with_advice(
        "list the domains; describe it by a file; or reach it without one, by the QMP socket of its running QEMU",
    )
}
