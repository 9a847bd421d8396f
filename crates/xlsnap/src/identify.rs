//! Which domain a selector means: its uuid, before its lock is taken and anything of it is looked at.

use std::collections::HashSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xlsnap_conf_store::ConfStore;
use xlsnap_orchestrator::{DomainRef, Error};
use xlsnap_qmp_transport as qmp;
use xlsnap_types::model::DomainName;

use crate::connect::{Answer, uuid_of};

use crate::failures::{from_store, not_found, refused};
use crate::registry::unknown;
use crate::xen::XenDomainFound;
use crate::{Host, Selector};

/// The namespace (RFC 9562, 5.5) of the uuids that are derived from a name and a socket. It never changes.
const AD_HOC: Uuid = Uuid::from_u128(0x6d0c_9fd2_54c1_4f0e_9d5b_0f6a_1c6e_8b27);

/// The uuid of a domain that has neither a file nor a uuid of QEMU's.
///
/// The name is part of it, because two machines may use one path for their sockets, one after the other; the socket's path
/// is, because two users of a host may have the same name in mind. The directory's links are resolved, so that two ways to
/// the same socket give one uuid; the socket itself need not be there.
pub(crate) fn ad_hoc_uuid(name: &DomainName, socket: &Path) -> Uuid {
    let resolved: PathBuf = match (socket.parent().map(Path::canonicalize), socket.file_name()) {
        (Some(Ok(directory)), Some(file)) => directory.join(file),
        _ => socket.to_owned(),
    };
    let mut key = name.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(resolved.as_os_str().as_encoded_bytes());
    Uuid::new_v5(&AD_HOC, &key)
}

