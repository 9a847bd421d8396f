//! Filling the index: the files of all domains, all records, and the headers of the images that they name.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;
use xlsnap_conf_store::ConfStore;
use xlsnap_orchestrator::Error;
use xlsnap_qemu_img::QemuImg;
use xlsnap_types::libxl;
use xlsnap_types::model::{ImageFormat, SnapshotName};

use super::{Claim, Claims, FileId, Role, header};
use crate::failures::from_store;
use crate::xen::kept_disk;
use crate::{DiskSpec, FiledDomain, Host};

/// The most layers of a disk that are followed.
const MAX_LAYERS: usize = 500;

impl Host {
    /// What all domains but `domain` claim. Nothing is read of a host that has no other.
    ///
    /// A domain file or a record that is refused cannot be compared with, and is logged: one of them must not keep the other
    /// domains from being worked on.
    ///
    /// # Errors
    /// When the domain files or the records cannot be listed.
    pub(crate) async fn claims_beside(&self, domain: Uuid) -> Result<Claims, Error> {
        let mut claims = Claims::default();
        let qemu_img = self.qemu_img(&Arc::default());
        let mut names = HashMap::new();
        for FiledDomain { name, domain: other } in self.files.load_all()? {
            match other {
                Ok(other) if other.uuid == domain => {}
                Ok(other) => {
                    claims.add_disks(&*qemu_img, other.uuid, name.as_str(), &other.disks).await;
                    names.insert(other.uuid, name.to_string());
                }
                Err(error) => {
                    tracing::warn!(domain = %name, %error, "its disks are not compared with: its file is refused");
                }
            }
        }
        let cannot = |e| from_store(e, "the records of the other domains cannot be looked at");
        for uuid in self.store.domains().await.map_err(cannot)? {
            if uuid == domain {
                continue;
            }
            let described = names.get(&uuid).cloned();
            // One that cannot be read is named by its uuid.
            let kept = self.store.domain_record(uuid).await.ok().flatten().unwrap_or_default();
            let name = described.clone().or(kept.name).unwrap_or_else(|| uuid.to_string());
            if let (None, Some(xen)) = (described, kept.xen) {
                let disks: Vec<DiskSpec> = xen.disks.into_iter().map(kept_disk).collect();
                claims.add_disks(&*qemu_img, uuid, &name, &disks).await;
            }
            let mut visit = |entry: xlsnap_conf_store::Entry| match entry.record {
                Ok(record) => claims.add_record(uuid, &name, &record),
                Err(error) => {
                    tracing::warn!(domain = name, record = entry.name, %error, "it is not compared with: it cannot be read");
                }
            };
            self.store.list(uuid, &mut visit).await.map_err(cannot)?;
            claims.add_ledger(&*qemu_img, uuid, &name, &kept.layers).await;
        }
        Ok(claims)
    }
}

impl Claims {
    /// Adds a domain's disks and the layers below them.
    pub(crate) async fn add_disks(
        &mut self,
        qemu_img: &dyn QemuImg,
        domain: Uuid,
        name: &str,
        disks: &[DiskSpec],
    ) {
        for disk in disks.iter().filter(|disk| !disk.file.is_empty()) {
            let claim = |role| Claim { domain, name: name.to_owned(), role };
            let top = Role::Top { disk: disk.name.clone(), read_only: disk.read_only };
            self.add(FileId::of(&disk.file), claim(top));
            for layer in layers(qemu_img, disk).await {
                let role =
                    Role::Below { disk: disk.name.clone(), overlay: layer.overlay, image: disk.file.clone() };
                self.add(layer.file, claim(role));
            }
        }
    }

    /// Adds what a record says of external snapshots.
    fn add_record(&mut self, domain: Uuid, name: &str, record: &xlsnap_conf_store::Record) {
        let Some(snapshot) = record.snapshot.name.as_deref().and_then(|name| SnapshotName::new(name).ok())
        else {
            return;
        };
        let overlay_of = |disk: &str| {
            let external = |of: &&libxl::DiskSnapshot| of.device.as_deref() == Some(disk) && of.is_external();
            record.snapshot.disks.iter().find(external).and_then(|of| of.file.clone())
        };
        for disk in record.meta.iter().flat_map(|meta| &meta.disks) {
            let Some(overlay) = disk.made.clone().or_else(|| overlay_of(disk.disk.as_str())) else {
                continue;
            };
            let role = Role::Kept { snapshot: snapshot.clone(), overlay };
            self.add(FileId::of(&disk.image), Claim { domain, name: name.to_owned(), role });
        }
    }
}

/// A file below a disk's image.
struct Layer {
    file: FileId,
    /// The file whose header names it.
    overlay: String,
}

/// The layers below a disk's image, as far as headers name files of this host. One that cannot be read ends them, and is one
/// itself.
async fn layers(qemu_img: &dyn QemuImg, disk: &DiskSpec) -> Vec<Layer> {
    let mut found = Vec::new();
    let mut met = HashSet::from([FileId::of(&disk.file)]);
    let mut image = PathBuf::from(&disk.file);
    let mut format: Option<ImageFormat> = Some(disk.format.clone());
    while found.len() < MAX_LAYERS {
        let named = match header::read(qemu_img, &image, format.as_ref()).await {
            Ok(named) => named,
            Err(error) => {
                let image = image.display();
                tracing::debug!(disk = %disk.name, %image, %error, "what is below it cannot be told");
                break;
            }
        };
        let overlay = image.display().to_string();
        for file in [named.data.as_ref(), named.backing.as_ref()].into_iter().flatten() {
            let Some(path) = file.to_str() else { continue };
            let file = FileId::of(path);
            if met.insert(file.clone()) {
                found.push(Layer { file, overlay: overlay.clone() });
            } else if named.backing.as_deref() == Some(std::path::Path::new(path)) {
                // Headers that go round in a circle.
                return found;
            }
        }
        match named.backing {
            Some(backing) => (image, format) = (backing, named.format),
            None => break,
        }
    }
    found
}
