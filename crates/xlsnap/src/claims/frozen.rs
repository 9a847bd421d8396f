//! The layers of ledgers that nothing may write to: a snapshot has its state in them, or an overlay stands on them.
//!
//! The description names the image that a disk writes to, and a person can let it name an earlier one; a QEMU that is started by a
//! script goes on opening the one that the script names. A write to that would change every overlay above it, and QEMU's locks tell it
//! only while one of those is open.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Entry, Record};
use xlsnap_orchestrator::Error;
use xlsnap_qemu_img::QemuImg;
use xlsnap_types::libxl;
use xlsnap_types::model::LayerRecord;

use super::collect::is_gone;
use super::shared::Target;
use super::{Claim, Claims, FileId, Role, header};
use crate::failures::{from_store, refused};
use crate::{DiskSpec, Host};

/// Where a disk's image is said, so that it can be said otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said<'a> {
    /// In the domain's file.
    In(&'a Path),
    /// In the words by which the domain is described now.
    Now,
    /// By its QEMU, which no file describes.
    ByQemu,
}

/// What needs a file of a ledger as it is.
#[derive(Debug, Default)]
struct Needs {
    /// A snapshot whose state is in it.
    snapshot: Option<String>,
    /// A file whose header names it, or cannot be read.
    overlay: Option<String>,
    /// A snapshot whose state may be in it: its record cannot be read, or does not tell.
    unread: Option<String>,
}

impl Host {
    /// Refuses to write to images that the domain's own ledger has as read-only.
    ///
    /// # Errors
    /// [`crate::Kind::Refused`], naming the image, what needs it as it is, and the image that the disk wrote to last; and when the
    /// ledger cannot be read.
    pub(super) async fn refuse_frozen(
        &self,
        (domain, name): (Uuid, &str),
        said: Said<'_>,
        targets: &[Target],
    ) -> Result<(), Error> {
        let ledger = self.ledger(domain, name).await?;
        let frozen = ledger.iter().filter(|entry| entry.stamp.is_some());
        let frozen: Vec<(FileId, &LayerRecord)> =
            frozen.map(|entry| (FileId::of(&entry.file), entry)).collect();
        for (disk, image) in targets {
            let file = FileId::of(image);
            let Some((_, entry)) = frozen.iter().find(|(of, _)| *of == file) else { continue };
            let needs = self.needs(domain, name, &ledger, entry).await?;
            let why = match (&needs.snapshot, &needs.overlay) {
                (Some(snapshot), Some(overlay)) => {
                    format!(
                        "holds the state of snapshot {snapshot}, and {overlay} stands on it: a write to it would change both"
                    )
                }
                (Some(snapshot), None) => {
                    format!("holds the state of snapshot {snapshot}: a write to it would change that")
                }
                (None, Some(overlay)) => {
                    format!("is the base of {overlay}: a write to it would change what is read through that")
                }
                (None, None) => match &needs.unread {
                    Some(unread) => format!(
                        "may hold the state of snapshot {unread}, whose record cannot be read or is not whole: a write to it would change that"
                    ),
                    None => continue,
                },
            };
            let message = format!("the image {image} of disk {disk} of domain {name} {why}");
            let tops = tops(&ledger, entry);
            let go_back = needs.snapshot.map(|snapshot| format!("xlsnap revert {name} {snapshot}"));
            let advice = match (tops.split_first(), go_back) {
                (Some((top, others)), go_back) => {
                    let others: String = others.iter().map(|other| format!(", or else {other}")).collect();
                    let say = match said {
                        Said::In(file) => {
                            format!(
                                "let {} say what the disk wrote to last: image = \"{top}\"{others}",
                                file.display()
                            )
                        }
                        Said::Now => format!("name what the disk wrote to last: --disk {disk}={top}{others}"),
                        Said::ByQemu => format!(
                            "end the domain's QEMU, and start it with what disk {disk} wrote to last: {top}{others}"
                        ),
                    };
                    match go_back {
                        Some(go_back) => format!("{say}; or give up what that holds: {go_back}"),
                        None => say,
                    }
                }
                (None, Some(go_back)) => format!("make a new overlay on it: {go_back}"),
                (None, None) => "see what check says".to_owned(),
            };
            return Err(refused(message).with_advice(advice));
        }
        Ok(())
    }

    /// What is noted of the domain's layers.
    pub(super) async fn ledger(&self, domain: Uuid, name: &str) -> Result<Vec<LayerRecord>, Error> {
        let record = self.store.domain_record(domain).await;
        let record = record
            .map_err(|e| from_store(e, format!("what is stored of domain {name} itself cannot be read")))?;
        Ok(record.map(|record| record.layers).unwrap_or_default())
    }