/// Refuses a path at which no monitor can ever have answered: a misspelt one would look like a domain without snapshots.
fn is_a_socket(selector: &Selector, socket: &Path) -> Result<(), Error> {
    let path = socket.display();
    let cannot = format!("domain {selector} cannot be reached at {path}, and nothing is stored of it");
    match std::fs::metadata(socket) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => {
            Err(refused(format!("{cannot}: that is no socket"))
                .with_advice("give the path of QEMU's QMP socket"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(not_found(cannot).with_source(e).with_advice("give the path of QEMU's QMP socket"))
        }
        Err(e) => Err(refused(cannot).with_source(e)),
    }
}

/// A domain whose uuid is known, and what is to be connected to once it is locked.
pub(crate) struct Identified {
    /// The domain.
    pub(crate) domain: DomainRef,
    /// What tells its disks.
    pub(crate) by: By,
}

/// What tells a domain's disks.
pub(crate) enum By {
    /// The file of this name. It is read again under the lock, and only that reading counts.
    File(DomainName),
    /// The monitor of a QEMU that no file describes; only QEMU itself tells its uuid, so it is connected already.
    Monitor(qmp::Client),
    /// Xen.
    Xen(XenDomainFound),
    /// Nothing: only records are left of it.
    Records,
}

impl Identified {
    /// Leaves it without an operation on it.
    pub(crate) async fn leave(self) {
        if let By::Monitor(client) = self.by {
            client.close().await;
        }
    }
}

impl Host {
    /// Finds the uuid of the domain that is meant: in its file, in xenstore, in the records, or from a QEMU that no file describes.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when no such domain is known; [`crate::Kind::Busy`] when another client holds the monitor;
    /// [`crate::Kind::Refused`] when what answers is no monitor.
    pub(crate) async fn identify(&self, selector: &Selector) -> Result<Identified, Error> {
        if let Some(described) = self.find(selector)? {
            let domain = self.domain_ref(described.uuid, described.name.to_string());
            return Ok(Identified { domain, by: By::File(described.name) });
        }
        let Some(socket) = &selector.qmp else {
            let silent = match self.identify_xen(selector).await? {
                Ok((domain, found)) => return Ok(Identified { domain, by: By::Xen(found) }),
                Err(silent) => silent,
            };
            let recorded = self.recorded(selector).await?;
            let domain = recorded.ok_or_else(|| silent.unwrap_or_else(|| unknown(selector)))?;
            return Ok(Identified { domain, by: By::Records });
        };
        if let Answer::Monitor(client) = self.ask(selector.domain.as_str(), socket).await? {
            let domain = match uuid_of(&client).await? {
                Some(uuid) => self.domain_ref(uuid, selector.to_string()),
                None => self.known(selector).await?,
            };
            return Ok(Identified { domain, by: By::Monitor(client) });
        }
        let domain = self.recorded(selector).await?.ok_or_else(|| {
            let message = format!("no process listens at {} for domain {selector}", socket.display());
            not_found(message).with_advice("start it, or describe it by a file")
        })?;
        Ok(Identified { domain, by: By::Records })
    }

    /// The key of a domain's records, and what people call it.
    pub(crate) async fn known(&self, selector: &Selector) -> Result<DomainRef, Error> {
        if let Some(domain) = self.find(selector)? {
            return Ok(self.domain_ref(domain.uuid, domain.name.to_string()));
        }
        let silent = match &selector.qmp {
            None => match self.known_in_xen(selector).await? {
                Ok((uuid, name)) => return Ok(self.domain_ref(uuid, name)),
                Err(silent) => silent,
            },
            Some(_) => None,
        };
        if let Some(recorded) = self.recorded(selector).await? {
            return Ok(recorded);
        }
        match &selector.qmp {
            // Nothing is stored of it yet.
            Some(socket) => {
                is_a_socket(selector, socket)?;
                Ok(self.domain_ref(ad_hoc_uuid(&selector.domain, socket), selector.to_string()))
            }
            None => Err(silent.unwrap_or_else(|| unknown(selector))),
        }
    }

    /// The domain of which only records are left, or which never had a file.
    pub(crate) async fn recorded(&self, selector: &Selector) -> Result<Option<DomainRef>, Error> {
        let cannot = |e| from_store(e, format!("the records of domain {selector} cannot be looked for"));
        let stored = self.store.domains().await.map_err(cannot)?;
        if let Some(uuid) = selector.uuid() {
            if !stored.contains(&uuid) {
                return Ok(None);
            }
            let name = self.store.domain_record(uuid).await.map_err(cannot)?.and_then(|record| record.name);
            return Ok(Some(self.domain_ref(uuid, name.unwrap_or_else(|| uuid.to_string()))));
        }
        if let Some(socket) = &selector.qmp {
            let uuid = ad_hoc_uuid(&selector.domain, socket);
            if stored.contains(&uuid) {
                return Ok(Some(self.domain_ref(uuid, selector.to_string())));
            }
        }
        // A domain that a file describes goes by that file's name, whatever it was called before.
        let described: HashSet<Uuid> = self.described_uuids()?;
        let mut found = None;
        for uuid in stored.into_iter().filter(|uuid| !described.contains(uuid)) {
            // A domain whose own record cannot be read is not found by name; by uuid it is, and says why.
            let Ok(Some(record)) = self.store.domain_record(uuid).await else { continue };
            if record.name.as_deref() != Some(selector.domain.as_str()) {
                continue;
            }
            if let Some(first) = found.replace(uuid) {
                return Err(refused(format!(
                    "domain {selector} may be {first} or {uuid}: both were called so"
                ))
                .with_advice("name it by its uuid"));
            }
        }
        Ok(found.map(|uuid| self.domain_ref(uuid, selector.to_string())))
    }

    /// The selectors of all domains: see [`Host::domains`].
    pub(crate) async fn all_domains(&self) -> Result<Vec<Selector>, Error> {
        let mut selectors: Vec<Selector> = self.files.names()?.into_iter().map(Selector::new).collect();
        let described = self.described_uuids()?;
        let mut stored =
            self.store.domains().await.map_err(|e| from_store(e, "the records cannot be listed"))?;
        stored.retain(|uuid| !described.contains(uuid));
        stored.sort_unstable();
        selectors.extend(stored.into_iter().map(|uuid| {
            Selector::new(DomainName::new(uuid.to_string()).expect("a uuid is a domain's name in form"))
        }));
        Ok(selectors)
    }

    /// A reference for the operations of this process.
    pub(crate) fn domain_ref(&self, uuid: Uuid, name: String) -> DomainRef {
        DomainRef { uuid, name, pid: std::process::id(), lock_wait: self.options.lock_wait }
    }

    fn described_uuids(&self) -> Result<HashSet<Uuid>, Error> {
        Ok(self.files.load_all()?.into_iter().filter_map(|of| Some(of.domain.ok()?.uuid)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_uuid_depends_on_name_and_socket_alone() {
        let name = |name: &str| DomainName::new(name).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("qmp");
        let before = ad_hoc_uuid(&name("web"), &socket);
        std::fs::write(&socket, "").unwrap();
        assert_eq!(before, ad_hoc_uuid(&name("web"), &socket), "whether the socket is there changes nothing");
        assert_eq!(before, ad_hoc_uuid(&name("web"), &scratch.path().join(".").join("qmp")));
        assert_ne!(before, ad_hoc_uuid(&name("db"), &socket));
        assert_ne!(before, ad_hoc_uuid(&name("web"), &scratch.path().join("other")));
        // Stays the same from version to version, or records would be lost.
        let fixed = ad_hoc_uuid(&name("web"), Path::new("/nowhere/qmp"));
        assert_eq!(fixed.to_string(), "3e144151-4916-5db2-97cb-93fe972ca518");
    }
}
