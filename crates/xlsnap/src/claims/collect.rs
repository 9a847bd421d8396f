//! Filling the index: the files of all domains, all records, and the headers of the images that they name.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use xlsnap_conf_store::ConfStore;
use xlsnap_orchestrator::{Doubt, Error};
use xlsnap_qemu_img::QemuImg;
use xlsnap_types::libxl;
use xlsnap_types::model::{DomainName, DomainRecord, ImageFormat, SnapshotName};

use super::{Claim, Claims, FileId, Role, header};
use crate::failures::from_store;
use crate::xen::kept_disk;
use crate::{DiskSpec, FiledDomain, Host};

/// The most layers of a disk that are followed.
const MAX_LAYERS: usize = 500;

impl Host {
    /// What all domains but `domain` claim, which is called so. Nothing is read of a host that has no other.
    ///
    /// A domain file or a record that is refused cannot be compared with, and is logged: one of them must not keep the other
    /// domains from being worked on. But it is a doubt about every file that is not only the domain's own to change.
    ///
    /// # Errors
    /// When the domain files or the records cannot be listed.
    pub(crate) async fn claims_beside(&self, domain: Uuid, called: &str) -> Result<Claims, Error> {
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
                // Its own, which was read a moment ago.
                Err(_) if name.as_str() == called => {}
                Err(error) => {
                    let file = self.files.path_of(&name);
                    claims.doubts.push(unread_file(&name, &file));
                    warn(&error, format_args!("the disks of domain {name} are not compared with"));
                }
            }
        }
        let cannot = |e| from_store(e, "the records of the other domains cannot be looked at");
        for uuid in self.store.domains().await.map_err(cannot)? {
            if uuid == domain {
                continue;
            }
            let described = names.get(&uuid).cloned();
            let (kept, unread) = match self.store.domain_record(uuid).await {
                Ok(kept) => (kept.unwrap_or_default(), None),
                Err(error) => (DomainRecord::default(), Some(error)),
            };
            // One that cannot be read is named by its uuid.
            let name = described.clone().or(kept.name).unwrap_or_else(|| uuid.to_string());
            if let Some(error) = unread {
                claims.doubts.push(unread_domain(&name));
                warn(&error, format_args!("the layers of domain {name} are not compared with"));
            }
            if let (None, Some(xen)) = (described, kept.xen) {
                let disks: Vec<DiskSpec> = xen.disks.into_iter().map(kept_disk).collect();
                claims.add_disks(&*qemu_img, uuid, &name, &disks).await;
            }
            let mut visit = |entry: xlsnap_conf_store::Entry| match entry.record {
                Ok(record) => claims.add_record(uuid, &name, &record),
                Err(error) => {
                    tracing::debug!(domain = name, record = entry.name, %error, "it is not compared with: it cannot be read");
                    claims.doubts.push(unread_record(&name, &entry.name));
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
            let (layers, unread) = layers(qemu_img, disk).await;
            let unread = unread.filter(|image| image.is_absolute());
            self.doubts.extend(unread.map(|image| unread_image(name, disk, &image)));
            for layer in layers {
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
        let metas = || record.meta.iter().flat_map(|meta| &meta.disks);
        let is_told =
            |of: &libxl::DiskSnapshot| metas().any(|meta| of.device.as_deref() == Some(meta.disk.as_str()));
        if record.snapshot.disks.iter().any(|of| of.is_external() && !is_told(of)) {
            self.doubts.push(unread_record(name, snapshot.as_str()));
        }
        for disk in metas() {
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

fn warn(error: &(dyn std::error::Error + 'static), what: std::fmt::Arguments<'_>) {
    tracing::warn!(error, "{what}");
}

/// The domain's file is refused.
fn unread_file(name: &DomainName, file: &Path) -> Doubt {
    let file = file.display();
    Doubt {
        why: format!("domain {name} may need it, whose file {file} cannot be read"),
        advice: format!("repair {file}, or remove it if that domain is gone for good"),
    }
}

/// What is stored of a domain itself cannot be read.
fn unread_domain(name: &str) -> Doubt {
    Doubt {
        why: format!("domain {name} may need it, and what is stored of that cannot be read"),
        advice: format!(
            "see what is wrong: xlsnap check {name}; if that domain is gone for good: xlsnap domain forget {name}"
        ),
    }
}

/// The record of a snapshot cannot be read, or does not tell what it needs.
fn unread_record(name: &str, snapshot: &str) -> Doubt {
    Doubt {
        why: format!(
            "snapshot {snapshot} of domain {name} may need it, whose record cannot be read or is not whole"
        ),
        advice: format!(
            "repair the record, or delete it alone: xlsnap delete {name} {snapshot} --metadata-only"
        ),
    }
}

/// What is below an image cannot be told.
fn unread_image(name: &str, disk: &DiskSpec, image: &Path) -> Doubt {
    let image = image.display();
    let gone = "if that domain is gone for good";
    Doubt {
        why: format!("disk {} of domain {name} may be read through it: {image} cannot be read", disk.name),
        advice: format!(
            "see what is wrong with {image}; {gone}: xlsnap domain remove {name} (of one without a file: xlsnap domain forget {name})"
        ),
    }
}

/// Whether a file is gone, and not only away: the directory that it was in is there. What its file system is not mounted for is not.
pub(super) fn is_gone(image: &Path, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && image.parent().is_some_and(Path::exists)
}

/// The layers below a disk's image, as far as headers name files of this host. One that cannot be read ends them, is one itself, and is
/// told beside.
async fn layers(qemu_img: &dyn QemuImg, disk: &DiskSpec) -> (Vec<Layer>, Option<PathBuf>) {
    let mut found = Vec::new();
    let mut met = HashSet::from([FileId::of(&disk.file)]);
    let mut image = PathBuf::from(&disk.file);
    let mut format: Option<ImageFormat> = Some(disk.format.clone());
    while found.len() < MAX_LAYERS {
        let named = match header::read(qemu_img, &image, format.as_ref()).await {
            Ok(named) => named,
            Err(error) => {
                tracing::debug!(disk = %disk.name, image = %image.display(), %error, "what is below it cannot be told");
                let unread = !is_gone(&image, &error);
                return (found, unread.then_some(image));
            }
        };
        let overlay = image.display().to_string();
        for file in [named.data.as_ref(), named.backing.as_ref()].into_iter().flatten() {
            let Some(path) = file.to_str() else { continue };
            let file = FileId::of(path);
            if met.insert(file.clone()) {
                found.push(Layer { file, overlay: overlay.clone() });
            } else if named.backing.as_deref() == Some(Path::new(path)) {
                // Headers that go round in a circle.
                return (found, None);
            }
        }
        match named.backing {
            Some(backing) => (image, format) = (backing, named.format),
            None => break,
        }
    }
    (found, None)
}
