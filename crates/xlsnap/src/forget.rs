//! `domain forget`: dropping what is stored of a domain that has no file any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, DomainLock, Entry, Owner, Record};
use xlsnap_orchestrator::{Clock, Error};
use xlsnap_qemu_img::Image;
use xlsnap_types::model::DiskMeta;

use crate::failures::{from_store, refused};
use crate::registry::unknown;
use crate::{Host, Selector};

/// How many snapshots a refusal names.
const MOST_NAMED: usize = 5;

/// A domain was forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenDomain {
    /// What it was called; its uuid as text where that is not known.
    pub domain: String,
    /// Its uuid.
    pub uuid: Uuid,
    /// How many snapshots had a record.
    pub snapshots: usize,
    /// Files beside the records that are not records, such as memory that was left behind. They stay.
    pub left: Vec<PathBuf>,
}

impl Host {
    /// Drops the records of a domain that no file describes and Xen does not know. Images, overlays and memory files are not
    /// touched.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when nothing is stored of it. [`crate::Kind::Refused`] while a file describes it or Xen runs it;
    /// and, unless `records_only`, while data of a snapshot is still there or cannot be looked for, or an interrupted operation
    /// waits for recovery: without the record that data is a foreign snapshot in an image, and a file that this program does not
    /// know. [`crate::Kind::Busy`] when another process works on the domain.
    ///
    /// # Cancel safety
    /// Dropped, it has forgotten some snapshots; again forgets the others.
    pub async fn domain_forget(
        &self,
        selector: &Selector,
        records_only: bool,
    ) -> Result<ForgottenDomain, Error> {
        if let Some(described) = self.find(selector)? {
            let name = described.name;
            return Err(refused(format!("a file describes domain {name}"))
                .with_advice(format!("remove that first: xlsnap domain remove {name} --force")));
        }
        if let Ok((_, name)) = self.known_in_xen(selector).await? {
            return Err(refused(format!("domain {name} runs: Xen knows it"))
                .with_advice(format!("delete its snapshots one by one: xlsnap delete {name} SNAPSHOT")));
        }
        let domain = self.recorded(selector).await?.ok_or_else(|| unknown(selector))?;
        let cannot = |e| from_store(e, format!("domain {} cannot be forgotten", domain.name));
        let owner = Owner {
            pid: std::process::id(),
            operation: "domain forget".to_owned(),
            since: self.clock.epoch_seconds(),
        };
        let lock = self.store.lock(domain.uuid, &owner, self.options.lock_wait).await.map_err(cannot)?;
        if !records_only {
            if self.store.journal(domain.uuid).await.map_err(cannot)?.is_some() {
                let message =
                    format!("an interrupted operation on domain {} waits for recovery", domain.name);
                return Err(refused(message).with_advice(self.without_data(domain.uuid, &domain.name)));
            }
            self.has_no_data(domain.uuid, &domain.name).await?;
        }
        let snapshots = self.store.names(domain.uuid).await.map_err(cannot)?.len();
        let left = self.forget(lock, domain.uuid, &domain.name).await?;
        Ok(ForgottenDomain { domain: domain.name, uuid: domain.uuid, snapshots, left })
    }

    /// Drops all that is stored of a domain; gives the files that lie with it and stay.
    pub(crate) async fn forget(
        &self,
        lock: Box<dyn DomainLock>,
        domain: Uuid,
        name: &str,
    ) -> Result<Vec<PathBuf>, Error> {
        let left = lock.forget().await;
        let left =
            left.map_err(|e| from_store(e, format!("the records of domain {name} cannot be removed")))?;
        Ok(left.into_iter().map(|file| self.records_of(domain).join(file)).collect())
    }

    fn without_data(&self, uuid: Uuid, name: &str) -> String {
        format!(
            "describe the domain again and finish or delete them (xlsnap domain add {name} --uuid {uuid} --disk DISK=FILE), or drop the records alone: xlsnap domain forget {name} --records-only"
        )
    }

    /// Refuses while something of a recorded snapshot is still there.
    async fn has_no_data(&self, domain: Uuid, name: &str) -> Result<(), Error> {
        let mut records = Vec::new();
        let listed = self.store.list(domain, &mut |entry| records.push(entry)).await;
        listed.map_err(|e| from_store(e, format!("the snapshots of domain {name} cannot be listed")))?;
        records.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut there = Vec::new();
        for Entry { name, record } in records {
            let data = match record {
                Ok(record) => self.data_of(&record).await,
                Err(_) => Some("its record cannot be read".to_owned()),
            };
            there.extend(data.map(|data| format!("{name} ({data})")));
        }
        if there.is_empty() {
            return Ok(());
        }
        let more = there.len().saturating_sub(MOST_NAMED);
        there.truncate(MOST_NAMED);
        let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message =
            format!("data of snapshots of domain {name} is still there: {}{and_more}", there.join(", "));
        Err(refused(message).with_advice(self.without_data(domain, name)))
    }

    /// What is still there of a snapshot, as a clause; or why that cannot be told.
    async fn data_of(&self, record: &Record) -> Option<String> {
        let memory = record.snapshot.memory.as_deref().filter(|file| !file.is_empty());
        if let Some(file) = memory.filter(|file| Path::new(file).exists()) {
            return Some(format!("memory in {file}"));
        }
        let Some(meta) = &record.meta else {
            let disks = !record.snapshot.disks.is_empty();
            return disks.then(|| "its record does not say where its data is".to_owned());
        };
        for disk in &meta.disks {
            if let Some(made) = disk.made.as_deref().filter(|made| Path::new(made).exists()) {
                return Some(format!("overlay {made}"));
            }
            if let Some(id) = &disk.id
                && Path::new(&disk.image).exists()
                && self.may_hold(disk, id, record.snapshot.name.as_deref()).await
            {
                return Some(format!("in {}", disk.image));
            }
        }
        None
    }

    /// Whether an image has the snapshot, as far as can be told.
    async fn may_hold(&self, disk: &DiskMeta, id: &str, name: Option<&str>) -> bool {
        let image = Image::new(&disk.image, disk.format.driver());
        match self.qemu_img(&Arc::default()).info(&image).await {
            Ok(info) => info.snapshots.iter().any(|of| of.id == id && Some(of.name.as_str()) == name),
            Err(_) => true,
        }
    }
}
