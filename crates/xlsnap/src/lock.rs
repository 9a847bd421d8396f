//! The domain's lock during one operation: taken before the domain is looked at, and kept by each qemu-img that writes until that
//! ends.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Weak;

use xlsnap_conf_store::durable::LockFile;
use xlsnap_conf_store::{DomainLock, Owner};
use xlsnap_orchestrator::{Clock, DomainRef};
use xlsnap_qemu_img::Lender;

use crate::Host;
use crate::failures::from_store;

/// Where qemu-img gets the file of the domain's lock from: a qemu-img that writes holds it open, so that the domain stays locked
/// if xlsnap is killed meanwhile. Without a lock, as in a dry run, it gives none.
#[derive(Debug, Default)]
pub(crate) struct LockLender(Weak<LockFile>);

impl Lender for LockLender {
    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        self.0.upgrade().map(|file| file.lend()).transpose()
    }
}

impl Host {
    /// Takes the lock of a domain for `operation`.
    pub(crate) async fn lock_domain(
        &self,
        domain: &DomainRef,
        operation: &str,
    ) -> Result<(Box<dyn DomainLock>, LockLender), crate::Error> {
        let owner =
            Owner { pid: domain.pid, operation: operation.to_owned(), since: self.clock.epoch_seconds() };
        let taken = self.store.lock_with_file(domain.uuid, &owner, domain.lock_wait).await;
        let (lock, file) = taken
            .map_err(|e| from_store(e, format!("the lock of domain {} cannot be taken", domain.name)))?;
        Ok((lock, LockLender(file)))
    }
}
