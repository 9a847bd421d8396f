//! `xlsnap.domain-add/1`, `xlsnap.domains/1`, `xlsnap.domain/1`, `xlsnap.domain-remove/1`,
//! `xlsnap.domain-forget/1`.

use std::path::Path;

use serde::Serialize;
use uuid::Uuid;
use xlsnap::{
    AddedDomain, Connection, DiskSpec, Domain, DomainDetails, FiledDomain, ForgottenDomain, ListedXenDomain,
    RemovedDomain, XenDomain,
};
use xlsnap_types::model::DiskName;

use super::list::chain;

/// A domain as its file says.
#[derive(Serialize)]
pub(crate) struct DomainForm<'a> {
    pub(crate) name: &'a str,
    pub(crate) uuid: Uuid,
    pub(crate) domid: Option<u32>,
    /// `qemu`, `images` or `xen`.
    pub(crate) kind: &'static str,
    pub(crate) qmp: Option<String>,
    pub(crate) disks: Vec<DiskForm<'a>>,
}

#[derive(Serialize)]
pub(crate) struct DiskForm<'a> {
    pub(crate) name: &'a DiskName,
    pub(crate) image: Option<&'a str>,
    pub(crate) format: &'a str,
    pub(crate) read_only: bool,
    pub(crate) removable: bool,
    node: Option<&'a str>,
}

impl<'a> DomainForm<'a> {
    pub(crate) fn new(domain: &'a Domain) -> Self {
        Self {
            name: domain.name.as_str(),
            uuid: domain.uuid,
            domid: domain.domid,
            kind: if domain.qmp.is_some() { "qemu" } else { "images" },
            qmp: domain.qmp.as_deref().map(text),
            disks: domain.disks.iter().map(DiskForm::new).collect(),
        }
    }

    fn of_xen(domain: &'a XenDomain) -> Self {
        Self {
            name: &domain.name,
            uuid: domain.uuid,
            domid: Some(domain.domid),
            kind: "xen",
            qmp: None,
            disks: domain.disks.iter().map(DiskForm::new).collect(),
        }
    }
}

impl<'a> DiskForm<'a> {
    fn new(disk: &'a DiskSpec) -> Self {
        Self {
            name: &disk.name,
            image: Some(disk.file.as_str()).filter(|file| !file.is_empty()),
            format: disk.format.driver(),
            read_only: disk.read_only,
            removable: disk.removable,
            node: disk.node.as_deref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DomainAddedAnswer<'a> {
    schema: &'static str,
    pub(crate) domain: DomainForm<'a>,
    pub(crate) file: String,
    /// The disks whose format was read off the image.
    pub(crate) detected: &'a [DiskName],
    /// What its user should know.
    pub(crate) warnings: &'a [String],
}

impl<'a> DomainAddedAnswer<'a> {
    pub(crate) fn new(added: &'a AddedDomain) -> Self {
        Self {
            schema: "xlsnap.domain-add/1",
            domain: DomainForm::new(&added.domain),
            file: text(&added.file),
            detected: &added.detected,
            warnings: &added.warnings,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DomainsAnswer<'a> {
    schema: &'static str,
    pub(crate) domains: Vec<DomainForm<'a>>,
    pub(crate) refused: Vec<RefusedForm<'a>>,
    /// Why Xen's domains could not be asked for.
    pub(crate) xen_silent: Option<Vec<String>>,
}

#[derive(Serialize)]
pub(crate) struct RefusedForm<'a> {
    pub(crate) name: &'a str,
    pub(crate) why: Vec<String>,
}

impl<'a> DomainsAnswer<'a> {
    pub(crate) fn new(all: &'a [FiledDomain], xen: &'a Result<Vec<ListedXenDomain>, xlsnap::Error>) -> Self {
        let mut answer = Self {
            schema: "xlsnap.domains/1",
            domains: Vec::new(),
            refused: Vec::new(),
            xen_silent: xen.as_ref().err().map(|error| chain(error)),
        };
        for FiledDomain { name, domain } in all {
            match domain {
                Ok(domain) => answer.domains.push(DomainForm::new(domain)),
                Err(error) => answer.refused.push(RefusedForm { name: name.as_str(), why: chain(error) }),
            }
        }
        for ListedXenDomain { name, domain } in xen.iter().flatten() {
            match domain {
                Ok(domain) => answer.domains.push(DomainForm::of_xen(domain)),
                Err(error) => answer.refused.push(RefusedForm { name, why: chain(error) }),
            }
        }
        answer
    }
}

#[derive(Serialize)]
pub(crate) struct DomainAnswer<'a> {
    schema: &'static str,
    pub(crate) domain: DomainForm<'a>,
    pub(crate) file: Option<String>,
    pub(crate) reach: ReachForm<'a>,
    pub(crate) snapshots: usize,
}

/// How a domain is reached now.
#[derive(Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub(crate) enum ReachForm<'a> {
    /// It is only files.
    Images,
    /// No process listens at its socket.
    Off,
    /// Its monitor answers.
    Monitor { qemu: &'a str },
    /// It is a domain of Xen's.
    Xen { domid: Option<u32> },
    /// Its monitor is busy, or not QEMU's.
    Unreachable { why: Vec<String> },
}

impl<'a> DomainAnswer<'a> {
    pub(crate) fn new(details: &'a DomainDetails) -> Self {
        Self {
            schema: "xlsnap.domain/1",
            domain: match &details.connection {
                Ok(Connection::Xen { .. }) => DomainForm { kind: "xen", ..DomainForm::new(&details.domain) },
                _ => DomainForm::new(&details.domain),
            },
            file: details.file.as_deref().map(text),
            reach: match &details.connection {
                Ok(Connection::Images) => ReachForm::Images,
                Ok(Connection::Off) => ReachForm::Off,
                Ok(Connection::Monitor { qemu }) => ReachForm::Monitor { qemu },
                Ok(Connection::Xen { domid }) => ReachForm::Xen { domid: *domid },
                Err(error) => ReachForm::Unreachable { why: chain(error) },
            },
            snapshots: details.snapshots,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DomainRemovedAnswer<'a> {
    schema: &'static str,
    domain: DomainForm<'a>,
    /// How many snapshots have a record that stays.
    snapshots: usize,
    /// Files that are no records, and stay.
    left: Vec<String>,
}

impl<'a> DomainRemovedAnswer<'a> {
    pub(crate) fn new(removed: &'a RemovedDomain) -> Self {
        Self {
            schema: "xlsnap.domain-remove/1",
            domain: DomainForm::new(&removed.domain),
            snapshots: removed.snapshots,
            left: removed.left.iter().map(|file| text(file)).collect(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DomainForgottenAnswer<'a> {
    schema: &'static str,
    domain: &'a str,
    uuid: Uuid,
    /// How many snapshots had a record.
    snapshots: usize,
    /// Files that are no records, and stay.
    left: Vec<String>,
}

impl<'a> DomainForgottenAnswer<'a> {
    pub(crate) fn new(forgotten: &'a ForgottenDomain) -> Self {
        Self {
            schema: "xlsnap.domain-forget/1",
            domain: &forgotten.domain,
            uuid: forgotten.uuid,
            snapshots: forgotten.snapshots,
            left: forgotten.left.iter().map(|file| text(file)).collect(),
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
