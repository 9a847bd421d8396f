//! The steps on records that layers need.

use xlsnap_types::model::{DiskName, LayerRecord, SavedIn, SnapshotName};

use super::{Execution, Failed};
use crate::layers::{PartFiles, is_another};
use crate::record::libxl_format;
use crate::session::chain;
use crate::step::{Does, LayerNote, Stage, Step};
use crate::{Effect, Error, FileIdentity, Kind, LayerFile, LayerStat, Overlay, PortError, PortErrorKind};

impl Execution<'_> {
    /// Changes the files of external parts in their record.
    pub(super) async fn set_parts(
        &self,
        does: &Does,
        snapshot: &SnapshotName,
        parts: &[(&DiskName, &PartFiles)],
    ) -> Result<(), Error> {
        self.change_record(does, snapshot, |record| {
            for (disk, to) in parts {
                let is_it = |device: Option<&str>| device == Some(disk.as_str());
                for part in record.snapshot.disks.iter_mut().filter(|part| is_it(part.device.as_deref())) {
                    part.file = Some(to.overlay.clone());
                    part.format = libxl_format(&to.overlay_format);
                }
                let metas = record.meta.iter_mut().flat_map(|meta| &mut meta.disks);
                for meta in metas.filter(|meta| meta.disk == **disk) {
                    meta.image.clone_from(&to.image);
                    meta.format = to.format.clone();
                    if meta.made.is_some() {
                        meta.made = Some(to.overlay.clone());
                    }
                }
            }
        })
        .await
    }

    /// Changes the memory file in a record, in both parts of it.
    pub(super) async fn set_memory(
        &self,
        does: &Does,
        snapshot: &SnapshotName,
        (from, to): (&str, &str),
    ) -> Result<(), Error> {
        self.change_record(does, snapshot, |record| {
            if let Some(file) = record.snapshot.memory.as_mut().filter(|file| *file == from) {
                to.clone_into(file);
            }
            let memory = record.meta.as_mut().and_then(|meta| meta.memory.as_mut());
            if let Some(SavedIn::File { file, .. }) = memory.map(|memory| &mut memory.place)
                && file == from
            {
                to.clone_into(file);
            }
        })
        .await
    }

    /// Unlinks a layer. Another file that has its name now stays, and that is told.
    pub(super) async fn unlink(&self, does: &Does, layer: &LayerFile) -> Result<(), Error> {
        let layers = self.ports.layers.need(&does.failure())?;
        self.told_if_another(does, layers.unlink(layer).await)
    }

    /// Unlinks the layers of several steps, in their order.
    pub(super) async fn unlink_all(&self, steps: &[Step]) -> Result<(), Failed> {
        let failed = |at: usize, error: Error| Failed {
            does: steps[at].does.clone(),
            // What was unlinked before it stays so.
            begun: (at > 0 || error.effect() != Effect::None).then(|| Stage::Parallel(steps[..=at].to_vec())),
            error,
        };
        let layers = self.ports.layers.need(&steps[0].does.failure()).map_err(|error| failed(0, error))?;
        let files: Vec<LayerFile> = steps
            .iter()
            .filter_map(|step| if let Does::Unlink(layer) = &step.does { Some(layer.clone()) } else { None })
            .collect();
        let done = layers.unlink_all(&files).await;
        for (at, done) in done.into_iter().enumerate() {
            self.told_if_another(&steps[at].does, done).map_err(|error| failed(at, error))?;
        }
        Ok(())
    }

    /// How an unlink ended, where a file that is another one now is told and stays.
    fn told_if_another(&self, does: &Does, done: Result<(), PortError>) -> Result<(), Error> {
        match done {
            Err(error) if error.kind == PortErrorKind::Refused => {
                self.warn(chain(&does.failed(error)));
                Ok(())
            }
            done => done.map_err(|e| does.failed(e)),
        }
    }

    /// Makes a layer anew. What an earlier try left under its name, whole or half and with whatever access, goes before that.
    pub(super) async fn empty_layer(
        &self,
        does: &Does,
        layer: &LayerFile,
        overlay: &Overlay,
    ) -> Result<(), Error> {
        let subject = does.failure();
        let layers = self.ports.layers.need(&subject)?;
        let overlays = self.ports.overlays.need(&subject)?;
        // What an earlier try began has no header yet, and cannot be looked at.
        match layers.stat(layer).await.map_err(|e| does.failed(e))? {
            None => {}
            Some(found) if layer.is(Some(found.identity)) => {
                layers.unlink(layer).await.map_err(|e| does.failed(e))?;
            }
            Some(_) => {
                let found = layers.look(layer).await.ok().flatten();
                if found.is_some_and(|found| is_another(&found, overlay)) {
                    return Ok(());
                }
                let left = overlays.discard(overlay).await;
                if left.is_err() {
                    return self.told_if_another(does, left);
                }
            }
        }
        overlays.make(overlay).await.map_err(|e| does.failed(e))
    }

    /// Writes the ledger: identities and stamps are those of now.
    pub(super) async fn note_layers(
        &self,
        does: &Does,
        add: &[LayerNote],
        remove: &[String],
    ) -> Result<(), Error> {
        let mut entries = Vec::with_capacity(add.len());
        for note in add {
            let layers = self.ports.layers.need(&does.failure())?;
            let found = match (&note.base, note.looked) {
                (Some(_), _) | (None, true) => {
                    let found = layers.stat(&note.file).await.map_err(|e| does.failed(e))?;
                    found.map(|LayerStat { identity, stamp }| (identity, stamp, note.base.clone()))
                }
                (None, false) => {
                    let found = layers.look(&note.file).await.map_err(|e| does.failed(e))?;
                    found.map(|found| (found.identity, found.stamp, found.base.file().map(str::to_owned)))
                }
            };
            let Some((identity, stamp, base)) = found else {
                let message = format!("{}: {} is not there", does.failure(), note.file.file);
                return Err(Error::new(Kind::Failed, Effect::None, message));
            };
            entries.push(LayerRecord {
                disk: note.file.disk.clone(),
                file: note.file.file.clone(),
                format: note.file.format.clone(),
                device: identity.device,
                inode: identity.inode,
                owner: note.owner,
                base,
                stamp: stamp.filter(|_| note.frozen),
                named: note.named.clone(),
            });
        }
        let change = |layers: &mut Vec<LayerRecord>| {
            layers.retain(|layer| !remove.contains(&layer.file));
            for mut entry in entries {
                match layers.iter_mut().find(|layer| layer.file == entry.file) {
                    Some(known) => {
                        // Whose a file is does not change as long as it is that file.
                        let noted = FileIdentity { device: known.device, inode: known.inode };
                        if noted.is_still(FileIdentity { device: entry.device, inode: entry.inode }) {
                            entry.owner = known.owner;
                            entry.named = entry.named.or(known.named.take());
                        }
                        *known = entry;
                    }
                    None => layers.push(entry),
                }
            }
        };
        self.session.set_layers(change).await.map_err(|e| does.unstored(e))
    }
}