    async fn needs(
        &self,
        domain: Uuid,
        name: &str,
        ledger: &[LayerRecord],
        entry: &LayerRecord,
    ) -> Result<Needs, Error> {
        let mut needs = Needs {
            overlay: overlay_on(&*self.qemu_img(&std::sync::Arc::default()), ledger, entry).await,
            snapshot: None,
            unread: None,
        };
        let mut visit = |found: Entry| match found.record.as_ref().map(|record| holds(record, &entry.file)) {
            Ok(Some(true)) => drop(needs.snapshot.get_or_insert(found.name)),
            Ok(Some(false)) => {}
            Ok(None) | Err(_) => drop(needs.unread.get_or_insert(found.name)),
        };
        let listed = self.store.list(domain, &mut visit).await;
        listed.map_err(|e| from_store(e, format!("the snapshots of domain {name} cannot be listed")))?;
        Ok(needs)
    }
}

impl Claims {
    /// Adds what a domain's ledger has as read-only, as far as overlays stand on it still.
    pub(super) async fn add_ledger(
        &mut self,
        qemu_img: &dyn QemuImg,
        domain: Uuid,
        name: &str,
        ledger: &[LayerRecord],
    ) {
        for entry in ledger.iter().filter(|entry| entry.stamp.is_some()) {
            let Some(overlay) = overlay_on(qemu_img, ledger, entry).await else { continue };
            let role = Role::Layer { disk: entry.disk.clone(), overlay };
            self.add(FileId::of(&entry.file), Claim { domain, name: name.to_owned(), role });
        }
    }
}

/// Whether a snapshot's external state of a disk is in the file; `None` where its record does not tell where all of them are.
fn holds(record: &Record, file: &str) -> Option<bool> {
    let meta = |of: &libxl::DiskSnapshot| {
        let mut metas = record.meta.iter().flat_map(|meta| &meta.disks);
        metas.find(|meta| of.device.as_deref() == Some(meta.disk.as_str()))
    };
    let metas: Vec<_> = record.snapshot.disks.iter().filter(|of| of.is_external()).map(meta).collect();
    let is_held = metas.iter().flatten().any(|meta| meta.image == file);
    (is_held || metas.iter().all(Option::is_some)).then_some(is_held)
}

/// A file of the ledger whose header names this one, or cannot be read and named it.
async fn overlay_on(qemu_img: &dyn QemuImg, ledger: &[LayerRecord], entry: &LayerRecord) -> Option<String> {
    let file = FileId::of(&entry.file);
    for above in ledger.iter().filter(|above| above.base.as_deref() == Some(entry.file.as_str())) {
        let named = match header::read(qemu_img, Path::new(&above.file), Some(&above.format)).await {
            Ok(named) => named,
            Err(error) if is_gone(Path::new(&above.file), &error) => continue,
            Err(_) => return Some(above.file.clone()),
        };
        let base = named.backing.as_deref().and_then(Path::to_str).map(FileId::of);
        if base.as_ref() == Some(&file) {
            return Some(above.file.clone());
        }
    }
    None
}

/// The files above a layer that a disk may write to, the one that was written to last first.
fn tops(ledger: &[LayerRecord], entry: &LayerRecord) -> Vec<String> {
    let mut above = BTreeSet::from([entry.file.as_str()]);
    for _ in ledger {
        let next = ledger.iter().filter(|of| of.base.as_deref().is_some_and(|base| above.contains(base)));
        let next: Vec<&str> = next.map(|of| of.file.as_str()).collect();
        above.extend(next);
    }
    let tops = ledger.iter().filter(|of| of.stamp.is_none() && above.contains(of.file.as_str()));
    let written = |file: &str| std::fs::metadata(file).and_then(|found| found.modified()).ok();
    let mut tops: Vec<(SystemTime, &str)> =
        tops.filter_map(|of| Some((written(&of.file)?, of.file.as_str()))).collect();
    tops.sort_unstable_by(|a, b| b.cmp(a));
    tops.into_iter().map(|(_, file)| file.to_owned()).collect()
}

/// The disks of a domain as targets.
pub(super) fn targets_of<'d>(disks: impl IntoIterator<Item = &'d DiskSpec>) -> Vec<Target> {
    disks.into_iter().map(|disk| (disk.name.clone(), disk.file.clone())).collect()
}
