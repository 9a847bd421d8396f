//! `xlsnap.domain-add/1`, `xlsnap.domains/1`, `xlsnap.domain/1`, `xlsnap.domain-remove/1`.

use std::path::Path;

use serde::Serialize;
use uuid::Uuid;
use xlsnap::{AddedDomain, DiskSpec, Domain, DomainDetails, FiledDomain, Reach};
use xlsnap_types::model::{DiskName, DomainName};

use super::list::chain;

/// A domain as its file says.
#[derive(Serialize)]
pub(crate) struct DomainForm<'a> {
    pub(crate) name: &'a DomainName,
    pub(crate) uuid: Uuid,
    pub(crate) domid: Option<u32>,
    /// `qemu` or `images`.
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
            name: &domain.name,
            uuid: domain.uuid,
            domid: domain.domid,
            kind: if domain.qmp.is_some() { "qemu" } else { "images" },
            qmp: domain.qmp.as_deref().map(text),
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
}

impl<'a> DomainAddedAnswer<'a> {
    pub(crate) fn new(added: &'a AddedDomain) -> Self {
        Self {
            schema: "xlsnap.domain-add/1",
            domain: DomainForm::new(&added.domain),
            file: text(&added.file),
            detected: &added.detected,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DomainsAnswer<'a> {
    schema: &'static str,
    pub(crate) domains: Vec<DomainForm<'a>>,
    pub(crate) refused: Vec<RefusedForm<'a>>,
}

#[derive(Serialize)]
pub(crate) struct RefusedForm<'a> {
    pub(crate) name: &'a DomainName,
    pub(crate) why: Vec<String>,
}

impl<'a> DomainsAnswer<'a> {
    pub(crate) fn new(all: &'a [FiledDomain]) -> Self {
        let mut answer = Self { schema: "xlsnap.domains/1", domains: Vec::new(), refused: Vec::new() };
        for FiledDomain { name, domain } in all {
            match domain {
                Ok(domain) => answer.domains.push(DomainForm::new(domain)),
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
    pub(crate) file: String,
    pub(crate) reach: ReachForm<'a>,
    pub(crate) snapshots: usize,
}

/// How a domain is reached now.
#[derive(Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub(crate) enum ReachForm<'a> {
    /// It is only files.
    Images,
    /// Nobody answers at its socket.
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
            domain: DomainForm::new(&details.domain),
            file: text(&details.file),
            reach: match &details.reach {
                Ok(Reach::Images) => ReachForm::Images,
                Ok(Reach::Off) => ReachForm::Off,
                Ok(Reach::Monitor { qemu }) => ReachForm::Monitor { qemu },
                Ok(Reach::Xen { domid }) => ReachForm::Xen { domid: *domid },
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
}

impl<'a> DomainRemovedAnswer<'a> {
    pub(crate) fn new(domain: &'a Domain) -> Self {
        Self { schema: "xlsnap.domain-remove/1", domain: DomainForm::new(domain) }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
