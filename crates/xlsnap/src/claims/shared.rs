//! Refusing to write to an image that another disk is read through.

use std::collections::{HashMap, HashSet};

use xlsnap_conf_store::{ConfStore, Record};
use xlsnap_orchestrator::{
    CreateRequest, DeleteRequest, DiskChoice, Error, FlattenRequest, OrphanRequest, RevertRequest, Selection,
};
use xlsnap_types::model::{DiskName, SnapshotName};

use super::frozen::{Said, targets_of};
use super::{Claim, Claims, FileId};
use crate::connect::Connected;
use crate::failures::{from_store, refused};
use crate::{DiskSpec, Domain, Host};

/// Which images an operation writes to, as far as its request tells.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Writes<'a> {
    /// None: it looks, or finishes what was begun.
    Nothing,
    /// Those that take an internal snapshot.
    Create(&'a CreateRequest),
    /// Those that go back, and those that the domain's start opens.
    Revert(&'a RevertRequest),
    /// Those that lose an internal snapshot.
    Delete(&'a DeleteRequest),
    /// Those that get what is below them.
    Flatten(&'a FlattenRequest),
    /// Those that lose what no record names.
    Orphan(&'a OrphanRequest),
    /// Those of these disks.
    Disks(&'a [DiskName]),
}

/// An image that is going to be written to, and the disk for which.
pub(super) type Target = (DiskName, String);

impl Host {
    /// Refuses when an image that is going to be written to is the base of another disk's, of whichever domain.
    ///
    /// # Errors
    /// [`crate::Kind::Refused`], naming the other disk; and when domain files or records cannot be read.
    pub(crate) async fn refuse_shared(&self, connected: &Connected, writes: Writes<'_>) -> Result<(), Error> {
        if matches!(writes, Writes::Nothing) || connected.connection.is_none() {
            return Ok(());
        }
        let domain = &connected.domain;
        let mut claims = self.claims_beside(domain.uuid, &domain.name).await?;
        let disks = match &connected.described {
            Some(described) => described.disks.clone(),
            // No other domain, no layers, and a QEMU that would not open one of its own disks' bases twice.
            None if claims.is_empty() && self.ledger(domain.uuid, &domain.name).await?.is_empty() => {
                return Ok(());
            }
            None => match connected.disks().inventory().await {
                Ok(inventory) => inventory.disks.into_iter().map(DiskSpec::from).collect(),
                // The operation itself looks too, and says what is wrong.
                Err(_) => return Ok(()),
            },
        };
        let said = connected.file.as_deref().map_or(Said::ByQemu, Said::In);
        let written = self.written(domain.uuid, &disks, writes).await?;
        self.refuse_frozen((domain.uuid, &domain.name), said, &written).await?;
        let targets = self.targets(domain.uuid, &disks, writes).await?;
        if targets.is_empty() {
            return Ok(());
        }
        if disks.len() > 1 {
            let qemu_img = self.qemu_img(&connected.lender);
            claims.add_disks(&*qemu_img, domain.uuid, &domain.name, &disks).await;
        }
        for (disk, image) in targets {
            if let Some(claim) = claims.base_of_others(domain.uuid, &disk, &FileId::of(&image)) {
                return Err(is_base(&image, &disk, &domain.name, claim, writes));
            }
        }
        Ok(())
    }

    /// Refuses to open a described domain's disks for writing where one of them is the base of another disk's image.
    pub(crate) async fn refuse_shared_start(&self, domain: &Domain) -> Result<(), Error> {
        let mut claims = self.claims_beside(domain.uuid, domain.name.as_str()).await?;
        let writable: Vec<&DiskSpec> = domain.disks.iter().filter(|disk| is_written(disk)).collect();
        let file = self.files.path_of(&domain.name);
        let own = targets_of(writable.iter().copied());
        self.refuse_frozen((domain.uuid, domain.name.as_str()), Said::In(&file), &own).await?;
        if claims.is_empty() && writable.len() < 2 {
            return Ok(());
        }
        let qemu_img = self.qemu_img(&std::sync::Arc::default());
        claims.add_disks(&*qemu_img, domain.uuid, domain.name.as_str(), &domain.disks).await;
        for disk in writable {
            if let Some(claim) = claims.base_of_others(domain.uuid, &disk.name, &FileId::of(&disk.file)) {
                return Err(is_base(&disk.file, &disk.name, domain.name.as_str(), claim, Writes::Nothing));
            }
        }
        Ok(())
    }

    /// Refuses a new domain whose images are others' disks, or the bases of others' disks. Gives what its user should know: its
    /// disks that stand on an image which another domain may write to.
    pub(crate) async fn compare_new(&self, new: &Domain) -> Result<Vec<String>, Error> {
        let mut own: HashMap<FileId, &DiskSpec> = HashMap::new();
        for disk in new.disks.iter().filter(|disk| !disk.file.is_empty()) {
            if let Some(first) = own.insert(FileId::of(&disk.file), disk) {
                return Err(refused(format!(
                    "disks {} and {} of domain {} have one image, {}",
                    first.name, disk.name, new.name, disk.file,
                )));
            }
        }
        let written = targets_of(new.disks.iter().filter(|disk| is_written(disk)));
        self.refuse_frozen((new.uuid, new.name.as_str()), Said::Now, &written).await?;
        let others = self.claims_beside(new.uuid, new.name.as_str()).await?;
        let qemu_img = self.qemu_img(&std::sync::Arc::default());
        let mut of_new = Claims::default();
        of_new.add_disks(&*qemu_img, new.uuid, new.name.as_str(), &new.disks).await;
        for (file, disk) in &own {
            if let Some((claim, read_only)) = others.top_of_others(new.uuid, file)
                && !(read_only && disk.read_only)
            {
                let message = format!(
                    "the image {} of disk {} is a disk of domain {} already",
                    disk.file, disk.name, claim.name
                );
                return Err(refused(message).with_advice(claim.advice()));
            }
            if !is_written(disk) {
                continue;
            }
            let below = others.base_of_others(new.uuid, &disk.name, file);
            if let Some(claim) = below.or_else(|| of_new.base_of_others(new.uuid, &disk.name, file)) {
                return Err(is_base(&disk.file, &disk.name, new.name.as_str(), claim, Writes::Nothing));
            }
        }
        Ok(of_new.written_below(&others))
    }

    /// The disks' images that must not be layers of the domain's own which others stand on. A deletion merges layers into what a
    /// disk writes to, and removes those that none does, so it has to be told the right ones of all disks; going back to a snapshot
    /// leads out, but where that is inside such an image.
    async fn written(
        &self,
        domain: uuid::Uuid,
        disks: &[DiskSpec],
        writes: Writes<'_>,
    ) -> Result<Vec<Target>, Error> {
        let all = || targets_of(disks.iter().filter(|disk| is_written(disk)));
        Ok(match writes {
            Writes::Nothing => Vec::new(),
            Writes::Create(request) => {
                let Selection { only, except } = &request.selection;
                let chosen =
                    |(disk, _): &Target| (only.is_empty() || only.contains(disk)) && !except.contains(disk);
                all().into_iter().filter(chosen).collect()
            }
            Writes::Delete(request) if request.metadata_only => Vec::new(),
            Writes::Delete(_) | Writes::Flatten(_) => all(),
            Writes::Revert(request) => {
                let inside = self.held_by(domain, disks, std::slice::from_ref(&request.name)).await?;
                all().into_iter().filter(|target| inside.contains(target)).collect()
            }
            Writes::Orphan(_) | Writes::Disks(_) => self.targets(domain, disks, writes).await?,
        })
    }

    /// The images that `writes` means, of a domain that has these disks.
    async fn targets(
        &self,
        domain: uuid::Uuid,
        disks: &[DiskSpec],
        writes: Writes<'_>,
    ) -> Result<Vec<Target>, Error> {
        let top = |disk: &DiskSpec| (disk.name.clone(), disk.file.clone());
        let tops = |wanted: &dyn Fn(&DiskSpec) -> bool| -> Vec<Target> {
            disks.iter().filter(|disk| is_written(disk) && wanted(disk)).map(top).collect()
        };
        Ok(match writes {
            Writes::Nothing => Vec::new(),
            Writes::Disks(names) => tops(&|disk| names.contains(&disk.name)),
            Writes::Flatten(request) => {
                tops(&|disk| request.disks.is_empty() || request.disks.contains(&disk.name))
            }
            // Which of them hold it is known when they are looked at.
            Writes::Orphan(request) if request.orphan.starts_with('/') => Vec::new(),
            Writes::Orphan(request) => {
                tops(&|disk| request.disks.is_empty() || request.disks.contains(&disk.name))
            }
            Writes::Create(request) => tops(&|disk| {
                let choice = request.disks.get(&disk.name).unwrap_or(&request.default_choice);
                let chosen = request.selection.only.is_empty() || request.selection.only.contains(&disk.name);
                chosen && !request.selection.except.contains(&disk.name) && *choice == DiskChoice::Internal
            }),
            Writes::Revert(request) => {
                let mut targets = self.held_by(domain, disks, std::slice::from_ref(&request.name)).await?;
                // Of a snapshot that is not there nothing is reverted, and the operation says so.
                if !targets.is_empty() {
                    targets.extend(tops(&|_| true));
                }
                targets
            }
            Writes::Delete(request) if request.metadata_only => Vec::new(),
            Writes::Delete(request) => {
                let mut names = vec![request.name.clone()];
                if request.children {
                    names.extend(self.descendants(domain, &request.name).await?);
                }
                self.held_by(domain, disks, &names).await?
            }
        })
    }

    /// The images that hold internal snapshots of these names, by their records.
    async fn held_by(
        &self,
        domain: uuid::Uuid,
        disks: &[DiskSpec],
        names: &[SnapshotName],
    ) -> Result<Vec<Target>, Error> {
        let mut targets = Vec::new();
        for name in names {
            // The operation reads it too, and says what is wrong with it.
            let Ok(record) = self.store.load(domain, name).await else { continue };
            targets.extend(internal_images(&record, disks));
        }
        Ok(targets)
    }

    async fn descendants(&self, domain: uuid::Uuid, of: &SnapshotName) -> Result<Vec<SnapshotName>, Error> {
        let mut parents: Vec<(SnapshotName, SnapshotName)> = Vec::new();
        let mut visit = |entry: xlsnap_conf_store::Entry| {
            let parent = entry.record.ok().and_then(|record| record.meta?.parent);
            parents.extend(SnapshotName::new(entry.name).ok().zip(parent));
        };
        let cannot = |e| from_store(e, format!("the snapshots of domain {domain} cannot be listed"));
        self.store.list(domain, &mut visit).await.map_err(cannot)?;
        let mut children: HashMap<SnapshotName, Vec<SnapshotName>> = HashMap::new();
        for (child, parent) in parents {
            children.entry(parent).or_default().push(child);
        }
        let mut found = Vec::new();
        let mut met = HashSet::from([of.clone()]);
        let mut waiting = vec![of.clone()];
        while let Some(name) = waiting.pop() {
            for child in children.remove(&name).unwrap_or_default() {
                if met.insert(child.clone()) {
                    found.push(child.clone());
                    waiting.push(child);
                }
            }
        }
        Ok(found)
    }
}

impl Claims {
    fn is_empty(&self) -> bool {
        self.by_file.is_empty() && self.doubts.is_empty()
    }

    /// Of a new domain's claims: its layers that are disks which another domain writes to.
    fn written_below(&self, others: &Self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (file, claims) in &self.by_file {
            for claim in claims {
                let super::Role::Below { disk, image, .. } = &claim.role else { continue };
                let Some((other, false)) = others.top_of_others(claim.domain, file) else { continue };
                warnings.push(format!(
                    "{image} (disk {disk}) stands on {other}; while both are described, xlsnap does not start or revert domain {name}, nor take internal snapshots of that disk",
                    name = other.name
                ));
            }
        }
        warnings.sort_unstable();
        warnings
    }
}

fn is_written(disk: &DiskSpec) -> bool {
    !disk.read_only && !disk.removable && !disk.file.is_empty()
}

/// The images that hold the internal snapshots of a record; where another program made the record, those of the disks it names.
fn internal_images(record: &Record, disks: &[DiskSpec]) -> Vec<Target> {
    let meta =
        |disk: &str| record.meta.iter().flat_map(|meta| &meta.disks).find(|of| of.disk.as_str() == disk);
    let internal = record.snapshot.disks.iter().filter(|disk| !disk.is_external());
    internal
        .filter_map(|of| {
            let name = of.device.as_deref()?;
            match meta(name) {
                Some(meta) => Some((meta.disk.clone(), meta.image.clone())),
                None => {
                    let found = disks.iter().find(|disk| disk.name.as_str() == name)?;
                    Some((found.name.clone(), found.file.clone()))
                }
            }
        })
        .collect()
}

fn is_base(image: &str, disk: &DiskName, domain: &str, claim: &Claim, writes: Writes<'_>) -> Error {
    let message = format!(
        "the image {image} of disk {disk} of domain {domain} is {claim}: a write to it would change that disk"
    );
    let advice = match writes {
        Writes::Create(_) => {
            format!(
                "take the disk externally, which writes nothing to it: xlsnap create {domain} --external {disk}"
            )
        }
        Writes::Orphan(_) => {
            format!("name the other disks, if it is in their images too (--disk); {}", claim.advice())
        }
        _ => claim.advice(),
    };
    refused(message).with_advice(advice)
}
